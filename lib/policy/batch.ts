// A claimed batch, decoded.

import { decodeEmail, type Email } from "../email/email.ts";
import type { Batch } from "../queue/contract.ts";
import { addAttempts, decodeHistory, decodeNotes, withNotes } from "./history.ts";
import { type History, noNotes, type Notes } from "./history.ts";

export interface DecodedEmail extends Omit<Batch["emails"][number], "text" | "history"> {
  readonly email: Email;
  /** Includes the attempts at this batch. */
  readonly history: History;
}

export interface DecodedBatch extends Omit<Batch, "emails" | "notes"> {
  readonly emails: readonly DecodedEmail[];
  /** With the expiry of the lease before this one, if it expired. */
  readonly notes: Notes;
  /** Ids of emails that cannot be decoded. */
  readonly unreadable: readonly string[];
  /** An email or the notes cannot be decoded: the request cannot be made as it was. */
  readonly isDamaged: boolean;
}

export function decodeBatch(batch: Batch): DecodedBatch {
  const read = ifReadable(() => decodeNotes(batch.notes));
  const notes = withLeaseExpiry(read ?? noNotes, batch);
  const emails: DecodedEmail[] = [];
  const unreadable: string[] = [];
  for (const { text, history, ...rest } of batch.emails) {
    const email = ifReadable(() => {
      return { ...rest, email: decodeEmail(text), history: withNotes(decodeHistory(history), notes) };
    });
    if (email === undefined) unreadable.push(rest.id);
    else emails.push(email);
  }
  return { ...batch, emails, notes, unreadable, isDamaged: read === undefined || unreadable.length > 0 };
}

/** Notes an attempt whose lease expired, which nobody has settled. */
export function withLeaseExpiry(notes: Notes, { leaseExpired, provider, nowMs }: Batch): Notes {
  return leaseExpired ? addAttempts(notes, [{ provider, atMs: nowMs, outcome: "lapsed" }]) : notes;
}

/** The result of `decode`, or undefined if it throws: stored text may be damaged, or of a later format. */
export function ifReadable<T>(decode: () => T): T | undefined {
  try {
    return decode();
  } catch {
    return undefined;
  }
}

/** A provider may have accepted it, and nobody knows yet. Doubt is a property of the batch's history, not of the last answer. */
export function isInDoubt(batch: Pick<Batch, "doubtSinceMs" | "leaseExpired">): boolean {
  return batch.doubtSinceMs !== undefined || batch.leaseExpired;
}

/** The time for its doubt is over, by the store's clock: the provider may have forgotten its key. */
export function isDoubtOver({ doubtEndsAtMs }: Pick<Batch, "doubtEndsAtMs">, nowMs: number): boolean {
  return nowMs >= doubtEndsAtMs;
}
