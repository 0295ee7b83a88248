// The circuit breaker of one provider. It opens after several failures that the provider itself answered, or at once
// after a failure without an answer of its own. When its time is over it is half-open and lets through one small probe
// at a time. After a failure without an answer, the provider first has to answer a question that sends nothing, so that
// an outage puts nothing more in doubt. Only requests admitted since its last change count.

import { pauseMs } from "./backoff.ts";
import type { ProviderHealth } from "./request_outcome.ts";

export type Breaker =
  | {
      readonly kind: "closed";
      readonly generation: number;
      /** Names of the failures since the last success: a batch that fails again and again is one failure. */
      readonly failed: readonly string[];
    }
  | ({ readonly kind: "open"; readonly untilMs: number } & Opened)
  /** A question that sends nothing is under way. */
  | ({ readonly kind: "asking" } & Opened)
  | ({
      readonly kind: "halfOpen";
      /** A probe of one small batch is under way. */
      readonly probing: boolean;
      /** No question was answered: the probe is better made with what is in doubt already. */
      readonly isBlind?: true;
    } & Opened);

interface Opened {
  readonly generation: number;
  /** Times in a row that it opened, for the same cause. */
  readonly opened: number;
  /** The provider answered with a failure, did not answer itself, or refuses our account. */
  readonly cause: "failed" | "unanswered" | "account";
  /** The provider itself is at fault, not one request: it said so, or did not answer the question either. */
  readonly isDown: boolean;
}

/** The result of an admitted request, as far as it concerns the provider; an answer to a question is a `success`. */
export interface BreakerEvent {
  readonly kind: ProviderHealth;
  /** Names a failure, so that the same one counts once. */
  readonly name?: string;
  /** False: what failed has failed before. It has a backoff of its own, and does not make the provider wait longer. */
  readonly isNew?: boolean;
}

/**
 * After so many openings in a row without an answer, every other try is a probe instead of a question: a provider that
 * answers no question may still accept emails. By then the pauses are at their longest.
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
 * The state in which a request begins: in `asking` nothing but a question, in `halfOpen` one small batch. Undefined if
 * none may. Times in ms, of one clock throughout.
 */
export function admit(breaker: Breaker, nowMs: number): Breaker | undefined {
  switch (breaker.kind) {
    case "closed":
      return breaker;
    case "open": {
      const { untilMs, cause, opened } = breaker;
      if (nowMs < untilMs) return undefined;
      const probe = { ...next(breaker), kind: "halfOpen", probing: true } as const;
      if (cause !== "unanswered") return probe;
      if (opened > askedMax && opened % 2 === 1) return { ...probe, isBlind: true };
      return { ...next(breaker), kind: "asking" };
    }
    case "asking":
      return undefined;
    case "halfOpen":
      return breaker.probing ? undefined : { ...next(breaker), kind: "halfOpen", probing: true };
  }
}

/**
 * The state after a request.
 * @param admitted the state in which it began
 * @param random   in [0, 1)
 */
export function record(
  breaker: Breaker,
  admitted: Pick<Breaker, "generation">,
  event: BreakerEvent,
  nowMs: number,
  random: number,
): Breaker {
  if (admitted.generation !== breaker.generation) return breaker;
  const { kind, name = "", isNew = true } = event;
  switch (kind) {
    case "success":
      if (breaker.kind === "asking") return { ...next(breaker), kind: "halfOpen", probing: false };
      if (breaker.kind === "halfOpen") return { ...closedBreaker, generation: breaker.generation + 1 };
      return breaker.kind === "closed" && breaker.failed.length > 0 ? { ...breaker, failed: [] } : breaker;
    case "failure": {
      if (breaker.kind !== "closed") return open(breaker, "failed", nowMs, random, isNew);
      const failed = [...new Set([...breaker.failed, name])];
      return failed.length < failuresMax
        ? { ...breaker, failed }
        : open(breaker, "failed", nowMs, random, true);
    }
    case "unanswered":
      return open(breaker, "unanswered", nowMs, random, isNew);
    case "accountRefused":
      return open(breaker, "account", nowMs, random, true);
    case "none":
      if (breaker.kind === "asking") return { ...breaker, kind: "open", untilMs: nowMs };
      return breaker.kind === "halfOpen" ? { ...breaker, probing: false } : breaker;
  }
}

/** A new generation, so that no answer counts twice. */
function next({ generation, opened, cause, isDown }: Opened): Opened {
  return { generation: generation + 1, opened, cause, isDown };
}

/** After the first failure without an answer it asks at once: one email may have been at fault. */
function open(
  breaker: Breaker,
  cause: Opened["cause"],
  nowMs: number,
  random: number,
  isNew: boolean,
): Breaker {
  const before = breaker.kind !== "closed" && breaker.cause === cause ? breaker.opened : 0;
  const [baseMs, maxMs] = cause === "account" ? [accountBaseMs, accountMaxMs] : [openBaseMs, openMaxMs];
  const asksNow = cause === "unanswered" && before === 0;
  const grows = isNew || before > askedMax;
  const longer = cause === "unanswered" ? before - 1 : before;
  const times = grows ? longer : 0;
  return {
    kind: "open",
    generation: breaker.generation + 1,
    untilMs: nowMs + (asksNow ? 0 : pauseMs({ times, baseMs, maxMs, random })),
    opened: grows ? before + 1 : Math.max(1, before),
    cause,
    isDown: !asksNow,
  };
}
