// The one endpoint: from a request to its answer. It keeps the contract's promise that POST / is answered with
// 200, 400 or 500, in JSON, within the time that the settings allow; and 200 only for what the queue has stored.
// Whoever may not submit costs the reading of a head, and no more: of a body not a byte is looked at.

import { crossSiteReason, type Gate, tokenName } from "./auth.ts";
import { type BodyType, bodyType, parseBody } from "./body/body.ts";
import { encodeEmail, storedBytes, storedBytesMax } from "../email/email.ts";
import { describe } from "../runtime/errors.ts";
import type { Log } from "../runtime/log.ts";
import type { Producer, Submission, SubmitResult } from "../queue/contract.ts";
import { checkSubmission, fingerprint, type SenderRules } from "./submission.ts";
import { type Awaited, createBudget, makeRoom, readUpload, takeBytes } from "./body/upload.ts";

/** Longest wait for a request's body, ms. */
export const bodyTimeoutMs = 30_000;
/** Longest silence in the middle of a body, ms, while others are refused because of it. */
const silenceMaxMs = 2000;
/** Most submissions under way, and most bytes that they hold: what an outage of the store may pile up. */
export const pendingMax = 8192;
export const pendingBytesMax = 128 * 1024 * 1024;
/** Most bytes of small bodies that may be on their way without being charged yet. */
const unchargedBytesMax = 32 * 1024 * 1024;

/** At most one line about submissions that failed in so long a time, ms: an outage fails thousands a second. */
const reportEveryMs = 1000;

export interface HandlerOptions {
  readonly producer: Producer;
  readonly senders: SenderRules;
  /** Who may submit. Default: everyone, except browsers on behalf of other sites. */
  readonly gate?: Gate;
  /** Whether it can be reached over loopback alone. */
  readonly onLoopback: boolean;
  readonly maxBodyBytes: number;
  /** From the last byte of the body until the answer. */
  readonly submitTimeoutMs: number;
  readonly log: Log;
  /** Told of each submission that was answered: the status, and how long that took from its head on, ms. */
  readonly onAnswer?: (status: number, elapsedMs: number) => void;
  /** Default: {@link bodyTimeoutMs}. */
  readonly bodyTimeoutMs?: number;
  /** Default: {@link silenceMaxMs}. */
  readonly silenceMaxMs?: number;
  /** Default: {@link pendingMax}. */
  readonly pendingMax?: number;
  /** Default: {@link pendingBytesMax}. */
  readonly pendingBytesMax?: number;
}

export interface Handler {
  /** Never throws or rejects. */
  handle(request: Request): Response | Promise<Response>;
  /** Answers at once all requests whose body is still awaited. */
  hurry(): void;
  load(): Load;
}

/** What is under way. */
export interface Load {
  readonly submissions: number;
  /** Of bodies that have arrived, then of the emails as they are stored. */
  readonly bytes: number;
  /** Why the next submission would be refused, if it would, or one of the largest. */
  readonly overload: string | undefined;
}

const texts = {
  busy: "the service is busy: try again later",
  notStored: "the email may not have been stored: try again, with the same Idempotency-Key if there was one",
  internal: "something went wrong: try again, with the same Idempotency-Key if there was one",
  tooSlow: "the body did not arrive in time",
  broken: "the body did not arrive",
  trailer: "a trailer is not supported",
  conflict: "Idempotency-Key: belongs to another email",
  unknownToken: "Authorization: must be Bearer and a token that is known here",
  badKey: "Idempotency-Key: must be 1 to 255 visible ASCII characters",
} as const;

/** Why a submission is refused as one too many. */
const reasons = {
  tooMany: "too many submissions under way",
  tooLarge: "too many bytes under way",
  tooSlow: "a body did not arrive in time",
  broken: "a client went away before its email was queued",
} as const;

const keyPattern = /^[\x21-\x7e]{1,255}$/;

