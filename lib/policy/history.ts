// What an email, a batch in doubt and the record of a sent email remember, and how that is stored. These are the
// strings that a queue carries without reading. They are part of the stored format: two adjacent releases read
// each other's, so a field may be added, never renamed, and a missing one has its default.

import { type Attempts, cutReason, joinAttempts, noAttempts } from "./attempts.ts";

/** Of one email, over all its batches. */
export interface History {
  readonly attempts: Attempts;
  /** Failures counted for backoff. */
  readonly tries: number;
  /** Providers that refused its sender. */
  readonly refusedBy: readonly string[];
  /** A doubt ended without an answer: it may have been sent, whatever became of it later. */
  readonly doubted: boolean;
  /** Why it is a dead letter, while it is one. */
  readonly deadReason?: string;
  /** When an operator last sent a dead letter back to waiting, the store's time, Unix ms: it is given up from then on. */
  readonly replayedAtMs?: number;
}

/** Of one batch, while it is in doubt. */
export interface Notes {
  readonly attempts: Attempts;
  /** Searches that were answered, found nothing, and began late enough to be believed. */
  readonly looks: number;
  /** Failures counted for backoff. */
  readonly failures: number;
}

/** Of one sent email. */
export interface SentRecord {
  readonly batchId: string;
  readonly provider: string;
  readonly providerMessageId: string;
  /** When the acceptance was known, the store's time, Unix ms. */
  readonly atMs: number;
  readonly history: History;
}

export const noHistory: History = { attempts: noAttempts, tries: 0, refusedBy: [], doubted: false };
export const noNotes: Notes = { attempts: noAttempts, looks: 0, failures: 0 };

/** How the reason of a dead letter begins that may have been sent. */
const outcomeUnknownPrefix = "outcome unknown: ";

/** The history of an email whose batch ends: what the batch went through is what it went through. */
export function withNotes(history: History, notes: Notes): History {
  return { ...history, attempts: joinAttempts(history.attempts, notes.attempts) };
}

/** The history of a dead letter. */
export function asDead(history: History, reason: string): History {
  return { ...history, deadReason: cutReason(history.doubted ? outcomeUnknownPrefix + reason : reason) };
}

/** The history of a dead letter that goes back to waiting: what happened is kept, what followed from it is not. */
export function asReplayed({ attempts, doubted }: History, nowMs: number): History {
  return { ...noHistory, attempts, doubted, replayedAtMs: nowMs };
}

/** Of a dead letter: a provider may have accepted it. To replay it can send it twice. */
export function isOutcomeUnknown({ doubted }: History): boolean {
  return doubted;
}

/** The stored text; the empty history is the empty text. */
export function encodeHistory(history: History): string {
  const stored = storedHistory(history);
  return Object.keys(stored).length === 0 ? "" : JSON.stringify(stored);
}

/** The inverse of {@link encodeHistory}. Throws on text that is not JSON. */
export function decodeHistory(text: string): History {
  return text === "" ? noHistory : readHistory(JSON.parse(text));
}

/** The stored text; empty notes are the empty text. */
export function encodeNotes(notes: Notes): string {
  if (notes.attempts.total === 0 && notes.looks === 0 && notes.failures === 0) return "";
  return JSON.stringify({
    ...storedAttempts(notes.attempts),
    ...(notes.looks > 0 && { looks: notes.looks }),
    ...(notes.failures > 0 && { failures: notes.failures }),
  });
}

/** The inverse of {@link encodeNotes}. Throws on text that is not JSON. */
export function decodeNotes(text: string): Notes {
  if (text === "") return noNotes;
  const stored: Partial<Notes> & StoredAttempts = JSON.parse(text);
  return { attempts: readAttempts(stored), looks: stored.looks ?? 0, failures: stored.failures ?? 0 };
}

export function encodeRecord({ history, ...record }: SentRecord): string {
  return JSON.stringify({ ...record, history: storedHistory(history) });
}

/** The inverse of {@link encodeRecord}. Throws on text that is not JSON. */
export function decodeRecord(text: string): SentRecord {
  const { history, ...record } = JSON.parse(text);
  return { ...record, history: readHistory(history ?? {}) };
}

/** `total` only when some are left out. */
interface StoredAttempts {
  readonly attempts?: Attempts["kept"];
  readonly total?: number;
}

type StoredHistory = Partial<Omit<History, "attempts">> & StoredAttempts;

function storedAttempts({ kept, total }: Attempts): StoredAttempts {
  return { ...(kept.length > 0 && { attempts: kept }), ...(total > kept.length && { total }) };
}

function readAttempts({ attempts = [], total = attempts.length }: StoredAttempts): Attempts {
  return { kept: attempts, total };
}

function storedHistory(history: History): StoredHistory {
  const { attempts, tries, refusedBy, doubted, deadReason, replayedAtMs } = history;
  return {
    ...storedAttempts(attempts),
    ...(tries > 0 && { tries }),
    ...(refusedBy.length > 0 && { refusedBy }),
    ...(doubted && { doubted }),
    ...(deadReason !== undefined && { deadReason }),
    ...(replayedAtMs !== undefined && { replayedAtMs }),
  };
}

function readHistory(stored: StoredHistory): History {
  const { tries = 0, refusedBy = [], doubted = false, deadReason, replayedAtMs } = stored;
  return {
    attempts: readAttempts(stored),
    tries,
    refusedBy,
    doubted,
    ...(deadReason !== undefined && { deadReason }),
    ...(replayedAtMs !== undefined && { replayedAtMs }),
  };
}
