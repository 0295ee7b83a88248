// What a worker does with the queue: claims, settlements, housekeeping, and being woken.

import type { Redis } from "ioredis";
import { envelopeLine } from "../../email.ts";
import type { Log } from "../../log.ts";
import {
  type Batch,
  type ClaimedEmail,
  type ClaimResult,
  knownMinMs,
  type Settled,
  type Settlement,
  StoreUnavailable,
  type Work,
} from "../queue.ts";
import claimText from "./claim.lua" with { type: "text" };
import claimEndedText from "./claim_ended.lua" with { type: "text" };
import { commandTimeoutMs, connect, disconnect, partitionOf } from "./connection.ts";
import { watchDurability } from "./durability.ts";
import { errorText, run, type Script, script } from "./script.ts";
import settleText from "./settle.lua" with { type: "text" };
import sweepText from "./sweep.lua" with { type: "text" };

// All of them make the queue shorter, or lead to what does: they run when memory is full.
const claimScript = script(claimText, { allowOom: true });
const claimEndedScript = script(claimEndedText, { allowOom: true });
const settleScript = script(settleText, { allowOom: true });
const sweepScript = script(sweepText, { allowOom: true });

/** Longest transfer of a claim's answer, ms: it holds up to 4 MiB. That Redis is silent is noticed long before. */
const claimTimeoutMs = 30_000;
/** Refusals that no repetition can change: a bug, or a key of the store that is not ours. */
const hopeless = /^(ERR|WRONGTYPE) /;

export interface WorkOptions {
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
}

export function openRedisWork(options: WorkOptions): Work {
  const { log, minReplicas, clockOffsetMs = () => 0 } = options;
  const partition = partitionOf(options.prefix);
  const retainMs = Math.max(options.retainMs, knownMinMs);
  // A WAIT holds up everything behind it on its connection, and settlements need none.
  const claims = connect(options.url, "claims", log, claimTimeoutMs);
  const settlements = connect(options.url, "settlements", log);
  const wakes = connect(options.url, "wakes", log);
  const store = watchDurability(settlements, { ...options, partition });
  const claimsReady = new Promise<void>((resolve) => claims.once("ready", () => resolve()));
  const callbacks: (() => void)[] = [];
  const wake = () => {
    for (const callback of callbacks) callback();
  };
  wakes.on("ready", () => {
    wakes.subscribe(`${partition}:wake`).then(wake, (error: unknown) => {
      // Not needed to deliver: without it, new emails are found by the poll.
      log.warn("wakes-refused", { reason: errorText(error) });
    });
  });
  wakes.on("message", wake);
  settlements.on("ready", wake);

  async function ask(redis: Redis, what: Script, args: (string | number)[], replicas = 0) {
    try {
      const waitFor = { replicas, timeoutMs: commandTimeoutMs / 2 };
      return await run(redis, what, partition, [clockOffsetMs(), ...args], waitFor);
    } catch (error) {
      const reason = errorText(error);
      throw hopeless.test(reason) ? new Error(reason) : new StoreUnavailable(reason);
    }
  }

  async function claim(what: Script, args: (string | number)[], leaseMs: number): Promise<ClaimResult> {
    const sentAtMs = performance.now();
    const { reply, replicas } = await ask(claims, what, args, minReplicas);
    const result = readClaim(reply as (string | number)[]);
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
      throw new StoreUnavailable(errorText(error));
    }
  }

  return {
    compatible: Promise.all([store.compatible, claimsReady]).then(() => {}),
    claim(request) {
      const { claimId, provider, countMax, bytesMax, leaseMs, doubtMs, context, first } = request;
      const args = [claimId, provider, countMax, bytesMax, leaseMs, doubtMs, context, first];
      return claim(claimScript, args, leaseMs);
    },
    claimEnded({ claimId, leaseMs }) {
      return claim(claimEndedScript, [claimId, leaseMs], leaseMs);
    },
    async settle(batch, settlement) {
      const { reply } = await ask(settlements, settleScript, settleArguments(batch, settlement, retainMs));
      const [ours, ...duplicates] = reply as [number, ...string[]];
      return { leaseHeld: ours === 1, duplicates } satisfies Settled;
    },
    async sweep(providers) {
      await ask(settlements, sweepScript, [retainMs, ...providers]);
    },
    onWake: (callback) => callbacks.push(callback),
    health: store.health,
    async close() {
      store.stop();
      for (const redis of [claims, settlements, wakes]) disconnect(redis);
    },
  };
}

/** Reads what leased() in common.lua wrote. */
function readClaim(reply: (string | number)[]): ClaimResult {
  const [kind, ...rest] = reply;
  if (kind === "spent") return { kind: "spent" };
  if (kind === "empty") {
    const inMs = Number(rest[0]);
    return { kind: "empty", nextDueInMs: inMs === -1 ? undefined : inMs };
  }
  const [id, provider, lease, nowMs, leaseEndsAtMs, doubtEndsAtMs, doubtSinceMs, lapsed, context, notes] =
    rest.map(String) as [string, string, string, string, string, string, string, string, string, string];
  const emails: ClaimedEmail[] = [];
  for (let i = 10; i < rest.length; i += 4) {
    const stored = String(rest[i + 1]);
    const lineEnd = stored.indexOf("\n");
    emails.push({
      id: String(rest[i]),
      text: stored.slice(lineEnd + 1),
      submittedAtMs: Number(stored.slice(0, lineEnd)),
      history: String(rest[i + 2]),
      marked: rest[i + 3] === 1,
    });
  }
  const batch: Batch = {
    id,
    provider,
    lease: Number(lease),
    nowMs: Number(nowMs),
    leaseEndsAtMs: Number(leaseEndsAtMs),
    doubtEndsAtMs: Number(doubtEndsAtMs),
    doubtSinceMs: doubtSinceMs === "" ? undefined : Number(doubtSinceMs),
    lapsed: lapsed === "1",
    context,
    notes,
    emails,
  };
  return { kind: "batch", batch };
}

/** The arguments of settle.lua behind the clock offset. */
function settleArguments(
  batch: Batch,
  { fates, rest, counts }: Settlement,
  retainMs: number,
): (string | number)[] {
  const counters = Object.entries(counts);
  const args = [
    batch.id,
    batch.lease,
    retainMs,
    rest === undefined ? "" : Math.round(rest.delayMs),
    rest?.notes ?? "",
    counters.length,
  ];
  for (const [name, count] of counters) args.push(name, count);
  args.push(fates.length);
  const texts = new Map(batch.emails.map(({ id, text }) => [id, text]));
  for (const fate of fates) {
    switch (fate.kind) {
      case "sent":
        // What is left of a sent email: who wrote to whom about what, and what became of it.
        args.push(fate.id, fate.kind, `${envelopeLine(texts.get(fate.id) ?? "")}\n${fate.record}`, "", "");
        break;
      case "due":
        args.push(fate.id, fate.kind, Math.round(fate.delayMs), fate.only ?? "", fate.history);
        break;
      case "dead":
        args.push(fate.id, fate.kind, "", "", fate.history);
        break;
      case "rebatched":
        args.push(fate.id, fate.kind, fate.batchId, "", fate.history);
        break;
    }
  }
  return args;
}
