// The rates of a queue of several partitions, with partitions that only keep a rate.

import { describe, expect, test } from "bun:test";
import { type RateChange, StoreUnavailable } from "../../lib/queue/contract.ts";
import { changeRate, newBucket, sharedRate, takePermit } from "../../lib/queue/rate_bucket.ts";
import { eventually } from "../support/eventually.ts";
import { HomeRates, type RateHome } from "../../lib/queue/redis/partitioned/home_rates.ts";

const request = { provider: "resend", credential: "c", startPerSecond: 10 };
const learned = { kind: "learned", version: 0, factor: 1, step: 0, throttles: 0 } as const;
const change = { ...learned, minPerSecond: 0.001, maxPerSecond: 1000, pauseMs: 0 };

class TestHome implements RateHome {
  isConnected = true;
  /** Connected, but without answers. */
  isHung = false;
  workers = 20;
  asked = 0;
  bucket = newBucket(request.startPerSecond);
  /** The clock of this partition, which stands still. */
  nowMs = 1e12;

  async takePermit() {
    this.asked += 1;
    if (this.isHung) throw new StoreUnavailable("timed out");
    const isTaken = sharedRate(this.bucket, this.nowMs).nextInMs === 0;
    if (isTaken) this.bucket = takePermit(this.bucket, this.nowMs);
    return { isTaken, rate: sharedRate(this.bucket, this.nowMs) };
  }

  async changeRate(_: object, one: RateChange) {
    if (this.isHung) throw new StoreUnavailable("timed out");
    this.bucket = changeRate(this.bucket, one, this.nowMs);
  }
}

function open() {
  const partitions = Array.from({ length: 4 }, () => new TestHome());
  let nowMs = 0;
  const rates = new HomeRates(partitions, () => nowMs);
  const advance = (ms: number) => (nowMs += ms);
  return { rates, home: rates.homeOf(request) as TestHome, partitions, advance };
}

describe("home rates: a permit", () => {
  test("is taken at home, where a change goes too", async () => {
    const { rates, home, partitions } = open();
    expect((await rates.take(request)).isTaken).toBe(true);
    expect((await rates.take(request)).isTaken).toBe(false);
    await rates.change(request, { kind: "unused" });
    expect((await rates.take(request)).isTaken).toBe(true);
    await rates.change(request, { ...change, factor: 2 });
    expect(home.bucket.perSecond).toBe(20);
    expect(partitions.filter(({ asked }) => asked > 0)).toEqual([home]);
    expect(rates.addTo({ kind: "empty" }, { ...request, provider: "postmark" })).toEqual({ kind: "empty" });
  });

  for (const [name, cut] of [
    ["is not connected", (home: TestHome) => (home.isConnected = false)],
    ["does not answer", (home: TestHome) => (home.isHung = true)],
  ] as const) {
    test(`is of this worker's part of the rate while home ${name}`, async () => {
      const { rates, home, advance } = open();
      // A permit each 100 ms, so each 2 s for a part.
      rates.hear(request, { perSecond: 10, version: 7, throttles: 0, nextInMs: 0 });
      cut(home);
      const alone = await rates.take(request);
      expect(alone).toMatchObject({ isTaken: true, rate: { perSecond: 10, version: 7 } });
      await rates.change(request, { ...change, version: 7 });
      let taken = 0;
      for (let ms = 0; ms < 20_000; ms += 50) {
        advance(50);
        if ((await rates.take(request)).isTaken) taken += 1;
      }
      expect(taken).toBe(10);
      expect(home.asked).toBeLessThan(25);
    });
  }

  test("waits for the end of a pause that was known before home was lost", async () => {
    const { rates, home } = open();
    rates.hear(request, { perSecond: 1000, version: 0, throttles: 0, nextInMs: 1_000_000 });
    home.isConnected = false;
    expect((await rates.take(request)).isTaken).toBe(false);
  });

  test("waits for a pause that this worker learns of meanwhile", async () => {
    const { rates, home } = open();
    home.isConnected = false;
    expect((await rates.take(request)).isTaken).toBe(true);
    await rates.change(request, { ...change, factor: 0.5, throttles: 1, pauseMs: 1_000_000 });
    const { isTaken, rate } = await rates.take(request);
    expect(isTaken).toBe(false);
    expect(rate).toMatchObject({ perSecond: 5, version: 1 });
    expect(rate.nextInMs).toBeGreaterThan(900_000);
  });

  test("is taken at home again as soon as that is back", async () => {
    const { rates, home } = open();
    home.isConnected = false;
    await rates.take(request);
    expect((await rates.take(request)).isTaken).toBe(false);
    expect(home.asked).toBe(0);
    home.isConnected = true;
    await eventually("home has answered", async () => (await rates.take(request)).isTaken);
    expect(rates.addTo({ kind: "empty" }, request)).toMatchObject({ rate: { nextInMs: 100 - 50 } });
  });

  test("is not asked for at a home that has just not answered", async () => {
    const { rates, home, advance } = open();
    home.isHung = true;
    await rates.take(request);
    await rates.take(request);
    expect(home.asked).toBe(1);
    advance(1000);
    await rates.take(request);
    expect(home.asked).toBe(2);
  });
});
