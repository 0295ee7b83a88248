// The contract of a queue on any store. An email is a row with the time from which it may be claimed; the batch is the
// unit of delivery, lease and idempotency. The conformance suite in tests/queue/ holds every store to it. The operator's
// part is in admin_contract.ts, and rates are in rate_contract.ts.
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
// - A hidden email has a field that the previous release does not know, and that its workers would drop. So that release
//   must not find it: it claims neither a hidden email nor a batch that contains one. Emails with files or `sendAtMs` are
//   hidden.
// - An email whose `sendAtMs` is in the future waits in a list of its own until then. Only the store's clock makes it due,
//   never a sweep.
// - The contents of files are written in pieces before their email, and expire unless it is stored: the step that stores
//   the email makes them permanent. They are removed when the email is sent or deleted. No claim or list reads them.
// - An id is known while its email waits, is in a batch or is dead, and for `retainMs` after it was sent or deleted,
//   but at least for `knownMinMs`: no submission takes longer. Submitting a known id changes nothing.
// - A settlement is carried out only while the batch has the lease under which it was claimed. After that only its
//   acceptances count: an email accepted anywhere never goes back to waiting.
// - Only {@link Consumer.sweep} lets ids, idempotency keys and records of claims expire: what is present is valid,
//   whatever a clock says. Of the operations, only {@link Consumer.claimEnded} depends on when a doubt ends.
// - The rate of a provider under a credential is shared by all workers: one request to it takes one permit, and a claim
//   that finds something takes it in the same step.
// - `history`, `notes`, `context` and `record` are opaque to a store: it keeps them and returns them unread.

import type { Claim } from "./claimant.ts";
import type { Log } from "../runtime/log.ts";
import type { QueueStats } from "./admin_contract.ts";
import type { PermitRequest, RateChange, SharedRate } from "./rate_contract.ts";

export type * from "./admin_contract.ts";
export type * from "./rate_contract.ts";

/** The id of an email that left the queue stays known for at least this time, ms. */
export const knownMinMs = 10 * 60 * 1000;
/** Life of an idempotency key from its use, or from its email's `sendAtMs` if that is later, ms. */
export const idempotencyMs = 24 * 60 * 60 * 1000;

/** Why a queue that is being moved does not store an email. */
export const movingText = "the queue is being moved and accepts no new idempotency keys";

/** The store did not answer: the request may or may not have been carried out. */
export class StoreUnavailable extends Error {}
/** The part of the queue that an email or a batch belongs to did not answer; others may. */
export class PartitionUnreached extends StoreUnavailable {}
/** There is no queue: no server and no worker has ever started at this location. */
export class QueueMissing extends Error {}

export interface StoreWatcher {
  readonly log: Log;
  /** Called if this process cannot use the store, now or later. */
  readonly onFatal: (reason: string) => void;
}

export interface ProducerWatcher extends StoreWatcher, StoreLimits {
  /** Called after each write that stored its submissions, with their number and how long it took, ms. */
  readonly onGroup?: ((emails: number, elapsedMs: number) => void) | undefined;
}

export interface StoreLimits {
  /** Most bytes of files in the queue, including those of dead letters. Default: as many as fit into the store. */
  readonly filesMaxBytes?: number | undefined;
}

/** Whether a store can be relied upon now, or why not (for the log and the operator; never for clients). */
export type Health = (
  | { readonly ok: true; readonly warning?: string | undefined }
  | { readonly ok: false; readonly reason: string }
) & {
  /** Each partition of the queue, if it has several. It is healthy while one of them is. */
  readonly partitions?: readonly Health[];
};

export interface Submission {
  /** UUIDv7, generated before the first attempt to submit it. */
  readonly id: string;
  /** See `encodeEmail`. */
  readonly text: string;
  /** The contents of its attachments in order, at least one and none empty. Must not change before the answer. */
  readonly files?: readonly Uint8Array[];
  /** No provider gets the email before this time, Unix ms. Default, also for a time in the past: now. */
  readonly sendAtMs?: number | undefined;
  /** Whether it is hidden from the previous release, as it must be with `files` or `sendAtMs`. */
  readonly isHidden?: boolean;
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
  /** Its files would exceed {@link StoreLimits.filesMaxBytes}. Nothing was queued. */
  | { readonly kind: "filesFull" }
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
  /** Its acceptance in an earlier batch was recorded after it joined this one: it ends as sent, whatever is settled. */
  readonly marked: boolean;
}

