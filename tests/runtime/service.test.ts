// The meaning of a signal depends on when it comes. For real processes, see server.test.ts and worker.test.ts.

import { expect, test } from "bun:test";
import { onSignals } from "../../lib/runtime/service.ts";

/** The meanings of this many signals in a row. */
function meanings(repeatMs: number, count: number): string[] {
  const seen: string[] = [];
  const release = onSignals({
    repeatMs,
    first: (signal) => seen.push(`first ${signal}`),
    second: (signal) => seen.push(`second ${signal}`),
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGINT"].slice(0, count)) process.emit(signal, signal);
  release();
  return seen;
}

test("signals: a second one soon after the first is ignored, and a later one ends the process", () => {
  expect(meanings(60_000, 2)).toEqual(["first SIGINT"]);
  expect(meanings(-1, 2)).toEqual(["first SIGINT", "second SIGTERM"]);
});

test("signals: a third one ends the process, however soon it comes", () => {
  expect(meanings(60_000, 3)).toEqual(["first SIGINT", "second SIGINT"]);
  expect(meanings(-1, 3)).toEqual(["first SIGINT", "second SIGTERM", "second SIGINT"]);
});
