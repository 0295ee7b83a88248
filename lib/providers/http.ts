// One HTTP exchange with a provider, and how an answer is read wherever the providers agree. The SDKs only build the
// requests: Resend's reports the same error for a request that was never sent and for one whose answer was lost, and
// Postmark's drops the headers and takes any text for success.

import * as v from "valibot";
import type { FailedOutcome, Outcome, RateHint, SendResult } from "../policy/request_outcome.ts";
import { nextTurn } from "../runtime/turns.ts";
import { errorName, reasonOf } from "./failure_reason.ts";
import type { CheckResult, OutgoingEmail } from "./provider.ts";

export type Exchange =
  | {
      readonly kind: "answer";
      readonly status: number;
      /** The status is a 2xx. */
      readonly ok: boolean;
      readonly headers: Headers;
      /** Parsed JSON; null if the answer is empty, undefined if it is not JSON. */
      readonly body: unknown;
    }
  /** `unavailable`: no byte of the request's body has left. `unknown`: it may have arrived, and the answer is lost. */
  | Extract<FailedOutcome, { kind: "unavailable" | "unknown" }>;

/**
 * Most bytes of an answer: twice the longest, a page of Postmark's search. Such a page has 500 messages of at most 8.4 KB
 * each, with a subject of 2,000 characters and two mailboxes of 255, at three bytes per character.
 */
const answerMaxBytes = 8 * 1024 * 1024;

/** Most bytes of a request that are handed to Bun at once: other requests wait meanwhile. */
const sliceBytesMax = 256 * 1024;

/** The exchange of one request that an SDK makes in `call`, with a `fetch` that does not show it the answer. */
export async function exchangeBy(
  signal: AbortSignal,
  call: (fetch: (url: string | URL | Request, init?: RequestInit) => Promise<Response>) => Promise<unknown>,
): Promise<Exchange> {
  let reply: Exchange | undefined;
  await call(async (url, init = {}) => {
    reply = await exchange(String(url), init, signal);
    return new Response();
  });
  if (!reply) throw new Error("the SDK made no request");
  return reply;
}

/** Sends one request and reads the whole answer. Never throws for a broken connection or an abort. */
export async function exchange(url: string, init: RequestInit, signal: AbortSignal): Promise<Exchange> {
  const headers = new Headers(init.headers);
  // Bun would continue to decompress an abandoned answer: a few KB could become hundreds of MB.
  headers.set("accept-encoding", "identity");
  const bytes = typeof init.body === "string" ? new TextEncoder().encode(init.body) : undefined;
  if (bytes) headers.set("content-length", String(bytes.byteLength));
  // Bun asks a body for its bytes only once it is connected, including a proxy's tunnel and TLS. The error that fetch
  // throws does not show whether it did: a timeout is the same error before and after.
  let hasBegun = bytes === undefined;
  async function* upload() {
    hasBegun = true;
    for (let from = 0; from < bytes!.length; from += sliceBytesMax) {
      // Otherwise Bun copies all slices in one turn of the event loop.
      if (from > 0) await nextTurn();
      yield bytes!.subarray(from, from + sliceBytesMax);
    }
  }
  let status: number | undefined;
  try {
    const response = await fetch(url, {
      ...init,
      headers,
      ...(bytes && { body: upload() }),
      decompress: false,
      // A redirect is an answer like any other: following it would repeat the POST to somebody else.
      redirect: "manual",
      signal,
    });
    ({ status } = response);
    const read = await readJson(response);
    if (read === undefined)
      return { kind: "unknown", reason: reasonOf(status, "answer too long"), own: false };
    return { kind: "answer", status, ok: response.ok, headers: response.headers, body: read.json };
  } catch (error) {
    const name = errorName(error);
    if (!hasBegun) return { kind: "unavailable", reason: reasonOf("no connection:", name), own: false };
    const state = status === undefined ? "no answer:" : "answer cut off:";
    return { kind: "unknown", reason: reasonOf(status, state, name), own: false };
  }
}

/** Undefined if the answer is too long; the rest is not read. */
async function readJson(response: Response): Promise<{ readonly json: unknown } | undefined> {
  const chunks: Uint8Array[] = [];
  let byteLength = 0;
  for await (const chunk of response.body ?? []) {
    byteLength += chunk.byteLength;
    if (byteLength > answerMaxBytes) return undefined;
    chunks.push(chunk);
  }
  const text = new TextDecoder().decode(Buffer.concat(chunks));
  try {
    return { json: text === "" ? null : JSON.parse(text) };
  } catch {
    return { json: undefined };
  }
}

/** How one provider's answers are read, as far as the providers differ. */
export interface Dialect {
  /** Reads a 2xx: the outcome of each of these emails, in the order of the request, or why it cannot be read. */
  readOutcomes(body: unknown, emails: readonly OutgoingEmail[]): readonly Outcome[] | string;
  /**
   * Reads any other answer; undefined if it is not in the provider's own form.
   * @param emails of the request; none for a question
   */
  readRefusal(status: number, body: unknown, emails: readonly OutgoingEmail[]): FailedOutcome | undefined;
  /** `refusal` is undefined for an answer that accounts for every email. */
  readRate(headers: Headers, refusal?: FailedOutcome): RateHint;
}

