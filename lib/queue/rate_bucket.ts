// The rate of a provider, shared by all workers, as a store keeps it: a token bucket in the form of GCRA (ITU-T I.371),
// which needs one time instead of a count of tokens. What the rate should be is decided in policy/. Redis does the same
// in scripts/parts/rates.lua.

import { toleranceMs } from "./clock_watch.ts";
import type { RateChange, SharedRate } from "./rate_contract.ts";

/** Times in ms, by one clock throughout. */
export interface RateBucket {
  readonly perSecond: number;
  readonly limitPerSecond: number | undefined;
  readonly version: number;
  readonly throttles: number;
  /** When the next permit falls due at this rate. It may be taken {@link burstMs} earlier. */
  readonly nextAtMs: number;
  /** When the pause began, and when it ends: no permit in between. */
  readonly blockedFromMs: number;
  readonly blockedUntilMs: number;
}

/**
 * How much earlier than due a permit may be taken, ms: a worker that asks late loses nothing. With a rate of nine tenths
 * of a limit, it could be 111 before more than the limit fell into one second; the rest is for requests that arrive
 * closer together than they began.
 */
const burstMs = 50;
const pauseMaxMs = 3_600_000;

export function newBucket(perSecond: number): RateBucket {
  const times = { nextAtMs: 0, blockedFromMs: 0, blockedUntilMs: 0 };
  return { perSecond, limitPerSecond: undefined, version: 0, throttles: 0, ...times };
}

/**
 * The bucket without times that are over or impossible. A time that was stamped by a clock that has stepped back since
 * would hold up a provider until the clock reaches it again. An impossible permit falls due now. Bounding it to the latest
 * possible time instead would move it on with the clock, since a claim that finds no permit writes nothing.
 */
export function bounded(bucket: RateBucket, atMs: number): RateBucket {
  const { perSecond, blockedFromMs, blockedUntilMs } = bucket;
  const nextMaxMs = atMs + 1000 / perSecond + burstMs;
  const isImpossible = bucket.nextAtMs > nextMaxMs + toleranceMs;
  const nextAtMs = isImpossible ? atMs : Math.min(bucket.nextAtMs, nextMaxMs);
  const isBlocked = blockedUntilMs > atMs && blockedFromMs <= atMs + toleranceMs;
  return { ...bucket, nextAtMs, ...(!isBlocked && { blockedFromMs: 0, blockedUntilMs: 0 }) };
}

/** As workers see it. */
export function sharedRate(bucket: RateBucket, atMs: number): SharedRate {
  const { perSecond, limitPerSecond, version, throttles, nextAtMs, blockedUntilMs } = bounded(bucket, atMs);
  const nextInMs = Math.max(0, Math.ceil(Math.max(nextAtMs - burstMs, blockedUntilMs) - atMs));
  return { perSecond, limitPerSecond, version, throttles, nextInMs };
}

/** Takes the permit for one request, which must be available. */
export function takePermit(bucket: RateBucket, atMs: number): RateBucket {
  const now = bounded(bucket, atMs);
  return { ...now, nextAtMs: Math.max(now.nextAtMs, atMs) + 1000 / now.perSecond };
}

export function changeRate(bucket: RateBucket, change: RateChange, atMs: number): RateBucket {
  const now = bounded(bucket, atMs);
  if (change.kind === "unused") return { ...now, nextAtMs: now.nextAtMs - 1000 / now.perSecond };
  return { ...now, ...learned(now, change), ...pause(now, change, atMs) };
}

type Learned = Extract<RateChange, { kind: "learned" }>;

function learned({ perSecond, version, ...now }: RateBucket, change: Learned): Partial<RateBucket> {
  const { factor, step, minPerSecond, maxPerSecond, throttles } = change;
  const limitPerSecond = change.limitPerSecond ?? now.limitPerSecond;
  const isNew = change.version === version;
  const isChanged = limitPerSecond !== now.limitPerSecond || (isNew && throttles > 0);
  const common = { limitPerSecond, version: version + (isChanged ? 1 : 0) };
  if (isNew) {
    const wanted = perSecond * factor + step;
    return { ...common, perSecond: Math.min(maxPerSecond, Math.max(minPerSecond, wanted)), throttles };
  }
  const max = change.limitPerSecond === undefined ? Infinity : maxPerSecond;
  return { ...common, perSecond: Math.min(perSecond, max) };
}

function pause(now: RateBucket, { pauseMs }: Learned, atMs: number): Partial<RateBucket> {
  const untilMs = atMs + Math.ceil(Math.min(pauseMs, pauseMaxMs));
  return untilMs > Math.max(atMs, now.blockedUntilMs) ? { blockedFromMs: atMs, blockedUntilMs: untilMs } : {};
}
