// The contract of a queue on any store. An email is a row with the time from which it may be claimed; the batch is the
// unit of delivery, lease and idempotency. The conformance suite in tests/queue/ holds every store to it.
//
//           submit                  claim for provider P                      settle: sent
//   client ───────▶ due: now ──────────────────────────▶ batch of P, leased ────────────▶ record, kept a while
//                      ▲                                     │    │   ▲ │
//                      ├──────── settle: due later ──────────┤    │   │ └── lease expired, or settle: rest
//                      └──────── settle: due now ────────────┘    │   └──── later: in doubt, whole, claimed again
//                                                                 └───────▶ settle: dead, kept until deleted
//
// Rules that every store keeps:
// - All times are by the store's own clock, Unix ms.
// - An id is known while its email waits, is in a batch or is dead, and for `retainMs` after it was sent or deleted,
//   but at least for `knownMinMs`: no submission takes longer. Submitting a known id changes nothing.
// - A settlement is carried out while the batch has the lease under which it was claimed. After that only its
//   acceptances count: an email accepted anywhere never goes back to waiting.
// - Only {@link Consumer.sweep} lets ids, idempotency keys and records of claims expire: what is present is valid,
//   whatever a clock says. Only {@link Consumer.claimEnded} reads when a doubt ends.
// - `history`, `notes`, `context` and `record` are opaque here: policy writes and reads them.

import type { Log } from "../runtime/log.ts";

/** The id of an email that left the queue stays known for at least this time, ms. */
export const knownMinMs = 10 * 60 * 1000;
/** Life of an idempotency key, ms. */
export const idempotencyMs = 24 * 60 * 60 * 1000;

/** The store did not answer: the request may or may not have been carried out. */
export class StoreUnavailable extends Error {}
/** There is no queue: no server and no worker has ever started on it. */
export class QueueMissing extends Error {}

export interface StoreWatcher {
  readonly log: Log;
  /** This process cannot use the store, now or later. */
  readonly onFatal: (reason: string) => void;
}

export interface ProducerWatcher extends StoreWatcher {
  /** Called after each write that stored its submissions, with their number and how long it took, ms. */
  readonly onGroup?: ((emails: number, elapsedMs: number) => void) | undefined;
}

/** Whether a store can be relied upon now, or why not (for the log and the operator; never for clients). */
export type Health = { readonly ok: true } | { readonly ok: false; readonly reason: string };

export interface Submission {
  /** UUIDv7, generated before the first attempt to submit it. */
  readonly id: string;
  /** See `encodeEmail`. */
  readonly text: string;
  readonly idempotency?: {
    readonly key: string;
    readonly fingerprint: string;
    /** Digest of the API token of the request; empty without one. */
    readonly token: string;
  };
}

export type SubmitResult =
  /** On stable storage, now or since an earlier submission. `id` is that of the first. */
  | { readonly kind: "stored"; readonly id: string; readonly repeated: boolean }
  /** This token used the idempotency key for another email. Nothing was queued. */
  | { readonly kind: "conflict" }
  /** More was submitted than the store takes in time. Nothing was queued. */
  | { readonly kind: "busy" }
  /** Not acknowledged: it may or may not be queued. */
  | { readonly kind: "failed"; readonly reason: string };

/** The queue as the server sees it. */
export interface Producer {
  /** Resolves by the deadline (ms, by `performance.now()`); never rejects. */
  submit(submission: Submission, deadlineMs: number): Promise<SubmitResult>;
  /** Rejects if the store did not answer. */
  stats(): Promise<QueueStats>;
  health(): Health;
  close(): Promise<void>;
}

export interface ClaimedEmail {
  readonly id: string;
  readonly text: string;
  readonly submittedAtMs: number;
  /** As the last settlement left it; empty before. */
  readonly history: string;
  /** Accepted in an earlier batch since it joined this one: it ends as sent whatever is settled. */
  readonly marked: boolean;
}

/** A batch leased to the worker that claimed it. */
export interface Batch {
  readonly id: string;
  readonly provider: string;
  /** The fence: counts the leases of this batch. */
  readonly lease: number;
  /** The store's time at the claim. */
  readonly nowMs: number;
  readonly leaseEndsAtMs: number;
  /** When its doubt ends in any case: `doubtMs` after the first claim. */
  readonly doubtEndsAtMs: number;
  /** When doubt was recorded, by a settlement or by the first claim after a lease expired. Never moves. */
  readonly doubtSinceMs?: number | undefined;
  /** The lease before this one expired without a settlement. */
  readonly leaseExpired: boolean;
  readonly context: string;
  /** As the last settlement left them; empty before. */
  readonly notes: string;
  /** Size of the pieces in the `split` list that it was made from, if any. */
  readonly pieceMax?: number | undefined;
  /** {@link ClaimRequest.credential} of the claim that made it; empty if an older release made it. */
  readonly credential: string;
  /** Emails that this provider has accepted so far under the credential of this claim. Only grows. */
  readonly acceptances: number;
  /** Providers to which some worker has given new emails within the last 24 h, in no particular order. */
  readonly servedProviders: readonly string[];
  /** When the store's clock last stepped by more than a few seconds, within the last hour. */
  readonly clockSteppedAtMs?: number | undefined;
  readonly emails: readonly ClaimedEmail[];
}

