// The way into the queue: a group-commit writer. Whatever is submitted in one turn of the event loop goes to
// Redis as one script call, which costs it one write and one fsync, however many emails that are. One call is
// under way at a time: with a second one groups are smaller, and at 8, 32 and 128 connections everything is slower.
//
// An email is repeated by its id, inside its own deadline, until Redis has said what became of it. So a lost
// reply, a reconnection or a failover is ridden out, and nothing is queued twice.

import type { Log } from "../../log.ts";
import type { Intake, Submission, SubmitResult } from "../queue.ts";
import { commandTimeoutMs, connect, disconnect, partitionOf } from "./connection.ts";
import { watchDurability } from "./durability.ts";
import { errorText, run, script } from "./script.ts";
import submitText from "./submit.lua" with { type: "text" };

const submitScript = script(submitText, { allowOom: false });

/** Emails and text in one script call: Redis does nothing else meanwhile. */
const groupMax = 256;
const groupCharsMax = 1024 * 1024;
/** Life of an idempotency key, ms. */
const idempotencyMs = 24 * 60 * 60 * 1000;
/** Before trying again what Redis refused for a while, ms. */
const retryMs = 50;

/** Refusals that pass by themselves: a start, a failover, replicas that come back. All others are final. */
const passing = /^(LOADING|READONLY|MASTERDOWN|NOREPLICAS|TRYAGAIN|BUSY|NOSCRIPT|UNBLOCKED)/;
/** ioredis throws replies of Redis as errors that begin with a code in capitals. */
const refusal = /^[A-Z][A-Z_]+ /;

export interface IntakeOptions {
  readonly url: string;
  readonly prefix: string;
  readonly minReplicas: number;
  readonly durability: "verify" | "trust";
  readonly log: Log;
  readonly onFatal: (reason: string) => void;
  /** Added to the store's clock, ms; for tests. */
  readonly clockOffsetMs?: () => number;
}

interface Item {
  readonly submission: Submission;
  readonly deadlineMs: number;
  readonly resolve: (result: SubmitResult) => void;
  open: boolean;
}