export function createHandler(options: HandlerOptions): Handler {
  const { producer, senders, gate, onLoopback, maxBodyBytes, submitTimeoutMs, log, onAnswer } = options;
  const bytesMax = options.pendingBytesMax ?? pendingBytesMax;
  const budget = createBudget(bytesMax);
  const countMax = options.pendingMax ?? pendingMax;
  const awaited = new Set<Awaited>();
  const limits = {
    bytesMax: maxBodyBytes,
    timeoutMs: options.bodyTimeoutMs ?? bodyTimeoutMs,
    silenceMaxMs: options.silenceMaxMs ?? silenceMaxMs,
    budget,
    uncharged: createBudget(unchargedBytesMax),
    awaited,
  };
  const report = createReport(log);
  let pending = 0;

  async function accept(request: Request): Promise<Response> {
    const startMs = performance.now();
    if (pending >= countMax && !makeRoom(limits)) return told(fail(texts.busy, reasons.tooMany), startMs);
    pending += 1;
    try {
      return told(await submit(request), startMs);
    } catch (error) {
      log.error("request-failed", describe(error));
      return told(refuse(500, texts.internal), startMs);
    } finally {
      pending -= 1;
    }
  }

  function told(response: Response, startMs: number): Response {
    onAnswer?.(response.status, performance.now() - startMs);
    return response;
  }

  async function submit(request: Request): Promise<Response> {
    const type = bodyType(request.headers);
    if (!type.ok) return refuse(400, type.message);
    if (request.headers.has("trailer")) return refuse(400, texts.trailer);
    const upload = await readUpload(request, limits);
    switch (upload.kind) {
      case "tooLarge":
        return refuse(400, `the body is over ${maxBodyBytes} bytes`);
      case "tooSlow":
        return fail(texts.tooSlow, reasons.tooSlow);
      case "broken":
        return fail(texts.broken, reasons.broken);
      case "busy":
        return fail(texts.busy, reasons.tooLarge);
      case "read":
        return submitBody(request, type.type, upload.bytes);
    }
  }

  /** @param bytes are charged to the budget, and given back here */
  async function submitBody(request: Request, type: BodyType, bytes: Uint8Array): Promise<Response> {
    const deadlineMs = performance.now() + submitTimeoutMs;
    let charged = bytes.length;
    try {
      // Bun hands over a body before it looks at what follows. If that is no request (a trailer, a stray line end), or
      // comes too early (pipelining), Bun itself answers 400 or closes the connection in the same turn of the event
      // loop: nobody would learn that the email was queued.
      await nextTurn();
      if (request.signal.aborted) return fail(texts.broken, reasons.broken);

      const submission = prepare(request.headers, type, bytes, charge);
      if (submission instanceof Response) return submission;
      return answer(await producer.submit(submission, deadlineMs));
    } finally {
      budget.give(charged);
    }

    /** Replaces what has been charged so far. */
    function charge(heldBytes: number): boolean {
      if (!takeBytes(heldBytes - charged, limits)) return false;
      charged = heldBytes;
      return true;
    }
  }

  /**
   * What is to be stored, or the answer if nothing is. Charges the text that is stored, which takes up to twelve times
   * the memory of what was sent. Not a part of {@link submitBody}, which would hold the fields until the store answers.
   */
  function prepare(
    headers: Headers,
    type: BodyType,
    bytes: Uint8Array,
    charge: (heldBytes: number) => boolean,
  ): Submission | Response {
    const body = parseBody(type, bytes);
    // Freed now, and not when it is collected.
    if (bytes.buffer instanceof ArrayBuffer) bytes.buffer.transfer(0);
    if (!body.ok) return refuse(400, body.message);

    const submission = checkSubmission(body.fields, senders);
    const key = headers.get("idempotency-key");
    const badKey = key !== null && !keyPattern.test(key) ? [texts.badKey] : [];
    if (!submission.ok) return refuse(400, [submission.message, ...badKey].join("; "));
    if (badKey.length > 0) return refuse(400, texts.badKey);

    const { email, given } = submission;
    if (!charge(storedBytesMax(email))) return fail(texts.busy, reasons.tooLarge);
    const text = encodeEmail(email);
    charge(storedBytes(text));
    return {
      id: Bun.randomUUIDv7(),
      text,
      ...(key !== null && { idempotency: { key, fingerprint: fingerprint(given), token: tokenOf(headers) } }),
    };
  }

  /** One of several clients may have used a key for an email of its own. */
  function tokenOf(headers: Headers): string {
    return gate === undefined ? "" : tokenName(headers.get("authorization"));
  }

  function answer(result: SubmitResult): Response {
    switch (result.kind) {
      case "stored":
        log.debug("submission-stored", { id: result.id, repeated: result.repeated });
        return Response.json({ ok: true, id: result.id });
      case "conflict":
        return refuse(400, texts.conflict);
      case "busy":
        return fail(texts.busy, "more is submitted than the store takes in time");
      case "failed":
        return fail(texts.notStored, result.reason);
    }
  }

  function fail(message: string, reason: string): Response {
    report(reason);
    return refuse(500, message);
  }

  return {
    handle(request) {
      if (pathOf(request.url) !== "/") return refuse(404, "there is nothing here: submissions go to /");
      if (request.method !== "POST") {
        return refuse(405, "the method must be POST", { allow: "POST" });
      }
      if (gate === undefined) {
        const reason = crossSiteReason(request.headers, onLoopback);
        if (reason !== undefined) return told(refuse(400, reason), performance.now());
      } else if (!gate(request.headers.get("authorization"))) {
        return told(refuse(401, texts.unknownToken, { "www-authenticate": "Bearer" }), performance.now());
      }
      return accept(request);
    },
    hurry() {
      for (const { giveUp } of awaited) giveUp();
    },
    load() {
      const bytes = budget.taken();
      const isFull = bytes + maxBodyBytes > bytesMax;
      const overload = pending >= countMax ? reasons.tooMany : isFull ? reasons.tooLarge : undefined;
      return { submissions: pending, bytes, overload };
    },
  };
}

