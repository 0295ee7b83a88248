// Whether a provider is worth a request. The breaker opens after several failures that the provider itself answered, or
// at once after one without an answer of its own. When its time is over, it lets through one small probe at a time; in
// the second case only after the provider has answered a question that sends nothing, so that an outage puts nothing
// more in doubt. Only requests admitted since its last change have a say in the next, and each admission is answered
// exactly once.

import { breakerOpenMs } from "./backoff.ts";

export type Breaker =
  | {
      readonly kind: "closed";
      readonly generation: number;
      /** What failed since the last success, each once: a batch that fails again and again is one failure. */
      readonly failed: readonly string[];
    }
  | ({ readonly kind: "open"; readonly untilMs: number } & Opened)
  | ({ readonly kind: "asking" } & Opened)
  | ({ readonly kind: "halfOpen"; readonly probing: boolean } & Opened);

interface Opened {
  readonly generation: number;
  /** Times in a row that it opened, for the same cause. */
  readonly opened: number;
  readonly cause: Cause;
  /**
   * The provider, and not one request, is known not to work: it said so itself, or did not answer the question either.
   */
  readonly isDown: boolean;
}

/** It answered with a failure, did not answer itself, or refuses our account. */
type Cause = "failed" | "unanswered" | "account";

export type Admission =
  | { readonly kind: "closed"; readonly generation: number }
  /** Nothing but a question, whose answer is for {@link onAsked}. */
  | { readonly kind: "question"; readonly generation: number }
  /** One small batch. */
  | {
      readonly kind: "probe";
      readonly generation: number;
      /** Though no question was answered: better with what is in doubt already than with anything else. */
      readonly isBlind: boolean;
    }
  /** Until then at least; undefined: until what is under way is answered. */
  | { readonly kind: "refused"; readonly untilMs: number | undefined };

export type Admitted = Exclude<Admission, { kind: "refused" }>;

/**
 * Openings in a row without an answer, after which every other time a probe is made instead of a question: what answers
 * no question may send emails all the same. By then the shut times are at their longest.
 */
const askedMax = 6;
/** Different failures in a row that open it. */
const failuresMax = 5;
const openBaseMs = 1_000;
const openMaxMs = 60_000;
/** Credentials, suspensions and quotas change when people change them. */
const accountBaseMs = 60_000;
const accountMaxMs = 3_600_000;

export const closedBreaker: Breaker = { kind: "closed", generation: 0, failed: [] };

/** The breaker of a provider that is known to have failed without an answer of its own: it asks first. */
export function suspiciousBreaker(nowMs: number): Breaker {
  return { kind: "open", generation: 0, untilMs: nowMs, opened: 1, cause: "unanswered", isDown: true };
}

/**
 * May a request begin? The state holds as the new one only if it does. Times in ms, of one clock throughout.
 * @param canAsk whether the provider has a question that sends nothing
 */
export function admit(
  breaker: Breaker,
  canAsk: boolean,
  nowMs: number,
): { breaker: Breaker; admission: Admission } {
  switch (breaker.kind) {
    case "closed":
      return { breaker, admission: { kind: "closed", generation: breaker.generation } };
    case "open": {
      if (nowMs < breaker.untilMs)
        return { breaker, admission: { kind: "refused", untilMs: breaker.untilMs } };
      if (breaker.cause !== "unanswered" || !canAsk) return probe(breaker, false);
      if (breaker.opened > askedMax && breaker.opened % 2 === 1) return probe(breaker, true);
      const asking = { ...next(breaker), kind: "asking" } as const;
      return { breaker: asking, admission: { kind: "question", generation: asking.generation } };
    }
    case "asking":
      return { breaker, admission: { kind: "refused", untilMs: undefined } };
    case "halfOpen":
      return breaker.probing
        ? { breaker, admission: { kind: "refused", untilMs: undefined } }
        : probe(breaker, false);
  }
}

/** The question was answered, or not. `random` in [0, 1). */
export function onAsked(
  breaker: Breaker,
  admitted: Admitted,
  answered: boolean,
  nowMs: number,
  random: number,
): Breaker {
  if (isStale(breaker, admitted) || breaker.kind !== "asking") return breaker;
  if (!answered) return open(breaker, "unanswered", nowMs, random);
  return { ...next(breaker), kind: "halfOpen", probing: false };
}

