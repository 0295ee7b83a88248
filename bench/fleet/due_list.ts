// A list of emails or batches, each with the time from which it may be taken.

import { Heap } from "./heap.ts";

/** Those that are due are in a line, the others in a heap. */
export class DueList<T> {
  #due: T[] = [];
  /** Entries at the beginning of `#due` that were taken. */
  #taken = 0;
  readonly #later = new Heap<{ dueMs: number; entry: T }>((a, b) => a.dueMs < b.dueMs);

  add(entry: T, dueMs: number, nowMs: number): void {
    if (dueMs <= nowMs) this.#due.push(entry);
    else this.#later.push({ dueMs, entry });
  }

  take(count: number, nowMs: number): T[] {
    const from = this.#taken;
    const until = Math.min(from + count, from + this.dueCount(nowMs));
    const taken = this.#due.slice(from, until);
    this.#taken = until;
    if (this.#taken > 10_000 && this.#taken * 2 > this.#due.length) {
      this.#due = this.#due.slice(this.#taken);
      this.#taken = 0;
    }
    return taken;
  }

  dueCount(nowMs: number): number {
    for (
      let first = this.#later.first;
      first !== undefined && first.dueMs <= nowMs;
      first = this.#later.first
    ) {
      this.#later.pop();
      this.#due.push(first.entry);
    }
    return this.#due.length - this.#taken;
  }

  /** Infinity if nothing is due later. */
  nextDueMs(): number {
    return this.#later.first?.dueMs ?? Infinity;
  }
}
