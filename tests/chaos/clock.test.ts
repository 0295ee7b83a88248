// The harness's clock, as read by Redis, Bun and SQLite.

import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { startClock, type TestClock } from "../support/clock.ts";
import { eventually } from "../support/eventually.ts";
import { startCommand } from "../support/service.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";

// Other tests run at the same time.
setDefaultTimeout(60_000);

const hourMs = 3_600_000;
const yearMs = 365 * 24 * hourMs;
const steps = [0, hourMs, -hourMs, 24 * hourMs, -24 * hourMs, yearMs, -yearMs, 0];

const ends: (() => unknown)[] = [];
afterAll(() => Promise.all(ends.map((end) => end())));

/** Expects the time read from a wall clock, in ms, to be ahead of our own by this much. */
function expectAhead(aheadMs: number, read: () => number): void {
  const beforeMs = Date.now();
  const atMs = read();
  expect(atMs - aheadMs).toBeGreaterThanOrEqual(beforeMs - 10);
  expect(atMs - aheadMs).toBeLessThanOrEqual(Date.now() + 10);
}

function newClock(): TestClock {
  const clock = startClock();
  ends.push(clock.stop);
  return clock;
}

async function startRedisOn(clock: TestClock): Promise<RedisServer> {
  const redis = await startRedis({}, { clock });
  ends.push(redis.stop);
  return redis;
}

/** Runs a command that prints the reply of TIME, and returns it in ms. */
function timeOf(redis: RedisServer, ...command: string[]): number {
  const [seconds, microseconds] = redis.cli(...command).split("\n");
  return Number(seconds) * 1000 + Number(microseconds) / 1000;
}

test("clock: a running Redis follows every step, in TIME and in scripts", async () => {
  const clock = newClock();
  const redis = await startRedisOn(clock);
  for (const aheadMs of steps) {
    clock.setAhead(aheadMs);
    expectAhead(aheadMs, () => timeOf(redis, "TIME"));
    expectAhead(aheadMs, () => timeOf(redis, "EVAL", "return redis.call('TIME')", "0"));
  }
});

test("clock: in Redis, a step ahead expires keys, and a restart keeps the clock", async () => {
  const clock = newClock();
  const redis = await startRedisOn(clock);
  redis.cli("SET", "short", "1", "PX", String(2 * hourMs));
  redis.cli("SET", "long", "1", "PX", String(2 * yearMs));
  clock.setAhead(yearMs);
  await eventually("the key expires", () => redis.cli("EXISTS", "short") === "0");
  await redis.restart();
  expect(redis.cli("EXISTS", "long")).toBe("1");
  expectAhead(yearMs, () => timeOf(redis, "TIME"));
});

test("clock: two clocks step independently", async () => {
  const [wrong, right] = [newClock(), newClock()];
  const [ahead, other] = [await startRedisOn(wrong), await startRedisOn(right)];
  wrong.setAhead(yearMs);
  expectAhead(yearMs, () => timeOf(ahead, "TIME"));
  expectAhead(0, () => timeOf(other, "TIME"));
});

/** Prints the time of each clock and the duration of three kinds of waits, each time the file appears. */
const reader = `
  const { Database } = require("bun:sqlite");
  const { existsSync, rmSync } = require("node:fs");
  const sqlite = new Database(":memory:").query("SELECT unixepoch('subsec') * 1000 AS at");
  const cell = new Int32Array(new SharedArrayBuffer(4));
  const took = async (wait) => {
    const start = performance.now();
    await wait();
    return performance.now() - start;
  };
  const [ask] = process.argv.slice(1);
  for (;;) {
    while (!existsSync(ask)) await Bun.sleep(5);
    rmSync(ask);
    console.log(JSON.stringify({
      now: Date.now(),
      date: Number(new Date()),
      sqlite: sqlite.get().at,
      timer: await took(() => Bun.sleep(20)),
      sleep: await took(() => Bun.sleepSync(20)),
      atomics: await took(() => Atomics.wait(cell, 0, 0, 20)),
    }));
  }
`;

test("clock: a running Bun follows every step, and its waits keep their length", async () => {
  const clock = newClock();
  const ask = `${clock.env["CHAOS_CLOCK"]}.ask`;
  const child = startCommand([process.execPath, "-e", reader, ask], { env: { ...clock.env } });
  ends.push(() => child.kill());
  for (const [i, aheadMs] of steps.entries()) {
    clock.setAhead(aheadMs);
    const beforeMs = Date.now();
    await Bun.write(ask, "");
    const line = await eventually(
      () => `Bun answers (${child.stderr()})`,
      () => child.lines[i],
    );
    for (const name of ["now", "date", "sqlite"]) {
      expect(Number(line[name]) - aheadMs).toBeGreaterThanOrEqual(beforeMs - 10);
      expect(Number(line[name]) - aheadMs).toBeLessThanOrEqual(Date.now() + 10);
    }
    // No wait ended immediately, as it would if its deadline had passed. The answer shows that all of them ended.
    for (const name of ["timer", "sleep", "atomics"]) expect(Number(line[name])).toBeGreaterThan(15);
  }
});