/** The provider answered as one that works. */
export function onSuccess(breaker: Breaker, admitted: Admitted): Breaker {
  if (isStale(breaker, admitted)) return breaker;
  switch (breaker.kind) {
    case "closed":
      return breaker.failed.length === 0 ? breaker : { ...breaker, failed: [] };
    case "open":
    case "asking":
      return breaker;
    case "halfOpen":
      return { kind: "closed", generation: breaker.generation + 1, failed: [] };
  }
}

/**
 * It failed by its own word.
 * @param what   names the failure: the same batch for the same cause counts once
 * @param random in [0, 1)
 */
export function onFailure(
  breaker: Breaker,
  admitted: Admitted,
  what: string,
  nowMs: number,
  random: number,
  isNew: boolean,
): Breaker {
  if (isStale(breaker, admitted)) return breaker;
  switch (breaker.kind) {
    case "closed": {
      const failed = [...new Set([...breaker.failed, what])];
      return failed.length < failuresMax ? { ...breaker, failed } : open(breaker, "failed", nowMs, random);
    }
    case "open":
    case "asking":
      return breaker;
    case "halfOpen":
      return open(breaker, "failed", nowMs, random, isNew);
  }
}

/** It failed without an answer of its own. `random` in [0, 1). */
export function onUnanswered(
  breaker: Breaker,
  admitted: Admitted,
  nowMs: number,
  random: number,
  isNew: boolean,
): Breaker {
  if (isStale(breaker, admitted)) return breaker;
  return open(breaker, "unanswered", nowMs, random, isNew);
}

/** It refuses everything of ours. `random` in [0, 1). */
export function onAccountRefused(
  breaker: Breaker,
  admitted: Admitted,
  nowMs: number,
  random: number,
): Breaker {
  if (isStale(breaker, admitted)) return breaker;
  return open(breaker, "account", nowMs, random);
}

/** There was no request after all, or its answer says nothing about the provider. */
export function onNone(breaker: Breaker, admitted: Admitted, nowMs: number): Breaker {
  if (isStale(breaker, admitted)) return breaker;
  if (breaker.kind === "asking") return { ...breaker, kind: "open", untilMs: nowMs };
  return breaker.kind === "halfOpen" ? { ...breaker, probing: false } : breaker;
}

function probe(
  breaker: Exclude<Breaker, { kind: "closed" }>,
  isBlind: boolean,
): { breaker: Breaker; admission: Admission } {
  const probing = { ...next(breaker), kind: "halfOpen", probing: true } as const;
  return { breaker: probing, admission: { kind: "probe", generation: probing.generation, isBlind } };
}

/** A new generation, so that an answer given twice cannot stand for the next one's. */
function next({ generation, opened, cause, isDown }: Opened): Opened {
  return { generation: generation + 1, opened, cause, isDown };
}

/**
 * The first time without an answer it is asked at once: it may have been the fault of one email.
 * @param isNew whether the request held new emails. What failed before has a backoff of its own, and does not make the
 *   provider wait longer.
 */
function open(breaker: Breaker, cause: Cause, nowMs: number, random: number, isNew = true): Breaker {
  const before = breaker.kind !== "closed" && breaker.cause === cause ? breaker.opened : 0;
  const [baseMs, maxMs] = cause === "account" ? [accountBaseMs, accountMaxMs] : [openBaseMs, openMaxMs];
  const asksNow = cause === "unanswered" && before === 0;
  const grows = isNew || before > askedMax;
  const times = !grows ? 0 : cause === "unanswered" ? before - 1 : before;
  return {
    kind: "open",
    generation: breaker.generation + 1,
    untilMs: nowMs + (asksNow ? 0 : breakerOpenMs({ times, baseMs, maxMs, random })),
    opened: grows ? before + 1 : Math.max(1, before),
    cause,
    isDown: !asksNow,
  };
}

function isStale(breaker: Breaker, { generation }: Admitted): boolean {
  return generation !== breaker.generation;
}