export function openRedisIntake(options: IntakeOptions): Intake {
  const { log, minReplicas, clockOffsetMs = () => 0 } = options;
  const partition = partitionOf(options.prefix);
  const redis = connect(options.url, "server", log);
  const store = watchDurability(redis, { ...options, partition });

  /** Not in a call; oldest first. */
  let waiting: Item[] = [];
  /** All without an answer, for their deadlines. */
  const open = new Set<Item>();
  let calling = false;
  let scheduled = false;
  let deadlineTimer: Timer | undefined;
  let nextDeadlineMs = Infinity;
  let retryTimer: Timer | undefined;
  let lastTrouble = "";

  function answer(item: Item, result: SubmitResult): void {
    if (!item.open) return;
    item.open = false;
    open.delete(item);
    item.resolve(result);
  }

  function schedule(): void {
    if (scheduled) return;
    scheduled = true;
    // Not a microtask: those run before the next socket of the same turn is read.
    setImmediate(() => {
      scheduled = false;
      flush();
    });
  }

  function flush(): void {
    const state = store.state();
    if (state.kind === "refused") {
      for (const item of waiting) answer(item, { kind: "failed", reason: state.reason });
      waiting = [];
    }
    if (retryTimer !== undefined) return;
    while (state.kind === "verified" && !calling && waiting.length > 0) void commit(nextGroup());
  }

  function nextGroup(): Item[] {
    const nowMs = performance.now();
    const group: Item[] = [];
    let chars = 0;
    let taken = 0;
    for (const item of waiting) {
      chars += item.submission.text.length;
      if (group.length === groupMax || (group.length > 0 && chars > groupCharsMax)) break;
      taken += 1;
      // No try starts after its deadline: the client has been told that it failed.
      if (item.open && item.deadlineMs > nowMs) group.push(item);
    }
    waiting = taken === waiting.length ? [] : waiting.slice(taken);
    return group;
  }

  async function commit(group: Item[]): Promise<void> {
    if (group.length === 0) return;
    calling = true;
    const args: (string | number)[] = [clockOffsetMs(), idempotencyMs, group.length];
    for (const { submission } of group) args.push(submission.id, submission.text);
    group.forEach(({ submission: { idempotency } }, i) => {
      if (idempotency !== undefined) args.push(i + 1, idempotency.key, idempotency.fingerprint);
    });
    const waitFor = { replicas: minReplicas, timeoutMs: commandTimeoutMs / 2 };
    try {
      const { reply, replicas } = await run(redis, submitScript, partition, args, waitFor);
      if (!Array.isArray(reply)) throw new Error("the reply is another's");
      if (replicas < minReplicas) {
        again(group, `${replicas} replicas acknowledged, REDIS_MIN_REPLICAS is ${minReplicas}`);
      } else {
        answerAll(group, reply);
        lastTrouble = "";
      }
    } catch (error) {
      const reason = errorText(error);
      if (refusal.test(reason) && !passing.test(reason)) {
        trouble(reason);
        for (const item of group) answer(item, { kind: "failed", reason });
      } else {
        again(group, reason);
      }
    }
    calling = false;
    if (waiting.length > 0) flush();
  }

  /** `reply` names those that were not simply queued: place, what became of it, place, … */
  function answerAll(group: readonly Item[], reply: readonly (string | number)[]): void {
    for (let i = 0; i < reply.length; i += 2) {
      const item = group[Number(reply[i]) - 1];
      if (item !== undefined) answer(item, read(String(reply[i + 1]), item.submission.id));
    }
    for (const item of group) answer(item, { kind: "stored", id: item.submission.id, repeated: false });
  }

  function read(known: string, id: string): SubmitResult {
    if (known === "c") return { kind: "conflict" };
    return { kind: "stored", id: known === "k" ? id : known.slice(2), repeated: true };
  }

  /** Whether it was executed is unknown or does not matter: the ids make a repetition harmless. */
  function again(group: Item[], reason: string): void {
    trouble(reason);
    waiting = [...group.filter((item) => item.open), ...waiting];
    retryTimer ??= setTimeout(() => {
      retryTimer = undefined;
      flush();
    }, retryMs);
  }

  /** Once for each kind of trouble, not for each group that meets it. */
  function trouble(reason: string): void {
    if (reason !== lastTrouble) log.warn("submit-trouble", { reason });
    lastTrouble = reason;
  }

  /** One timer for all: it is set anew only for an earlier deadline, which with one time-out for all never comes. */
  function expireAt(deadlineMs: number): void {
    if (deadlineMs >= nextDeadlineMs) return;
    nextDeadlineMs = deadlineMs;
    clearTimeout(deadlineTimer);
    deadlineTimer = setTimeout(expire, Math.max(1, deadlineMs - performance.now()));
  }

  function expire(): void {
    nextDeadlineMs = Infinity;
    const nowMs = performance.now();
    const state = store.state();
    const reason = state.kind === "verified" ? lastTrouble || "no answer in time" : state.reason;
    let nextMs = Infinity;
    for (const item of open) {
      if (item.deadlineMs > nowMs) nextMs = Math.min(nextMs, item.deadlineMs);
      else answer(item, { kind: "failed", reason });
    }
    waiting = waiting.filter((item) => item.open);
    expireAt(nextMs);
  }

  store.onVerified(flush);

  return {
    submit(submission, deadlineMs) {
      return new Promise((resolve) => {
        const item: Item = { submission, deadlineMs, resolve, open: true };
        waiting.push(item);
        open.add(item);
        expireAt(deadlineMs);
        schedule();
      });
    },
    health: store.health,
    async close() {
      store.stop();
      clearTimeout(deadlineTimer);
      clearTimeout(retryTimer);
      for (const item of open) answer(item, { kind: "failed", reason: "closed" });
      disconnect(redis);
    },
  };
}
