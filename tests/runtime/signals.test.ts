// What a signal means by the time at which it comes. With real processes: see server.test.ts and worker.test.ts.

import { expect, test } from "bun:test";
import { createSignalCounter } from "../../lib/runtime/signals.ts";

const meanings = (repeatMs: number, ...times: number[]) => times.map(createSignalCounter(repeatMs));

test("signals: a second one is the first once more for a moment, and ends the process after that", () => {
  expect(meanings(200, 1000, 1000)).toEqual(["first", "repeat"]);
  expect(meanings(200, 1000, 1200)).toEqual(["first", "repeat"]);
  expect(meanings(200, 1000, 1201)).toEqual(["first", "second"]);
  expect(meanings(1000, 0, 900)).toEqual(["first", "repeat"]);
});

test("signals: a third one ends the process, however soon it comes", () => {
  expect(meanings(1000, 0, 1, 2)).toEqual(["first", "repeat", "second"]);
  expect(meanings(200, 0, 100, 5000)).toEqual(["first", "repeat", "second"]);
});
