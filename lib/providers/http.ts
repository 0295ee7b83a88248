// One HTTP exchange with a provider, told apart as the rest needs it: an answer, certainly never sent, or
// perhaps sent. The SDKs lose that difference (Resend's gives one error for all three) and Postmark's loses the
// headers, so both are given this in place of `fetch`, and only build the requests.

import type { Outcome, RateHint } from "../policy/request_outcome.ts";
import { reasonOf } from "./failure_reason.ts";

export type Exchange =
  /** An answer with its status. `body` is the parsed JSON; null if the answer is empty, undefined if it is not JSON. */
  | { readonly kind: "answer"; readonly status: number; readonly headers: Headers; readonly body: unknown }
  /** The API cannot have read the request: no byte of its body has left. */
  | { readonly kind: "neverSent"; readonly reason: string }
  /** The request may have arrived, and the answer is lost. */
  | { readonly kind: "lost"; readonly reason: string };

/**
 * Most bytes of an answer. The longest is a page of Postmark's search: 500 messages of at most 8.4 KB, with a subject
 * of 2,000 characters and two mailboxes of 255, at three bytes each, 4.2 MB in all. This is twice as much.
 */
const answerMaxBytes = 8 * 1024 * 1024;

/** Sends one request and reads the whole answer. Never throws for a broken connection or an abort. */
export async function exchange(url: string, init: RequestInit, signal: AbortSignal): Promise<Exchange> {
  const headers = new Headers(init.headers);
  // Bun goes on decompressing after an answer was given up, so that a few KB become hundreds of MB.
  headers.set("accept-encoding", "identity");
  const upload = typeof init.body === "string" ? startUpload(init.body) : undefined;
  if (upload) headers.set("content-length", String(upload.byteLength));
  let response: Response;
  try {
    response = await fetch(url, {
      ...init,
      headers,
      ...(upload && { body: upload.stream }),
      decompress: false,
      // A redirect is an answer like any other: followed, it would be the same POST to someone else.
      redirect: "manual",
      signal,
    });
  } catch (error) {
    if (upload && !upload.hasBegun()) {
      return { kind: "neverSent", reason: reasonOf("no connection:", codeOf(error)) };
    }
    return { kind: "lost", reason: reasonOf("no answer:", codeOf(error)) };
  }
  const { status } = response;
  try {
    const text = await readText(response);
    if (text === undefined) return { kind: "lost", reason: reasonOf(status, "answer too long") };
    return { kind: "answer", status, headers: response.headers, body: text === "" ? null : parseJson(text) };
  } catch (error) {
    return { kind: "lost", reason: reasonOf(status, "answer broken off:", codeOf(error)) };
  }
}

/**
 * A request's body as a stream, which shows whether any of it has left. Bun asks a stream for its bytes only once the
 * connection stands, including a proxy's tunnel and TLS. The error that fetch throws does not show it: a timeout is
 * the same error before and after.
 */
function startUpload(text: string): { stream: ReadableStream; byteLength: number; hasBegun: () => boolean } {
  const bytes = new TextEncoder().encode(text);
  let hasBegun = false;
  const stream = new ReadableStream(
    {
      pull(controller) {
        hasBegun = true;
        controller.enqueue(bytes);
        controller.close();
      },
    },
    // Nothing is asked for in advance.
    { highWaterMark: 0 },
  );
  return { stream, byteLength: bytes.byteLength, hasBegun: () => hasBegun };
}

/** Undefined if it is too long: the rest is not read. */
async function readText(response: Response): Promise<string | undefined> {
  const chunks: Uint8Array[] = [];
  let byteLength = 0;
  for await (const chunk of response.body ?? []) {
    byteLength += chunk.byteLength;
    if (byteLength > answerMaxBytes) return undefined;
    chunks.push(chunk);
  }
  return new TextDecoder().decode(Buffer.concat(chunks));
}

/** The outcome of an exchange without an answer. */
export function outcomeOfSilence(
  silence: Exclude<Exchange, { kind: "answer" }>,
): Extract<Outcome, { kind: "unavailable" | "unknown" }> {
  return {
    kind: silence.kind === "neverSent" ? "unavailable" : "unknown",
    reason: silence.reason,
    own: false,
  };
}

