// The one endpoint: from a request to its answer. POST / is answered with 200, 400 or 500, in JSON, within the time that
// the settings allow; and with 200 only for what the queue has stored. Unauthorized requests are refused from their
// headers alone: the body is never read.

import type { Producer, Submission, SubmitResult } from "../queue/contract.ts";
import { encodeEmail, storedBytes, storedBytesMax } from "../email/email.ts";
import { describe } from "../runtime/errors.ts";
import type { Log } from "../runtime/log.ts";
import { crossSiteReason, type Gate, tokenName } from "./auth.ts";
import { type BodyType, bodyType, parseBody } from "./body/body.ts";
import { defaultLimits, type Upload, Uploads } from "./body/upload.ts";
import { checkSubmission, fingerprint, type SenderRules } from "./submission.ts";

/** Shortest time between two lines about failed submissions, ms: in an outage thousands fail each second. */
const reportEveryMs = 1000;

export interface HandlerOptions extends Readonly<Partial<typeof defaultLimits>> {
  readonly producer: Producer;
  readonly senders: SenderRules;
  /** Who may submit. Default: everyone, except browsers on behalf of other sites. */
  readonly gate?: Gate;
  /** Whether the server listens on loopback only. */
  readonly onLoopback: boolean;
  readonly maxBodyBytes: number;
  /** From the last byte of the body until the answer. */
  readonly submitTimeoutMs: number;
  readonly log: Log;
  /** Called for each submission that was answered, with the status and the time since its head arrived, ms. */
  readonly onAnswer?: (status: number, elapsedMs: number) => void;
}

/** The submissions under way. */
export interface Load {
  readonly submissions: number;
  /** Bytes of bodies that have arrived, then of the emails as they are stored. */
  readonly bytes: number;
  /** Why the next submission, or one of the largest, would be refused. */
  readonly overload: string | undefined;
}

const busy = "the service is busy: try again later";

/** A 500: the message for the client, and the reason for the log. */
const failures = {
  tooMany: [busy, "too many submissions under way"],
  noMemory: [busy, "too many bytes under way"],
  storeBusy: [busy, "more is submitted than the store takes in time"],
  tooSlow: ["the body did not arrive in time", "a body did not arrive in time"],
  broken: ["the body did not arrive", "a client went away before its email was queued"],
} as const;

const notStored =
  "the email may not have been stored: try again, with the same Idempotency-Key if there was one";
const badKey = "Idempotency-Key: must be 1 to 255 visible ASCII characters";
/** The path without the query. `new URL` would throw: without a usable Host (HTTP/1.0) Bun makes no absolute URL. */
const urlPattern = /^(?:https?:\/\/[^/]*)?([^?]*)/;
const keyPattern = /^[\x21-\x7e]{1,255}$/;

export class Handler {
  readonly #options: HandlerOptions;
  readonly #uploads: Uploads;
  readonly #failures: FailureLog;

  constructor(options: HandlerOptions) {
    this.#options = options;
    this.#uploads = new Uploads({ ...defaultLimits, ...options });
    this.#failures = new FailureLog(options.log);
  }

  /** Never throws or rejects. */
  handle(request: Request): Response | Promise<Response> {
    const { gate, onLoopback } = this.#options;
    if (urlPattern.exec(request.url)?.[1] !== "/")
      return refuse(404, "there is nothing here: submissions go to /");
    if (request.method !== "POST") return refuse(405, "the method must be POST", { allow: "POST" });
    if (gate === undefined) {
      const reason = crossSiteReason(request.headers, onLoopback);
      if (reason !== undefined) return this.#answered(refuse(400, reason), performance.now());
    } else if (!gate(request.headers.get("authorization"))) {
      const message = "Authorization: must be Bearer and a token that is known here";
      return this.#answered(refuse(401, message, { "www-authenticate": "Bearer" }), performance.now());
    }
    return this.#accept(request);
  }

  /** Answers at once all requests whose body has not arrived. */
  hurry(): void {
    this.#uploads.giveUpAll();
  }

  load(): Load {
    const { pending, heldBytes, limits } = this.#uploads;
    let overload: string | undefined;
    if (pending >= limits.pendingMax) overload = failures.tooMany[1];
    else if (heldBytes + limits.maxBodyBytes > limits.pendingBytesMax) overload = failures.noMemory[1];
    return { submissions: pending, bytes: heldBytes, overload };
  }

