// The header that asks for a pause.

import { describe, expect, test } from "bun:test";
import { retryAfterMs } from "../../lib/providers/transport.ts";

describe("transport: Retry-After", () => {
  const nowMs = Date.UTC(2026, 0, 1);
  const inAMinute = "Thu, 01 Jan 2026 00:01:00 GMT";
  const inTwo = "Thu, 01 Jan 2026 00:02:00 GMT";
  const ago = "Wed, 31 Dec 2025 23:59:59 GMT";

  const table: [values: string[], expectedMs: number | undefined][] = [
    [[], undefined],
    [["3"], 3_000],
    [["0"], 0],
    [[" 3 "], 3_000],
    [["5, 5"], 5_000],
    [["5", "7"], 7_000],
    [["7", "5"], 7_000],
    [["1,2,3"], 3_000],
    [[inAMinute], 60_000],
    [[ago], undefined],
    [[ago, "4"], 4_000],
    [[inAMinute, inTwo], 120_000],
    [[`${inTwo}, ${inAMinute}`], 120_000],
    [["90", inAMinute], 90_000],
    [[inAMinute, "30"], 60_000],
    [["-1"], undefined],
    [["-1, 2"], 2_000],
    [["+1"], undefined],
    [["1.5"], undefined],
    [["1.5, 2.5"], undefined],
    [["1e3"], undefined],
    [["0x10"], undefined],
    [["soon"], undefined],
    [["soon, 6"], 6_000],
    [["5 s"], undefined],
    [["9".repeat(30)], undefined],
    [["2026-01-01T00:01:00Z"], undefined],
    [["Jan 1 2030"], undefined],
    [["2030"], 2_030_000],
    [["Thu, 99 Jan 2026 00:01:00 GMT"], undefined],
    [["Thu, 01 Jan 2026 00:01:00 PST"], undefined],
    [[""], undefined],
    [[",,"], undefined],
  ];
  test.each(table)("%p: %p ms", (values, expectedMs) => {
    const headers = new Headers();
    for (const value of values) headers.append("retry-after", value);
    expect(retryAfterMs(headers, nowMs)).toBe(expectedMs);
  });
});
