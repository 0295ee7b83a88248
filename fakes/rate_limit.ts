// A rate limit like Resend's: a number of requests in each window of one second.

export interface Window {
  readonly allowed: boolean;
  readonly remaining: number;
  /** Until the next window, ms. */
  readonly resetMs: number;
}

export class RateLimit {
  #startedMs = 0;
  #used = 0;

  take(limit: number, nowMs: number): Window {
    if (nowMs - this.#startedMs >= 1000) {
      this.#startedMs = nowMs;
      this.#used = 0;
    }
    this.#used += 1;
    return {
      allowed: this.#used <= limit,
      remaining: Math.max(0, limit - this.#used),
      resetMs: this.#startedMs + 1000 - nowMs,
    };
  }

  clear(): void {
    this.#startedMs = 0;
  }
}
