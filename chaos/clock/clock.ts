// The other side of clock.c: builds it, and steps the clock of the processes that run with it.

import { closeSync, openSync, realpathSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { buildLibrary } from "../library.ts";

export interface Clock {
  /** What the environment of a process on this clock needs. */
  readonly env: Readonly<Record<string, string>>;
  /**
   * Steps it for every process on it at the same moment, those that run too.
   * @param ms how far ahead of the true time it is from now on; negative: behind; 0: right
   */
  setAhead(ms: number): void;
}

/** Compiles the library into the folder, and returns where it is. */
export function buildClock(into: string): string {
  return buildLibrary(join(import.meta.dir, "clock.c"), into);
}

/**
 * Creates a clock that is right. One for each that has to be wrong by itself.
 * @param file    for its offset, in a folder that exists; stays as long as a process runs on the clock
 * @param library what `buildClock` returned
 */
export function createClock(options: { file: string; library: string }): Clock {
  writeFileSync(options.file, new Uint8Array(8));
  const file = realpathSync(options.file);
  return {
    env: { LD_PRELOAD: realpathSync(options.library), CHAOS_CLOCK: file },
    setAhead(ms) {
      // In place, in one write: processes have it mapped.
      const open = openSync(file, "r+");
      writeSync(open, new BigInt64Array([BigInt(Math.round(ms)) * 1_000_000n]));
      closeSync(open);
    },
  };
}
