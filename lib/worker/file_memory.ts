// Limits the memory of one worker for the files of requests under way. Requests with files wait for room, first come first
// served.

interface Waiter {
  readonly bytes: number;
  readonly answer: (isTaken: boolean) => void;
}

export class FileMemory {
  readonly #bytesMax: number;
  #taken = 0;
  /** Bytes given back since the last garbage collection. */
  #garbage = 0;
  readonly #waiters: Waiter[] = [];
  readonly #collect: () => void;

  /** @param collect collects garbage, which may otherwise grow to several times what requests under way hold */
  constructor(bytesMax: number, collect = () => Bun.gc(true)) {
    this.#bytesMax = bytesMax;
    this.#collect = collect;
  }

  /**
   * Takes room for files of this size. A request may exceed the whole limit if it is the only one.
   * @returns the function that gives the room back; undefined if there was none in time
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
      const before = this.#garbage;
      this.#garbage += bytes;
      const collectedMin = this.#bytesMax / 4;
      if (this.#garbage < collectedMin || before >= collectedMin) return;
      // Later, when the caller no longer holds the files, and once for all that end until then.
      setTimeout(() => {
        this.#garbage = 0;
        this.#collect();
      });
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