/** The answer when nothing better is known. */
export function internalError(): Response {
  return refuse(500, texts.internal);
}

function refuse(
  status: 400 | 401 | 404 | 405 | 500,
  message: string,
  headers: Record<string, string> = {},
): Response {
  return Response.json({ ok: false, error_message: message }, { status, headers });
}

let turn: Promise<void> | undefined;

/** Resolves in the next turn of the event loop, with one timer for all who wait for it. */
function nextTurn(): Promise<void> {
  turn ??= new Promise((resolve) => {
    setImmediate(() => {
      turn = undefined;
      resolve();
    });
  });
  return turn;
}

/**
 * The path of a request's URL, without the query. Bun makes no absolute URL when there is no usable Host
 * (HTTP/1.0), so that `new URL` would throw.
 */
function pathOf(url: string): string {
  const authority = url.startsWith("/") ? 0 : url.indexOf("://") + 3;
  const start = authority === 0 ? 0 : url.indexOf("/", authority);
  const end = url.indexOf("?", start);
  return end === -1 ? url.slice(start) : url.slice(start, end);
}

/** Logs failures: the first at once, and then one line for all of a second. */
function createReport(log: Log): (reason: string) => void {
  let count = 0;
  let last = "";
  let timer: Timer | undefined;
  const tell = () => {
    timer = undefined;
    if (count === 0) return;
    log.warn("submission-failed", { count, reason: last });
    count = 0;
    // What fails in the next second is told when it is over, whether or not more follows.
    timer = setTimeout(tell, reportEveryMs);
    timer.unref();
  };
  return (reason) => {
    count += 1;
    last = reason;
    if (timer === undefined) tell();
  };
}
