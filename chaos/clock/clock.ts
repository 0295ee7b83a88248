// The other side of clock.c: builds it, and steps the clock of the processes that run with it.

import { closeSync, openSync, realpathSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { buildLibrary } from "../preload.ts";

export interface Clock {
  /** Environment variables for a process that is to use this clock. */
  readonly env: Readonly<Record<string, string>>;
  /**
   * Steps the clock for every process that uses it, running ones included.
   * @param ms offset from the true time from now on; negative: behind; 0: correct
   */
  setAhead(ms: number): void;
}

/** Compiles the library into the folder and returns its path. */
export function buildClock(into: string): string {
  return buildLibrary(join(import.meta.dir, "clock.c"), into);
}

/**
 * Creates a clock without an offset. Processes that share a clock are stepped together.
 * @param file    where its offset is kept, in an existing folder; must outlive the processes that use the clock
 * @param library what `buildClock` returned
 */
export function createClock(options: { file: string; library: string }): Clock {
  writeFileSync(options.file, new Uint8Array(8));
  const file = realpathSync(options.file);
  return {
    env: { LD_PRELOAD: realpathSync(options.library), CHAOS_CLOCK: file },
    setAhead(ms) {
      // Written in place: processes have the file mapped.
      const open = openSync(file, "r+");
      writeSync(open, new BigInt64Array([BigInt(Math.round(ms)) * 1_000_000n]));
      closeSync(open);
    },
  };
}
