// Fixtures for tests of the admin port.

import type { QueueStats } from "../../lib/queue/contract.ts";

/** Statistics of an empty queue, with changes. */
export function statsOf({
  states,
  ...over
}: Partial<Omit<QueueStats, "states">> & { states?: Partial<QueueStats["states"]> } = {}): QueueStats {
  return {
    nowMs: 1_000_000_000_000,
    states: { scheduled: 0, waiting: 0, retrying: 0, sending: 0, "in-doubt": 0, dead: 0, sent: 0, ...states },
    counters: {},
    fileBytes: 0,
    providers: {},
    oldestDueAtMs: undefined,
    oldestDoubtSinceMs: undefined,
    paused: false,
    moving: false,
    clockStep: undefined,
    bytesUsed: 1000,
    bytesMax: undefined,
    ...over,
  };
}
