// How far long work has come: one line of stderr, written over, for somebody who watches.

import { hint } from "./output.ts";
import { numberOf } from "./format.ts";
import type { Terminal } from "./terminal.ts";

/** Before it is shown at all, and between two showings, ms. */
const afterMs = 500;
const everyMs = 100;

export interface Progress {
  /** So many are done by now. */
  show(done: number): void;
  /** Takes the line away again. */
  end(): void;
}

/** @param total as far as it is known: more may turn out to be done */
export function openProgress(what: string, total: number, { progress }: Terminal): Progress {
  let nextAtMs = performance.now() + afterMs;
  let shown = false;
  return {
    show(done) {
      if (!progress || performance.now() < nextAtMs) return;
      nextAtMs = performance.now() + everyMs;
      shown = true;
      const of = Math.max(done, total);
      hint(`\r\x1b[K${what}: ${numberOf(done)} of ${numberOf(of)}`);
    },
    end() {
      if (shown) hint("\r\x1b[K");
      shown = false;
    },
  };
}
