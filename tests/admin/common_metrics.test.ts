import { expect, test } from "bun:test";
import { queueFamilies } from "../../lib/admin/common_metrics.ts";
import { statsOf } from "./fixtures.ts";

test("queue metrics: they show the step of the store's clock, and how many emails it had stranded", () => {
  const valueOf = (name: string, stats = statsOf()) =>
    [...queueFamilies(stats, { ok: true }).find((family) => family.name === name)!.samples][0]![1];
  const stepped = statsOf({
    clockStep: { atMs: 1_000_000_000_000, byMs: -90_500 },
    counters: { restamped: 7 },
  });
  expect(valueOf("reliable_email_queue_clock_step_seconds")).toBe(0);
  expect(valueOf("reliable_email_queue_clock_step_seconds", stepped)).toBe(-90.5);
  expect(valueOf("reliable_email_queue_restamped_total")).toBe(0);
  expect(valueOf("reliable_email_queue_restamped_total", stepped)).toBe(7);
});
