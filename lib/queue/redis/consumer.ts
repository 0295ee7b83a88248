// What a worker does with the queue: claims, settlements, housekeeping, and being woken.

import type { Redis } from "ioredis";
import type { Log } from "../../runtime/log.ts";
import { type ClaimResult, idempotencyMs, knownMinMs, StoreUnavailable, type Consumer } from "../contract.ts";
import { readClaim, readSettled, settleArguments } from "./batch_codec.ts";
import claimText from "./scripts/claim.lua" with { type: "text" };
import claimEndedText from "./scripts/claim_doubt_ended.lua" with { type: "text" };
import conditionsText from "./scripts/conditions.lua" with { type: "text" };
import { commandTimeoutMs, connect, disconnect, partitionOf } from "./connection.ts";
import { foreignFormat, watchDurability } from "./durability.ts";
import { redisErrorText, run, type Script, script } from "./scripts.ts";
import settleText from "./scripts/settle.lua" with { type: "text" };
import { readConditions } from "./stats.ts";
import { createSweeper } from "./sweep.ts";
import sweepText from "./scripts/sweep.lua" with { type: "text" };

// All of them make the queue shorter, or lead to what does: they run when memory is full.
const claimScript = script(claimText, { allowOom: true });
const claimEndedScript = script(claimEndedText, { allowOom: true });
const settleScript = script(settleText, { allowOom: true });
const sweepScript = script(sweepText, { allowOom: true });
const conditionsScript = script(conditionsText, { allowOom: true, noWrites: true });
const scripts = [claimScript, claimEndedScript, settleScript, sweepScript, conditionsScript];

/** Longest transfer of a claim's answer, ms: it holds up to 4 MiB. That Redis is silent is noticed long before. */
const claimTimeoutMs = 30_000;
/** Refusals that no repetition can change: a bug, or a key of the store that is not ours. */
const hopeless = /^(ERR|WRONGTYPE) /;

export interface RedisConsumerOptions {
  readonly url: string;
  readonly prefix: string;
  readonly minReplicas: number;
  readonly durability: "verify" | "trust";
  /** How long the record of a sent email is kept, ms. */
  readonly retainMs: number;
  readonly log: Log;
  readonly onFatal: (reason: string) => void;
  /** Added to the store's clock, ms; for tests. */
  readonly clockOffsetMs?: () => number;
  /** Added to the clock that is never set, ms; for tests. */
  readonly monotonicOffsetMs?: () => number;
}

export function openRedisConsumer(options: RedisConsumerOptions): Consumer {
  const { log, minReplicas, clockOffsetMs = () => 0, monotonicOffsetMs = () => 0 } = options;
  const partition = partitionOf(options.prefix);
  const retainMs = Math.max(options.retainMs, knownMinMs);
  // A WAIT holds up everything behind it on its connection, and settlements need none.
  const claims = connect(options.url, "claims", log, claimTimeoutMs);
  const settlements = connect(options.url, "settlements", log);
  const wakes = connect(options.url, "wakes", log);
  const store = watchDurability(settlements, { ...options, partition, scripts });
  const claimsReady = new Promise<void>((resolve) => claims.once("ready", () => resolve()));
  let paused = false;
  const callbacks: (() => void)[] = [];
  const wake = () => {
    for (const callback of callbacks) callback();
  };
  wakes.on("ready", () => {
    wakes.subscribe(`${partition}:wake`).then(wake, (error: unknown) => {
      // Not needed to deliver: without it, new emails are found by the poll.
      log.warn("wakeup-refused", { reason: redisErrorText(error) });
    });
  });
  wakes.on("message", wake);
  settlements.on("ready", wake);

  async function ask(redis: Redis, what: Script, args: (string | number)[], replicas = 0) {
    try {
      const waitFor = { replicas, timeoutMs: commandTimeoutMs / 2 };
      return await run(redis, what, partition, [clockOffsetMs(), ...args], waitFor);
    } catch (error) {
      const foreign = foreignFormat(error);
      if (foreign !== undefined) options.onFatal(foreign);
      const reason = foreign ?? redisErrorText(error);
      throw hopeless.test(reason) ? new Error(reason) : new StoreUnavailable(reason);
    }
  }

  async function claim(what: Script, args: (string | number)[], leaseMs: number): Promise<ClaimResult> {
    const sentAtMs = performance.now();
    const { reply, replicas } = await ask(claims, what, args, minReplicas);
    const result = readClaim(reply);
    if (result.kind !== "spent") paused = result.kind === "paused";
    if (result.kind !== "batch" || replicas >= minReplicas) return result;
    while (performance.now() - sentAtMs < leaseMs / 4) {
      if ((await waitAgain()) >= minReplicas) return result;
    }
    return { kind: "unreplicated", batch: result.batch };
  }

  async function waitAgain(): Promise<number> {
    try {
      return await claims.wait(minReplicas, commandTimeoutMs / 2);
    } catch (error) {
      throw new StoreUnavailable(redisErrorText(error));
    }
  }

  const sweeper = createSweeper({
    async sweep(args) {
      const { reply } = await ask(settlements, sweepScript, [retainMs, idempotencyMs, ...args]);
      return reply;
    },
    monotonicMs: () => performance.now() + monotonicOffsetMs(),
  });

  return {
    compatible: Promise.all([store.compatible, claimsReady]).then(() => {}),
    claim(request) {
      const { claimant, number, leaseMs, credential, claimId, provider, sources, shared } = request;
      const { countMax, bytesMax, doubtMs, context, dueCountMax } = request;
      const whose = [claimant, number, leaseMs, credential, claimId, provider];
      const what = [sources.join(" "), shared ? 1 : 0, countMax, bytesMax, doubtMs, context, dueCountMax];
      return claim(claimScript, [...whose, ...what], leaseMs);
    },
    claimEnded({ claimant, number, leaseMs }) {
      return claim(claimEndedScript, [claimant, number, leaseMs], leaseMs);
    },
    async settle(batch, settlement) {
      const { reply } = await ask(settlements, settleScript, settleArguments(batch, settlement, retainMs));
      return readSettled(reply);
    },
    sweep: sweeper,
    async conditions() {
      const { reply } = await ask(settlements, conditionsScript, []);
      return readConditions(reply);
    },
    paused: () => paused,
    onWake: (callback) => callbacks.push(callback),
    health: store.health,
    async close() {
      store.stop();
      for (const redis of [claims, settlements, wakes]) disconnect(redis);
    },
  };
}
