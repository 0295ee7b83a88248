import { expect, test } from "bun:test";
import { queueFamilies } from "../../lib/admin/common_metrics.ts";
import { format } from "../../lib/admin/metrics.ts";
import { ServerMetrics } from "../../lib/admin/server_metrics.ts";
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

test("queue metrics: scheduled emails are a state of their own, and files count their bytes", () => {
  const stats = statsOf({ states: { scheduled: 3, waiting: 2 }, fileBytes: 700_007 });
  const text = format(queueFamilies(stats, { ok: true }));
  expect(text).toContain('reliable_email_queue_emails{state="scheduled"} 3\n');
  expect(text).toContain('reliable_email_queue_emails{state="waiting"} 2\n');
  expect(text).toContain("reliable_email_queue_file_bytes 700007\n");
});

test("server metrics: the limit for files is the server's own", () => {
  const families = new ServerMetrics(1_073_741_824).families({
    submissions: 0,
    bytes: 0,
    overload: undefined,
  });
  expect(format(families)).toContain("\nreliable_email_file_limit_bytes 1073741824\n");
});
