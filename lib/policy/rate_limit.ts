// How many requests one provider gets from one worker: a token bucket whose rate is learned from the provider's own
// answers. Over any second, it never permits more than the limit that the provider names.

import { pauseMs } from "./backoff.ts";
import type { RateHint } from "./request_outcome.ts";

/** Times in ms, by one clock throughout. */
export interface Rate {
  readonly ratePerSecond: number;
  /** As the provider named it last. */
  readonly limitPerSecond: number | undefined;
  /** The highest rate while it names none. */
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

/** The lowest rate, after any number of throttlings: a request every 5 s. */
const floorPerSecond = 0.2;
/** Tokens that may gather while nothing is sent: a tenth of a second's, and one at least. */
const burstSeconds = 0.1;
/** Share of the ceiling that each answer adds to the rate: a halved rate is back after 50 answers. */
const growth = 0.01;
const pauseBaseMs = 1_000;
const pauseMaxMs = 60_000;
/** The longest pause that a provider can ask for. */
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

/** Takes the permit for a request; undefined if there is none now. */
export function takePermit(rate: Rate, nowMs: number): Rate | undefined {
  if (nextPermitAtMs(rate, nowMs) > nowMs) return undefined;
  const filled = fill(rate, nowMs);
  return { ...filled, tokens: Math.max(0, filled.tokens - 1) };
}

/** The permit was not needed. */
export function returnPermit(rate: Rate): Rate {
  return fill({ ...rate, tokens: rate.tokens + 1 }, rate.updatedAtMs);
}

/** When the next permit is available, unless another request takes it; `nowMs` if there is one now. */
export function nextPermitAtMs(rate: Rate, nowMs: number): number {
  const { tokens, ratePerSecond, updatedAtMs } = fill(rate, nowMs);
  const filledAtMs =
    tokens >= 1 - tolerance ? nowMs : updatedAtMs + Math.ceil(((1 - tokens) / ratePerSecond) * 1000);
  return Math.max(rate.blockedUntilMs, filledAtMs);
}

/**
 * Learns from an answer: a throttling halves the rate and pauses, any other lets it grow. Only requests that began after
 * the last throttling count, so that those that were throttled together count once.
 * @param about.takenAtMs when its request took its permit
 * @param about.random    in [0, 1)
 */
export function learnRate(
  before: Rate,
  { limitPerSecond = NaN, remaining, resetMs, retryAfterMs = 0 }: RateHint,
  about: { isThrottled: boolean; takenAtMs: number; nowMs: number; random: number },
): Rate {
  const { isThrottled, takenAtMs, nowMs, random } = about;
  const filled = fill(before, nowMs);
  // The limit that the provider names is adopted at once. A burst and a second's rate together stay within it.
  const isNamed = limitPerSecond > 0 && Number.isFinite(limitPerSecond);
  const limit = isNamed ? limitPerSecond : before.limitPerSecond;
  const ceiling = limit === undefined ? before.maxPerSecond : limit * (1 - burstSeconds);
  const current = isNamed ? Math.min(before.ratePerSecond, ceiling) : before.ratePerSecond;
  const windowMs = remaining === 0 && resetMs !== undefined ? Math.min(resetMs, pauseMaxMs) : -Infinity;
  const askedMs = isThrottled ? Math.min(retryAfterMs, retryAfterMaxMs) : -Infinity;
  const blockedUntilMs = Math.max(before.blockedUntilMs, nowMs + windowMs, nowMs + askedMs);
  const rate = { ...filled, limitPerSecond: limit, ratePerSecond: current, blockedUntilMs };
  if (takenAtMs <= before.throttledAtMs) return rate;
  if (!isThrottled) {
    const grown = limit === before.limitPerSecond ? current + ceiling * growth : ceiling;
    return { ...rate, ratePerSecond: Math.min(ceiling, grown), throttles: 0 };
  }
  const { throttles } = before;
  const ownMs = pauseMs({ times: throttles, baseMs: pauseBaseMs, maxMs: pauseMaxMs, random });
  return {
    ...rate,
    ratePerSecond: Math.max(Math.min(floorPerSecond, ceiling), current / 2),
    blockedUntilMs: Math.max(blockedUntilMs, nowMs + ownMs),
    throttles: throttles + 1,
    throttledAtMs: nowMs,
  };
}

function fill(rate: Rate, nowMs: number): Rate {
  const elapsedMs = Math.max(0, nowMs - rate.updatedAtMs);
  const burst = Math.max(1, rate.ratePerSecond * burstSeconds);
  const tokens = Math.min(burst, rate.tokens + (elapsedMs * rate.ratePerSecond) / 1000);
  return { ...rate, tokens, updatedAtMs: Math.max(rate.updatedAtMs, nowMs) };
}
