// The submissions under way and their bodies, within bounds of number, size, time and memory. Bun's own limit of size,
// which answers with an empty 413, is set out of reach. Bun drops the rest of a refused body and closes the connection
// after its idle timeout: if it were closed at once, clients that write everything before they read would lose the answer.

import { nextTurn, ownTurn } from "../../runtime/turns.ts";

/** How much an outage of the store may pile up, and how long a client may take. */
export const defaultLimits = {
  /** Most submissions under way. */
  pendingMax: 8192,
  /**
   * Most bytes that they hold together. A body counts as far as it has arrived. After it is read, its files count (or the
   * whole form that holds them), and the email in its stored form.
   */
  pendingBytesMax: 128 * 1024 * 1024,
  /** Part of them for submissions up to {@link smallBytesMax}; otherwise a few slow uploads could take all. */
  reservedBytes: 16 * 1024 * 1024,
  /**
   * The same limit while a body is being read, when JSON counts five times: the largest MAX_BODY_BYTES takes all of it.
   * Only one body is read at a time.
   */
  readingBytesMax: 160 * 1024 * 1024,
  /** Longest wait for a body, to which a second is added for each {@link bytesPerSecondMin} that have arrived. */
  bodyTimeoutMs: 30_000,
  /** Longest silence in the middle of a body while others are refused because of it. */
  silenceMaxMs: 2000,
};

/** The slowest connection on which a large body arrives in time: 16 MiB may take 94 s. */
export const bytesPerSecondMin = 256 * 1024;

/** See `reservedBytes` in {@link defaultLimits}. */
export const smallBytesMax = 1024 * 1024;

/** Bodies up to this size may be read whole, which takes half the CPU time of reading them in pieces. */
const wholeBytesMax = 65_536;
/** Most bytes that bodies being read whole may have announced: Bun buffers them before they are counted as held. */
const wholeBytesSumMax = 32 * 1024 * 1024;

/** About the most bytes of a body that Bun buffers while nobody reads it. */
const unreadBytesMax = 1536 * 1024;

/** A body, or why there is none. `noMemory`: nobody who holds some is silent. `broken`: the client went away. */
export type Arrival = Uint8Array | "tooLarge" | "tooSlow" | "noMemory" | "broken";

/** All submissions under way. */
export class Uploads {
  readonly limits: Readonly<typeof defaultLimits> & { readonly maxBodyBytes: number };
  pending = 0;
  /** See {@link defaultLimits}, `pendingBytesMax`. */
  heldBytes = 0;
  /** Bytes announced by bodies that are being read whole. */
  wholeBytes = 0;
  /** Those whose body has not arrived yet, the one that has been silent longest first. */
  readonly awaited = new Set<Upload>();

  constructor(limits: Uploads["limits"]) {
    this.limits = limits;
  }

  /**
   * Undefined if there are too many.
   * @param startMs now, by `performance.now()`
   */
  begin(startMs: number): Upload | undefined {
    if (this.pending >= this.limits.pendingMax && !this.makeRoom()) return undefined;
    this.pending += 1;
    return new Upload(this, startMs);
  }

  /** Gives up the body that has been silent longest. False if none has been silent for too long. */
  makeRoom(): boolean {
    const longest = this.awaited.values().find((one) => !one.isQueued);
    if (longest === undefined || longest.silentMs() < this.limits.silenceMaxMs) return false;
    longest.giveUp();
    return true;
  }

  /** Most bytes that all submissions may hold if one of them holds this many. */
  bytesMaxWith(bytes: number): number {
    const { pendingBytesMax, reservedBytes } = this.limits;
    return bytes > smallBytesMax ? pendingBytesMax - reservedBytes : pendingBytesMax;
  }

  giveUpAll(): void {
    for (const upload of this.awaited) upload.giveUp();
  }
}

