// The submissions under way and their bodies, within bounds of number, size, time and memory. Bun's own limit of size,
// which answers with an empty 413, is set out of reach. Bun drops the rest of a refused body and closes the connection
// after its idle timeout: if it were closed at once, clients that write everything before they read would lose the answer.

/** How much an outage of the store may pile up, and how long a client may take. */
export const defaultLimits = {
  /** Most submissions under way. */
  pendingMax: 8192,
  /** Most bytes that they hold together. */
  pendingBytesMax: 128 * 1024 * 1024,
  /** Longest wait for a whole body. */
  bodyTimeoutMs: 30_000,
  /** Longest silence in the middle of a body while others are refused because of it. */
  silenceMaxMs: 2000,
};

/** Bodies up to this size may be read whole, which takes half the CPU time of reading them in pieces. */
const wholeBytesMax = 65_536;
/** Most bytes that bodies being read whole may have announced: Bun buffers them before they are counted as held. */
const wholeBytesSumMax = 32 * 1024 * 1024;

/** A body, or why there is none. `noMemory`: nobody who holds some is silent. `broken`: the client went away. */
export type Arrival = Uint8Array | "tooLarge" | "tooSlow" | "noMemory" | "broken";

/** All submissions under way. */
export class Uploads {
  readonly limits: Readonly<typeof defaultLimits> & { readonly maxBodyBytes: number };
  pending = 0;
  /** Bytes of bodies that have arrived, then of the emails as they are stored. */
  heldBytes = 0;
  /** Bytes announced by bodies that are being read whole. */
  wholeBytes = 0;
  /** Those whose body has not arrived yet, the one that has been silent longest first. */
  readonly awaited = new Set<Upload>();

  constructor(limits: Uploads["limits"]) {
    this.limits = limits;
  }

  /** Undefined if there are too many. */
  begin(): Upload | undefined {
    if (this.pending >= this.limits.pendingMax && !this.makeRoom()) return undefined;
    this.pending += 1;
    return new Upload(this);
  }

  /** Gives up the body that has been silent longest. False if none has been silent for too long. */
  makeRoom(): boolean {
    const [longest] = this.awaited;
    if (longest === undefined || longest.silentMs() < this.limits.silenceMaxMs) return false;
    longest.giveUp();
    return true;
  }

  giveUpAll(): void {
    for (const upload of this.awaited) upload.giveUp();
  }
}

/** One submission: its body, and the memory that it holds until {@link end}. */
export class Upload {
  readonly #all: Uploads;
  readonly #arrival = Promise.withResolvers<Arrival>();
  #heldBytes = 0;
  /** When a part of the body arrived last, by `performance.now()`. */
  #heardAtMs = performance.now();
  #timer: Timer | undefined;
  // One buffer, not a list of pieces: in a chunked body each may be of one byte, in an object of a hundred.
  #buffer = new Uint8Array(0);
  #reader: { cancel(): Promise<void> } | undefined;

  constructor(all: Uploads) {
    this.#all = all;
  }

  /** Holds memory for what has arrived, never for what was announced: silent clients cost the others nothing. */
  read(request: Request): Promise<Arrival> {
    const { limits, wholeBytes, awaited } = this.#all;
    const header = request.headers.get("content-length");
    const announced = Number(header ?? 0);
    if (announced > limits.maxBodyBytes) return Promise.resolve("tooLarge");
    const isWhole =
      header !== null && announced <= wholeBytesMax && wholeBytes + announced <= wholeBytesSumMax;
    // Only a body that is read in pieces is looked at: that alone would make a stream of it.
    const pieces = isWhole ? null : request.body;
    if (!isWhole && pieces === null) return Promise.resolve(this.#buffer);

    awaited.add(this);
    this.#timer = setTimeout(() => this.giveUp(), limits.bodyTimeoutMs);
    void (pieces === null ? this.#readWhole(request, announced) : this.#readPieces(pieces));
    return this.#arrival.promise;
  }

  /**
   * Holds this many bytes instead of what it held before. To make room, gives up bodies that have been silent for too
   * long. False, without any other change, if that is not enough.
   */
  hold(bytes: number): boolean {
    const all = this.#all;
    const { pendingBytesMax } = all.limits;
    while (bytes > this.#heldBytes && all.heldBytes - this.#heldBytes + bytes > pendingBytesMax) {
      if (!all.makeRoom()) return false;
    }
    all.heldBytes += bytes - this.#heldBytes;
    this.#heldBytes = bytes;
    return true;
  }

  giveUp(): void {
    this.#arrive("tooSlow");
  }

  silentMs(): number {
    return performance.now() - this.#heardAtMs;
  }

  /** To be called once, when the submission is answered. */
  end(): void {
    this.hold(0);
    this.#all.pending -= 1;
  }

  async #readWhole(request: Request, announced: number): Promise<void> {
    this.#all.wholeBytes += announced;
    const bytes = await request.bytes().catch(() => undefined);
    this.#all.wholeBytes -= announced;
    if (!this.#hear()) return;
    if (bytes === undefined) this.#arrive("broken");
    else this.#arrive(this.hold(bytes.length) ? bytes : "noMemory");
  }

  async #readPieces(pieces: ReadableStream<Uint8Array>): Promise<void> {
    const reader = pieces.getReader();
    this.#reader = reader;
    const { maxBodyBytes } = this.#all.limits;
    for (let length = 0; ;) {
      const piece = await reader.read().catch(() => undefined);
      if (!this.#hear()) return;
      if (piece === undefined) return this.#arrive("broken");
      if (piece.done) {
        this.hold(length);
        return this.#arrive(resized(this.#buffer, length));
      }
      const needed = length + piece.value.length;
      if (needed > maxBodyBytes) return this.#arrive("tooLarge");
      if (needed > this.#buffer.length) {
        const size = Math.min(maxBodyBytes, Math.max(needed, 2 * this.#buffer.length));
        if (!this.hold(size)) return this.#arrive("noMemory");
        this.#buffer = resized(this.#buffer, size);
      }
      this.#buffer.set(piece.value, length);
      length = needed;
    }
  }

  /** Keeps `awaited` in the order of silence. False if this body has been given up. */
  #hear(): boolean {
    if (!this.#all.awaited.delete(this)) return false;
    this.#heardAtMs = performance.now();
    this.#all.awaited.add(this);
    return true;
  }

  #arrive(arrival: Arrival): void {
    if (!this.#all.awaited.delete(this)) return;
    clearTimeout(this.#timer);
    if (typeof arrival === "string") {
      this.hold(0);
      this.#buffer = new Uint8Array(0);
      void this.#reader?.cancel().catch(() => {});
    }
    this.#arrival.resolve(arrival);
  }
}

/** The same bytes in a buffer of another size. The old one is freed at once, not when it is collected. */
function resized(bytes: Uint8Array<ArrayBuffer>, size: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes.buffer.transfer(size));
}
