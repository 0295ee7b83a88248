// How many requests one provider gets from one worker: a token bucket whose rate is learned from the provider's own
// answers. Over any second, it never permits more than the limit that the provider names.

import { pauseMs } from "./backoff.ts";
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

/** However often it is throttled, a request is permitted every 5 s. */
const floorPerSecond = 0.2;
/** Tokens that may gather while nothing is sent: a tenth of a second's, and one at least. */
const burstSeconds = 0.1;
/** Share of the ceiling that each answer adds to the rate: a halved rate is back after 50 answers. */
const growth = 0.01;
const pauseBaseMs = 1_000;
const pauseMaxMs = 60_000;
/** A provider that asks for a longer pause gets a request after this one nevertheless. */
const retryAfterMaxMs = 3_600_000;
const tolerance = 1e-6;

export function newRate({
  startPerSecond,
  maxPerSecond,
  nowMs,
}: Readonly<Record<"startPerSecond" | "maxPerSecond" | "nowMs", number>>): Rate {
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

/** Takes the permit for a request; undefined if there is none now. Times in ms, of one clock throughout. */
export function takePermitAt(rate: Rate, nowMs: number): Rate | undefined {
  if (nextPermitAtMs(rate, nowMs) > nowMs) return undefined;
  const filled = fill(rate, nowMs);
  return { ...filled, tokens: Math.max(0, filled.tokens - 1) };
}

/** The permit was not needed. */
export function returnPermitTo(rate: Rate): Rate {
  return { ...rate, tokens: Math.min(burstOf(rate.ratePerSecond), rate.tokens + 1) };
}

/** From when there is a permit, unless another request takes it; `nowMs` if there is one. */
export function nextPermitAtMs(rate: Rate, nowMs: number): number {
  const { tokens, ratePerSecond, updatedAtMs } = fill(rate, nowMs);
  const filledAtMs =
    tokens >= 1 - tolerance ? nowMs : updatedAtMs + Math.ceil(((1 - tokens) / ratePerSecond) * 1000);
  return Math.max(rate.blockedUntilMs, filledAtMs);
}

/**
 * Any answer that is not a throttling.
 * @param takenAtMs when its request took its permit
 */
export function onAnswer(rate: Rate, hint: RateHint, takenAtMs: number, nowMs: number): Rate {
  const limited = withLimit(fill(rate, nowMs), hint);
  const blockedUntilMs = Math.max(rate.blockedUntilMs, windowEndMs(hint, nowMs));
  if (takenAtMs <= rate.throttledAtMs) return { ...limited, blockedUntilMs };
  const ceiling = ceilingOf(limited);
  const isNewLimit = limited.limitPerSecond !== rate.limitPerSecond;
  const grown = limited.ratePerSecond + ceiling * growth;
  const ratePerSecond = isNewLimit ? ceiling : Math.min(ceiling, grown);
  return { ...limited, ratePerSecond, throttles: 0, blockedUntilMs };
}

/**
 * Too many requests: half the rate, and a pause. Requests that were under way together count once.
 * @param takenAtMs when its request took its permit
 * @param random    in [0, 1)
 */
export function onThrottled(
  rate: Rate,
  hint: RateHint,
  takenAtMs: number,
  nowMs: number,
  random: number,
): Rate {
  const limited = withLimit(fill(rate, nowMs), hint);
  const askedMs = nowMs + Math.min(hint.retryAfterMs ?? 0, retryAfterMaxMs);
  const blockedUntilMs = Math.max(rate.blockedUntilMs, askedMs, windowEndMs(hint, nowMs));
  if (takenAtMs <= rate.throttledAtMs) return { ...limited, blockedUntilMs };
  const { throttles } = rate;
  const ownMs = pauseMs({ times: throttles, baseMs: pauseBaseMs, maxMs: pauseMaxMs, random });
  return {
    ...limited,
    ratePerSecond: Math.max(Math.min(floorPerSecond, ceilingOf(limited)), limited.ratePerSecond / 2),
    blockedUntilMs: Math.max(blockedUntilMs, nowMs + ownMs),
    throttles: throttles + 1,
    throttledAtMs: nowMs,
  };
}

/** Adopts the limit that the provider names; a lower one at once. */
function withLimit(rate: Rate, { limitPerSecond = NaN }: RateHint): Rate {
  if (!(limitPerSecond > 0) || !Number.isFinite(limitPerSecond)) return rate;
  const limited = { ...rate, limitPerSecond };
  return { ...limited, ratePerSecond: Math.min(rate.ratePerSecond, ceilingOf(limited)) };
}

/** So that a burst and a second's rate together stay within the limit. */
function ceilingOf({ limitPerSecond, maxPerSecond }: Rate): number {
  return limitPerSecond === undefined ? maxPerSecond : limitPerSecond * (1 - burstSeconds);
}

/** When the provider's next window begins, if this one is used up. */
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
