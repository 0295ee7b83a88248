// The body of a request, read within bounds of size, time and memory. Bun's own limit answers with an empty 413,
// so it is set out of reach, and this file keeps the contract's. A body that is refused is left to Bun, which
// drops what still arrives and closes the connection after its idle timeout: to close it at once would make
// clients that write everything before they read lose the answer.

/** What all requests under way may hold together: their number, and the bytes of their bodies. */
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
  /** The budget is spent. */
  | { readonly kind: "busy" }
  /** The client went away. */
  | { readonly kind: "broken" };

export interface UploadLimits {
  readonly bytesMax: number;
  readonly timeoutMs: number;
  readonly budget: Budget;
  /** Holds, while a body is awaited, a function that ends the wait as `tooSlow`: for a server that shuts down. */
  readonly awaited: Set<() => void>;
}

/** Bodies up to this size are charged when they are announced, before they arrive; larger ones as they arrive. */
const announcedMax = 65_536;

/** Never rejects. */
export async function readUpload(request: Request, limits: UploadLimits): Promise<Upload> {
  if (request.body === null) return { kind: "read", bytes: new Uint8Array(0) };
  const header = request.headers.get("content-length");
  const announced = header === null ? Number.POSITIVE_INFINITY : Number(header);
  if (header !== null && announced > limits.bytesMax) return { kind: "tooLarge" };

  const { promise: ended, resolve: end } = Promise.withResolvers<"ended">();
  const giveUp = () => end("ended");
  limits.awaited.add(giveUp);
  const timer = setTimeout(giveUp, limits.timeoutMs);
  const reading =
    announced <= announcedMax
      ? readWhole(request, announced, limits.budget)
      : readPieces(request.body, limits, ended);
  const upload = await Promise.race([reading, ended]);
  clearTimeout(timer);
  limits.awaited.delete(giveUp);
  if (upload !== "ended") return upload;

  // What arrives after all is dropped, and only then costs nothing any more.
  void reading.then((late) => {
    if (late.kind === "read") limits.budget.give(late.bytes.length);
  });
  return { kind: "tooSlow" };
}

async function readWhole(request: Request, announced: number, budget: Budget): Promise<Upload> {
  if (!budget.take(announced)) return { kind: "busy" };
  try {
    const bytes = await request.bytes();
    budget.give(announced - bytes.length);
    return { kind: "read", bytes };
  } catch {
    budget.give(announced);
    return { kind: "broken" };
  }
}

async function readPieces(
  body: ReadableStream<Uint8Array>,
  limits: UploadLimits,
  ended: Promise<"ended">,
): Promise<Upload> {
  const { bytesMax, budget } = limits;
  const reader = body.getReader();
  // What was read until then is late. Not a race for each piece, which would hold on to all of them until the end.
  void ended.then(() => reader.cancel()).catch(() => {});
  // One buffer, not a list of pieces: in a chunked body each may be of one byte, in an object of a hundred.
  let buffer = new Uint8Array(0);
  let length = 0;

  async function read(): Promise<Upload> {
    for (;;) {
      const piece = await reader.read();
      if (piece.done) return { kind: "read", bytes: trim() };
      const needed = length + piece.value.length;
      if (needed > bytesMax) return { kind: "tooLarge" };
      if (needed > buffer.length && !grow(needed)) return { kind: "busy" };
      buffer.set(piece.value, length);
      length = needed;
    }
  }

  function grow(needed: number): boolean {
    const size = Math.min(bytesMax, Math.max(needed, 2 * buffer.length));
    if (!budget.take(size - buffer.length)) return false;
    buffer = resized(buffer, size);
    return true;
  }

  function trim(): Uint8Array {
    budget.give(buffer.length - length);
    return resized(buffer, length);
  }

  const upload = await read().catch((): Upload => ({ kind: "broken" }));
  if (upload.kind !== "read") {
    budget.give(buffer.length);
    reader.cancel().catch(() => {});
  }
  return upload;
}

/** The same bytes in a buffer of another size. The old one is freed at once, and not when it is collected. */
function resized(bytes: Uint8Array<ArrayBuffer>, size: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes.buffer.transfer(size));
}