/** One submission: its body, and the memory that it holds until {@link end}. */
export class Upload {
  readonly #all: Uploads;
  #arrival: Arrival | undefined;
  /** Tells whoever waits for the body that it has arrived. */
  #onArrival: ((arrival: Arrival) => void) | undefined;
  #heldBytes = 0;
  readonly #startMs: number;
  /** Bytes of a body that is read in pieces, as far as it has arrived. */
  #length = 0;
  /** When a part of the body arrived last, or was to be read next, by `performance.now()`. */
  #heardAtMs: number;
  /** The server reads other bodies first: a pause is not the client's. */
  isQueued = false;
  #reader: { cancel(): Promise<void> } | undefined;

  constructor(all: Uploads, startMs: number) {
    this.#all = all;
    this.#startMs = startMs;
    this.#heardAtMs = startMs;
  }

  /**
   * Begins to read the body. Resolves in the next turn of the event loop. Holds memory for what has arrived, and for what
   * was announced only once a large part has arrived: silent clients cost the others nothing.
   */
  read(request: Request): Promise<void> {
    const { limits, wholeBytes, awaited } = this.#all;
    const header = request.headers.get("content-length");
    const announced = Number(header ?? 0);
    const isWhole =
      header !== null && announced <= wholeBytesMax && wholeBytes + announced <= wholeBytesSumMax;
    awaited.add(this);
    if (announced > limits.maxBodyBytes) this.#end("tooLarge");
    else if (isWhole) this.#readWhole(request, announced);
    // Only a body that is read in pieces is looked at: that alone would make a stream of it.
    else void this.#readPieces(request.body, announced || limits.maxBodyBytes);
    return nextTurn();
  }

  /** The body, if it has arrived: most come together with their headers. */
  take(): Arrival | undefined {
    const arrival = this.#arrival;
    // Otherwise it would stay in memory until the submission is answered.
    this.#arrival = undefined;
    return arrival;
  }

