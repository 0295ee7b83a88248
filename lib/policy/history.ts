// The memory of an email, of a batch in doubt and of a sent email, and how it is stored: as texts that a queue carries
// without reading. Two adjacent releases read each other's texts, so a field may be added, but never renamed, and a
// missing field has its default.

import * as v from "valibot";
import type { Outcome } from "./request_outcome.ts";

/** How an attempt ended: with an outcome, or in a way that is no answer to a request. Stored: never renamed. */
export type AttemptEnd =
  | Outcome["kind"]
  /** The lease expired: the worker, and the answer with it, were lost. */
  | "lapsed"
  /** A search found the email accepted. */
  | "recalled"
  /** A search was answered and did not find it. */
  | "notFound"
  /** Doubt ended without an answer. */
  | "doubtEnded"
  /** An unnamed email of the request was at fault: this one goes on in a smaller batch. */
  | "split"
  /** Given to another provider without a request: this one has just refused the sender. */
  | "handedOver";

export interface Attempt {
  readonly provider: string;
  /** The store's time, Unix ms. */
  readonly atMs: number;
  readonly outcome: AttemptEnd;
  /** Why it failed, or the provider's note on an acceptance. At most {@link reasonMax} UTF-16 units. */
  readonly reason?: string | undefined;
}

export interface Attempts {
  /** In order: the first ten and the last ten once there are more than twenty. */
  readonly kept: readonly Attempt[];
  readonly total: number;
}

const keptAtEachEnd = 10;
/** UTF-16 units. */
export const reasonMax = 500;

/** `text`, at most {@link reasonMax} UTF-16 units of it, never half a surrogate pair. */
export function cutReason(text: string): string {
  return text.slice(0, reasonMax).replace(/[\ud800-\udbff]$/, "");
}

/** The memory with later attempts, their reasons cut. */
export function addAttempts<T extends History | Notes>(memory: T, later: Attempts): T {
  if (later.total === 0) return memory;
  const added = later.kept.map((one) => (one.reason ? { ...one, reason: cutReason(one.reason) } : one));
  const all = [...memory.attempts.kept, ...added];
  const isWhole = all.length <= 2 * keptAtEachEnd;
  const kept = isWhole ? all : [...all.slice(0, keptAtEachEnd), ...all.slice(-keptAtEachEnd)];
  return { ...memory, attempts: { kept, total: memory.attempts.total + later.total } };
}

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const texts = v.pipe(v.array(v.string()), v.readonly());
/** Within the range of a `Date`, as which it is displayed. */
const timeMs = v.pipe(v.number(), v.minValue(-8.64e15), v.maxValue(8.64e15));

/** valibot takes an array for an object. */
const noArray = v.custom<object>((value) => !Array.isArray(value));

/** Fields that a later release adds are kept, and so is an outcome that only that release knows. */
const attempt: v.GenericSchema<unknown, Attempt> = v.looseObject({
  provider: v.string(),
  atMs: timeMs,
  outcome: v.custom<AttemptEnd>((end) => typeof end === "string"),
  reason: v.optional(v.string()),
});

/** `total` is stored only if some attempts are left out. */
const storedAttempts = { attempts: v.optional(v.array(attempt), []), total: v.optional(count) };

function withAttempts<
  T extends { readonly attempts: readonly Attempt[]; readonly total?: number | undefined },
>(stored: T) {
  const { attempts: kept, total = kept.length, ...rest } = stored;
  return { attempts: { kept, total } as Attempts, ...rest };
}

const historySchema = v.pipe(
  noArray,
  v.object({
    ...storedAttempts,
    /** Failures counted for backoff. */
    tries: v.optional(count, 0),
    /** Providers that refused its sender. */
    refusedBy: v.optional(texts, []),
    /** Doubt ended without an answer: it may have been sent, whatever happened later. */
    doubted: v.optional(v.boolean(), false),
    /** Why it is a dead letter, while it is one. */
    deadReason: v.optional(v.string()),
    /** When an operator last retried it, the store's time, Unix ms: `GIVE_UP_AFTER` counts from then on. */
    replayedAtMs: v.optional(timeMs),
  }),
  v.transform(withAttempts),
);

