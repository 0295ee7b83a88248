// How long to wait before another attempt. Randomness spreads those who failed together.

/** Beyond this the power is larger than any cap, and would one day overflow. */
const doublingsMax = 50;

interface Growth {
  readonly baseMs: number;
  readonly maxMs: number;
  /** In [0, 1). */
  readonly random: number;
}

/**
 * Delay before the next attempt, in whole ms: uniform over [0, min(maxMs, baseMs·2^(attempt-1))).
 * Full jitter, after Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
 * @param attempt attempts already made, 1-based
 */
export function backoffMs({ attempt, baseMs, maxMs, random }: Growth & { readonly attempt: number }): number {
  return Math.floor(random * grown(attempt - 1, baseMs, maxMs));
}

/**
 * A pause with a least length, in whole ms: uniform over [half, 1) of min(maxMs, baseMs·2^times).
 * Equal jitter, from the article named above.
 * @param times pauses in a row before, from 0
 */
export function pauseMs({ times, baseMs, maxMs, random }: Growth & { readonly times: number }): number {
  return Math.floor(grown(times, baseMs, maxMs) * (0.5 + random / 2));
}

function grown(doublings: number, baseMs: number, maxMs: number): number {
  return Math.min(maxMs, baseMs * 2 ** Math.min(Math.max(doublings, 0), doublingsMax));
}
