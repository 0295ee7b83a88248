// The contract of a queue on any store. An email is a row with the time from which it may be claimed; the batch is the
// unit of delivery, lease and idempotency. The conformance suite in tests/queue/ holds every store to it. The worker's part
// is in consumer_contract.ts, the operator's in admin_contract.ts, and rates are in rate_contract.ts.
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
// - Only `Consumer.sweep` lets ids, idempotency keys and records of claims expire: what is present is valid,
//   whatever a clock says. Of the operations, only `Consumer.claimEnded` depends on when a doubt ends.
// - The rate of a provider under a credential is shared by all workers: one request to it takes one permit, and a claim
//   that finds something takes it in the same step.
// - `history`, `notes`, `context` and `record` are opaque to a store: it keeps them and returns them unread.

import type { Log } from "../runtime/log.ts";
import type { QueueStats } from "./admin_contract.ts";

export type * from "./admin_contract.ts";
export type * from "./consumer_contract.ts";
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