/** Where a claim may look: emails that never failed, emails that travel in pieces, batches that are due again. */
export type ClaimSource = "emails" | "split" | "batches";

export interface ClaimRequest {
  /** A UUID generated by the worker: the id of the batch if this claim makes one. */
  readonly claimId: string;
  /** Who claims: one purpose of one process, such as the deliveries of a provider. */
  readonly claimant: string;
  /**
   * Counts the claims of this claimant from 1. Repeating the last number, after a lost answer, returns the same batch
   * under the same lease, or `spent`; a lower number is always spent. No clock decides.
   */
  readonly number: number;
  readonly provider: string;
  /** Digest of the credential that would be used: stored with a new batch. */
  readonly credential: string;
  /**
   * Searched in this order, until one has something. `batches` skips a batch in doubt that began with another
   * credential while a live worker has that credential.
   */
  readonly sources: readonly ClaimSource[];
  /** False: of `emails`, only those that no other provider may take. */
  readonly shared: boolean;
  /** Most new emails. */
  readonly countMax: number;
  /** Most stored bytes of new emails, but at least one email. */
  readonly bytesMax: number;
  /** A second is added for each 256 KiB of the batch's stored emails. */
  readonly leaseMs: number;
  /** For a new batch: how long after this claim its doubt ends, if it has any. */
  readonly doubtMs: number;
  /** For a new batch. */
  readonly context: string;
  /** Limit of {@link ClaimResult}'s `dueLeft`. */
  readonly dueCountMax: number;
}

export type ClaimResult =
  /** `dueLeft`: emails that are due, never failed and may go to any provider, up to `dueCountMax`. */
  | { readonly kind: "batch"; readonly batch: Batch; readonly dueLeft: number }
  /** Nothing is due for this provider in these sources; `nextDueInMs`: until the next is, as far as is known. */
  | { readonly kind: "empty"; readonly nextDueInMs?: number | undefined }
  /** This claim was answered before, and its batch has been settled or leased to another since. */
  | { readonly kind: "spent" }
  /** An operator has paused all claims. (A repeated claim still gets its first answer.) */
  | { readonly kind: "paused" }
  /** Too few replicas hold the claim: nothing may be sent, and the batch has to be released. */
  | { readonly kind: "unreplicated"; readonly batch: Batch };

/** The fate of one email of a batch. */
export type EmailFate =
  | { readonly id: string; readonly kind: "sent"; readonly record: string }
  /** Back to waiting: for any provider, or for `only` this one. */
  | {
      readonly id: string;
      readonly kind: "due";
      readonly delayMs: number;
      readonly only?: string;
      /** Most emails in its next batch: it waits in the `split` list of that size. */
      readonly pieceMax?: number;
      readonly history: string;
    }
  | { readonly id: string; readonly kind: "dead"; readonly history: string };

export interface Settlement {
  /** At most one for each email of the batch. */
  readonly fates: readonly EmailFate[];
  /** For the emails without a fate: they stay in the batch, which is in doubt and due again after `delayMs`. */
  readonly rest?: { readonly delayMs: number; readonly notes: string };
  /** Before the first request, instead of `rest`: emails without a fate stay under the same lease, without doubt. */
  readonly keepsLease?: true;
  /** Added to the store's counters. */
  readonly counts: Readonly<Record<string, number>>;
  /** Credential of the request, under which its acceptances are counted: see {@link Batch.acceptances}. */
  readonly credential?: string;
  /** The provider itself failed, not a single email. Recorded as its condition, unless a fate is `sent`. */
  readonly failure?: {
    readonly reason: string;
    /** The answer was the provider's own, in its own form. */
    readonly own: boolean;
  };
}

export interface Settled {
  /** False: the lease was lost, and only the acceptances counted. */
  readonly leaseHeld: boolean;
  /** Emails that had been accepted before in another batch: sent twice. */
  readonly duplicates: readonly string[];
}

/** Everything that other workers have to know about a worker process. */
export interface WorkerPresence {
  /** Identifies the process: a UUID. */
  readonly worker: string;
  /** Longest time that it delays an email, ms; a batch in doubt may also wait for `searchWaitMs`. */
  readonly retryMaxMs: number;
  readonly searchWaitMs: number;
  /** By name: the digest of its credential, and whether it gets new emails (its weight is positive). */
  readonly providers: Readonly<
    Record<string, { readonly credential: string; readonly takesEmails: boolean }>
  >;
}

