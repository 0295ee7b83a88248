// A queue in memory that keeps what the simulation needs of lib/queue/contract.ts. No worker dies here and no answer is
// lost, so leases never expire and claims are never repeated.

import { encodeEmail } from "../../lib/email/email.ts";
import type { Batch, ClaimedEmail, ClaimRequest, ClaimResult } from "../../lib/queue/contract.ts";
import type { Consumer, PermitRequest, Settled, Settlement } from "../../lib/queue/contract.ts";
import {
  changeRate,
  newBucket,
  type RateBucket,
  sharedRate,
  takePermit,
} from "../../lib/queue/rate_bucket.ts";
import { DueList } from "./due_list.ts";
import type { VirtualTime } from "./virtual_time.ts";

interface StoredEmail {
  readonly id: string;
  readonly submittedAtMs: number;
  history: string;
  /** Requests that carried it. */
  carried: number;
}

interface StoredBatch extends Omit<Batch, "emails" | "nowMs" | "acceptances" | "servedProviders"> {
  /** Those that have no fate yet. */
  emails: readonly StoredEmail[];
}

/** Time from a call of the store to its answer, ms. */
const answerMs = 1;

const text = encodeEmail({ to: "jane@example.org", from: "shop@example.com", subject: "Hi", body: "Hello" });

export class SimulatedQueue {
  readonly #time: VirtualTime;
  readonly #providers: readonly string[];
  readonly #emails = new Map<string, DueList<StoredEmail>>();
  readonly #batches = new Map<string, DueList<StoredBatch>>();
  /** By provider: each has one credential. */
  readonly #rates = new Map<string, RateBucket>();
  readonly #acceptances = new Map<string, number>();
  readonly #listeners: (() => void)[] = [];
  /** A claim found nothing: the next submission wakes the workers. */
  #isIdle = false;
  #submitted = 0;
  /** Emails neither sent nor dead, by the second in which they were submitted. */
  readonly #unsent: number[] = [];
  #oldestSecond = 0;
  /** Emails neither sent nor dead. */
  backlog = 0;
  dead = 0;
  claims = 0;
  possibleDuplicates = 0;
  /** Requests that carried an email, over the emails that have left. */
  readonly carried = { emails: 0, total: 0, most: 0 };

  /** @param providers names of those that serve it */
  constructor(time: VirtualTime, providers: readonly string[]) {
    this.#time = time;
    this.#providers = providers;
  }

