// A claimed batch, decoded.

import { decodeEmail, type Email } from "../email/email.ts";
import type { Batch } from "../queue/contract.ts";
import { addAttempts, decodeHistory, decodeNotes, type History, noNotes, type Notes } from "./history.ts";

export interface DecodedEmail extends Omit<Batch["emails"][number], "text" | "history"> {
  readonly email: Email;
  /** Includes the attempts at this batch. */
  readonly history: History;
}

export interface DecodedBatch extends Omit<Batch, "emails" | "notes"> {
  readonly emails: readonly DecodedEmail[];
  /** Includes the attempt whose lease expired, if one did. */
  readonly notes: Notes;
  /** Ids of emails that cannot be decoded. */
  readonly unreadable: readonly string[];
  /** An email or the notes cannot be decoded: the request cannot be made as it was. */
  readonly isDamaged: boolean;
}

export function decodeBatch(batch: Batch): DecodedBatch {
  const { notes, isNotesDamaged } = readNotes(batch, batch.nowMs);
  const emails: DecodedEmail[] = [];
  const unreadable: string[] = [];
  for (const { text, history, ...rest } of batch.emails) {
    const email = ifReadable(() => ({ email: decodeEmail(text), history: decodeHistory(history) }));
    if (email === undefined) unreadable.push(rest.id);
    else emails.push({ ...rest, ...email, history: addAttempts(email.history, notes.attempts) });
  }
  return { ...batch, emails, notes, unreadable, isDamaged: isNotesDamaged || unreadable.length > 0 };
}

/** The notes of a batch; empty if they cannot be decoded. */
export function readNotes(
  { provider, notes, leaseExpired }: Pick<Batch, "provider" | "notes" | "leaseExpired">,
  nowMs: number,
): { readonly notes: Notes; readonly isNotesDamaged: boolean } {
  const read = ifReadable(() => decodeNotes(notes));
  // An attempt whose lease expired was never settled, so it is recorded here.
  const lapsed = leaseExpired ? [{ provider, atMs: nowMs, outcome: "lapsed" } as const] : [];
  const withLapsed = addAttempts(read ?? noNotes, { kept: lapsed, total: lapsed.length });
  return { notes: withLapsed, isNotesDamaged: read === undefined };
}

/** The result of `decode`, or undefined if it throws: stored text may be damaged, or in a later format. */
export function ifReadable<T>(decode: () => T): T | undefined {
  try {
    return decode();
  } catch {
    return undefined;
  }
}

/** When it could be sent for the first time, Unix ms: at its submission, or at `send_at` if that is later. */
export function firstDueAtMs({ email: { send_at }, submittedAtMs }: DecodedEmail): number {
  return send_at === undefined ? submittedAtMs : Math.max(submittedAtMs, Date.parse(send_at));
}

/** A provider may have accepted it, and nobody knows yet. Doubt depends on the batch's history, not on the last answer. */
export function isInDoubt(batch: Pick<Batch, "doubtSinceMs" | "leaseExpired">): boolean {
  return batch.doubtSinceMs !== undefined || batch.leaseExpired;
}

/** The time for its doubt is over, by the store's clock: the provider may have forgotten its key. */
export function isDoubtOver({ doubtEndsAtMs }: Pick<Batch, "doubtEndsAtMs">, nowMs: number): boolean {
  return nowMs >= doubtEndsAtMs;
}
