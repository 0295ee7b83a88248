// What an email, a batch in doubt and the record of a sent email remember, and how that is stored. These are the
// strings that a queue carries without reading. They are part of the stored format: two adjacent releases read
// each other's, so a field may be added, never renamed, and a missing one has its default.

import { type Attempt, type Attempts, cutReason, joinAttempts, noAttempts } from "./attempts.ts";

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
  /** Attempts whose failure one of the emails may have caused. */
  readonly strikes: number;
  /** How many emails were accepted under this credential before the first attempt after a strike. */
  readonly baseline?: { readonly credential: string; readonly acceptances: number };
  /** The last attempt failed in a way that an email may have caused, just after the provider answered a question. */
  readonly isBlamed: boolean;
  /** The provider's account that the batch's own credential belongs to, if somebody has asked. */
  readonly account?: string;
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

export const noHistory: History = {
  attempts: noAttempts,
  tries: 0,
  refusedBy: [],
  doubted: false,
};
export const noNotes: Notes = {
  attempts: noAttempts,
  looks: 0,
  failures: 0,
  strikes: 0,
  isBlamed: false,
};

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
export function asRetried({ attempts, doubted }: History, nowMs: number): History {
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

/** The inverse of {@link encodeHistory}. Throws on text that it did not write. */
export function decodeHistory(text: string): History {
  return text === "" ? noHistory : readHistory(JSON.parse(text));
}

/** The stored text; empty notes are the empty text. */
export function encodeNotes(notes: Notes): string {
  const { attempts, looks, failures, strikes, baseline, isBlamed, account } = notes;
  const stored = {
    ...storedAttempts(attempts),
    ...(looks > 0 && { looks }),
    ...(failures > 0 && { failures }),
    ...(strikes > 0 && { strikes }),
    ...(baseline !== undefined && { baseline }),
    ...(isBlamed && { isBlamed }),
    ...(account !== undefined && { account }),
  };
  return Object.keys(stored).length === 0 ? "" : JSON.stringify(stored);
}

/** The inverse of {@link encodeNotes}. Throws on text that it did not write. */
export function decodeNotes(text: string): Notes {
  if (text === "") return noNotes;
  const stored: unknown = JSON.parse(text);
  demand(isObject(stored));
  const { looks = 0, failures = 0, strikes = 0, baseline, isBlamed = false, account } = stored;
  demand(isCount(looks) && isCount(failures) && isCount(strikes));
  demand(typeof isBlamed === "boolean" && (account === undefined || isText(account)));
  demand(baseline === undefined || isBaseline(baseline));
  return {
    attempts: readAttempts(stored),
    looks,
    failures,
    strikes,
    ...(baseline !== undefined && { baseline }),
    isBlamed,
    ...(account !== undefined && { account }),
  };
}

export function encodeRecord({ history, ...record }: SentRecord): string {
  return JSON.stringify({ ...record, history: storedHistory(history) });
}

/** The inverse of {@link encodeRecord}. Throws on text that it did not write. */
export function decodeRecord(text: string): SentRecord {
  const stored: unknown = JSON.parse(text);
  demand(isObject(stored));
  const { history = {}, batchId, provider, providerMessageId, atMs, ...newer } = stored;
  demand(isText(batchId) && isText(provider) && isText(providerMessageId) && isTime(atMs));
  return { ...newer, batchId, provider, providerMessageId, atMs, history: readHistory(history) };
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

function readAttempts({ attempts = [], total }: Stored): Attempts {
  demand(isListOf(attempts, isAttempt) && (total === undefined || isCount(total)));
  return { kept: attempts, total: total ?? attempts.length };
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

function readHistory(stored: unknown): History {
  demand(isObject(stored));
  const { tries = 0, refusedBy = [], doubted = false, deadReason, replayedAtMs } = stored;
  demand(isCount(tries) && isListOf(refusedBy, isText) && typeof doubted === "boolean");
  demand(deadReason === undefined || isText(deadReason));
  demand(replayedAtMs === undefined || isTime(replayedAtMs));
  return {
    attempts: readAttempts(stored),
    tries,
    refusedBy,
    doubted,
    ...(deadReason !== undefined && { deadReason }),
    ...(replayedAtMs !== undefined && { replayedAtMs }),
  };
}

// What is stored may be damaged and still be JSON. It is found out here, where everybody expects that something
// cannot be read, and not by whoever is the first to use a field.

type Stored = Readonly<Record<string, unknown>>;

/** Furthest time of a `Date` from 1970, ms. */
const timeMaxMs = 8.64e15;

/** Without a word of the text: what is thrown may be logged. */
function demand(holds: boolean): asserts holds {
  if (!holds) throw new TypeError("a stored field is not of its type");
}

function isObject(value: unknown): value is Stored {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isListOf<T>(value: unknown, isItem: (item: unknown) => item is T): value is readonly T[] {
  return Array.isArray(value) && value.every(isItem);
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isBaseline(value: unknown): value is NonNullable<Notes["baseline"]> {
  return isObject(value) && isText(value["credential"]) && isCount(value["acceptances"]);
}

function isTime(value: unknown): value is number {
  return typeof value === "number" && Math.abs(value) <= timeMaxMs;
}

/** Its end may be one that only a later release knows. */
function isAttempt(value: unknown): value is Attempt {
  if (!isObject(value)) return false;
  const { provider, atMs, outcome, reason = "" } = value;
  return isText(provider) && isTime(atMs) && isText(outcome) && isText(reason);
}