/** The answer to a request with these emails. Only an answer in the provider's own form has a rate hint. */
export function readSent(
  reply: Exchange,
  emails: readonly OutgoingEmail[],
  dialect: Dialect,
): { result: SendResult; rate: RateHint } {
  if (reply.kind !== "answer" || !reply.ok) {
    const { outcome, rate } = readRefused(reply, dialect, emails);
    return { result: { kind: "whole", outcome }, rate };
  }
  const read = dialect.readOutcomes(reply.body, emails);
  const outcomes = typeof read === "string" ? [] : read;
  const ids = outcomes.flatMap((one) => (one.kind === "accepted" ? [one.providerMessageId] : []));
  let fault = typeof read === "string" ? read : undefined;
  if (outcomes.length !== emails.length) fault ??= "wrong number of emails";
  if (ids.includes("")) fault ??= "an id is missing";
  if (new Set(ids).size < ids.length) fault ??= "an id occurs twice";
  if (fault === undefined)
    return { result: { kind: "each", outcomes }, rate: dialect.readRate(reply.headers) };
  const reason = reasonOf(reply.status, "does not account for every email:", fault);
  return { result: { kind: "whole", outcome: { kind: "unknown", reason, own: false } }, rate: {} };
}

/** Cloudflare's statuses for an origin that it could not connect to: refused, unreachable, no TLS, wrong certificate. */
const originNotReached: ReadonlySet<number> = new Set([521, 523, 525, 526]);

/** Reads an exchange that was not a success. A gateway's headers are ignored: it may have a rate limit of its own. */
export function readRefused(
  reply: Exchange,
  dialect: Dialect,
  emails: readonly OutgoingEmail[] = [],
): { outcome: FailedOutcome; rate: RateHint } {
  if (reply.kind !== "answer") return { outcome: reply, rate: {} };
  const { status, headers, body } = reply;
  const refusal = dialect.readRefusal(status, body, emails);
  if (refusal) return { outcome: refusal, rate: dialect.readRate(headers, refusal) };
  // A gateway answered. It does not know whether the provider has read the request.
  const kind = originNotReached.has(status) ? "unavailable" : "unknown";
  const reason = reasonOf(status, "not the provider's own answer");
  return { outcome: { kind, reason, own: false }, rate: {} };
}

/** The outcome of a provider's own refusal by its status; undefined for 400, 401, 403 and 422, which need the body. */
export function outcomeOfStatus(status: number, reason: string): FailedOutcome | undefined {
  if ([400, 401, 403, 422].includes(status)) return undefined;
  switch (status) {
    case 406:
    case 451:
      return { kind: "rejected", reason, stable: false };
    case 413:
      return { kind: "rejected", reason, stable: true };
    case 429:
      return { kind: "throttled", reason };
    case 425: // too early: refused before it was processed
    case 503:
      return { kind: "unavailable", reason, own: true };
    case 303: // see other: by definition the request was carried out
    case 408: // request timeout: nobody knows what the server had read by then
    case 409:
      return { kind: "unknown", reason, own: true };
  }
  if (status >= 500) return { kind: "unknown", reason, own: true };
  // Redirects, 404, 405 and undocumented statuses come from a wrong base URL or a new rule of the provider: certainly
  // not accepted, and no reason to give up an email.
  return { kind: "accountRefused", reason };
}

/**
 * Reads the answer to a question that sends nothing. JSON with any status under 500 counts as answered, even a 404: not
 * every API knows the question.
 * @param readPositive reads a positive answer; undefined for any other
 */
export function readCheck(
  reply: Exchange,
  dialect: Dialect,
  readPositive: (status: number, body: unknown) => { detail: string; account?: string } | undefined,
): CheckResult {
  const { reason } = readRefused(reply, dialect).outcome;
  if (reply.kind !== "answer") return { ok: false, answered: false, reason };
  const answered = reply.status < 500 && typeof reply.body === "object" && reply.body !== null;
  const positive = readPositive(reply.status, reply.body);
  return positive === undefined ? { ok: false, answered, reason } : { ok: true, answered, ...positive };
}

/** Where an answer does not fit its schema. Names only fields of the schema: nothing from the answer is shown. */
export function mismatchOf([issue]: readonly [v.BaseIssue<unknown>, ...unknown[]]): string {
  return `unreadable at ${v.getDotPath(issue) ?? "the top level"}`;
}

/** The form of {@link Provider.credential}. */
export function digestOf(baseUrl: string, credential: string): string {
  return new Bun.CryptoHasher("sha256").update(`${baseUrl}\n${credential}`).digest("hex").slice(0, 16);
}

/** A base URL as both SDKs append their paths to it: no trailing slash, query or fragment. Throws if it is not HTTP(S). */
export function normalizeBaseUrl(baseUrl: string): string {
  const { protocol, origin, pathname } = new URL(baseUrl);
  if (protocol !== "https:" && protocol !== "http:") throw new TypeError("base URL: not http or https");
  return origin + pathname.replace(/\/+$/, "");
}

/** The only form of a date that HTTP still lets a server write (RFC 9110, 5.6.7). */
const httpDate = /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/;

/** The longest `Retry-After`, in whole seconds or as an HTTP date. Other values, and dates in the past, are ignored. */
export function readRetryAfter(headers: Headers, nowMs = Date.now()): RateHint {
  // Several headers are joined by commas; the comma within a date follows the name of a day.
  const values = headers.get("retry-after")?.split(/(?<!\b[A-Z][a-z]{2})\s*,\s*/) ?? [];
  const seconds = values.filter((value) => /^\d{1,9}$/.test(value)).map((value) => Number(value) * 1000);
  const dates = values.filter((value) => httpDate.test(value)).map((value) => Date.parse(value) - nowMs);
  const waits = [...seconds, ...dates].filter((ms) => ms >= 0);
  return waits.length > 0 ? { retryAfterMs: Math.max(...waits) } : {};
}
