// The memory of one worker for the files of requests under way. A request with files waits until there is room for them,
// the one that came first before the others.

interface Waiter {
  readonly bytes: number;
  readonly answer: (isTaken: boolean) => void;
}

export class FileMemory {
  readonly #bytesMax: number;
  #taken = 0;
  readonly #waiters: Waiter[] = [];

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /**
   * Takes room for files of this size. One request may have more than all of it, if it is the only one.
   * @returns the function that gives it back; undefined if there was no room in time
   */
  async take(wantedBytes: number, timeoutMs: number): Promise<(() => void) | undefined> {
    const bytes = Math.min(wantedBytes, this.#bytesMax);
    const { promise, resolve: answer } = Promise.withResolvers<boolean>();
    const waiter = { bytes, answer };
    this.#waiters.push(waiter);
    this.#admit();
    const timer = setTimeout(() => this.#remove(waiter), timeoutMs);
    const isTaken = await promise;
    clearTimeout(timer);
    if (!isTaken) return undefined;
    return () => {
      this.#taken -= bytes;
      this.#admit();
    };
  }

  #admit(): void {
    for (;;) {
      const [first] = this.#waiters;
      if (first === undefined || this.#taken + first.bytes > this.#bytesMax) return;
      this.#waiters.shift();
      this.#taken += first.bytes;
      first.answer(true);
    }
  }

  #remove(waiter: Waiter): void {
    const index = this.#waiters.indexOf(waiter);
    if (index === -1) return;
    this.#waiters.splice(index, 1);
    waiter.answer(false);
    this.#admit();
  }
}
