// Virtual time: while it runs, whatever reads a clock, draws a number or sets a timer gets it from here. Hours pass in
// seconds, and every run with the same seed is the same.

import { drainMicrotasks } from "bun:jsc";
import { Heap } from "./heap.ts";

interface Timer {
  readonly atMs: number;
  /** Timers of the same time fire in the order in which they were set. */
  readonly number: number;
  readonly callback: () => void;
}

const startedAtMs = Date.UTC(2027, 0, 1);

export class VirtualTime {
  nowMs = 0;
  readonly #timers = new Heap<Timer>((a, b) => a.atMs < b.atMs || (a.atMs === b.atMs && a.number < b.number));
  /** Numbers of those that were neither fired nor cleared. */
  readonly #pending = new Set<number>();
  #count = 0;
  readonly random: () => number;

  constructor(seed: number) {
    this.random = createRandom(seed);
  }

  /** Calls back after `delayMs`. Returns the number of the timer. */
  after(delayMs: number, callback: () => void): number {
    this.#count += 1;
    this.#pending.add(this.#count);
    this.#timers.push({ atMs: this.nowMs + Math.max(0, delayMs), number: this.#count, callback });
    return this.#count;
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => void this.after(delayMs, resolve));
  }

  /**
   * Fires one timer after another, as long as `goesOn`; between two of them, everything happens that needs no timer.
   * Meanwhile the clocks, the randomness and the timers of this process are these. Nothing else can run at that time.
   */
  run(start: () => void, goesOn: () => boolean): void {
    const restore = this.#install();
    try {
      start();
      drainMicrotasks();
      while (goesOn()) {
        const timer = this.#timers.pop();
        if (timer === undefined) throw new Error("nothing is left to happen");
        if (!this.#pending.delete(timer.number)) continue;
        this.nowMs = timer.atMs;
        timer.callback();
        drainMicrotasks();
      }
    } finally {
      restore();
    }
  }

  #install(): () => void {
    const { setTimeout, clearTimeout } = globalThis;
    const before = [performance.now, Date.now, Math.random, AbortSignal.timeout] as const;
    performance.now = () => this.nowMs;
    Date.now = () => startedAtMs + Math.floor(this.nowMs);
    Math.random = this.random;
    // Every simulated request is answered in time.
    const { signal } = new AbortController();
    AbortSignal.timeout = () => signal;
    Object.assign(globalThis, {
      setTimeout: (callback: () => void, delayMs = 0) => this.after(delayMs, callback),
      clearTimeout: (number: number) => this.#pending.delete(number),
    });
    return () => {
      [performance.now, Date.now, Math.random, AbortSignal.timeout] = before;
      Object.assign(globalThis, { setTimeout, clearTimeout });
    };
  }
}

/** Numbers in [0, 1): mulberry32. */
function createRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
