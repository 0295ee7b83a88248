// What an operator asks of the queue.

import type { Log } from "../../runtime/log.ts";
import {
  type Admin,
  type DeleteAnswer,
  type Health,
  knownMinMs,
  QueueMissing,
  StoreUnavailable,
} from "../contract.ts";
import { readClaim, readSettled, settleArguments } from "./batch_codec.ts";
import claimDoubtText from "./scripts/claim_in_doubt.lua" with { type: "text" };
import clearText from "./scripts/clear.lua" with { type: "text" };
import { connect, disconnect, partitionOf, type RedisConnection, refusesSettings } from "./connection.ts";
import deleteText from "./scripts/delete.lua" with { type: "text" };
import { foreignFormat, foreignText, readFormat, watchDurability } from "./durability.ts";
import emailText from "./scripts/email_reply.lua" with { type: "text" };
import { readEmail } from "./email_codec.ts";
import listText from "./scripts/list.lua" with { type: "text" };
import pauseText from "./scripts/pause.lua" with { type: "text" };
import placeText from "./scripts/cursor.lua" with { type: "text" };
import { submitScript } from "./producer.ts";
import replayText from "./scripts/retry.lua" with { type: "text" };
import resumeText from "./scripts/resume.lua" with { type: "text" };
import { redisErrorText, run, type Script, script } from "./scripts.ts";
import settleText from "./scripts/settle.lua" with { type: "text" };
import showText from "./scripts/show.lua" with { type: "text" };
import { readMemory, readStats } from "./stats.ts";
import statsText from "./scripts/stats.lua" with { type: "text" };

// When memory is full an operator has to look, to make room, and to have what is dead or in doubt sent again, which
// makes room as soon as it is.
const allowOom = { allowOom: true } as const;
const noWrites = { noWrites: true } as const;
const showScript = script(`${emailText}\n${showText}`, noWrites);
const listScript = script(`${emailText}\n${placeText}\n${listText}`, noWrites);
const statsScript = script(statsText, noWrites);
const replayScript = script(replayText, allowOom);
const claimDoubtScript = script(claimDoubtText, allowOom);
const settleScript = script(settleText, allowOom);
const deleteScript = script(deleteText, allowOom);
const clearScript = script(`${placeText}\n${clearText}`, allowOom);
const pauseScript = script(pauseText, allowOom);
const resumeScript = script(resumeText, allowOom);

export interface RedisAdminOptions {
  readonly url: string;
  readonly prefix: string;
  readonly minReplicas: number;
  readonly durability: "verify" | "trust";
  /** How long the id of a deleted email stays known, ms. */
  readonly retainMs: number;
  readonly log: Log;
  /** Added to the store's clock, ms; for tests. */
  readonly clockOffsetMs?: () => number;
}

/** Longest wait for the store to answer at all, ms. */
const openTimeoutMs = 5000;
/** Longest transfer of a whole answer, ms: it holds up to 4 MiB and one email. */
const answerTimeoutMs = 30_000;
/** Longest wait for a verdict about the store, and between two looks, ms. */
const healthTimeoutMs = 1000;
const healthPauseMs = 20;

/**
 * Resolves when the store can be asked; rejects with {@link StoreUnavailable} if it cannot, and with
 * {@link QueueMissing} if no queue has this prefix.
 */
