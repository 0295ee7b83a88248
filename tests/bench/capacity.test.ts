// The capacity model, and the page that shows its results.

import { expect, test } from "bun:test";
import { join } from "node:path";
import measured from "../../bench/capacity/costs.json";
import { createParts, fillPage } from "../../bench/capacity/page.ts";
import { Costs, costOf, flowOf, mostPerDay, plan } from "../../bench/capacity/plan.ts";

const costs = new Costs(measured.tables[0]!);
const page = await Bun.file(join(import.meta.dir, "../../docs/capacity.md")).text();

test("capacity: a line of costs goes through the measured points with the fewest and the most emails", () => {
  for (const step of ["submit", "deliver"] as const) {
    const line = costs.line("redis", step, "CPU µs");
    const points = costs.points("redis", step, "CPU µs");
    for (const point of [points[0]!, points.at(-1)!]) {
      expect(costOf(line, point.emails)).toBeCloseTo(point.cost, 6);
    }
    expect(points.length).toBeGreaterThan(2);
  }
});

test("capacity: ten times the emails need ten times the memory, and no less of anything", () => {
  const [one, ten] = [plan(costs, 1e8), plan(costs, 1e9)];
  expect(ten.outageBytes).toBeCloseTo(10 * one.outageBytes, -3);
  expect(ten.sentBytes).toBeCloseTo(10 * one.sentBytes, -3);
  for (const of of ["servers", "workers", "primaries", "partitions", "queues"] as const) {
    expect(ten[of]).toBeGreaterThanOrEqual(one[of]);
  }
});

test("capacity: four workers are enough for a hundred million emails a day, as docs/capacity.md says", () => {
  expect(plan(costs, 1e8).workers).toBe(4);
  expect(page).toContain("Four workers are enough for a hundred million emails a day");
});

test("capacity: emails that share a write cost less", () => {
  const [alone, grouped] = [flowOf(costs, "redis", 10_000, 20), flowOf(costs, "redis", 10_000, 2)];
  expect(alone.emailsPerWrite).toBe(1);
  expect(grouped.emailsPerWrite).toBe(10);
  expect(grouped.serverCores).toBeLessThan(alone.serverCores / 2);
  expect(grouped.redisCores).toBeLessThan(alone.redisCores / 2);
  expect(grouped.workerCores).toBe(alone.workerCores);
});

test("capacity: a small queue needs one partition, a large one several queues of eight at most", () => {
  expect(plan(costs, 1e6)).toMatchObject({ servers: 2, workers: 2, primaries: 1, partitions: 1, queues: 1 });
  const large = plan(costs, 1e9);
  expect(large.queues).toBeGreaterThan(1);
  expect(large.partitions).toBeLessThanOrEqual(8);
  expect(large.partitions * large.queues).toBeGreaterThanOrEqual(large.primaries);
});

test("capacity: one of each is enough for what its assumptions give", () => {
  const peakSeconds = 86_400 / 5;
  expect(mostPerDay(costs, "provider")).toBeCloseTo(10 * 100 * 0.9 * peakSeconds, -6);
  expect(mostPerDay(costs, "worker")).toBeCloseTo((8 / 0.3) * 100 * peakSeconds, -6);
  const perDay = (10 * costs.kept("redis", "submit") + costs.kept("redis", "deliver")) / 24;
  expect(mostPerDay(costs, "redisMemory")).toBeCloseTo(24e9 / perDay, -6);
  expect(mostPerDay(costs, "server", "embedded")).toBeLessThan(mostPerDay(costs, "server"));
});

test("docs/capacity.md shows what is computed from the measured costs", () => {
  expect(fillPage(page, createParts(costs))).toBe(page);
});

test("docs/capacity.md states how much an email that travels alone writes to disk", () => {
  const alone = (queue: string) =>
    (["submit", "deliver"] as const).reduce(
      (sum, step) => sum + costOf(costs.line(queue, step, "log bytes"), 1),
      0,
    );
  const [, over, million, redis] = /over (\d+) KB of disk writes.*are (\d+) GB written.* ([\d.]+) GB/.exec(
    page,
  )!;
  expect(alone("embedded")).toBeGreaterThan(Number(over) * 1000);
  // A million times as many bytes, in GB.
  expect(Math.abs(alone("embedded") / 1000 / Number(million) - 1)).toBeLessThan(0.1);
  expect(Math.abs(alone("redis") / 1000 / Number(redis) - 1)).toBeLessThan(0.1);
});

test("docs/capacity.md says of the simulation what its table shows", () => {
  const row = (phase: string) => {
    const line = page.split("\n").find((one) => one.startsWith(`| ${phase}, `)) ?? "";
    const [, emails, , requests, , claims] = line
      .replaceAll(",", "")
      .match(/[\d.]+/g)!
      .map(Number);
    return { emails: emails!, requestsPerMinute: requests!, claimsPerSecond: claims! };
  };
  const stated = (pattern: RegExp) => Number(pattern.exec(page)?.[1]);
  const { requestsPerMinute } = row("outage");
  const everySeconds = stated(/request to each provider about every (\d+) seconds/);
  expect(Math.abs((60 * 2 * 100) / requestsPerMinute / everySeconds - 1)).toBeLessThan(0.05);
  expect(requestsPerMinute / 60 / 2).toBeLessThan(3);
  expect(page).toContain("fewer than three requests a second to each provider");
  const { claimsPerSecond, ...recovery } = row("recovery");
  expect((claimsPerSecond * 60) / recovery.requestsPerMinute).toBeGreaterThan(30);
  expect(page).toContain("more than thirty claims for each request");
  expect(stated(/- age of the oldest email, most, hours: ([\d.]+)/)).toBe(
    stated(/the oldest one is (\d+) hours old/),
  );
});
