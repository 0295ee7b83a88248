// What an operator's retry makes of a dead letter, and of a batch in doubt. Like every other decision a value, that
// somebody else carries out.

import type { Batch, EmailFate, Settlement } from "../queue/contract.ts";
import { addAttempt } from "./attempts.ts";
import {
  asRetried,
  decodeHistory,
  decodeNotes,
  encodeHistory,
  type History,
  isOutcomeUnknown,
  noHistory,
  noNotes,
  type Notes,
  withNotes,
} from "./history.ts";
import { nextPieceMax } from "./email_fate.ts";

export interface OperatorRetry {
  readonly history: string;
  /** A provider may have accepted it before. */
  readonly mayBeDuplicate: boolean;
}

/** @param seenHistory as it is stored; one that cannot be read says nothing, so that the email may have been sent */
export function decideRetry(seenHistory: string, nowMs: number): OperatorRetry {
  const history = readable(seenHistory, decodeHistory) ?? { ...noHistory, doubted: true };
  return { history: encodeHistory(asRetried(history, nowMs)), mayBeDuplicate: isOutcomeUnknown(history) };
}

/** Names of counters, for each email that is replayed. */
export function retryCounts(mayBeDuplicate: boolean): Readonly<Record<string, number>> {
  return mayBeDuplicate ? { replayed: 1, possible_duplicates: 1 } : { replayed: 1 };
}

/**
 * The end of a batch's doubt, because an operator says so: all its emails are due now, for any provider, and their
 * time begins anew. They travel in small pieces, since one of them may be what the provider cannot digest. Emails that
 * are known to have been accepted elsewhere end as sent.
 * @param nowMs the store's time, Unix ms
 */
export function endDoubtNow(
  batch: Batch,
  nowMs: number,
): { readonly settlement: Settlement; readonly possibleDuplicates: readonly string[] } {
  const notes = readable(batch.notes, decodeNotes) ?? noNotes;
  const pieceMax = nextPieceMax(batch.emails.length);
  const fates = batch.emails.map(({ id, history, marked }): EmailFate => {
    if (marked) return { id, kind: "dead", history };
    const ended = ending(readable(history, decodeHistory) ?? noHistory, notes, batch, nowMs);
    return { id, kind: "due", delayMs: 0, pieceMax, history: encodeHistory(ended) };
  });
  const possibleDuplicates = batch.emails.flatMap(({ id, marked }) => (marked ? [] : [id]));
  const count = possibleDuplicates.length;
  const counts = { [`retried:${batch.provider}`]: count, replayed: count, possible_duplicates: count };
  return { settlement: { fates, counts: count === 0 ? {} : counts }, possibleDuplicates };
}

function ending(
  history: History,
  notes: Notes,
  { provider, leaseExpired: lapsed }: Batch,
  nowMs: number,
): History {
  const before = withNotes(history, notes).attempts;
  const attempt = { provider, atMs: nowMs } as const;
  const known = lapsed ? addAttempt(before, { ...attempt, outcome: "lapsed" }) : before;
  const attempts = addAttempt(known, { ...attempt, outcome: "doubtEnded", reason: "by an operator" });
  return asRetried({ ...history, attempts, doubted: true }, nowMs);
}

/** Nothing if it cannot be read: what an operator wants to get out of the way may be damaged. */
function readable<T>(text: string, decode: (text: string) => T): T | undefined {
  try {
    return decode(text);
  } catch {
    return undefined;
  }
}