const notesSchema = v.pipe(
  noArray,
  v.object({
    ...storedAttempts,
    /** Searches that were answered, found nothing, and began late enough to count. */
    looks: v.optional(count, 0),
    /** Failures counted for backoff. */
    failures: v.optional(count, 0),
    /** Attempts whose failure one of the emails may have caused. */
    strikes: v.optional(count, 0),
    /** How many emails were accepted under this credential before the first attempt after a strike. */
    baseline: v.optional(v.object({ credential: v.string(), acceptances: count })),
    /** The last attempt failed in a way that an email may have caused, just after the provider answered a question. */
    isBlamed: v.optional(v.boolean(), false),
    /** The provider's account that the batch's own credential belongs to, once a worker has asked. */
    account: v.optional(v.string()),
    /** Emails that the provider says it refused, although it may have accepted them for some recipients. */
    refusals: v.optional(v.pipe(v.array(v.object({ id: v.string(), reason: v.string() })), v.readonly()), []),
  }),
  v.transform(withAttempts),
);

const recordSchema = v.object({
  batchId: v.string(),
  provider: v.string(),
  providerMessageId: v.string(),
  /** When the acceptance was known, the store's time, Unix ms. */
  atMs: timeMs,
  history: v.optional(historySchema, {}),
});

/** The memory of one email, over all its batches. */
export type History = Readonly<v.InferOutput<typeof historySchema>>;
/** The memory of one batch, while it is in doubt. */
export type Notes = Readonly<v.InferOutput<typeof notesSchema>>;
/** The record of one sent email. */
export type SentRecord = Readonly<v.InferOutput<typeof recordSchema>>;

export const noHistory: History = v.parse(historySchema, {});
/** Names every field, so that they are stored in this order. */
export const noNotes: Notes = {
  attempts: noHistory.attempts,
  looks: 0,
  failures: 0,
  strikes: 0,
  baseline: undefined,
  isBlamed: false,
  account: undefined,
  refusals: [],
};

/** The inverse of {@link encodeMemory}. Throws on text that it did not write. */
export function decodeHistory(text: string): History {
  return text === "" ? noHistory : decode(historySchema, text);
}

/** The inverse of {@link encodeMemory}. Throws on text that it did not write. */
export function decodeNotes(text: string): Notes {
  return text === "" ? noNotes : decode(notesSchema, text);
}

/** The inverse of {@link encodeRecord}. Throws on text that it did not write. */
export function decodeRecord(text: string): SentRecord {
  return decode(recordSchema, text);
}

/** The error quotes nothing of the text: it may be logged. */
function decode<T>(schema: v.GenericSchema<unknown, T>, text: string): T {
  const { success, output } = v.safeParse(schema, JSON.parse(text), { abortEarly: true });
  if (!success) throw new TypeError("a stored field is not of its type");
  return output;
}

/** The stored text; an empty memory is the empty text. */
export function encodeMemory(memory: History | Notes): string {
  const text = JSON.stringify(storedForm(memory));
  return text === "{}" ? "" : text;
}

export function encodeRecord({ history, ...record }: SentRecord): string {
  return JSON.stringify({ ...record, history: storedForm(history) });
}

/** Fields that have their default are omitted. */
function storedForm({ attempts: { kept, total }, ...rest }: History | Notes): object {
  const fields: Record<string, unknown> = { attempts: kept, total: total > kept.length ? total : 0, ...rest };
  const stored: Record<string, unknown> = {};
  for (const name in fields) {
    const value = fields[name];
    const isDefault = !value || (Array.isArray(value) && value.length === 0);
    if (!isDefault) stored[name] = value;
  }
  return stored;
}

/** The history of a dead letter. */
export function asDead(history: History, reason: string): History {
  return { ...history, deadReason: cutReason(history.doubted ? `outcome unknown: ${reason}` : reason) };
}

/** The history of an email that an operator retries: what happened is kept, what followed from it is not. */
export function asRetried({ attempts, doubted }: History, nowMs: number): History {
  return { ...noHistory, attempts, doubted, replayedAtMs: nowMs };
}
