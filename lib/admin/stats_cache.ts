// The queue's statistics for the admin port: asked for at most once at a time and never awaited for long, so that a
// store that hangs does not hang the port. The connection is opened at the first question, so that a port that nobody
// reads costs nothing.

import type { Admin, QueueStats } from "../queue/contract.ts";
import type { Log } from "../runtime/log.ts";

/** Rejects if the store cannot be reached; it is called again at the next question. */
export type OpenAdmin = (log: Log) => Promise<Pick<Admin, "stats" | "close">>;

/** How old an answer may be, ms: readers that ask at about the same time share one. */
const ageMaxMs = 2000;
/** Longest wait for the store, ms. */
export const waitMaxMs = 2000;

/** These errors of Redis begin with a code, and never quote anything private. */
const isRefusal = /^(NOPERM|NOAUTH|WRONGPASS|MISCONF|ERR The user executing the script) /;

/** The process uses the same store, and logs what is wrong with it. */
const silent: Log = { debug() {}, info() {}, warn() {}, error() {} };

export class StatsCache {
  readonly #open: OpenAdmin;
  readonly #limits: { readonly ageMaxMs: number; readonly waitMaxMs: number };
  #admin: Awaited<ReturnType<OpenAdmin>> | undefined;
  #last: { readonly stats: QueueStats; readonly atMs: number } | undefined;
  #asking: Promise<QueueStats | undefined> | undefined;
  #closed = false;
  /** The error of Redis, if it refused the last question. */
  refusal: string | undefined;

  constructor(open: OpenAdmin, limits: { ageMaxMs?: number; waitMaxMs?: number } = {}) {
    this.#open = open;
    this.#limits = { ageMaxMs, waitMaxMs, ...limits };
  }

  /** Undefined if the store does not answer in time. Never rejects. */
  async look(): Promise<QueueStats | undefined> {
    if (this.#closed) return undefined;
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

  close(): void {
    this.#closed = true;
    void this.#admin?.close();
  }

  async #ask(): Promise<QueueStats | undefined> {
    try {
      this.#admin ??= await this.#open(silent);
      if (this.#closed) return void this.#admin.close();
      const atMs = performance.now();
      const stats = await this.#admin.stats();
      this.#last = { stats, atMs };
      this.refusal = undefined;
      return stats;
    } catch (error) {
      this.refusal = error instanceof Error && isRefusal.test(error.message) ? error.message : undefined;
      return undefined;
    }
  }
}
