// A rate limit as Resend's: so many requests in each window of a second.

export interface Window {
  readonly allowed: boolean;
  readonly remaining: number;
  /** Until the next window, ms. */
  readonly resetMs: number;
}

export function createRateLimit(): { take(limit: number, nowMs: number): Window; clear(): void } {
  let startedMs = 0;
  let used = 0;
  return {
    take(limit, nowMs) {
      if (nowMs - startedMs >= 1000) {
        startedMs = nowMs;
        used = 0;
      }
      used += 1;
      return {
        allowed: used <= limit,
        remaining: Math.max(0, limit - used),
        resetMs: startedMs + 1000 - nowMs,
      };
    },
    clear() {
      startedMs = 0;
    },
  };
}
