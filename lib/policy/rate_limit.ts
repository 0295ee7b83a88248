// How fast requests may go to one provider: what its answers say about the rate, and what a worker knows of it. The
// queue keeps the rate and counts the permits, since all workers share them.

import type { RateChange, SharedRate } from "../queue/contract.ts";
import { pauseMs } from "./backoff.ts";
import type { RateHint } from "./request_outcome.ts";

/** The shared rate as one worker knows it. Times in ms, by one clock throughout. */
export interface KnownRate {
  readonly perSecond: number;
  /** When the next permit is available, unless another worker takes it. */
  readonly nextAtMs: number;
  /** The end of the pause that this worker has learned of, which the queue may not know yet. */
  readonly pausedUntilMs: number;
}

/** The lowest rate, after any number of throttlings: a request every 5 s. */
const floorPerSecond = 0.2;
/** The highest rate, whatever limit a provider names. */
const ceilingPerSecond = 1000;
/** Share of the limit that is used. The rest is for requests that arrive closer together than they began. */
const used = 0.9;
/** Share of the ceiling that each answer adds to the rate: a halved rate is back after 50 answers. */
const growth = 0.01;
/** How much the beginning of a window may be off, ms. */
const windowSlackMs = 100;
const pauseBaseMs = 1_000;
const pauseMaxMs = 60_000;
/** A worker that came too late spreads its next claim over the time of so many permits, and at most this time, ms. */
const spreadPermits = 10;
const spreadMaxMs = 500;
/** The longest pause that a provider can ask for. */
const retryAfterMaxMs = 3_600_000;

export function newRate(perSecond: number): KnownRate {
  return { perSecond, nextAtMs: -Infinity, pausedUntilMs: -Infinity };
}

/** The rate as the worker knows it once the queue has named it. */
export function heard(known: KnownRate, { perSecond, nextInMs }: SharedRate, nowMs: number): KnownRate {
  return { ...known, perSecond, nextAtMs: nowMs + nextInMs };
}

/**
 * The rate as the worker knows it after a claim that came too late for a permit. It asks some time after the next permit
 * falls due, when the worker that took the last one asks. Otherwise each of many workers would ask for every permit.
 * @param random in [0, 1)
 */
export function outpaced(known: KnownRate, shared: SharedRate, nowMs: number, random: number): KnownRate {
  const spreadMs = Math.min(spreadMaxMs, (1000 / shared.perSecond) * spreadPermits);
  return heard(known, { ...shared, nextInMs: shared.nextInMs + random * spreadMs }, nowMs);
}

/** The rate once the queue has carried out a change: no permit falls due later than it allows. */
export function adopted(
  known: KnownRate,
  { factor, step, minPerSecond, maxPerSecond }: Extract<RateChange, { kind: "learned" }>,
  nowMs: number,
): KnownRate {
  const perSecond = Math.min(maxPerSecond, Math.max(minPerSecond, known.perSecond * factor + step));
  return { ...known, perSecond, nextAtMs: Math.min(known.nextAtMs, nowMs + 1000 / perSecond) };
}

/** How many permits may be asked for at the same time. The queue gives them up to 50 ms before they fall due. */
export function permitsAtOnce({ perSecond }: KnownRate): number {
  return Math.max(1, Math.floor(perSecond * 0.05));
}

/** The worker has learned this itself. */
export function paused(known: KnownRate, forMs: number, nowMs: number): KnownRate {
  return forMs > 0 ? { ...known, pausedUntilMs: Math.max(known.pausedUntilMs, nowMs + forMs) } : known;
}

/** When to ask for the next permit; `nowMs` if there may be one now. */
export function nextPermitAtMs({ nextAtMs, pausedUntilMs }: KnownRate, nowMs: number): number {
  return Math.max(nextAtMs, pausedUntilMs, nowMs);
}

/**
 * Learns from an answer: a throttling halves the rate and pauses, any other lets it grow. Requests that were throttled
 * together count once, since the first of them changes the version.
 * @param taken        the rate when the request took its permit
 * @param maxPerSecond the highest rate while the provider names no limit
 * @param random       in [0, 1)
 */
export function learnRate(
  taken: Omit<SharedRate, "nextInMs">,
  { limitPerSecond = 0, remaining, resetMs = 0, retryAfterMs = 0 }: RateHint,
  { isThrottled, maxPerSecond, random }: { isThrottled: boolean; maxPerSecond: number; random: number },
): Extract<RateChange, { kind: "learned" }> {
  const { version, throttles } = taken;
  // The limit that the provider names is adopted at once.
  const isNamed = limitPerSecond > 0;
  const limit = isNamed
    ? Math.max(floorPerSecond, round(atMost(limitPerSecond, ceilingPerSecond)))
    : taken.limitPerSecond;
  const max = limit === undefined ? maxPerSecond : limit * used;
  const min = Math.min(floorPerSecond, max);
  const bounds = { minPerSecond: min, maxPerSecond: max, ...(isNamed && { limitPerSecond: limit }) };
  const windowMs = remaining === 0 ? windowLeftMs(limit, taken.perSecond, atMost(resetMs, pauseMaxMs)) : 0;
  if (!isThrottled) {
    const change =
      limit === taken.limitPerSecond ? { factor: 1, step: max * growth } : { factor: 0, step: max };
    return { kind: "learned", version, ...change, throttles: 0, ...bounds, pauseMs: windowMs };
  }
  const ownMs = pauseMs({ times: throttles, baseMs: pauseBaseMs, maxMs: pauseMaxMs, random });
  return {
    kind: "learned",
    version,
    factor: 0.5,
    step: 0,
    throttles: throttles + 1,
    ...bounds,
    pauseMs: Math.max(windowMs, ownMs, atMost(retryAfterMs, retryAfterMaxMs)),
  };
}

/**
 * How long to wait after the last request that a window allows. Providers count in whole seconds, so `resetMs` may be far
 * too long: at full speed every window would cost a second. If the workers' own rate explains that it is used up, it ends
 * sooner; if not, others use the same account, and nobody knows when the window began.
 */
function windowLeftMs(limitPerSecond: number | undefined, perSecond: number, resetMs: number): number {
  if (limitPerSecond === undefined) return resetMs;
  const spanMs = (Math.max(0, limitPerSecond - 1) / perSecond) * 1000;
  return spanMs > 1000 + windowSlackMs
    ? resetMs
    : Math.min(resetMs, Math.max(0, 1000 - spanMs) + windowSlackMs);
}

/** To six digits, which every queue keeps. Otherwise the same limit would be a new one in each answer. */
function round(perSecond: number): number {
  return Number(perSecond.toPrecision(6));
}

/** A number from a header; 0 if it makes no sense. */
function atMost(value: number, max: number): number {
  return value > 0 ? Math.min(value, max) : 0;
}
