// The attempts of an email or of a batch in doubt, bounded: the first ten, the last ten, and how many there were.

import type { OutcomeKind } from "./request_outcome.ts";

/** How an attempt ended: as an outcome says, or in one of the ways that are not an answer to a request. */
export type AttemptEnd =
  | OutcomeKind
  /** The lease ran out: the worker, and the answer with it, were lost. */
  | "lapsed"
  /** A search found the email accepted. */
  | "recalled"
  /** A search was answered and did not find it. */
  | "notFound"
  /** Doubt ended without an answer. */
  | "doubtEnded"
  /** Some email of the request was at fault, unnamed: sent on in a smaller batch. */
  | "split"
  /** Given to another provider without a request: this one has just refused the sender. */
  | "handedOver";

export interface Attempt {
  readonly provider: string;
  /** The store's time, Unix ms. */
  readonly atMs: number;
  readonly outcome: AttemptEnd;
  /** At most {@link reasonMax} characters. */
  readonly reason?: string;
}

export interface Attempts {
  /** In order; the middle is left out once there are more than twenty. */
  readonly kept: readonly Attempt[];
  readonly total: number;
}

/** Kept of the first attempts, and as many of the last. */
const endKept = 10;
/** UTF-16 units. */
export const reasonMax = 500;

export const noAttempts: Attempts = { kept: [], total: 0 };

/** `text`, at most {@link reasonMax} UTF-16 units of it, never half a surrogate pair. */
export function cutReason(text: string): string {
  if (text.length <= reasonMax) return text;
  const last = text.charCodeAt(reasonMax - 1);
  const splitsPair = last >= 0xd800 && last <= 0xdbff;
  return text.slice(0, splitsPair ? reasonMax - 1 : reasonMax);
}

/** Adds one attempt, its reason cut. */
export function addAttempt(attempts: Attempts, { reason, ...attempt }: Attempt): Attempts {
  const added = reason === undefined ? attempt : { ...attempt, reason: cutReason(reason) };
  return joinAttempts(attempts, { kept: [added], total: 1 });
}

/** What would be kept of both, one after the other, had nothing been left out of either. */
export function joinAttempts(earlier: Attempts, later: Attempts): Attempts {
  const all = [...earlier.kept, ...later.kept];
  const kept = all.length <= 2 * endKept ? all : [...all.slice(0, endKept), ...all.slice(-endKept)];
  return { kept, total: earlier.total + later.total };
}
