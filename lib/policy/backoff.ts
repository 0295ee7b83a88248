// How long to wait before trying again. It spreads those who failed together, so that they do not return together.

/** Beyond this the power is larger than any cap, and would one day overflow. */
const doublingsMax = 50;

/**
 * Delay before the next attempt, in whole ms: uniform over [0, min(maxMs, baseMs·2^(attempt-1))).
 * Full jitter, after Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
 * @param attempt attempts already made, 1-based
 * @param random  in [0, 1)
 */
export function backoffMs({
  attempt,
  baseMs,
  maxMs,
  random,
}: {
  attempt: number;
  baseMs: number;
  maxMs: number;
  random: number;
}): number {
  const doublings = Math.min(Math.max(attempt - 1, 0), doublingsMax);
  return Math.floor(random * Math.min(maxMs, baseMs * 2 ** doublings));
}

/**
 * A growing time with a certain part, in whole ms: uniform over [half, 1) of min(maxMs, baseMs·2^times).
 * For doors that must stay shut for a while; equal jitter in the article named above.
 * @param times  how often in a row before, from 0
 * @param random in [0, 1)
 */
export function breakerOpenMs({
  times,
  baseMs,
  maxMs,
  random,
}: {
  times: number;
  baseMs: number;
  maxMs: number;
  random: number;
}): number {
  const fullMs = Math.min(maxMs, baseMs * 2 ** Math.min(times, doublingsMax));
  return Math.floor(fullMs * (0.5 + random / 2));
}
