// What the store says about the queue, for whoever asks this process: on a connection of its own, opened when it is
// first asked for, so that nothing is spent on a port that nobody reads. It is asked seldom, once at a time, and
// never waited for long: a store that hangs costs an answer, not the port.

import type { Log } from "../runtime/log.ts";
import type { Admin, QueueStats } from "../queue/contract.ts";

/** How old an answer may be, ms: several that ask at about the same time share one. */
export const freshMs = 2000;
/** Longest wait for the store, ms. */
export const deadlineMs = 2000;

export interface StatsCache {
  /** Undefined if the store does not say in time. Never rejects. */
  look(): Promise<QueueStats | undefined>;
  /** Redis's own words, if it refused what was asked last. */
  refusal(): string | undefined;
  close(): void;
}

export interface StatsCacheOptions {
  /** Rejects if the store cannot be asked; is called again then. */
  readonly open: (log: Log) => Promise<Admin>;
  /** Default: {@link freshMs}. */
  readonly freshMs?: number;
  /** Default: {@link deadlineMs}. */
  readonly deadlineMs?: number;
}

/** An answer of Redis begins with a code, and never quotes what is private. */
const isRefusal = /^(NOPERM|NOAUTH|WRONGPASS|MISCONF|ERR The user executing the script) /;

/** The process itself uses the same store, and says what ails it. */
const quiet: Log = { debug() {}, info() {}, warn() {}, error() {} };

export function createStatsCache(options: StatsCacheOptions): StatsCache {
  const { open, freshMs: ageMaxMs = freshMs, deadlineMs: waitMaxMs = deadlineMs } = options;
  let admin: Admin | undefined;
  let last: { readonly stats: QueueStats; readonly atMs: number } | undefined;
  let asking: Promise<QueueStats | undefined> | undefined;
  let closed = false;
  let refusal: string | undefined;

  async function ask(): Promise<QueueStats | undefined> {
    try {
      admin ??= await open(quiet);
      if (closed) {
        void admin.close();
        return undefined;
      }
      const atMs = performance.now();
      const stats = await admin.stats();
      last = { stats, atMs };
      refusal = undefined;
      return stats;
    } catch (error) {
      refusal = error instanceof Error && isRefusal.test(error.message) ? error.message : undefined;
      return undefined;
    } finally {
      asking = undefined;
    }
  }

  return {
    refusal: () => refusal,
    async look() {
      if (closed) return undefined;
      if (last !== undefined && performance.now() - last.atMs < ageMaxMs) return last.stats;
      asking ??= ask();
      const { promise: late, resolve } = Promise.withResolvers<undefined>();
      const timer = setTimeout(() => resolve(undefined), waitMaxMs);
      const stats = await Promise.race([asking, late]);
      clearTimeout(timer);
      return stats;
    },
    close() {
      closed = true;
      void admin?.close();
    },
  };
}
