import { expect, test } from "bun:test";
import fc from "fast-check";
import { fileBytes, requestTimes } from "../../lib/policy/request_budget.ts";
import { email, fileOf } from "./fixtures.ts";

const secondBytes = 256 * 1024;

test("request: its files are counted as they are stored", () => {
  expect(fileBytes(email("a", fileOf(1_000_000)).email)).toBe(1_000_000);
  expect(fileBytes(email("a").email)).toBe(0);
});

test("request: it may take a second longer for each 256 KiB", () => {
  const timeoutOf = (bytes: number) =>
    requestTimes(bytes, { providerTimeoutMs: 15_000, leaseMs: 90_000 }).timeoutMs;
  expect(timeoutOf(0)).toBe(15_000);
  expect(timeoutOf(secondBytes - 1)).toBe(15_000);
  expect(timeoutOf(10_000_000)).toBe(15_000 + 38_000);
});

test("request: at default settings, the lease of any email leaves time to wait for its files", () => {
  const storedBytes = 7_500_000;
  const leaseMs = 60_000 + 1000 * Math.floor(storedBytes / secondBytes);
  const { timeoutMs, needMs } = requestTimes(10_000_000, { providerTimeoutMs: 15_000, leaseMs });
  expect(timeoutMs).toBe(53_000);
  expect(leaseMs - needMs).toBeGreaterThan(30_000);
});

test("request: it is over before its lease, however short that is", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 60_000 }),
      fc.nat({ max: 600_000 }),
      fc.nat({ max: 8_000_000 }),
      (providerTimeoutMs, moreMs, size) => {
        const leaseMs = 2 * providerTimeoutMs + moreMs + 1000 * Math.floor(size / secondBytes);
        const { timeoutMs, needMs } = requestTimes(Math.ceil((size * 4) / 3), { providerTimeoutMs, leaseMs });
        expect(needMs).toBeLessThan(leaseMs);
        expect(needMs).toBeGreaterThan(timeoutMs);
        // Files never shorten the time that a request has without them.
        expect(timeoutMs).toBeGreaterThanOrEqual(providerTimeoutMs);
      },
    ),
  );
});
