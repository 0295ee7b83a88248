// The one endpoint: from a request to its answer. POST / is answered with 200, 400, 401 or 500, in JSON, within the
// time that the settings allow, and with 200 only for what the queue has stored. Unauthorized requests are refused
// from their headers alone: the body is never read.

import type { Producer, Submission, SubmitResult } from "../queue/contract.ts";
import { encodeEmail, isHidden, storedBytes, storedBytesMax } from "../email/email.ts";
import { describe } from "../runtime/errors.ts";
import type { Log } from "../runtime/log.ts";
import { ownTurn } from "../runtime/turns.ts";
import { createGate, crossSiteReason, isLoopback, tokenName } from "./auth.ts";
import { type BodyReader, bodyReader, readingBytes, readBody } from "./body/body.ts";
import { type Arrival, defaultLimits, release, type Upload, Uploads } from "./body/upload.ts";
import { checkSubmission, fingerprint, type SenderRules, type SubmissionResult } from "./submission.ts";

/** Shortest time between two lines about failed submissions, ms: in an outage thousands fail each second. */
const reportEveryMs = 1000;

/** The settings, by their names in `Config`, and the endpoint's dependencies. */
export interface HandlerOptions extends SenderRules, Readonly<Partial<typeof defaultLimits>> {
  readonly host: string;
  /** Without tokens everyone may submit, except browsers on behalf of other sites. */
  readonly apiTokens?: readonly string[] | undefined;
  readonly maxBodyBytes: number;
  /** Longest time from the last byte of the body to the answer. */
  readonly submitTimeoutMs: number;
  readonly producer: Pick<Producer, "submit">;
  readonly log: Log;
  /** Called for each submission that was answered, with the status and the time since its headers arrived, ms. */
  readonly onAnswer?: (status: number, elapsedMs: number) => void;
}

/** The submissions under way. */
export interface Load {
  readonly submissions: number;
  /** Bytes that they hold: of a body as far as it has arrived, later of the email as it is stored. */
  readonly bytes: number;
  /** Why the next submission, or the next one of the largest size, would be refused. */
  readonly overload: string | undefined;
}

/** From this length on, the memory that a body and its email take is worth the time to look after it. */
const largeBytes = 16_384;

/**
 * A body over this size is read in a turn of the event loop of its own. So other requests are served between two of them,
 * and memory does not pile up: the strings that the collector finds unused are freed between two turns.
 */
const ownTurnBytes = 65_536;

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
/** The path `/` with any query. `new URL` would throw: without a usable Host (HTTP/1.0) Bun makes no absolute URL. */
const rootPattern = /^(?:https?:\/\/[^/?]*)?\/(?:\?|$)/;
const keyPattern = /^[\x21-\x7e]{1,255}$/;

export class Handler {
  readonly #options: HandlerOptions;
  readonly #uploads: Uploads;
  readonly #mayEnter: ReturnType<typeof createGate> | undefined;
  readonly #onLoopback: boolean;
  /** Failed submissions that the log has not reported, and why the last one failed. */
  #failed = { count: 0, reason: "" };
  #reportTimer: Timer | undefined;

  constructor(options: HandlerOptions) {
    const { apiTokens, host } = options;
    this.#options = options;
    this.#uploads = new Uploads({ ...defaultLimits, ...options });
    this.#mayEnter = apiTokens && createGate(apiTokens);
    this.#onLoopback = isLoopback(host);
  }

  /** Never throws or rejects. */
  handle(request: Request): Response | Promise<Response> {
    if (!rootPattern.test(request.url)) return refuse(404, "there is nothing here: submissions go to /");
    if (request.method !== "POST") return refuse(405, "the method must be POST", { allow: "POST" });
    if (this.#mayEnter === undefined) {
      const reason = crossSiteReason(request.headers, this.#onLoopback);
      if (reason !== undefined) return this.#answered(refuse(400, reason), performance.now());
    } else if (!this.#mayEnter(request.headers.get("authorization"))) {
      const message = "Authorization: must be Bearer and a token that is known here";
      return this.#answered(refuse(401, message, { "www-authenticate": "Bearer" }), performance.now());
    }
    return this.#accept(request);
  }

  /** Immediately answers all requests whose body has not arrived. */
  hurry(): void {
    this.#uploads.giveUpAll();
  }

  load(): Load {
    const { pending, heldBytes, limits } = this.#uploads;
    const { maxBodyBytes } = limits;
    let overload: string | undefined;
    if (pending >= limits.pendingMax) overload = failures.tooMany[1];
    else if (heldBytes + maxBodyBytes > this.#uploads.bytesMaxWith(maxBodyBytes))
      overload = failures.noMemory[1];
    return { submissions: pending, bytes: heldBytes, overload };
  }

  #answered(response: Response, startMs: number): Response {
    this.#options.onAnswer?.(response.status, performance.now() - startMs);
    return response;
  }

  async #accept(request: Request): Promise<Response> {
    const startMs = performance.now();
    const upload = this.#uploads.begin(startMs);
    if (upload === undefined) return this.#answered(this.#fail(failures.tooMany), startMs);
    try {
      const read = bodyReader(request.headers);
      if (typeof read === "string") return this.#answered(refuse(400, read), startMs);
      await upload.read(request);
      const body = upload.take() ?? (await upload.wait());
      const deadlineMs = performance.now() + this.#options.submitTimeoutMs;
      if (body.length > ownTurnBytes) await ownTurn(0);
      const submission = this.#prepare(request, read, body, upload);
      const response =
        submission instanceof Response
          ? submission
          : this.#answer(await this.#options.producer.submit(submission, deadlineMs));
      return this.#answered(response, startMs);
    } catch (error) {
      this.#options.log.error("request-failed", describe(error));
      return this.#answered(internalError(), startMs);
    } finally {
      upload.end();
    }
  }

