import { expect, test } from "bun:test";
import { createWorkerMetrics } from "../../lib/admin/worker_metrics.ts";
import { statsOf } from "./fixtures.ts";

test("a doubt that looks too old at one look alone is no reason: the store's clock may have stepped just now", async () => {
  const stats = statsOf({ oldestDoubtSinceMs: statsOf().nowMs - 8760 * 3_600_000 });
  const shown = createWorkerMetrics().show({
    states: [],
    doubtMs: 3_600_000,
    leaseMs: 60_000,
    health: () => ({ ok: true }),
    view: { look: async () => stats, refusal: () => undefined, close() {} },
    started: () => true,
    stopping: () => false,
    shortage: () => undefined,
  });
  const { reasons } = await shown.readiness();
  expect(reasons.filter((one) => one.startsWith("doubt:"))).toEqual([]);
});