/** A batch leased to the worker that claimed it. */
export interface Batch {
  readonly id: string;
  readonly provider: string;
  /** Fencing token: counts the leases of this batch. */
  readonly lease: number;
  /** The store's time at the claim. */
  readonly nowMs: number;
  readonly leaseEndsAtMs: number;
  /** When its doubt ends at the latest: `doubtMs` after the first claim. */
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

/** Where a claim may look: emails for batches of any size, emails that travel in pieces, batches that are due again. */
export type ClaimSource = "emails" | "split" | "batches";

export interface ClaimRequest {
  /** A UUID generated by the worker: the id of the batch if this claim makes one. */
  readonly claimId: string;
  /** Who claims: one purpose of one process, such as the deliveries of a provider. */
  readonly claimant: string;
  /**
   * Counts the claims of this claimant from 1. Repeating the last number, after a lost answer, returns the same batch
   * under the same lease, or `spent` if that lease is over. If nothing was found, it looks again. A lower number is
   * always `spent`. No clock decides which claim is newer.
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
  /** If false, takes from `emails` only those that no other provider may take. */
  readonly shared: boolean;
  /** Most emails in a new batch. */
  readonly countMax: number;
  /** Most stored bytes of the emails in a new batch, with their files, unless it has only one. */
  readonly bytesMax: number;
  /** Length of the lease. A second is added for each 256 KiB of the batch's stored emails with their files. */
  readonly leaseMs: number;
  /** For a new batch: how long after this claim its doubt ends, if it has any. */
  readonly doubtMs: number;
  /** Stored with a new batch, see `Provider.context`. */
  readonly context: string;
  /** Limit of {@link ClaimResult}'s `dueLeft`. */
  readonly dueCountMax: number;
  /**
   * Takes the permit for one request with the batch, if one is available and something is found. The number is the rate
   * of a provider about which nothing is known yet, requests per second. Without it, no permit is taken.
   */
  readonly startPerSecond?: number | undefined;
}

export type ClaimResult = ClaimAnswer & {
  /** A part of the queue has not answered: it may have leased a batch, which the next claim of this claimant gets. */
  readonly mayHaveLeased?: boolean;
};

type ClaimAnswer =
  /** `dueLeft`: emails that are still due, for any provider and batches of any size, counted up to `dueCountMax`. */
  | ({ readonly kind: "batch"; readonly dueLeft: number } & Leased)
  /** Nothing is due for this provider in these sources; `nextDueInMs`: time until something is, if known. */
  | { readonly kind: "empty"; readonly nextDueInMs?: number | undefined; readonly rate?: SharedRate }
  /** No permit is available. Nothing was looked for, and nothing was taken. */
  | { readonly kind: "limited"; readonly rate: SharedRate }
  /** This claim was answered before, and its lease is over: the batch was settled, or may be leased to another. */
  | { readonly kind: "spent" }
  /** An operator has paused all claims. (A repeated claim still gets its first answer.) */
  | { readonly kind: "paused" }
  /**
   * Too few replicas hold the claim: nothing may be sent, and the batch has to be given back. `isPartial`: only a part of
   * the queue is affected.
   */
  | ({ readonly kind: "unreplicated"; readonly isPartial?: true } & Leased);

interface Leased {
  readonly batch: Batch;
  readonly rate?: SharedRate;
  /** The claim that leased the batch, if it is an earlier one, or has another id than was asked for. */
  readonly claim?: Claim;
}

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
  /** Before the first request, instead of `rest`: emails without a fate stay under the same lease, and not in doubt. */
  readonly keepsLease?: true;
  /** Added to the store's counters. */
  readonly counts: Readonly<Record<string, number>>;
  /** Credential of the request, under which its acceptances are counted: see {@link Batch.acceptances}. */
  readonly credential?: string;
  /** The use of the permit of the claim, and the credential under which it was taken. */
  readonly rate?: RateChange & { readonly credential: string };
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
  /** Emails that had been accepted before in another batch: they were sent twice. */
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
  /** Leases a batch, of any provider, that no worker holds and whose time for doubt is over, to have it settled. */
  claimEnded(request: Pick<ClaimRequest, "claimant" | "number" | "leaseMs">): Promise<ClaimResult>;
  /** Takes the permit for a request without a batch, if one is available: whether it did, and the rate then. */
  takePermit(request: PermitRequest): Promise<{ readonly isTaken: boolean; readonly rate: SharedRate }>;
  /** May be repeated after a lost answer. */
  settle(batch: Batch, settlement: Settlement): Promise<Settled>;
  /**
   * The contents of an email's files, concatenated in the submitted order; undefined if they are not there. Reads them
   * piece by piece, so that other operations wait for one piece at most.
   */
  readFiles(id: string): Promise<Uint8Array | undefined>;
  /**
   * Housekeeping, bounded, about once a second: records that this worker is alive and what it serves; removes what has
   * expired; if no worker has served a provider for 24 h, gives the emails that only it may take to all providers;
   * detects steps of the store's clock, and makes due now what a wrong clock has put at an impossible time.
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