  /** Waits for the body. */
  async wait(): Promise<Arrival> {
    let timer: Timer | undefined;
    const watch = () => {
      const leftMs = this.#leftMs();
      if (leftMs <= 0) this.giveUp();
      else timer = setTimeout(watch, leftMs);
    };
    const arrived = new Promise<Arrival>((resolve) => (this.#onArrival = resolve));
    watch();
    const arrival = await arrived;
    clearTimeout(timer);
    await nextTurn();
    return arrival;
  }

  /** Time left for the body. A silent one gets no extra time, because Bun would close its connection. */
  #leftMs(): number {
    const { bodyTimeoutMs } = this.#all.limits;
    const wholeMs = bodyTimeoutMs + (1000 * this.#length) / bytesPerSecondMin;
    const endMs = Math.min(this.#startMs + wholeMs, this.#heardAtMs + bodyTimeoutMs);
    return Math.ceil(endMs - performance.now());
  }

  /**
   * Holds this many bytes instead of what it held before. To make room, gives up bodies that have been silent for too
   * long. False, without any other change, if that is not enough.
   * @param allBytesMax most bytes that all submissions may hold then
   */
  hold(bytes: number, allBytesMax = this.#all.bytesMaxWith(bytes)): boolean {
    const all = this.#all;
    while (bytes > this.#heldBytes && !this.fits(bytes, allBytesMax)) {
      if (!all.makeRoom()) return false;
    }
    all.heldBytes += bytes - this.#heldBytes;
    this.#heldBytes = bytes;
    return true;
  }

  /** Whether it could hold this many bytes without any body being given up. */
  fits(bytes: number, allBytesMax = this.#all.bytesMaxWith(bytes)): boolean {
    return this.#all.heldBytes - this.#heldBytes + bytes <= allBytesMax;
  }

  giveUp(): void {
    this.#end("tooSlow");
  }

  silentMs(): number {
    return performance.now() - this.#heardAtMs;
  }

  /** To be called once, when the submission is answered. */
  end(): void {
    this.hold(0);
    this.#all.pending -= 1;
  }

  #readWhole(request: Request, announced: number): void {
    const all = this.#all;
    const end = (bytes: Uint8Array | undefined) => {
      all.wholeBytes -= announced;
      if (!all.awaited.delete(this)) return;
      if (bytes === undefined) this.#arrive("broken");
      else this.#arrive(this.hold(bytes.length) ? bytes : "noMemory");
    };
    all.wholeBytes += announced;
    request.bytes().then(end, () => end(undefined));
  }

  /** @param lengthMax the body's longest possible length, beyond which no memory is reserved */
  async #readPieces(pieces: ReadableStream<Uint8Array> | null, lengthMax: number): Promise<void> {
    // One buffer, not a list of pieces: in a chunked body each may be of one byte, in an object of a hundred.
    let buffer = new Uint8Array(0);
    if (pieces === null) return this.#end(buffer);
    const fail = (reason: Exclude<Arrival, Uint8Array>) => {
      release(buffer);
      this.#end(reason);
    };
    const reader = pieces.getReader();
    this.#reader = reader;
    const { maxBodyBytes } = this.#all.limits;
    for (;;) {
      if (this.#length > wholeBytesMax) {
        const fault = await this.#queue(buffer.length, lengthMax);
        if (fault !== undefined) return fail(fault);
      }
      const piece = await reader.read().catch(() => undefined);
      if (!this.#hear()) return fail("tooSlow");
      if (piece === undefined) return fail("broken");
      if (piece.done) {
        this.hold(this.#length);
        return this.#end(resized(buffer, this.#length));
      }
      const needed = this.#length + piece.value.length;
      if (needed > maxBodyBytes) return fail("tooLarge");
      if (needed > buffer.length) {
        // Each growth is a copy. Those of ten large bodies at once would keep others waiting for a tenth of a second.
        const grown = buffer.length < smallBytesMax ? 2 * buffer.length : lengthMax;
        const size = Math.max(needed, Math.min(lengthMax, grown));
        if (!this.hold(size)) {
          release(piece.value);
          return fail("noMemory");
        }
        buffer = resized(buffer, size);
      }
      buffer.set(piece.value, this.#length);
      // The pieces of a flood of bodies would take as much memory as the bodies.
      release(piece.value);
      this.#length = needed;
    }
  }

  /**
   * Waits until the next piece may be read: one piece per turn of the event loop, and the body with the fewest bytes left
   * first. So small submissions wait for one piece, however many large bodies come at once. Bun buffers a part of those that
   * wait, which counts, and leaves the rest to their clients. Returns why this body may not be read on, if so.
   * @param keptBytes held besides what Bun buffers meanwhile
   */
  async #queue(keptBytes: number, lengthMax: number): Promise<"noMemory" | "tooSlow" | undefined> {
    const waitingBytes = Math.min(lengthMax, this.#length + unreadBytesMax);
    if (!this.hold(Math.max(keptBytes, waitingBytes))) return "noMemory";
    this.isQueued = true;
    await ownTurn(lengthMax - this.#length);
    this.isQueued = false;
    if (!this.#hear()) return "tooSlow";
    this.hold(keptBytes);
    return undefined;
  }

  /** Keeps `awaited` in the order of silence. False if this body has been given up. */
  #hear(): boolean {
    if (!this.#all.awaited.delete(this)) return false;
    this.#heardAtMs = performance.now();
    this.#all.awaited.add(this);
    return true;
  }

  /** Nothing if this body has been given up. */
  #end(arrival: Arrival): void {
    if (this.#all.awaited.delete(this)) this.#arrive(arrival);
  }

  #arrive(arrival: Arrival): void {
    if (typeof arrival === "string") {
      this.hold(0);
      void this.#reader?.cancel().catch(() => {});
    }
    if (this.#onArrival === undefined) this.#arrival = arrival;
    else this.#onArrival(arrival);
  }
}

/** The same bytes in a buffer of another size. The old one is freed at once, not when it is collected. */
function resized(bytes: Uint8Array<ArrayBuffer>, size: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes.buffer.transfer(size));
}

/** Frees bytes at once instead of when they are collected, unless they share their buffer. They are empty afterwards. */
export function release({ buffer, byteLength }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength === byteLength) buffer.transfer(0);
}
