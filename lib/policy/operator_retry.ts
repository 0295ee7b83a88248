// The decision on an operator's retry of a dead letter, or of a batch in doubt: a value that a command carries out.

import type { Batch, ClaimedEmail, EmailFate, Settlement } from "../queue/contract.ts";
import { ifReadable, readNotes } from "./batch.ts";
import { nextPieceMax } from "./decide_email.ts";
import { addAttempts, asRetried, decodeHistory, encodeMemory, noHistory } from "./history.ts";

export interface OperatorRetry {
  readonly history: string;
  /** A provider may have accepted it before. */
  readonly mayBeDuplicate: boolean;
}

/** @param stored the email's history; if it cannot be read, the email may have been sent */
export function decideRetry(stored: string, nowMs: number): OperatorRetry {
  const history = ifReadable(() => decodeHistory(stored)) ?? { ...noHistory, doubted: true };
  return { history: encodeMemory(asRetried(history, nowMs)), mayBeDuplicate: history.doubted };
}

/** Names of counters, for each email that is retried. */
export function retryCounts(mayBeDuplicate: boolean): Readonly<Record<string, number>> {
  return mayBeDuplicate ? { replayed: 1, possible_duplicates: 1 } : { replayed: 1 };
}

/**
 * Ends a batch's doubt because an operator says so: all its emails are due now, for any provider, and their
 * `GIVE_UP_AFTER` begins anew. They travel in small pieces, since one of them may be the one that the provider cannot
 * digest. Emails that were accepted elsewhere end as sent. Notes and histories that cannot be read count as empty: they
 * may be the reason for the command.
 * @param nowMs the store's time, Unix ms
 */
export function endDoubtNow(
  batch: Pick<Batch, "provider" | "notes" | "leaseExpired"> & {
    readonly emails: readonly Pick<ClaimedEmail, "id" | "history" | "marked">[];
  },
  nowMs: number,
): { readonly settlement: Settlement; readonly possibleDuplicates: readonly string[] } {
  const { provider } = batch;
  const end = { provider, atMs: nowMs, outcome: "doubtEnded", reason: "by an operator" } as const;
  const { attempts } = addAttempts(readNotes(batch, nowMs).notes, { kept: [end], total: 1 });
  const pieceMax = nextPieceMax(batch.emails.length);
  const fates = batch.emails.map(({ id, history, marked }): EmailFate => {
    if (marked) return { id, kind: "dead", history };
    const before = ifReadable(() => decodeHistory(history)) ?? noHistory;
    const ended = { ...addAttempts(before, attempts), doubted: true };
    return { id, kind: "due", delayMs: 0, pieceMax, history: encodeMemory(asRetried(ended, nowMs)) };
  });
  const possibleDuplicates = batch.emails.flatMap(({ id, marked }) => (marked ? [] : [id]));
  const count = possibleDuplicates.length;
  const counts = { [`retried:${provider}`]: count, replayed: count, possible_duplicates: count };
  return { settlement: { fates, counts: count === 0 ? {} : counts }, possibleDuplicates };
}
