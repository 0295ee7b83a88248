// The body of a request, read within bounds of size, time and memory. Bun's own limit answers with an empty 413,
// so it is set out of reach, and this file keeps the contract's. A body that is refused is left to Bun, which
// drops what still arrives and closes the connection after its idle timeout: to close it at once would make
// clients that write everything before they read lose the answer.

/** A number of bytes that all requests under way may hold together. */
export interface Budget {
  /** False, and nothing taken, when that would be more than there is. */
  take(bytes: number): boolean;
  give(bytes: number): void;
  taken(): number;
}

export function createBudget(bytesMax: number): Budget {
  let left = bytesMax;
  return {
    take(bytes) {
      if (bytes > left) return false;
      left -= bytes;
      return true;
    },
    give(bytes) {
      left += bytes;
    },
    taken: () => bytesMax - left,
  };
}

export type Upload =
  /** `bytes.length` has been taken out of the budget, and is the caller's to give back. */
  | { readonly kind: "read"; readonly bytes: Uint8Array }
  | { readonly kind: "tooLarge" }
  | { readonly kind: "tooSlow" }
  /** The budget is spent, and nobody who has a part of it has been silent for too long. */
  | { readonly kind: "busy" }
  /** The client went away. */
  | { readonly kind: "broken" };

export interface UploadLimits {
  readonly bytesMax: number;
  readonly timeoutMs: number;
  /** How long a client may be silent while others need its room. */
  readonly silenceMaxMs: number;
  readonly budget: Budget;
  /** Bounds what {@link readWhole} may buffer before it is charged. */
  readonly uncharged: Budget;
  /** The bodies under way, the one that has been silent longest first. */
  readonly awaited: Set<Awaited>;
}

/** A body that has not arrived yet. */
export interface Awaited {
  /** When a part of it arrived last, by `performance.now()`. */
  heardAtMs: number;
  /** Answers `tooSlow`, and gives back at once what the body is charged. */
  giveUp(): void;
}

/** Gives up the body that has been silent longest. False if none has been silent for too long. */
export function makeRoom({ awaited, silenceMaxMs }: UploadLimits): boolean {
  const [longest] = awaited;
  if (longest === undefined || performance.now() - longest.heardAtMs < silenceMaxMs) return false;
  longest.giveUp();
  return true;
}

/** Takes bytes out of the budget, if need be from those who have been silent for too long. */
export function takeBytes(bytes: number, limits: UploadLimits): boolean {
  while (!limits.budget.take(bytes)) {
    if (!makeRoom(limits)) return false;
  }
  return true;
}

/** Bodies up to this size may be read whole, which costs less CPU time than reading them in pieces. */
const wholeMax = 65_536;

/**
 * Reads a body. It is charged for what has arrived, never for what was announced, so that silent clients cost the others
 * nothing. Never rejects.
 */
export function readUpload(request: Request, limits: UploadLimits): Promise<Upload> {
  const { bytesMax, budget, uncharged, awaited } = limits;
  const { body } = request;
  if (body === null) return Promise.resolve({ kind: "read", bytes: new Uint8Array(0) });
  const header = request.headers.get("content-length");
  const announced = header === null ? Number.POSITIVE_INFINITY : Number(header);
  if (header !== null && announced > bytesMax) return Promise.resolve({ kind: "tooLarge" });

  const { promise, resolve } = Promise.withResolvers<Upload>();
  let charged = 0;
  const upload: Awaited = {
    heardAtMs: performance.now(),
    giveUp: () => end({ kind: "tooSlow" }),
  };
  awaited.add(upload);
  const timer = setTimeout(upload.giveUp, limits.timeoutMs);

  function charge(bytes: number): boolean {
    if (!takeBytes(bytes, limits)) return false;
    charged += bytes;
    return true;
  }

  function end(result: Upload): void {
    if (!awaited.delete(upload)) return;
    clearTimeout(timer);
    budget.give(charged - (result.kind === "read" ? result.bytes.length : 0));
    resolve(result);
  }

  if (announced <= wholeMax && uncharged.take(announced)) void readWhole();
  else void readPieces(body);
  return promise;

  async function readWhole(): Promise<void> {
    const bytes = await request.bytes().catch(() => undefined);
    uncharged.give(announced);
    if (!awaited.has(upload)) return;
    hear();
    if (bytes === undefined) end({ kind: "broken" });
    else if (charge(bytes.length)) end({ kind: "read", bytes });
    else end({ kind: "busy" });
  }

  async function readPieces(pieces: ReadableStream<Uint8Array>): Promise<void> {
    const reader = pieces.getReader();
    // One buffer, not a list of pieces: in a chunked body each may be of one byte, in an object of a hundred.
    let buffer = new Uint8Array(0);
    let length = 0;
    void promise.then(() => {
      buffer = new Uint8Array(0);
      return reader.cancel().catch(() => {});
    });

    for (;;) {
      const piece = await reader.read().catch(() => undefined);
      if (!awaited.has(upload)) return;
      if (piece === undefined) return end({ kind: "broken" });
      if (piece.done) return end({ kind: "read", bytes: resized(buffer, length) });
      hear();
      const needed = length + piece.value.length;
      if (needed > bytesMax) return end({ kind: "tooLarge" });
      if (needed > buffer.length) {
        const size = Math.min(bytesMax, Math.max(needed, 2 * buffer.length));
        if (!charge(size - buffer.length)) return end({ kind: "busy" });
        buffer = resized(buffer, size);
      }
      buffer.set(piece.value, length);
      length = needed;
    }
  }

  /** Keeps `awaited` in the order of silence. */
  function hear(): void {
    upload.heardAtMs = performance.now();
    awaited.delete(upload);
    awaited.add(upload);
  }
}

/** The same bytes in a buffer of another size. The old one is freed at once, and not when it is collected. */
function resized(bytes: Uint8Array<ArrayBuffer>, size: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes.buffer.transfer(size));
}
