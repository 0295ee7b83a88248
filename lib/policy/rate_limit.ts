// How fast one provider may be asked: a token bucket of one worker, whose rate is learnt from the provider's own
// answers. It never asks more often than the limit that the provider names, over any second.

import { breakerOpenMs } from "./backoff.ts";
import type { RateHint } from "./request_outcome.ts";

export interface Rate {
  readonly ratePerSecond: number;
  /** As the provider named it last. */
  readonly limitPerSecond: number | undefined;
  /** The most that the rate grows to while it names none. */
  readonly maxPerSecond: number;
  /** At `updatedAtMs`. */
  readonly tokens: number;
  readonly updatedAtMs: number;
  readonly blockedUntilMs: number;
  /** In a row, without an answer in between. */
  readonly throttles: number;
  /** When it was throttled last: requests that began before say nothing new. */
  readonly throttledAtMs: number;
}

/** However often it is throttled, it asks once in 5 s. */
const floorPerSecond = 0.2;
/** Tokens that may gather while nothing is sent: a tenth of a second's, and one at least. */
const burstSeconds = 0.1;
/** Each answer brings the rate nearer to its ceiling by so much of it: a halved rate is back after 50 answers. */
const growth = 0.01;
const pauseBaseMs = 1_000;
const pauseMaxMs = 60_000;
/** A provider that wants to be left alone for longer is asked again nevertheless. */
const retryAfterMaxMs = 3_600_000;
const tolerance = 1e-6;

export function newRate({
  startPerSecond,
  maxPerSecond,
  nowMs,
}: {
  startPerSecond: number;
  maxPerSecond: number;
  nowMs: number;
}): Rate {
  return {
    ratePerSecond: startPerSecond,
    limitPerSecond: undefined,
    maxPerSecond,
    tokens: 1,
    updatedAtMs: nowMs,
    blockedUntilMs: -Infinity,
    throttles: 0,
    throttledAtMs: -Infinity,
  };
}

/** Takes the token that a request needs; undefined if there is none now. Times in ms, of one clock throughout. */
export function takePermitAt(rate: Rate, nowMs: number): Rate | undefined {
  if (nextPermitAtMs(rate, nowMs) > nowMs) return undefined;
  const filled = fill(rate, nowMs);
  return { ...filled, tokens: Math.max(0, filled.tokens - 1) };
}

/** The token was not needed. */
export function returnPermitTo(rate: Rate): Rate {
  return { ...rate, tokens: Math.min(burstOf(rate.ratePerSecond), rate.tokens + 1) };
}

/** From when there is a token, if nobody takes one before; `nowMs` if there is one. */
export function nextPermitAtMs(rate: Rate, nowMs: number): number {
  const { tokens, ratePerSecond, updatedAtMs } = fill(rate, nowMs);
  const filledAtMs =
    tokens >= 1 - tolerance ? nowMs : updatedAtMs + Math.ceil(((1 - tokens) / ratePerSecond) * 1000);
  return Math.max(rate.blockedUntilMs, filledAtMs);
}

/**
 * Any answer that is not a throttling.
 * @param takenAtMs when its request took its token
 */
export function onAnswer(rate: Rate, hint: RateHint, takenAtMs: number, nowMs: number): Rate {
  const { rate: limited, isNew } = withLimit(fill(rate, nowMs), hint);
  const isLate = takenAtMs <= rate.throttledAtMs;
  const ceiling = ceilingOf(limited);
  const ratePerSecond = isLate
    ? limited.ratePerSecond
    : isNew
      ? ceiling
      : limited.ratePerSecond + ceiling * growth;
  return {
    ...limited,
    ratePerSecond: Math.min(ceiling, ratePerSecond),
    throttles: isLate ? rate.throttles : 0,
    blockedUntilMs: Math.max(rate.blockedUntilMs, windowEndMs(hint, nowMs)),
  };
}

/**
 * Too many requests: half the rate, and a pause. Requests that were under way together count once.
 * @param takenAtMs when its request took its token
 * @param random    in [0, 1)
 */
export function onThrottled(
  rate: Rate,
  hint: RateHint,
  takenAtMs: number,
  nowMs: number,
  random: number,
): Rate {
  const { rate: limited } = withLimit(fill(rate, nowMs), hint);
  const isLate = takenAtMs <= rate.throttledAtMs;
  const pauseMs = isLate
    ? 0
    : breakerOpenMs({ times: rate.throttles, baseMs: pauseBaseMs, maxMs: pauseMaxMs, random });
  const askedMs = Math.min(hint.retryAfterMs ?? 0, retryAfterMaxMs);
  const blockedUntilMs = Math.max(
    rate.blockedUntilMs,
    nowMs + Math.max(pauseMs, askedMs),
    windowEndMs(hint, nowMs),
  );
  if (isLate) return { ...limited, blockedUntilMs };
  return {
    ...limited,
    ratePerSecond: Math.max(Math.min(floorPerSecond, ceilingOf(limited)), limited.ratePerSecond / 2),
    blockedUntilMs,
    throttles: rate.throttles + 1,
    throttledAtMs: nowMs,
  };
}

/** Adopts the limit that the provider names; a lower one at once. */
function withLimit(rate: Rate, { limitPerSecond: limit }: RateHint): { rate: Rate; isNew: boolean } {
  if (limit === undefined || !(limit > 0) || !Number.isFinite(limit) || limit === rate.limitPerSecond)
    return { rate, isNew: false };
  const limited = { ...rate, limitPerSecond: limit };
  return {
    rate: { ...limited, ratePerSecond: Math.min(rate.ratePerSecond, ceilingOf(limited)) },
    isNew: true,
  };
}

/** So that a burst and a second's rate together stay within the limit. */
function ceilingOf({ limitPerSecond, maxPerSecond }: Rate): number {
  return limitPerSecond === undefined ? maxPerSecond : limitPerSecond * (1 - burstSeconds);
}

/** When the provider's window starts anew, if this one is used up. */
function windowEndMs({ remaining, resetMs }: RateHint, nowMs: number): number {
  return remaining === 0 && resetMs !== undefined ? nowMs + Math.min(resetMs, pauseMaxMs) : -Infinity;
}

function burstOf(ratePerSecond: number): number {
  return Math.max(1, ratePerSecond * burstSeconds);
}

function fill(rate: Rate, nowMs: number): Rate {
  const elapsedMs = Math.max(0, nowMs - rate.updatedAtMs);
  const tokens = Math.min(burstOf(rate.ratePerSecond), rate.tokens + (elapsedMs * rate.ratePerSecond) / 1000);
  return { ...rate, tokens, updatedAtMs: Math.max(rate.updatedAtMs, nowMs) };
}