/** What Cloudflare answers if it could not connect to the origin: refused, unreachable, no TLS, a wrong certificate. */
const originNotReached: ReadonlySet<number> = new Set([521, 523, 525, 526]);

/**
 * The outcome of an answer in a form that is not the provider's, so that something in front of the provider gave it:
 * it knows nothing of the account or the emails, and whether the provider read the request is open.
 */
export function outcomeOfGateway(status: number): Extract<Outcome, { kind: "unavailable" | "unknown" }> {
  const kind = originNotReached.has(status) ? "unavailable" : "unknown";
  return { kind, reason: reasonOf(status, "not the provider's own answer"), own: false };
}

/**
 * The classes of a provider's own answer that follow from its status alone, the same at every provider: undefined
 * where the body has to be asked, for 400, 401, 403, 409, 413, 422 and 429.
 */
export function outcomeOfStatus(
  status: number,
  reason: string,
): Extract<Outcome, { kind: "accountRefused" | "rejected" | "unavailable" | "unknown" }> | undefined {
  switch (status) {
    case 400:
    case 401:
    case 403:
    case 409:
    case 413:
    case 422:
    case 429:
      return undefined;
    case 503:
    case 425: // too early: refused before it was looked at
      return { kind: "unavailable", reason, own: true };
    case 303: // by its definition the request was carried out, and the result is elsewhere
    case 408: // the server gave up waiting, and what it had read by then is anyone's guess
      return { kind: "unknown", reason, own: true };
    case 406:
    case 451:
      return { kind: "rejected", reason, stable: false };
  }
  if (status >= 500) return { kind: "unknown", reason, own: true };
  // Redirects, 404, 405 and whatever nobody has documented: a wrong base URL or a new rule of the provider's.
  // Certainly not accepted, and no ground to give up an email.
  return { kind: "accountRefused", reason };
}

/** Whether an API answered a harmless question: with JSON, and no server error. A 404 too: not every API knows the question. */
export function isAnswered(reply: Exchange): boolean {
  return (
    reply.kind === "answer" && reply.status < 500 && typeof reply.body === "object" && reply.body !== null
  );
}

/** What {@link Provider.credential} is. */
export function digestOf(baseUrl: string, credential: string): string {
  return new Bun.CryptoHasher("sha256").update(`${baseUrl}\n${credential}`).digest("hex").slice(0, 16);
}

/** The one form of a date that HTTP still lets a server write (RFC 9110, 5.6.7). */
const httpDate = /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/;

/**
 * Milliseconds in a `Retry-After`, which is a whole number of seconds or an HTTP date; the longest if there are
 * several. Anything else is ignored, a date in the past too: it asks for no pause.
 */
export function retryAfterMs(headers: Headers, nowMs = Date.now()): number | undefined {
  // Several headers are joined by commas; the one in a date follows the name of a day.
  const values = headers.get("retry-after")?.split(/(?<!\b[A-Z][a-z]{2}),/) ?? [];
  const waits = values
    .map((value) => value.trim())
    .map((value) => {
      if (/^\d{1,9}$/.test(value)) return Number(value) * 1000;
      return httpDate.test(value) ? Date.parse(value) - nowMs : Number.NaN;
    });
  const valid = waits.filter((ms) => ms >= 0);
  return valid.length > 0 ? Math.max(...valid) : undefined;
}

/** The hint that the standard header gives. */
export function retryAfterHint(headers: Headers): RateHint {
  const ms = retryAfterMs(headers);
  return ms === undefined ? {} : { retryAfterMs: ms };
}

/** A base URL in the form that both SDKs append their paths to: no trailing slash, query or fragment. Throws if it is none. */
export function normalBaseUrl(baseUrl: string): string {
  const url = new URL(baseUrl);
  if (url.protocol !== "https:" && url.protocol !== "http:")
    throw new TypeError("base URL: not http or https");
  return url.origin + url.pathname.replace(/\/+$/, "");
}

/** An object's property, for answers of which nothing is known yet. */
export function property(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>)[name] : undefined;
}

export function stringOr<T>(value: unknown, otherwise: T): string | T {
  return typeof value === "string" ? value : otherwise;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A short name of a thrown error. Its message is left out: it holds URLs. */
function codeOf(error: unknown): string {
  const code = property(error, "code");
  return typeof code === "string" ? code : stringOr(property(error, "name"), "error");
}