  submit(count: number): void {
    const nowMs = this.#time.nowMs;
    for (let n = 0; n < count; n += 1) {
      this.#submitted += 1;
      const email = { id: String(this.#submitted), submittedAtMs: nowMs, history: "", carried: 0 };
      this.#emailsIn("due").add(email, nowMs, nowMs);
    }
    const second = Math.floor(nowMs / 1000);
    this.#unsent[second] = (this.#unsent[second] ?? 0) + count;
    this.backlog += count;
    if (!this.#isIdle || count === 0) return;
    this.#isIdle = false;
    this.#time.after(answerMs, () => {
      for (const wake of this.#listeners) wake();
    });
  }

  /** Age of the oldest email that is neither sent nor dead, in whole seconds. */
  oldestAgeSeconds(): number {
    const nowSecond = Math.floor(this.#time.nowMs / 1000);
    while (this.#oldestSecond < nowSecond && !this.#unsent[this.#oldestSecond]) this.#oldestSecond += 1;
    return nowSecond - this.#oldestSecond;
  }

  /** As one worker sees it. */
  consumer(): Consumer {
    const answer = async <T>(value: () => T): Promise<T> => {
      await this.#time.sleep(answerMs);
      return value();
    };
    const unused = () => Promise.reject(new Error("not simulated"));
    return {
      compatible: Promise.resolve(),
      claim: (request) => answer(() => this.#claim(request)),
      takePermit: (request) => answer(() => this.#takePermit(request)),
      settle: (batch, settlement) => answer(() => this.#settle(batch, settlement)),
      readFiles: unused,
      claimEnded: unused,
      sweep: unused,
      stats: unused,
      paused: () => false,
      onWake: (callback) => void this.#listeners.push(callback),
      health: () => ({ ok: true }),
      close: () => Promise.resolve(),
    };
  }

  #emailsIn(name: string): DueList<StoredEmail> {
    let list = this.#emails.get(name);
    if (list === undefined) this.#emails.set(name, (list = new DueList()));
    return list;
  }

  #batchesOf(provider: string): DueList<StoredBatch> {
    let list = this.#batches.get(provider);
    if (list === undefined) this.#batches.set(provider, (list = new DueList()));
    return list;
  }

  #takePermit({ provider, startPerSecond }: PermitRequest) {
    const nowMs = this.#time.nowMs;
    const bucket = this.#rates.get(provider) ?? newBucket(startPerSecond);
    const isTaken = sharedRate(bucket, nowMs).nextInMs === 0;
    if (isTaken) this.#rates.set(provider, takePermit(bucket, nowMs));
    return { isTaken, rate: sharedRate(this.#rates.get(provider) ?? bucket, nowMs) };
  }

  #claim(request: ClaimRequest): ClaimResult {
    this.claims += 1;
    const nowMs = this.#time.nowMs;
    const { provider, credential, startPerSecond = 1 } = request;
    const rate = sharedRate(this.#rates.get(provider) ?? newBucket(startPerSecond), nowMs);
    if (rate.nextInMs > 0) return { kind: "limited", rate };
    const found = this.#find(request);
    if (typeof found === "object") {
      const taken = this.#takePermit({ provider, credential, startPerSecond });
      return { ...this.#lease(found, request), rate: taken.rate };
    }
    return { kind: "empty", nextDueInMs: found === Infinity ? undefined : found - nowMs, rate };
  }

  /** A batch, or when something will be due. */
  #find(request: ClaimRequest): StoredBatch | number {
    const nowMs = this.#time.nowMs;
    let nextDueMs = Infinity;
    for (const source of request.sources) {
      if (source === "batches") {
        const list = this.#batchesOf(request.provider);
        const [again] = list.take(1, nowMs);
        if (again !== undefined) return { ...again, lease: again.lease + 1 };
        nextDueMs = Math.min(nextDueMs, list.nextDueMs());
        continue;
      }
      const lists = source === "emails" ? this.#newLists(request) : this.#splitLists(request);
      const made = this.#makeBatch(lists, request);
      if (made !== undefined) return made;
      if (source === "emails" && request.shared) this.#isIdle = true;
      nextDueMs = Math.min(nextDueMs, ...lists.map(({ list }) => list.nextDueMs()));
    }
    return nextDueMs;
  }

  #newLists({ provider, shared, countMax }: ClaimRequest): NamedList[] {
    const own = { list: this.#emailsIn(`due:${provider}`), countMax };
    return shared ? [own, { list: this.#emailsIn("due"), countMax }] : [own];
  }

  #splitLists({ provider, countMax }: ClaimRequest): NamedList[] {
    return [...this.#emails].flatMap(([name, list]) => {
      const [, size, owner] = /^split:(\d+)(?::(.+))?$/.exec(name) ?? [];
      if (size === undefined || (owner !== undefined && owner !== provider)) return [];
      return { list, countMax: Math.min(countMax, Number(size)), pieceMax: Number(size) };
    });
  }

  #makeBatch(lists: readonly NamedList[], request: ClaimRequest): StoredBatch | undefined {
    const nowMs = this.#time.nowMs;
    for (const { list, countMax, pieceMax } of lists) {
      const emails = list.take(countMax, nowMs);
      if (emails.length === 0) continue;
      const { claimId: id, provider, context, credential, doubtMs, leaseMs } = request;
      const about = { id, provider, context, credential, pieceMax, emails };
      const ends = { leaseEndsAtMs: nowMs + leaseMs, doubtEndsAtMs: nowMs + doubtMs };
      return { ...about, ...ends, lease: 1, notes: "", leaseExpired: false };
    }
    return undefined;
  }

  #lease(stored: StoredBatch, { leaseMs, dueCountMax, credential }: ClaimRequest) {
    const nowMs = this.#time.nowMs;
    const emails = stored.emails.map((email): ClaimedEmail => {
      email.carried += 1;
      const { id, submittedAtMs, history } = email;
      return { id, submittedAtMs, history, text, marked: false };
    });
    const batch: Batch & { stored: StoredBatch } = {
      ...stored,
      stored,
      emails,
      nowMs,
      leaseEndsAtMs: nowMs + leaseMs,
      servedProviders: this.#providers,
      acceptances: this.#acceptances.get(credential) ?? 0,
    };
    const dueLeft = Math.min(dueCountMax, this.#emailsIn("due").dueCount(nowMs));
    return { kind: "batch", batch, dueLeft } as const;
  }

  #settle(batch: Batch, settlement: Settlement): Settled {
    const nowMs = this.#time.nowMs;
    const { stored } = batch as Batch & { stored: StoredBatch };
    const left = new Map(stored.emails.map((email) => [email.id, email]));
    this.possibleDuplicates += settlement.counts["possible_duplicates"] ?? 0;
    let accepted = 0;
    for (const fate of settlement.fates) {
      const email = left.get(fate.id)!;
      left.delete(fate.id);
      if (fate.kind === "due") {
        email.history = fate.history;
        const owner = fate.only === undefined ? "" : `:${fate.only}`;
        const kind = fate.pieceMax === undefined ? "due" : `split:${fate.pieceMax}`;
        this.#emailsIn(kind + owner).add(email, nowMs + fate.delayMs, nowMs);
        continue;
      }
      this.#leave(email);
      if (fate.kind === "sent") accepted += 1;
      else this.dead += 1;
    }
    const credential = settlement.credential ?? "";
    this.#acceptances.set(credential, (this.#acceptances.get(credential) ?? 0) + accepted);
    const { rate } = settlement;
    const bucket = this.#rates.get(batch.provider);
    if (rate && bucket) this.#rates.set(batch.provider, changeRate(bucket, rate, nowMs));
    stored.emails = [...left.values()];
    if (settlement.rest !== undefined) {
      const { notes, delayMs } = settlement.rest;
      const rest = { ...stored, notes, doubtSinceMs: stored.doubtSinceMs ?? nowMs };
      this.#batchesOf(batch.provider).add(rest, nowMs + delayMs, nowMs);
    }
    return { leaseHeld: true, duplicates: [] };
  }

  #leave({ submittedAtMs, carried }: StoredEmail): void {
    this.#unsent[Math.floor(submittedAtMs / 1000)]! -= 1;
    this.backlog -= 1;
    this.carried.emails += 1;
    this.carried.total += carried;
    this.carried.most = Math.max(this.carried.most, carried);
  }
}

interface NamedList {
  readonly list: DueList<StoredEmail>;
  readonly countMax: number;
  readonly pieceMax?: number;
}
