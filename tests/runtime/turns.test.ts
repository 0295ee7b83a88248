import { expect, test } from "bun:test";
import { longTurn, ownTurn } from "../../lib/runtime/turns.ts";

test("turns: each caller has a turn of its own, the one with the fewest bytes left first", async () => {
  const order: string[] = [];
  let turn = 0;
  let isOver = false;
  const count = () => {
    turn += 1;
    if (!isOver) setImmediate(count);
  };
  setImmediate(count);
  const bytesLeft = [3, 1, 2, 1];
  await Promise.all(bytesLeft.map((bytes, i) => ownTurn(bytes).then(() => order.push(`${i} in ${turn}`))));
  isOver = true;
  expect(order).toEqual(["1 in 1", "3 in 2", "2 in 3", "0 in 4"]);
});

test("turns: after a long turn, the next one waits as long as that took", async () => {
  const spans: { startMs: number; endMs: number }[] = [];
  const work = () => {
    const startMs = performance.now();
    Bun.sleepSync(30);
    spans.push({ startMs, endMs: performance.now() });
  };
  await Promise.all([1, 2, 3].map(() => longTurn().then(work)));
  const [first, second, third] = spans as [(typeof spans)[0], (typeof spans)[0], (typeof spans)[0]];
  // Timers may fire a millisecond early.
  expect(second.startMs - first.endMs).toBeGreaterThan(first.endMs - first.startMs - 1);
  expect(third.startMs - second.endMs).toBeGreaterThan(second.endMs - second.startMs - 1);
});
