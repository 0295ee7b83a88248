// Virtual time: while it runs, whatever reads a clock, draws a number or sets a timer gets it from here. Hours pass in
// seconds, and every run with the same seed is the same.

import { drainMicrotasks } from "bun:jsc";

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
  readonly #cleared = new Set<number>();
  #count = 0;
  readonly random: () => number;

  constructor(seed: number) {
    this.random = createRandom(seed);
  }

  /** Calls back after `delayMs`. Returns the number of the timer. */
  after(delayMs: number, callback: () => void): number {
    this.#count += 1;
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
        if (this.#cleared.delete(timer.number)) continue;
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
      clearTimeout: (number: number) => this.#cleared.add(number),
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

/** A binary heap; the entry that comes before all others is taken first. */
export class Heap<T> {
  readonly #entries: T[] = [];
  readonly #isBefore: (a: T, b: T) => boolean;

  constructor(isBefore: (a: T, b: T) => boolean) {
    this.#isBefore = isBefore;
  }

  get size(): number {
    return this.#entries.length;
  }

  get first(): T | undefined {
    return this.#entries[0];
  }

  push(entry: T): void {
    const entries = this.#entries;
    let at = entries.length;
    entries.push(entry);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#isBefore(entry, entries[parent]!)) break;
      entries[at] = entries[parent]!;
      at = parent;
    }
    entries[at] = entry;
  }

  pop(): T | undefined {
    const entries = this.#entries;
    const top = entries[0];
    const last = entries.pop();
    if (entries.length === 0 || last === undefined) return top;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= entries.length) break;
      if (child + 1 < entries.length && this.#isBefore(entries[child + 1]!, entries[child]!)) child += 1;
      if (!this.#isBefore(entries[child]!, last)) break;
      entries[at] = entries[child]!;
      at = child;
    }
    entries[at] = last;
    return top;
  }
}
