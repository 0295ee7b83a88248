// A claimed batch as policy sees it: decoded, and without what only the store or the provider needs.

import { decodeEnvelope } from "../email/email.ts";
import type { Batch } from "../queue/contract.ts";
import { addAttempt } from "./attempts.ts";
import { decodeHistory, decodeNotes, type History, type Notes } from "./history.ts";

export interface DecodedEmail {
  readonly id: string;
  /** The sender's address. */
  readonly from: string;
  readonly submittedAtMs: number;
  readonly history: History;
  /** Accepted by an earlier hand-over: it ends as sent, whatever is decided here. */
  readonly marked: boolean;
}

export interface DecodedBatch {
  readonly id: string;
  readonly provider: string;
  /** The store's time at the claim. */
  readonly claimedAtMs: number;
  readonly doubtSinceMs: number | undefined;
  readonly doubtEndsAtMs: number;
  /** The lease before this one ran out. */
  readonly leaseExpired: boolean;
  /** With the lapse of this claim, if any. */
  readonly notes: Notes;
  /** Most emails of the split list that it was made from, if it was. */
  readonly pieceMax: number | undefined;
  /** Digest of the credential that it began with; empty if nobody knows. */
  readonly credential: string;
  /** Emails that the provider had accepted, at the claim, under the credential that is used now. */
  readonly acceptances: number;
  readonly clockSteppedAtMs: number | undefined;
  readonly emails: readonly DecodedEmail[];
}

/** Throws on an email, a history or notes that nobody here has written. */
export function decodeBatch(batch: Batch): DecodedBatch {
  const notes = decodeNotes(batch.notes);
  return {
    id: batch.id,
    provider: batch.provider,
    claimedAtMs: batch.nowMs,
    doubtSinceMs: batch.doubtSinceMs,
    doubtEndsAtMs: batch.doubtEndsAtMs,
    leaseExpired: batch.leaseExpired,
    notes: batch.leaseExpired ? withLapse(notes, batch) : notes,
    pieceMax: batch.pieceMax,
    credential: batch.credential,
    acceptances: batch.acceptances,
    clockSteppedAtMs: batch.clockSteppedAtMs,
    emails: batch.emails.map(({ id, text, submittedAtMs, history, marked }) => ({
      id,
      from: decodeEnvelope(text).from,
      submittedAtMs,
      history: decodeHistory(history),
      marked,
    })),
  };
}

/** A provider may have accepted it, and nobody knows yet. Doubt is a property of the batch's history, not of the last answer. */
export function isInDoubt(batch: Pick<DecodedBatch, "doubtSinceMs" | "leaseExpired">): boolean {
  return batch.doubtSinceMs !== undefined || batch.leaseExpired;
}

/** The time for its doubt is over, by the store's clock: the provider may have forgotten its key. */
export function isDoubtOver({ doubtEndsAtMs }: Pick<DecodedBatch, "doubtEndsAtMs">, nowMs: number): boolean {
  return nowMs >= doubtEndsAtMs;
}

/**
 * What to do with a batch that has just been claimed. Once the time for its doubt is over, housekeeping ends it. But for
 * an hour after a step of the store's clock no doubt ends, and the batch goes on as before.
 */
export function nextStep(batch: DecodedBatch, canSearch: boolean, nowMs: number): "send" | "search" | "wait" {
  if (!isInDoubt(batch)) return "send";
  if (isDoubtOver(batch, nowMs) && batch.clockSteppedAtMs === undefined) return "wait";
  return canSearch ? "search" : "send";
}

function withLapse(notes: Notes, { provider, nowMs }: Batch): Notes {
  return { ...notes, attempts: addAttempt(notes.attempts, { provider, atMs: nowMs, outcome: "lapsed" }) };
}
