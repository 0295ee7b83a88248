// Group commit: whatever is submitted in one turn of the event loop goes to the store as one write, which costs it
// one fsync, however many emails that are. One write is under way at a time.
//
// An email is repeated by its id, inside its own deadline, until the store has said what became of it. So a lost
// answer, a reconnection or a failover is ridden out, and nothing is queued twice.

import type { Log } from "../log.ts";
import type { Intake, Submission, SubmitResult } from "./queue.ts";

/** Whether the store may be written to now. */
export type Readiness =
  | { readonly kind: "ready" }
  /** Worth waiting for. */
  | { readonly kind: "pending"; readonly reason: string }
  /** An operator has to act first: submissions fail at once. */
  | { readonly kind: "refused"; readonly reason: string };

/** What came of one write. */
export type Committed =
  /** On stable storage: one result for each submission, in their order. */
  | { readonly kind: "done"; readonly results: readonly SubmitResult[] }
  /** Perhaps not executed, which by the ids does not matter: to be repeated. Without a reason: as a matter of course. */
  | { readonly kind: "again"; readonly reason: string | undefined }
  /** Not stored. */
  | { readonly kind: "failed"; readonly reason: string };

export interface GroupCommitOptions {
  /** Emails in one write. */
  readonly emailsMax: number;
  /** Text in one write, but one email at least: UTF-16 units. */
  readonly charsMax: number;
  /** Before a write is repeated, ms. */
  readonly againMs: number;
  readiness(): Readiness;
  /** Never rejects. */
  commit(group: readonly Submission[]): Promise<Committed>;
  readonly log: Log;
}

export interface GroupCommit extends Pick<Intake, "submit"> {
  /** To be called when the store has become ready. */
  flush(): void;
  /** Answers whoever still waits. */
  close(): void;
}

interface Item {
  readonly submission: Submission;
  readonly deadlineMs: number;
  readonly resolve: (result: SubmitResult) => void;
  open: boolean;
}

export function openGroupCommit(options: GroupCommitOptions): GroupCommit {
  const { emailsMax, charsMax, againMs, readiness, commit, log } = options;
  /** Not in a write; oldest first. */
  let waiting: Item[] = [];
  /** All without an answer, for their deadlines. */
  const open = new Set<Item>();
  let writing = false;
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
    const state = readiness();
    if (state.kind === "refused") {
      for (const item of waiting) answer(item, { kind: "failed", reason: state.reason });
      waiting = [];
    }
    if (retryTimer !== undefined) return;
    while (state.kind === "ready" && !writing && waiting.length > 0) void write(nextGroup());
  }

  function nextGroup(): Item[] {
    const nowMs = performance.now();
    const group: Item[] = [];
    let chars = 0;
    let taken = 0;
    for (const item of waiting) {
      chars += item.submission.text.length;
      if (group.length === emailsMax || (group.length > 0 && chars > charsMax)) break;
      taken += 1;
      // No try starts after its deadline: the client has been told that it failed.
      if (item.open && item.deadlineMs > nowMs) group.push(item);
    }
    waiting = taken === waiting.length ? [] : waiting.slice(taken);
    return group;
  }

  async function write(group: Item[]): Promise<void> {
    if (group.length === 0) return;
    writing = true;
    const committed = await commit(group.map(({ submission }) => submission));
    writing = false;
    switch (committed.kind) {
      case "done":
        lastTrouble = "";
        group.forEach((item, i) => answer(item, committed.results[i]!));
        break;
      case "failed":
        trouble(committed.reason);
        for (const item of group) answer(item, committed);
        break;
      case "again":
        if (committed.reason !== undefined) trouble(committed.reason);
        waiting = [...group.filter((item) => item.open), ...waiting];
        retryTimer ??= setTimeout(() => {
          retryTimer = undefined;
          flush();
        }, againMs);
        break;
    }
    // In a turn of its own: what has been answered leaves, and what has arrived comes along.
    if (waiting.length > 0) schedule();
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
    const state = readiness();
    const reason = state.kind === "ready" ? lastTrouble || "no answer in time" : state.reason;
    let nextMs = Infinity;
    for (const item of open) {
      if (item.deadlineMs > nowMs) nextMs = Math.min(nextMs, item.deadlineMs);
      else answer(item, { kind: "failed", reason });
    }
    waiting = waiting.filter((item) => item.open);
    expireAt(nextMs);
  }

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
    flush,
    close() {
      clearTimeout(deadlineTimer);
      clearTimeout(retryTimer);
      for (const item of open) answer(item, { kind: "failed", reason: "closed" });
    },
  };
}