  /**
   * The submission to store, or the answer if there is none. Reserves memory for the text of a large one, which may take
   * twelve times as much as the body. A method of its own, because {@link #accept} would keep the fields in memory until
   * the store has answered.
   */
  #prepare(request: Request, reader: BodyReader, body: Arrival, upload: Upload): Submission | Response {
    const { maxBodyBytes } = this.#options;
    if (body === "tooLarge") return refuse(400, `the body is over ${maxBodyBytes} bytes`);
    if (typeof body === "string") return this.#fail(failures[body]);
    if (request.signal.aborted) return this.#fail(failures.broken);
    // Not later: a body that has been freed is empty.
    const isLarge = body.length > largeBytes;
    const longestBytes = 12 * body.length;
    const read = this.#read(reader, body, upload);
    if (read === undefined) return this.#fail(failures.noMemory);
    const { result, keptBytes } = read;
    const { headers } = request;
    const key = headers.get("idempotency-key");
    const keyFault = key === null || keyPattern.test(key) ? [] : [badKey];
    if (!result.ok) return refuse(400, [result.message, ...keyFault].join("; "));
    if (keyFault.length > 0) return refuse(400, badKey);

    const { email, given } = result;
    // Measuring a large email takes a sixth of its CPU time: it is left out while the longest text would fit.
    const mayLackMemory = (isLarge || keptBytes > 0) && !upload.fits(keptBytes + longestBytes);
    if (mayLackMemory && !upload.hold(keptBytes + storedBytesMax(email))) {
      return this.#fail(failures.noMemory);
    }
    const text = encodeEmail(email);
    if (!upload.hold(keptBytes + storedBytes(text))) return this.#fail(failures.noMemory);
    const submission: Submission = { id: Bun.randomUUIDv7(), text, ...hiddenParts(result) };
    if (key === null) return submission;
    // Two clients may use the same key for different emails.
    const token = this.#mayEnter === undefined ? "" : tokenName(headers.get("authorization"));
    return { ...submission, idempotency: { key, fingerprint: fingerprint(given), token } };
  }

  /**
   * Reads and checks a body, and frees it unless it holds files. Undefined if there is not enough memory to read it.
   * `keptBytes` is the memory that its files take until the answer.
   */
  #read(reader: BodyReader, body: Uint8Array, upload: Upload) {
    const isLarge = body.length > largeBytes;
    const { readingBytesMax } = this.#uploads.limits;
    if (isLarge && !upload.hold(readingBytes(reader, body), readingBytesMax)) return undefined;
    const fields = readBody(reader, body);
    upload.hold(body.length);
    const result: SubmissionResult =
      typeof fields === "string"
        ? { ok: false, message: fields }
        : checkSubmission(fields, this.#options, Date.now());
    const files = (result.ok && result.files) || [];
    if (files.some(({ buffer }) => buffer === body.buffer)) return { result, keptBytes: body.length };
    if (isLarge) release(body);
    return { result, keptBytes: files.reduce((sum, { length }) => sum + length, 0) };
  }

  #answer(result: SubmitResult): Response {
    switch (result.kind) {
      case "stored":
        this.#options.log.debug("submission-stored", { id: result.id, repeated: result.repeated });
        return Response.json({ ok: true, id: result.id });
      case "conflict":
        return refuse(400, "Idempotency-Key: belongs to another email");
      case "filesFull":
        return this.#fail([busy, "the files in the queue would exceed MAX_ATTACHMENT_BACKLOG"]);
      case "busy":
        return this.#fail(failures.storeBusy);
      case "failed":
        return this.#fail([notStored, result.reason]);
    }
  }

  #fail([message, reason]: readonly [message: string, reason: string]): Response {
    this.#failed = { count: this.#failed.count + 1, reason };
    if (this.#reportTimer === undefined) this.#reportFailed();
    return refuse(500, message);
  }

  /** Logs the first failed submission immediately, then at most one line a second for all others. */
  #reportFailed(): void {
    this.#reportTimer = undefined;
    if (this.#failed.count === 0) return;
    this.#options.log.warn("submission-failed", this.#failed);
    this.#failed = { count: 0, reason: "" };
    this.#reportTimer = setTimeout(() => this.#reportFailed(), reportEveryMs);
    this.#reportTimer.unref();
  }
}

/** The parts of a submission that only hidden emails have. */
function hiddenParts({
  email,
  files,
  sendAtMs,
}: SubmissionResult & { ok: true }): Partial<Submission> | undefined {
  if (!isHidden(email)) return undefined;
  // Stores need not support times before 1970.
  const atMs = sendAtMs === undefined ? undefined : Math.max(0, sendAtMs);
  return { isHidden: true, ...(files && { files }), ...(atMs !== undefined && { sendAtMs: atMs }) };
}

/** The answer after an unexpected error. */
export function internalError(): Response {
  return refuse(500, "something went wrong: try again, with the same Idempotency-Key if there was one");
}

function refuse(status: number, message: string, headers: Record<string, string> = {}): Response {
  return Response.json({ ok: false, error_message: message }, { status, headers });
}