/** The queue as the worker sees it. Methods reject with {@link StoreUnavailable} if the store did not answer. */
export interface Consumer {
  /** Resolves once the store can be reached and has a format that this version understands. */
  readonly compatible: Promise<void>;
  claim(request: ClaimRequest): Promise<ClaimResult>;
  /** Leases a batch of any provider whose doubt has ended and whose lease has expired, so that it can be settled. */
  claimEnded(request: Pick<ClaimRequest, "claimant" | "number" | "leaseMs">): Promise<ClaimResult>;
  /** May be repeated after a lost answer. */
  settle(batch: Batch, settlement: Settlement): Promise<Settled>;
  /**
   * Housekeeping, bounded, about once a second: records that this worker lives and what it serves; removes what has
   * expired; gives to all providers the emails that only one may take which no worker has served for 24 h; detects
   * steps of the store's clock, and makes due now what a wrong clock has put at an impossible time.
   */
  sweep(presence: WorkerPresence): Promise<void>;
  stats(): Promise<QueueStats>;
  /** Whether claims were paused at the last claim. */
  paused(): boolean;
  /** Calls back when emails may have become due; a hint that can be lost. */
  onWake(callback: () => void): void;
  health(): Health;
  close(): Promise<void>;
}

export type EmailState = "waiting" | "retrying" | "sending" | "in-doubt" | "sent" | "dead" | "deleted";

export interface StoredEmail {
  readonly id: string;
  readonly state: EmailState;
  /** The whole email; in a list, or once sent, the envelope line alone; absent once deleted. */
  readonly text?: string | undefined;
  /** Absent once sent or deleted. */
  readonly submittedAtMs?: number | undefined;
  /** When it is due (waiting, retrying), or when it died. */
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
  /** {@link Batch.lease} of its last lease. */
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

export interface Page {
  readonly emails: readonly StoredEmail[];
  /** Where the next page begins, opaque; undefined after the last. */
  readonly next: string | undefined;
}

/** How a provider did lately, according to settlements under a valid lease. */
export interface ProviderCondition {
  readonly lastAcceptedAtMs?: number;
  /** Its first failure since the last acceptance; absent while it works. */
  readonly failingSinceMs?: number;
  readonly lastFailedAtMs?: number;
  readonly lastFailure?: string;
  /** The last failure came without an answer in the provider's own form; absent while it works. */
  readonly isUnanswered?: true;
}

export interface QueueStats {
  /** The store's time. */
  readonly nowMs: number;
  /** All emails of a batch count alike, even one that was accepted elsewhere meanwhile and is shown as sent. */
  readonly states: Readonly<Record<Exclude<EmailState, "deleted">, number>>;
  readonly counters: Readonly<Record<string, number>>;
  /** By name, those that have accepted something or failed. */
  readonly providers: Readonly<Record<string, ProviderCondition>>;
  /** Since when the oldest is due: an email, or a batch that has to be claimed again. */
  readonly oldestDueAtMs?: number | undefined;
  readonly oldestDoubtSinceMs?: number | undefined;
  readonly paused: boolean;
  /** The last step of the store's clock by more than a few seconds, for an hour: when (after it), and by how much. */
  readonly clockStep?: { readonly atMs: number; readonly byMs: number } | undefined;
  /** Bytes that the store uses, and may use: `maxmemory` of Redis if it is set, or the size of the disk. */
  readonly bytesUsed: number;
  readonly bytesMax?: number | undefined;
}

export type DeleteAnswer = "deleted" | "in-batch" | "unknown" | "changed";

/** The queue as an operator sees it. Everything is bounded, and safe beside running workers. */
export interface Admin {
  show(id: string): Promise<StoredEmail | undefined>;
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
   * Dead letters back to waiting, due now, for any provider, with a new history; 1000 at most. Skips an email that is
   * no longer dead with the history that it was seen with.
   * @param counts added to the counters for each email that was retried
   * @returns the ids of those that were
   */
  retry(
    emails: readonly { readonly id: string; readonly seenHistory: string; readonly history: string }[],
    counts: Readonly<Record<string, number>>,
  ): Promise<readonly string[]>;
  /**
   * Settles a batch in doubt without leasing it, even while claims are paused. Its fates are `due` or `dead`.
   * @param batch as {@link show} returned it
   * @returns false if it is leased, or has changed since: then nothing is changed
   */
  release(batch: StoredBatch, settlement: Settlement): Promise<boolean>;
  /**
   * Refuses an email in a batch. 1000 ids at most; one answer for each.
   * @param seenHistories one for each id: deletes only what is still dead with this history, else answers `changed`
   */
  delete(ids: readonly string[], seenHistories?: readonly string[]): Promise<readonly DeleteAnswer[]>;
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
  ): Promise<{ readonly deleted: number; readonly next: string | undefined }>;
  /** Pauses every claim of every worker, also of batches in doubt, until {@link resume}. Repeating it changes nothing. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /**
   * Whether a server would acknowledge submissions to this store now, and if not, how to fix it. Waits at most a second
   * for what may pass, such as a missing replica. Creates and changes nothing.
   */
  health(): Promise<Health>;
  close(): Promise<void>;
}
