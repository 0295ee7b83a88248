// A wall clock for one test, which can be stepped while a real redis-server or a process of the service uses it.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildClock, type Clock, createClock } from "../../chaos/clock/clock.ts";

export interface TestClock extends Clock {
  /** Removes its files. */
  stop(): void;
}

/** The clock is correct until it is stepped. */
export function startClock(): TestClock {
  const folder = mkdtempSync(join(tmpdir(), "reliable-email-clock-"));
  const clock = createClock({ file: join(folder, "offset"), library: buildClock(folder) });
  return {
    env: clock.env,
    setAhead: clock.setAhead,
    stop: () => rmSync(folder, { recursive: true, force: true }),
  };
}
