// The way into the queue on Redis: one script call for each group of a group commit. One call is under way at a time:
// with a second one groups are smaller, and at 8, 32 and 128 connections everything is slower.

import type { Log } from "../../runtime/log.ts";
import { type Committed, GroupCommit, type GroupCommitOptions } from "../group_commit.ts";
import { idempotencyMs, type Producer, type Submission, type SubmitResult } from "../contract.ts";
import { commandTimeoutMs, connect, disconnect, partitionOf, silenceMs } from "./connection.ts";
import { foreignFormat, watchDurability } from "./durability.ts";
import { redisErrorText, run, script } from "./scripts.ts";
import submitText from "./scripts/submit.lua" with { type: "text" };

export const submitScript = script(submitText, { allowOom: false });

/** Emails and text in one script call: Redis does nothing else meanwhile. */
const emailsMax = 256;
const charsMax = 1024 * 1024;
/** Of a write that is larger than `charsMax`, this many bytes get a second more: less than any usable disk writes. */
const bytesPerSecond = 4 * 1024 * 1024;
/** Before trying again what Redis refused for a while, ms. */
const againMs = 50;

/** Refusals that pass by themselves: a start, a failover, replicas that come back, a queue to be made anew. All others are final. */
const passing = /^(NOQUEUE|LOADING|READONLY|MASTERDOWN|NOREPLICAS|TRYAGAIN|BUSY|NOSCRIPT|UNBLOCKED)/;
/** ioredis throws replies of Redis as errors that begin with a code in capitals. */
const refusal = /^[A-Z][A-Z_]+ /;

export interface RedisProducerOptions {
  readonly url: string;
  readonly prefix: string;
  readonly minReplicas: number;
  readonly durability: "verify" | "trust";
  readonly log: Log;
  readonly onFatal: (reason: string) => void;
  readonly createsQueue?: boolean;
  /** As of a group commit. */
  readonly onGroup?: GroupCommitOptions["onGroup"];
  /** Added to the store's clock, ms; for tests. */
  readonly clockOffsetMs?: () => number;
}

export function openRedisProducer(options: RedisProducerOptions): Producer {
  const { log, minReplicas, onGroup, clockOffsetMs = () => 0 } = options;
  const partition = partitionOf(options.prefix);
  const redis = connect(options.url, "server", log);
  const store = watchDurability(redis, { ...options, partition, scripts: [submitScript] });
  const writer = new GroupCommit({
    emailsMax,
    charsMax,
    againMs,
    readiness: store.state,
    commit,
    onGroup,
    log,
  });
  store.onVerified(writer.flush);

  async function commit(group: readonly Submission[]): Promise<Committed> {
    const bytes = group.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0);
    const extraMs = Math.max(0, ((bytes - charsMax) / bytesPerSecond) * 1000);
    const args: (string | number)[] = [clockOffsetMs(), idempotencyMs, group.length];
    for (const { id, text } of group) args.push(id, text);
    group.forEach(({ idempotency }, i) => {
      if (idempotency === undefined) return;
      args.push(i + 1, idempotency.key, idempotency.fingerprint, idempotency.token || "-");
    });
    const waitFor = {
      replicas: minReplicas,
      timeoutMs: Math.round((commandTimeoutMs + extraMs) / 2),
    };
    extendTimeouts(extraMs);
    try {
      const { reply, replicas } = await run(redis, submitScript, partition, args, waitFor);
      if (!Array.isArray(reply)) throw new Error("the reply is another's");
      if (replicas >= minReplicas) return { kind: "done", results: read(group, reply) };
      const reason = `${replicas} replicas acknowledged, REDIS_MIN_REPLICAS is ${minReplicas}`;
      return { kind: "again", reason };
    } catch (error) {
      const foreign = foreignFormat(error);
      if (foreign !== undefined) {
        options.onFatal(foreign);
        return { kind: "failed", reason: foreign };
      }
      const reason = redisErrorText(error);
      return { kind: refusal.test(reason) && !passing.test(reason) ? "failed" : "again", reason };
    } finally {
      extendTimeouts(0);
    }
  }

  /**
   * For this write, and for checks of durability that wait behind it on the same connection: ioredis reads its options
   * with every command.
   */
  function extendTimeouts(extraMs: number): void {
    redis.options.commandTimeout = commandTimeoutMs + extraMs;
    redis.options.socketTimeout = silenceMs + extraMs;
  }

  return {
    submit: writer.submit,
    health: store.health,
    async close() {
      store.stop();
      writer.close();
      disconnect(redis);
    },
  };
}

/** `reply` names those that were not simply queued: place, what became of it, place, … */
function read(group: readonly Submission[], reply: readonly (string | number)[]): SubmitResult[] {
  const results = group.map(({ id }): SubmitResult => ({ kind: "stored", id, repeated: false }));
  for (let i = 0; i < reply.length; i += 2) {
    const place = Number(reply[i]) - 1;
    const known = String(reply[i + 1]);
    const id = known === "k" ? group[place]?.id : known.slice(2);
    if (known === "c") results[place] = { kind: "conflict" };
    else if (id !== undefined) results[place] = { kind: "stored", id, repeated: true };
  }
  return results;
}
