// Group commit: all submissions of one turn of the event loop go to the store as one write, which costs one fsync however
// many emails it holds. One write is under way at a time.
//
// A write is repeated with the same ids until the store answers or the deadlines of its emails have passed. So a lost
// answer, a reconnection or a failover delays emails, but queues none of them twice.
//
// Large emails wait in a line of their own, and the two lines take turns: a small email waits for one large write at most.
//
// Submissions beyond what the store can take are refused at once. Otherwise all of them would wait until their deadlines,
// and the store would write only emails whose clients have just been told that they failed.

import type { ProducerWatcher, Submission, SubmitResult } from "./contract.ts";

/** Whether the store may be written to now. */
export type CommitReadiness =
  | { readonly kind: "ready" }
  /** Submissions wait for it. */
  | { readonly kind: "pending"; readonly reason: string }
  /** An operator has to act first: submissions fail at once. */
  | { readonly kind: "refused"; readonly reason: string };

/** A store's answer to one submission. */
export type CommitResult =
  | SubmitResult
  /** It lacks pieces of the email's files. Nothing was queued. */
  | { readonly kind: "piecesMissing" };

/** The result of one write. */
export type Committed =
  /** On stable storage: one result for each submission, in their order. */
  | { readonly kind: "done"; readonly results: readonly CommitResult[] }
  /**
   * To be repeated, which is harmless even if it was executed. `reason` is undefined if that is routine. `isUntouched`: it
   * certainly was not executed.
   */
  | { readonly kind: "again"; readonly reason: string | undefined; readonly isUntouched?: boolean }
  /** Not stored. */
  | { readonly kind: "failed"; readonly reason: string };

export interface GroupCommitOptions extends Pick<ProducerWatcher, "log" | "onGroup"> {
  /** Most emails in one write. */
  readonly emailsMax: number;
  /** Most text in one write, in UTF-16 units. An email that is larger is written alone. */
  readonly charsMax: number;
  /** Pause before a write is repeated, ms. */
  readonly againMs: number;
  readiness(): CommitReadiness;
  /**
   * Hands over a submission that was in no write, while this store cannot take it.
   * @returns its result, or undefined if it has to stay
   */
  handOver?(submission: Submission, deadlineMs: number): Promise<SubmitResult> | undefined;
  /** Never rejects. */
  commit(group: readonly Submission[]): Promise<Committed>;
}

const tooSlow = "the store cannot keep up with the submissions";

/** A store whose write takes longer than this, ms, and four times as long as usual, gets no more emails than it has to. */
const slowMs = 250;
/** So long after a store refused a write, ms, it gets no email that another can take. */
const avoidMs = 1000;
/** A pace is forgotten if nothing was written for this long, ms: the store may have recovered. */
const paceAgeMaxMs = 1000;

interface Item {
  readonly submission: Submission;
  readonly deadlineMs: number;
  readonly resolve: (result: CommitResult) => void;
  /** It was in a write, and may be stored. */
  isTried: boolean;
  isAnswered: boolean;
}

/** Items that are not in a write, oldest first. */
interface Line {
  items: Item[];
  /** Length of their text. */
  chars: number;
}

function charsOf(items: readonly Pick<Item, "submission">[]): number {
  return items.reduce((sum, { submission }) => sum + submission.text.length, 0);
}

export class GroupCommit {
  readonly #options: GroupCommitOptions;
  readonly #small: Line = { items: [], chars: 0 };
  /** For emails of which few fit into one write. */
  readonly #large: Line = { items: [], chars: 0 };
  readonly #lines = [this.#small, this.#large];
  #turn = this.#small;
  /** Number of items without an answer. */
  #unansweredCount = 0;
  /** Items in the write that is under way. */
  #group: readonly Item[] = [];
  /**
   * How long a write has taken lately from its first try on, ms; for a write over `charsMax`, the time per `charsMax`.
   * Outages do not count: submissions wait for their end, and they say nothing about later writes.
   */
  #paceMs = 0;
  #pacedAtMs = 0;
  #triedSinceMs: number | undefined;
  #isScheduled = false;
  #retryTimer: Timer | undefined;
  #deadlineTimer: Timer | undefined;
  #nextDeadlineMs = Infinity;
  #lastTrouble = "";
  /** The last write has to be repeated. */
  #isTroubled = false;
  #avoidedUntilMs = 0;

  constructor(options: GroupCommitOptions) {
    this.#options = options;
  }

