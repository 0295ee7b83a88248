// The body of a request, read within bounds of size, time and memory. Bun's own limit answers with an empty 413,
// so it is set out of reach, and this file keeps the contract's. A body that is refused is left to Bun, which
// drops what still arrives and closes the connection after its idle timeout: to close it at once would make
// clients that write everything before they read lose the answer.

/** What all requests under way may hold together: their number, and the bytes of their bodies. */
export interface Budget {
  /** False, and nothing taken, when that would be more than there is. */
  take(bytes: number): boolean;
  give(bytes: number): void;
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

const nothing = new Uint8Array(0);

/** Never rejects. */
export async function readUpload(request: Request, limits: UploadLimits): Promise<Upload> {
  if (request.body === null) return { kind: "read", bytes: nothing };
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
  const pieces: Uint8Array[] = [];
  let length = 0;

  async function read(): Promise<Upload> {
    for (;;) {
      const piece = await Promise.race([reader.read(), ended]);
      if (piece === "ended") return { kind: "tooSlow" };
      if (piece.done) return { kind: "read", bytes: Buffer.concat(pieces, length) };
      if (length + piece.value.length > bytesMax) return { kind: "tooLarge" };
      if (!budget.take(piece.value.length)) return { kind: "busy" };
      length += piece.value.length;
      pieces.push(piece.value);
    }
  }

  const upload = await read().catch((): Upload => ({ kind: "broken" }));
  if (upload.kind !== "read") {
    budget.give(length);
    reader.cancel().catch(() => {});
  }
  return upload;
}
