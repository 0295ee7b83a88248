// Group commit: whatever is submitted in one turn of the event loop goes to the store as one write, which costs it
// one fsync, however many emails that are. One write is under way at a time.
//
// An email is repeated by its id, inside its own deadline, until the store has said what became of it. So a lost
// answer, a reconnection or a failover is ridden out, and nothing is queued twice.
//
// Large emails wait in a line of their own, which takes turns with the line of the others: a small email never waits for
// more than one large write.
//
// When more comes than the store takes, the surplus is refused at once. Otherwise all would wait for as long as they
// may, and the store would write nothing but emails whose senders have just been told that it failed.

import type { Log } from "../runtime/log.ts";
import type { Producer, Submission, SubmitResult } from "./contract.ts";

/** Whether the store may be written to now. */
export type CommitReadiness =
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
  readiness(): CommitReadiness;
  /** Never rejects. */
  commit(group: readonly Submission[]): Promise<Committed>;
  /** Told of each write that stored what it held: submissions in it, and how long it took, ms. */
  readonly onGroup?: ((emails: number, elapsedMs: number) => void) | undefined;
  readonly log: Log;
}

export interface GroupCommit extends Pick<Producer, "submit"> {
  /** To be called when the store has become ready. */
  flush(): void;
  /** Answers whoever still waits. */
  close(): void;
}

const tooSlow = "the store is too slow for what is submitted";

/** A mean that believes a slower write sooner than a faster one. */
function follow(paceMs: number, tookMs: number): number {
  return paceMs + (tookMs - paceMs) * (tookMs > paceMs ? 0.5 : 0.25);
}

/** What a pace is worth when nothing was written for so long, ms: the store may have recovered. */
const paceAgeMaxMs = 1000;

interface Item {
  readonly submission: Submission;
  readonly deadlineMs: number;
  readonly resolve: (result: SubmitResult) => void;
  open: boolean;
}

/** Items that are not in a write, oldest first. */
interface Line {
  items: Item[];
  /** Of their text. */
  chars: number;
}

function setItems(line: Line, items: Item[]): void {
  line.items = items;
  line.chars = charsOf(items);
}

function charsOf(items: readonly Item[]): number {
  return items.reduce((sum, { submission }) => sum + submission.text.length, 0);
}

export function openGroupCommit(options: GroupCommitOptions): GroupCommit {
  const { emailsMax, charsMax, againMs, readiness, commit, onGroup, log } = options;
  const small: Line = { items: [], chars: 0 };
  /** Those of which few fit into one write. */
  const large: Line = { items: [], chars: 0 };
  const lines = [small, large];
  const largeChars = charsMax / 4;
  let turn = small;
  /**
   * What a write takes lately, ms, from its first try on; of a write over `charsMax`, what each `charsMax` of it takes.
   * What an outage takes does not count: it is to be ridden out, and says nothing about the writes behind it.
   */
  let paceMs = 0;
  let pacedAtMs = 0;
  let triedSinceMs: number | undefined;
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
      for (const line of lines) {
        for (const item of line.items) answer(item, { kind: "failed", reason: state.reason });
        setItems(line, []);
      }
      triedSinceMs = undefined;
    }
    if (retryTimer !== undefined) return;
    while (state.kind === "ready" && !writing && isWaiting()) {
      turn = turn === small ? large : small;
      if (turn.items.length > 0) void write(turn, nextGroup(turn));
    }
  }

  function lineOf({ text }: Submission): Line {
    return text.length > largeChars ? large : small;
  }

  function isWaiting(): boolean {
    return small.items.length > 0 || large.items.length > 0;
  }

  /**
   * Whether those before it take the store more than half of the time that a submission has. The other half is for a
   * store that becomes slower still. Where nobody waits there is always room, so that a new pace is noticed.
   */
  function isBusy(line: Line, nowMs: number, deadlineMs: number): boolean {
    if (!isWaiting() && !writing) return false;
    if (!writing && nowMs - pacedAtMs > paceAgeMaxMs) paceMs = 0;
    const own = groupsIn(line);
    const others = Math.min(own, groupsIn(line === small ? large : small));
    const underWayMs = triedSinceMs === undefined ? 0 : Math.max(0, triedSinceMs + paceMs - nowMs);
    return underWayMs + (own + others + 1) * paceMs > (deadlineMs - nowMs) / 2;
  }

  function groupsIn({ items, chars }: Line): number {
    return Math.floor(Math.max(items.length / emailsMax, chars / charsMax));
  }

  /** One long write is a stall and not a pace: it counts for no more than half of the time that a submission has. */
  function learn(group: readonly Item[], tookMs: number, timeMs: number): void {
    const parts = Math.max(1, charsOf(group) / charsMax);
    paceMs = follow(paceMs, Math.min(tookMs / parts, Math.max(0, timeMs) / 2));
    pacedAtMs = performance.now();
    triedSinceMs = undefined;
  }

  function nextGroup(line: Line): Item[] {
    const nowMs = performance.now();
    const group: Item[] = [];
    let chars = 0;
    let taken = 0;
    for (const item of line.items) {
      chars += item.submission.text.length;
      if (group.length === emailsMax || (group.length > 0 && chars > charsMax)) break;
      taken += 1;
      if (!item.open) continue;
      // No try starts that would end after its deadline: by then the client has been told that it failed. But one is
      // always tried while its deadline lasts, or a single slow write would shut out all that come later.
      const needMs = group.length === 0 ? 0 : paceMs;
      if (item.deadlineMs > nowMs + needMs) group.push(item);
      else answer(item, { kind: "failed", reason: lastTrouble || tooSlow });
    }
    setItems(line, taken === line.items.length ? [] : line.items.slice(taken));
    return group;
  }

  async function write(line: Line, group: Item[]): Promise<void> {
    if (group.length === 0) return;
    writing = true;
    const startMs = performance.now();
    triedSinceMs ??= performance.now();
    const committed = await commit(group.map(({ submission }) => submission));
    writing = false;
    switch (committed.kind) {
      case "done":
        lastTrouble = "";
        onGroup?.(group.length, performance.now() - startMs);
        learn(group, performance.now() - triedSinceMs, group[0]!.deadlineMs - startMs);
        group.forEach((item, i) => answer(item, committed.results[i]!));
        break;
      case "failed":
        trouble(committed.reason);
        triedSinceMs = undefined;
        for (const item of group) answer(item, committed);
        break;
      case "again":
        if (committed.reason !== undefined) {
          trouble(committed.reason);
          triedSinceMs = undefined;
        }
        setItems(line, [...group.filter((item) => item.open), ...line.items]);
        retryTimer ??= setTimeout(() => {
          retryTimer = undefined;
          flush();
        }, againMs);
        break;
    }
    // In a turn of its own: what has been answered leaves, and what has arrived comes along.
    if (isWaiting()) schedule();
  }

  /** Once for each kind of trouble, not for each group that meets it. */
  function trouble(reason: string): void {
    if (reason !== lastTrouble) log.warn("submission-delayed", { reason });
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
    for (const line of lines)
      setItems(
        line,
        line.items.filter((item) => item.open),
      );
    if (!isWaiting() && !writing) triedSinceMs = undefined;
    expireAt(nextMs);
  }

  return {
    submit(submission, deadlineMs) {
      const line = lineOf(submission);
      if (isBusy(line, performance.now(), deadlineMs)) return Promise.resolve({ kind: "busy" });
      return new Promise((resolve) => {
        const item: Item = { submission, deadlineMs, resolve, open: true };
        line.items.push(item);
        line.chars += submission.text.length;
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
