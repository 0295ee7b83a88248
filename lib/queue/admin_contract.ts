// The contract of a queue on any store, as an operator sees it: what is stored, the statistics, and the changes that
// commands make. The rules in contract.ts hold here too.

import type { Health, Settlement } from "./contract.ts";

export type EmailState =
  "scheduled" | "waiting" | "retrying" | "sending" | "in-doubt" | "sent" | "dead" | "deleted";

export interface StoredEmail {
  readonly id: string;
  readonly state: EmailState;
  /** The whole email; in a list, or once sent, the envelope line alone; absent once deleted. */
  readonly text?: string | undefined;
  /** Absent once sent or deleted. */
  readonly submittedAtMs?: number | undefined;
  /** When it is due (scheduled, waiting, retrying), or when it died. */
  readonly atMs?: number | undefined;
  readonly history: string;
  /** Once sent. */
  readonly record?: string | undefined;
  /** While in a batch. */
  readonly batch?: StoredBatch | undefined;
}

export interface StoredBatch {
  readonly id: string;
  readonly provider: string;
  /** Counts its leases: the fence of {@link Admin.release}. */
  readonly lease: number;
  /** All its emails; absent in a list. */
  readonly emailIds?: readonly string[] | undefined;
  /** The end of its lease, or its next attempt. */
  readonly dueAtMs: number;
  /** A worker has it until then. */
  readonly leased: boolean;
  /** Its last lease, or the one before its present one, expired without a settlement. */
  readonly leaseExpired: boolean;
  readonly doubtSinceMs?: number | undefined;
  readonly notes: string;
}

/** The answer of a queue of which some partitions could not be asked, so that it lacks their part. */
export interface PartialAnswer {
  readonly unreached?: readonly { readonly partition: number; readonly reason: string }[];
}

export interface Page extends PartialAnswer {
  readonly emails: readonly StoredEmail[];
  /** Where the next page begins, opaque; undefined after the last. */
  readonly next: string | undefined;
}

/** How a provider did lately, according to settlements under a valid lease. */
export interface ProviderCondition {
  readonly lastAcceptedAtMs?: number | undefined;
  /** Its first failure since the last acceptance; absent while it works. */
  readonly failingSinceMs?: number | undefined;
  readonly lastFailedAtMs?: number;
  readonly lastFailure?: string;
  /** The last failure came without an answer in the provider's own form; absent while it works. */
  readonly isUnanswered?: true | undefined;
  /** The rate that all workers share, of the credential that was used last; absent if none was for a day. */
  readonly rate?: ProviderRate | undefined;
}

interface ProviderRate {
  readonly perSecond: number;
  readonly limitPerSecond?: number;
  /** No requests before then; absent if there is no pause. */
  readonly pausedUntilMs?: number;
}

export interface QueueStats extends PartialAnswer {
  /** The store's time. */
  readonly nowMs: number;
  /** All emails of a batch count alike, even one that was accepted elsewhere meanwhile and is shown as sent. */
  readonly states: Readonly<Record<Exclude<EmailState, "deleted">, number>>;
  readonly counters: Readonly<Record<string, number>>;
  /** Bytes of the files of all emails in the queue. */
  readonly fileBytes: number;
  /** By name, those that have accepted something or failed, or whose rate is known. */
  readonly providers: Readonly<Record<string, ProviderCondition>>;
  /** Since when the oldest is due: an email, or a batch that has to be claimed again. */
  readonly oldestDueAtMs?: number | undefined;
  readonly oldestDoubtSinceMs?: number | undefined;
  readonly paused: boolean;
  /** See {@link Admin.setMoving}. */
  readonly moving: boolean;
  /** The last step of the store's clock by more than a few seconds, for an hour: when (after it), and by how much. */
  readonly clockStep?: { readonly atMs: number; readonly byMs: number } | undefined;
  /** Bytes that the store uses, and may use: `maxmemory` of Redis if it is set, or the size of the disk. */
  readonly bytesUsed: number;
  readonly bytesMax?: number | undefined;
}

/** An idempotency key of a queue. */
export interface StoredKey {
  readonly key: string;
  /** The emails that have it, and the digests of the tokens that used it: the first use comes first. */
  readonly uses: readonly {
    readonly id: string;
    readonly fingerprint: string;
    /** Empty without a token. */
    readonly token: string;
    /** Time until it expires by the store's clock, ms; negative if it should have expired. */
    readonly lifeMs: number;
  }[];
}

export interface KeyPage {
  readonly keys: readonly StoredKey[];
  /** As in {@link Page}. */
  readonly next: string | undefined;
}

/** An email with the history that it was seen with, and its new one. */
export interface SeenEmail {
  readonly id: string;
  readonly seenHistory: string;
  readonly history: string;
}

export interface RetriedLetter extends SeenEmail {
  /** As in a `Submission`. */
  readonly sendAtMs?: number | undefined;
}

/** A dead letter as it is stored. */
export interface DeadLetter {
  readonly id: string;
  readonly text: string;
  readonly submittedAtMs: number;
  readonly diedAtMs: number;
  readonly history: string;
  /** As in a `Submission`. */
  readonly isHidden?: boolean;
  /** As {@link Admin.readFiles} returns it. */
  readonly contents?: Uint8Array;
}