export async function openRedisAdmin(options: RedisAdminOptions): Promise<Admin> {
  const { clockOffsetMs = () => 0 } = options;
  const partition = partitionOf(options.prefix);
  const retainMs = Math.max(options.retainMs, knownMinMs);
  const redis = connect(options.url, "operator", options.log, answerTimeoutMs);
  try {
    await reached(redis);
    const format = await readFormat(redis, partition).catch((error: unknown) => {
      throw new StoreUnavailable(redisErrorText(error));
    });
    if (format === null) throw new QueueMissing("there is no queue");
    const foreign = foreignText(format);
    if (foreign !== undefined) throw new StoreUnavailable(foreign);
  } catch (error) {
    disconnect(redis);
    throw error;
  }

  async function ask(what: Script, ...args: (string | number)[]): Promise<unknown> {
    try {
      return (await run(redis, what, partition, [clockOffsetMs(), ...args])).reply;
    } catch (error) {
      if (redisErrorText(error).startsWith("NOQUEUE")) throw new QueueMissing("there is no queue");
      throw new StoreUnavailable(foreignFormat(error) ?? redisErrorText(error));
    }
  }

  return {
    async show(id) {
      const reply = await ask(showScript, id);
      return reply === null ? undefined : readEmail(reply);
    },
    async stats() {
      const reply = await ask(statsScript);
      const memory = await readMemory(redis).catch((error: unknown) => {
        throw new StoreUnavailable(redisErrorText(error));
      });
      return readStats(reply, memory);
    },
    async list(state, limit, from = "", order = "oldest") {
      const [time = "", entry = "", id = ""] = from.split(" ");
      const reply = await ask(listScript, state, limit, order, time, entry, id);
      const [end, ...emails] = reply as [readonly string[], ...unknown[]];
      return { emails: emails.map(readEmail), next: end.length === 0 ? undefined : end.join(" ") };
    },
    async retry(emails, counts) {
      const counters = Object.entries(counts);
      const args = emails.flatMap(({ id, seenHistory, history }) => [id, seenHistory, history]);
      return (await ask(replayScript, counters.length, ...counters.flat(), ...args)) as string[];
    },
    async claimInDoubt({ claimId, leaseMs, emailId }) {
      const reply = await ask(claimDoubtScript, claimId, 1, leaseMs, emailId);
      const [kind] = reply as [string];
      if (kind === "busy" || kind === "not-in-doubt" || kind === "unknown") return { kind };
      const result = readClaim(reply);
      if (result.kind !== "batch") throw new Error(`claim_doubt: answered ${result.kind}`);
      return { kind: "batch", batch: result.batch };
    },
    async settle(batch, settlement) {
      const settled = readSettled(await ask(settleScript, ...settleArguments(batch, settlement, retainMs)));
      // Workers find what is due by themselves, within a second.
      await redis.publish(`${partition}:wake`, "").catch(() => {});
      return settled;
    },
    async delete(ids, seenHistories = []) {
      const seen = seenHistories.length;
      return (await ask(deleteScript, retainMs, seen, ...seenHistories, ...ids)) as DeleteAnswer[];
    },
    async clear(limit, submittedTillMs, from = "") {
      const [time = "", id = "", list = ""] = from.split(" ");
      const reply = await ask(clearScript, retainMs, limit, submittedTillMs, time, id, list);
      if (reply === null) throw new StoreUnavailable("clear: the store's clock has stepped back since");
      const [deleted, ...place] = reply as [number, ...string[]];
      return { deleted, next: place.length === 0 ? undefined : place.join(" ") };
    },
    async pause() {
      await ask(pauseScript);
    },
    async resume() {
      await ask(resumeScript);
    },
    health: () => judgeStore(redis, partition, options),
    async close() {
      disconnect(redis);
    },
  };
}

/** As {@link Admin.health}, for a Redis that may have no queue. */
export async function checkRedis(options: Omit<RedisAdminOptions, "retainMs">): Promise<Health> {
  const redis = connect(options.url, "operator", options.log);
  try {
    await reached(redis);
    return await judgeStore(redis, partitionOf(options.prefix), options);
  } catch (error) {
    if (error instanceof StoreUnavailable) return { ok: false, reason: error.message };
    throw error;
  } finally {
    disconnect(redis);
  }
}

/** As a server finds it, whose scripts it has to run. */
async function judgeStore(
  redis: RedisConnection,
  partition: string,
  options: Omit<RedisAdminOptions, "retainMs">,
): Promise<Health> {
  const scripts = [submitScript];
  const watch = watchDurability(redis, {
    ...options,
    partition,
    scripts,
    createsQueue: false,
    onFatal() {},
  });
  try {
    const endMs = performance.now() + healthTimeoutMs;
    for (;;) {
      const state = watch.state();
      if (state.kind === "ready") return { ok: true };
      if (state.kind === "refused") {
        const fix = state.fixes.length === 0 ? "" : ` (fix: ${state.fixes.join("; ")})`;
        return { ok: false, reason: state.reason + fix };
      }
      if (performance.now() > endMs) return { ok: false, reason: state.reason };
      await Bun.sleep(healthPauseMs);
    }
  } finally {
    watch.stop();
  }
}

function reached(redis: RedisConnection): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(
    () => reject(new StoreUnavailable(`not reached within ${openTimeoutMs} ms: ${redis.trouble()}`)),
    openTimeoutMs,
  );
  redis.once("ready", () => resolve());
  redis.on("error", ({ message }) => {
    // No patience makes a password right.
    if (refusesSettings(message)) reject(new StoreUnavailable(message));
  });
  return promise.finally(() => clearTimeout(timer));
}
