// The bodies of requests, read within bounds of size, time and memory. Bun's own limit answers with an empty 413, so it
// is set out of reach, and this file keeps the contract's. What follows of a refused body is left to Bun, which drops
// it and closes the connection after its idle timeout: closing at once would make clients that write everything before
// they read lose the answer.

export type Arrival =
  | { readonly kind: "read"; readonly bytes: Uint8Array }
  | { readonly kind: "tooLarge" }
  | { readonly kind: "tooSlow" }
  /** The memory is used up, and no client that holds a part of it has been silent for too long. */
  | { readonly kind: "busy" }
  /** The client went away. */
  | { readonly kind: "broken" };

export interface UploadLimits {
  /** Largest body. */
  readonly bodyBytesMax: number;
  /** Longest wait for a whole body. */
  readonly timeoutMs: number;
  /** How long a client may be silent while others need its memory. */
  readonly silenceMaxMs: number;
  /** Most bytes that all submissions under way may hold together. */
  readonly heldBytesMax: number;
}

/** Bodies up to this size may be read whole, which costs less CPU time than reading them in pieces. */
const wholeBytesMax = 65_536;
/** Most bytes that all bodies being read whole may have announced: Bun buffers them before they are counted as held. */
const wholeBytesSumMax = 32 * 1024 * 1024;

/** What all uploads share. */
export class Uploads {
  readonly limits: UploadLimits;
  /** Bytes of bodies that have arrived, then of the emails as they are stored. */
  heldBytes = 0;
  /** Bytes announced by bodies that are being read whole. */
  wholeBytes = 0;
  /** Those whose body has not arrived yet, the one that has been silent longest first. */
  readonly awaited = new Set<Upload>();

  constructor(limits: UploadLimits) {
    this.limits = limits;
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

/** One body, and the memory that its submission holds. */
export class Upload {
  readonly #uploads: Uploads;
  readonly #arrival = Promise.withResolvers<Arrival>();
  #heldBytes = 0;
  /** When a part of the body arrived last, by `performance.now()`. */
  #heardAtMs = performance.now();
  #timer: Timer | undefined;
  // One buffer, not a list of pieces: in a chunked body each may be of one byte, in an object of a hundred.
  #buffer = new Uint8Array(0);
  #reader: { cancel(): Promise<void> } | undefined;

  constructor(uploads: Uploads) {
    this.#uploads = uploads;
  }

  /**
   * Reads the body. It holds memory for what has arrived, never for what was announced, so that silent clients cost the
   * others nothing. Never rejects. Whatever it resolves to, the caller has to {@link release} the memory.
   */
  read(request: Request): Promise<Arrival> {
    const { limits, awaited, wholeBytes } = this.#uploads;
    if (request.body === null) return Promise.resolve({ kind: "read", bytes: new Uint8Array(0) });
    const header = request.headers.get("content-length");
    const announced = header === null ? Number.POSITIVE_INFINITY : Number(header);
    if (header !== null && announced > limits.bodyBytesMax) return Promise.resolve({ kind: "tooLarge" });

    awaited.add(this);
    this.#timer = setTimeout(() => this.giveUp(), limits.timeoutMs);
    if (announced <= wholeBytesMax && wholeBytes + announced <= wholeBytesSumMax) {
      void this.#readWhole(request, announced);
    } else {
      void this.#readPieces(request.body);
    }
    return this.#arrival.promise;
  }

  /**
   * Holds this many bytes instead of what it held before, if need be by giving up bodies of clients that have been silent
   * for too long. False, without any change, if there is not enough memory.
   */
  hold(bytes: number): boolean {
    const more = bytes - this.#heldBytes;
    while (more > 0 && this.#uploads.heldBytes + more > this.#uploads.limits.heldBytesMax) {
      if (!this.#uploads.makeRoom()) return false;
    }
    this.#uploads.heldBytes += more;
    this.#heldBytes = bytes;
    return true;
  }

  release(): void {
    this.hold(0);
  }

  /** Resolves to `tooSlow`, and releases the memory at once. */
  giveUp(): void {
    this.#end({ kind: "tooSlow" });
  }

  silentMs(): number {
    return performance.now() - this.#heardAtMs;
  }

  async #readWhole(request: Request, announced: number): Promise<void> {
    this.#uploads.wholeBytes += announced;
    const bytes = await request.bytes().catch(() => undefined);
    this.#uploads.wholeBytes -= announced;
    if (!this.#isAwaited()) return;
    this.#hear();
    if (bytes === undefined) this.#end({ kind: "broken" });
    else this.#end(this.hold(bytes.length) ? { kind: "read", bytes } : { kind: "busy" });
  }

  async #readPieces(pieces: ReadableStream<Uint8Array>): Promise<void> {
    const reader = pieces.getReader();
    this.#reader = reader;
    let length = 0;
    const { bodyBytesMax } = this.#uploads.limits;
    for (;;) {
      const piece = await reader.read().catch(() => undefined);
      if (!this.#isAwaited()) return;
      if (piece === undefined) return this.#end({ kind: "broken" });
      if (piece.done) {
        this.hold(length);
        return this.#end({ kind: "read", bytes: resized(this.#buffer, length) });
      }
      this.#hear();
      const needed = length + piece.value.length;
      if (needed > bodyBytesMax) return this.#end({ kind: "tooLarge" });
      if (needed > this.#buffer.length) {
        const size = Math.min(bodyBytesMax, Math.max(needed, 2 * this.#buffer.length));
        if (!this.hold(size)) return this.#end({ kind: "busy" });
        this.#buffer = resized(this.#buffer, size);
      }
      this.#buffer.set(piece.value, length);
      length = needed;
    }
  }

  #isAwaited(): boolean {
    return this.#uploads.awaited.has(this);
  }

  /** Keeps `awaited` in the order of silence. */
  #hear(): void {
    this.#heardAtMs = performance.now();
    this.#uploads.awaited.delete(this);
    this.#uploads.awaited.add(this);
  }

  #end(arrival: Arrival): void {
    if (!this.#uploads.awaited.delete(this)) return;
    clearTimeout(this.#timer);
    if (arrival.kind !== "read") {
      this.release();
      this.#buffer = new Uint8Array(0);
      void this.#reader?.cancel().catch(() => {});
    }
    this.#arrival.resolve(arrival);
  }
}

/** The same bytes in a buffer of another size. The old one is freed at once, and not when it is collected. */
function resized(bytes: Uint8Array<ArrayBuffer>, size: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes.buffer.transfer(size));
}