  #answered(response: Response, startMs: number): Response {
    this.#options.onAnswer?.(response.status, performance.now() - startMs);
    return response;
  }

  async #accept(request: Request): Promise<Response> {
    const startMs = performance.now();
    const upload = this.#uploads.begin();
    if (upload === undefined) return this.#answered(this.#fail(failures.tooMany), startMs);
    try {
      return this.#answered(await this.#receive(request, upload), startMs);
    } catch (error) {
      this.#options.log.error("request-failed", describe(error));
      return this.#answered(internalError(), startMs);
    } finally {
      upload.end();
    }
  }

  async #receive(request: Request, upload: Upload): Promise<Response> {
    const { maxBodyBytes } = this.#options;
    const type = bodyType(request.headers);
    if (!type.ok) return refuse(400, type.message);
    if (request.headers.has("trailer")) return refuse(400, "a trailer is not supported");
    const arrival = await upload.read(request);
    switch (arrival.kind) {
      case "read":
        return this.#submit(request, type.type, arrival.bytes, upload);
      case "tooLarge":
        return refuse(400, `the body is over ${maxBodyBytes} bytes`);
      case "noMemory":
      case "tooSlow":
      case "broken":
        return this.#fail(failures[arrival.kind]);
    }
  }

  async #submit(request: Request, type: BodyType, bytes: Uint8Array, upload: Upload): Promise<Response> {
    const deadlineMs = performance.now() + this.#options.submitTimeoutMs;
    // Bun hands over a body before it looks at what follows. If that is no request (a trailer, a stray line end), or
    // comes too early (pipelining), Bun itself answers 400 or closes the connection in the same turn of the event loop:
    // nobody would learn that the email was queued.
    await nextTurn();
    if (request.signal.aborted) return this.#fail(failures.broken);
    const submission = this.#prepare(request.headers, type, bytes, upload);
    if (submission instanceof Response) return submission;
    return this.#answer(await this.#options.producer.submit(submission, deadlineMs));
  }

  /**
   * The submission to store, or the answer if there is none. Holds memory for the stored text, which may take twelve times
   * as much as the body. Not a part of {@link #submit}, which would keep the fields until the store has answered.
   */
  #prepare(headers: Headers, type: BodyType, bytes: Uint8Array, upload: Upload): Submission | Response {
    const body = parseBody(type, bytes);
    // Freed now, and not when it is collected.
    if (bytes.buffer instanceof ArrayBuffer) bytes.buffer.transfer(0);
    if (!body.ok) return refuse(400, body.message);

    const result = checkSubmission(body.fields, this.#options.senders);
    const key = headers.get("idempotency-key");
    const isBadKey = key !== null && !keyPattern.test(key);
    if (!result.ok) return refuse(400, isBadKey ? `${result.message}; ${badKey}` : result.message);
    if (isBadKey) return refuse(400, badKey);

    const { email, given } = result;
    if (!upload.hold(storedBytesMax(email))) return this.#fail(failures.noMemory);
    const text = encodeEmail(email);
    upload.hold(storedBytes(text));
    const id = Bun.randomUUIDv7();
    if (key === null) return { id, text };
    // Each client has keys of its own.
    const token = this.#options.gate === undefined ? "" : tokenName(headers.get("authorization"));
    return { id, text, idempotency: { key, fingerprint: fingerprint(given), token } };
  }

  #answer(result: SubmitResult): Response {
    switch (result.kind) {
      case "stored":
        this.#options.log.debug("submission-stored", { id: result.id, repeated: result.repeated });
        return Response.json({ ok: true, id: result.id });
      case "conflict":
        return refuse(400, "Idempotency-Key: belongs to another email");
      case "busy":
        return this.#fail(failures.storeBusy);
      case "failed":
        return this.#fail([notStored, result.reason]);
    }
  }

  #fail([message, reason]: readonly [message: string, reason: string]): Response {
    this.#failures.add(reason);
    return refuse(500, message);
  }
}

/** The answer when nothing better is known. */
export function internalError(): Response {
  return refuse(500, "something went wrong: try again, with the same Idempotency-Key if there was one");
}

function refuse(status: number, message: string, headers: Record<string, string> = {}): Response {
  return Response.json({ ok: false, error_message: message }, { status, headers });
}

let turn: Promise<void> | undefined;

/** Resolves in the next turn of the event loop. One timer serves all requests: one each would take 15 µs more CPU time. */
function nextTurn(): Promise<void> {
  turn ??= new Promise((resolve) => {
    setImmediate(() => {
      turn = undefined;
      resolve();
    });
  });
  return turn;
}

/** Logs failed submissions: the first at once, then one line for all of a second. */
class FailureLog {
  readonly #log: Log;
  #count = 0;
  #reason = "";
  #timer: Timer | undefined;

  constructor(log: Log) {
    this.#log = log;
  }

  add(reason: string): void {
    this.#count += 1;
    this.#reason = reason;
    if (this.#timer === undefined) this.#report();
  }

  #report(): void {
    this.#timer = undefined;
    if (this.#count === 0) return;
    this.#log.warn("submission-failed", { count: this.#count, reason: this.#reason });
    this.#count = 0;
    // Reports what fails in the next second when it is over, whether or not more follows.
    this.#timer = setTimeout(() => this.#report(), reportEveryMs);
    this.#timer.unref();
  }
}