  /** See `Producer.submit`. */
  readonly submit = (submission: Submission, deadlineMs: number): Promise<CommitResult> => {
    const line = this.#lineOf(submission);
    if (this.#isBusy(line, deadlineMs)) return Promise.resolve({ kind: "busy" });
    if (this.#unansweredCount === 0) this.#isTroubled = false;
    return new Promise((resolve) => {
      line.items.push({ submission, deadlineMs, resolve, isTried: false, isAnswered: false });
      line.chars += submission.text.length;
      this.#unansweredCount += 1;
      this.#expireAt(deadlineMs);
      this.#schedule();
    });
  };

  /** Whether the store can be expected to take a submission at once. */
  takes(submission: Submission, deadlineMs: number): boolean {
    const { kind } = this.#options.readiness();
    const nowMs = performance.now();
    if (kind !== "ready" || this.#isTroubled || nowMs < this.#avoidedUntilMs) return false;
    const tryingMs = nowMs - (this.#triedSinceMs ?? nowMs);
    return (
      tryingMs <= Math.max(slowMs, 4 * this.#paceMs) && !this.#isBusy(this.#lineOf(submission), deadlineMs)
    );
  }

  /**
   * Starts a write if the store is ready. Hands over what waits if it is not, and fails the rest if it refuses. Call this
   * when the store, or another that could take over, becomes ready.
   */
  readonly flush = (): void => {
    const state = this.#options.readiness();
    if (state.kind !== "ready" || this.#isTroubled) this.#handOver();
    if (state.kind === "refused") {
      for (const line of this.#lines) {
        for (const item of line.items) this.#answer(item, { kind: "failed", reason: state.reason });
        this.#setItems(line, []);
      }
      this.#triedSinceMs = undefined;
    }
    if (this.#retryTimer !== undefined) return;
    while (state.kind === "ready" && !this.#isWriting() && this.#isWaiting()) {
      this.#turn = this.#turn === this.#small ? this.#large : this.#small;
      const group = this.#takeGroup(this.#turn);
      if (group.length > 0) void this.#write(this.#turn, group);
    }
  };

  /** Answers all open submissions. */
  close(): void {
    clearTimeout(this.#deadlineTimer);
    clearTimeout(this.#retryTimer);
    for (const item of this.#unanswered()) this.#answer(item, { kind: "failed", reason: "closed" });
  }

  /** All items without an answer. */
  #unanswered(): Item[] {
    const all = [...this.#group, ...this.#small.items, ...this.#large.items];
    return all.filter(({ isAnswered }) => !isAnswered);
  }

  #answer(item: Item, result: CommitResult): void {
    if (item.isAnswered) return;
    this.#leave(item);
    item.resolve(result);
  }

  #leave(item: Item): void {
    item.isAnswered = true;
    this.#unansweredCount -= 1;
  }

  #lineOf({ text }: Submission): Line {
    return text.length > this.#options.charsMax / 4 ? this.#large : this.#small;
  }

  #handOver(): void {
    if (this.#options.handOver === undefined) return;
    for (const line of this.#lines) {
      for (const item of line.items.filter(({ isTried }) => !isTried)) {
        const result = this.#options.handOver(item.submission, item.deadlineMs);
        if (result === undefined) continue;
        this.#leave(item);
        void result.then(item.resolve);
      }
      this.#setItems(line, line.items);
    }
  }

  /** Omits items that have been answered. */
  #setItems(line: Line, items: readonly Item[]): void {
    line.items = items.filter(({ isAnswered }) => !isAnswered);
    line.chars = charsOf(line.items);
  }

  #isWriting(): boolean {
    return this.#group.length > 0;
  }

  #isWaiting(): boolean {
    return this.#small.items.length > 0 || this.#large.items.length > 0;
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    // Not a microtask: those run before the next socket of the same turn is read.
    setImmediate(() => {
      this.#isScheduled = false;
      this.flush();
    });
  }

  /**
   * Whether the emails ahead of a submission would take more than half of the time until its deadline. The other half is
   * in reserve, in case the store slows down. An idle store always has room, so that a new pace is noticed.
   */
  #isBusy(line: Line, deadlineMs: number): boolean {
    if (!this.#isWaiting() && !this.#isWriting()) return false;
    const nowMs = performance.now();
    if (!this.#isWriting() && nowMs - this.#pacedAtMs > paceAgeMaxMs) this.#paceMs = 0;
    const own = this.#groupsIn(line);
    const others = Math.min(own, this.#groupsIn(line === this.#small ? this.#large : this.#small));
    const endsAtMs = this.#triedSinceMs === undefined ? nowMs : this.#triedSinceMs + this.#paceMs;
    const waitMs = Math.max(0, endsAtMs - nowMs) + (own + others + 1) * this.#paceMs;
    return waitMs > (deadlineMs - nowMs) / 2;
  }

  #groupsIn({ items, chars }: Line): number {
    const { emailsMax, charsMax } = this.#options;
    return Math.floor(Math.max(items.length / emailsMax, chars / charsMax));
  }

  #takeGroup(line: Line): Item[] {
    const { emailsMax, charsMax } = this.#options;
    const nowMs = performance.now();
    const group: Item[] = [];
    let chars = 0;
    let taken = 0;
    for (const item of line.items) {
      chars += item.submission.text.length;
      if (group.length === emailsMax || (group.length > 0 && chars > charsMax)) break;
      taken += 1;
      // An item is left out if its write would end after its deadline, when the client has been told that it failed. But
      // the first one is always tried before its deadline, or a single slow write would shut out all later ones.
      const needMs = group.length === 0 ? 0 : this.#paceMs;
      if (item.deadlineMs > nowMs + needMs) group.push(item);
      else this.#answer(item, { kind: "failed", reason: this.#lastTrouble || tooSlow });
    }
    this.#setItems(line, line.items.slice(taken));
    return group;
  }

  async #write(line: Line, group: readonly Item[]): Promise<void> {
    this.#group = group;
    const startMs = performance.now();
    this.#triedSinceMs ??= startMs;
    const committed = await this.#options.commit(group.map(({ submission }) => submission));
    if (committed.kind !== "again" || !committed.isUntouched) for (const item of group) item.isTried = true;
    this.#group = [];
    const nowMs = performance.now();
    const tookMs = nowMs - (this.#triedSinceMs ?? startMs);
    // A routine repetition belongs to the same try.
    if (committed.kind !== "again" || committed.reason !== undefined) this.#triedSinceMs = undefined;
    this.#isTroubled = committed.kind === "again" && committed.reason !== undefined;
    switch (committed.kind) {
      case "done":
        this.#lastTrouble = "";
        this.#reportGroup(committed.results, nowMs - startMs);
        this.#learnPace(group, tookMs, group[0]!.deadlineMs - startMs);
        group.forEach((item, i) => this.#answer(item, committed.results[i]!));
        break;
      case "failed":
        this.#report(committed.reason);
        this.#avoidedUntilMs = nowMs + avoidMs;
        for (const item of group) this.#answer(item, committed);
        break;
      case "again":
        if (committed.reason !== undefined) this.#report(committed.reason);
        this.#setItems(line, [...group, ...line.items]);
        if (this.#isTroubled) this.#handOver();
        this.#retryTimer ??= setTimeout(() => {
          this.#retryTimer = undefined;
          this.flush();
        }, this.#options.againMs);
        break;
    }
    // In the next turn, so that answers are sent first, and new submissions join the next group.
    if (this.#isWaiting()) this.#schedule();
  }

  /**
   * Adapts faster to a slower write than to a faster one. One long write is a stall, not a pace: it counts as at most
   * half of the time until the deadline of its first email.
   */
  #learnPace(group: readonly Item[], tookMs: number, timeMs: number): void {
    const parts = Math.max(1, charsOf(group) / this.#options.charsMax);
    const partMs = Math.min(tookMs / parts, Math.max(0, timeMs) / 2);
    this.#paceMs += (partMs - this.#paceMs) * (partMs > this.#paceMs ? 0.5 : 0.25);
    this.#pacedAtMs = performance.now();
  }

  #reportGroup(results: readonly CommitResult[], tookMs: number): void {
    const stored = results.filter(({ kind }) => kind === "stored");
    if (stored.length > 0) this.#options.onGroup?.(stored.length, tookMs);
  }

  /** Logs each kind of trouble once, not for each group. */
  #report(reason: string): void {
    if (reason !== this.#lastTrouble) this.#options.log.warn("submission-delayed", { reason });
    this.#lastTrouble = reason;
  }

  /** One timer for all. It is reset only for an earlier deadline, which is rare: all have the same timeout. */
  #expireAt(deadlineMs: number): void {
    if (deadlineMs >= this.#nextDeadlineMs) return;
    this.#nextDeadlineMs = deadlineMs;
    clearTimeout(this.#deadlineTimer);
    this.#deadlineTimer = setTimeout(() => this.#expire(), Math.max(1, deadlineMs - performance.now()));
  }

  #expire(): void {
    const nowMs = performance.now();
    const state = this.#options.readiness();
    const reason = state.kind === "ready" ? this.#lastTrouble || "no answer in time" : state.reason;
    let nextMs = Infinity;
    for (const item of this.#unanswered()) {
      if (item.deadlineMs > nowMs) nextMs = Math.min(nextMs, item.deadlineMs);
      else this.#answer(item, { kind: "failed", reason });
    }
    for (const line of this.#lines) this.#setItems(line, line.items);
    if (!this.#isWaiting() && !this.#isWriting()) this.#triedSinceMs = undefined;
    this.#nextDeadlineMs = Infinity;
    this.#expireAt(nextMs);
  }
}
