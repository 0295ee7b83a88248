// The queue's statistics for the admin port: asked for at most once at a time and never awaited for long, so that a
// store that hangs does not hang the port.

import type { QueueStats } from "../queue/contract.ts";

/** How old an answer may be, ms: readers that ask at about the same time share one. */
const ageMaxMs = 2000;
export const waitMaxMs = 2000;

/** These errors of Redis begin with a code, and never quote anything private. */
const isRefusal = /^(NOPERM|NOAUTH|WRONGPASS|MISCONF|ERR The user executing the script) /;

export class StatsCache {
  readonly #read: () => Promise<QueueStats>;
  readonly #limits: { readonly ageMaxMs: number; readonly waitMaxMs: number };
  #last: { readonly stats: QueueStats; readonly atMs: number } | undefined;
  #asking: Promise<QueueStats | undefined> | undefined;
  /** The error of Redis, if it refused the last question. */
  refusal: string | undefined;

  /** @param read rejects if the store does not answer; it is called again at the next question */
  constructor(read: () => Promise<QueueStats>, limits: { ageMaxMs?: number; waitMaxMs?: number } = {}) {
    this.#read = read;
    this.#limits = { ageMaxMs, waitMaxMs, ...limits };
  }

  /** Undefined if the store does not answer in time. Never rejects. */
  async look(): Promise<QueueStats | undefined> {
    if (this.#last !== undefined && performance.now() - this.#last.atMs < this.#limits.ageMaxMs) {
      return this.#last.stats;
    }
    this.#asking ??= this.#ask().finally(() => (this.#asking = undefined));
    const { promise: late, resolve } = Promise.withResolvers<undefined>();
    const timer = setTimeout(resolve, this.#limits.waitMaxMs);
    const stats = await Promise.race([this.#asking, late]);
    clearTimeout(timer);
    return stats;
  }

  async #ask(): Promise<QueueStats | undefined> {
    try {
      const atMs = performance.now();
      const stats = await this.#read();
      this.#last = { stats, atMs };
      this.refusal = undefined;
      return stats;
    } catch (error) {
      this.refusal = error instanceof Error && isRefusal.test(error.message) ? error.message : undefined;
      return undefined;
    }
  }
}