/** `known`: the queue has it, in any state, or has its record. `deleted`: it was deleted there, and stays deleted. */
export type AdoptAnswer = "adopted" | "known" | "deleted";

/** `unreached`: its partition did not answer, and may or may not have deleted it. */
export type DeleteAnswer = "deleted" | "in-batch" | "unknown" | "changed" | "unreached";

/**
 * The queue as an operator sees it. Everything is bounded, and safe beside running workers. Where submissions are
 * replicated, so is every change, and what a move of the queue reads: otherwise it rejects, though the change was made.
 */
export interface Admin {
  show(id: string): Promise<StoredEmail | undefined>;
  /** As `Consumer.readFiles`. */
  readFiles(id: string): Promise<Uint8Array | undefined>;
  stats(): Promise<QueueStats>;
  /**
   * At most `limit` (1–1000) emails in one state; a page of large emails, or of emails that have left, may hold fewer
   * or none though others follow. What stays in the state is listed once. What leaves meanwhile may be missing; what
   * comes back, or newest first is claimed after its lease expired, may be listed again.
   * @param from `next` of the page before
   * @param order by the time since which, or until which, an email is in the state; default: from the oldest
   */
  list(
    state: Exclude<EmailState, "deleted">,
    limit: number,
    from?: string,
    order?: "oldest" | "newest",
  ): Promise<Page>;
  /**
   * Dead letters back to waiting, for any provider, with a new history; 1000 at most. Skips an email that is no longer dead
   * with the history that it was seen with, and all emails while the queue is being moved.
   * @param counts added to the counters for each email that was retried
   * @returns the ids of those that were
   */
  retry(
    emails: readonly RetriedLetter[],
    counts: Readonly<Record<string, number>>,
  ): Promise<readonly string[]>;
  /**
   * The opposite, while the queue is being moved: makes scheduled emails dead letters, which another queue can adopt; 1000 at
   * most. Skips an email that is no longer scheduled with the history that it was seen with.
   * @returns the ids of those that are dead letters now
   */
  withdraw(emails: readonly SeenEmail[]): Promise<readonly string[]>;
  /**
   * Settles a batch in doubt without leasing it, even while claims are paused. Its fates are `due` or `dead`.
   * @param batch as {@link show} returned it
   * @returns false if it is leased, or has changed since: then nothing is changed
   */
  release(batch: StoredBatch, settlement: Settlement): Promise<boolean>;
  /**
   * Refuses an email in a batch. 1000 ids at most; one answer for each.
   * @param seenHistories one for each id: deletes only what is still dead with this history, else answers `changed`
   * @param isMoved another queue has adopted them: this one may adopt them again. Repeating it gives the same answers
   */
  delete(
    ids: readonly string[],
    seenHistories?: readonly string[],
    isMoved?: boolean,
  ): Promise<readonly DeleteAnswer[]>;
  /**
   * Goes through at most `limit` (1–1000) waiting and retrying emails, and deletes those submitted by a time. Their ids
   * stay known. What meanwhile comes back from a batch or is retried may be deleted, or not.
   * @param submittedTillMs by the store's clock, as {@link QueueStats.nowMs}
   * @param from `next` of the call before
   * @returns how many it deleted, perhaps none though others follow; and `next` as in {@link Page}
   */
  clear(
    limit: number,
    submittedTillMs: number,
    from?: string,
  ): Promise<PartialAnswer & { readonly deleted: number; readonly next: string | undefined }>;
  /**
   * Pauses every claim of every worker, also of batches in doubt, or ends that. Repeating it changes nothing. A partition
   * that is not reached is told by a worker that reaches it and another.
   */
  setPaused(paused: boolean): Promise<PartialAnswer>;
  /**
   * While it is being moved, the queue accepts no new idempotency key and no {@link retry}. Keys that it knows are answered
   * as before, and emails without a key are queued. Repeating it changes nothing.
   */
  setMoving(moving: boolean): Promise<void>;
  /**
   * At most `limit` (1–1000) idempotency keys. All pages together contain each key that is there from before the first
   * page until after the last, once or more; but if the store's clock steps meanwhile, keys may be missing.
   * @param from `next` of the page before
   * @param lifeMinMs leaves out keys that will expire sooner for all emails that have them
   */
  listKeys(limit: number, from?: string, lifeMinMs?: number): Promise<KeyPage>;
  /**
   * Adds idempotency keys of another queue; 1000 at most. A use that this queue has keeps the later expiry. What this
   * queue already answers with another id, or refuses, stays as it is. Each use lasts an hour at least.
   * @returns how many uses were added, and how many were left out for that reason
   */
  rememberKeys(keys: readonly StoredKey[]): Promise<{ readonly added: number; readonly conflicts: number }>;
  /** Adds dead letters of another queue, with their ids; one answer for each. */
  adopt(letters: readonly DeadLetter[]): Promise<readonly AdoptAnswer[]>;
  /**
   * Whether a server would acknowledge submissions to this store now, and if not, how to fix it. Waits at most a second
   * for what may pass, such as a missing replica. Creates and changes nothing.
   */
  health(): Promise<Health>;
  close(): Promise<void>;
}
