// Postmark: batches without an idempotency key. Each email carries its id and its batch's in its metadata, and
// a batch in doubt is asked about by a search for them, never sent again.

import { type Message, ServerClient } from "postmark";
import type { Outcome, RateHint, SearchResult, SendResult } from "../policy/request_outcome.ts";
import { formatMailbox } from "../email/address.ts";
import type { CheckResult, Outgoing, Provider } from "./provider.ts";
import { reasonOf } from "./failure_reason.ts";
import {
  digestOf,
  type Exchange,
  exchange,
  isAnswered,
  normalBaseUrl,
  outcomeOfGateway,
  outcomeOfSilence,
  outcomeOfStatus,
  property,
  retryAfterHint,
  stringOr,
} from "./http.ts";

export interface PostmarkSettings {
  readonly serverToken: string;
  readonly baseUrl?: string | undefined;
  readonly messageStream: string;
}

/** Most messages in one page of a search, and the farthest that a search reaches: Postmark's limits. */
const pageMax = 500;
const searchMax = 10_000;

export function createPostmark(settings: PostmarkSettings): Provider {
  const { serverToken, messageStream } = settings;
  const baseUrl = normalBaseUrl(settings.baseUrl ?? "https://api.postmarkapp.com");
  const request = requester(serverToken, baseUrl);
  return {
    name: "postmark",
    batchMax: 50,
    startRate: 10,
    maxRate: 100,
    context: messageStream,
    credential: digestOf(baseUrl, serverToken),
    async send(outgoing, signal) {
      const reply = await request(signal, (client) => client.sendEmailBatch(messagesOf(outgoing)));
      return readAnswer(reply, outgoing.emails.length);
    },
    async search(outgoing, signal) {
      const found = new Map<string, string>();
      for (let offset = 0; ; offset += pageMax) {
        const reply = await request(signal, (client) =>
          client.getOutboundMessages({
            count: pageMax,
            offset,
            messagestream: outgoing.context,
            metadata_batch_id: outgoing.batchId,
          }),
        );
        const page = readPage(reply, outgoing.batchId);
        if (page.kind === "failed") return page.answer;
        for (const [emailId, messageId] of page.found) found.set(emailId, messageId);
        const seen = offset + page.length;
        if (seen >= page.total) return { result: { kind: "searched", found }, rate: page.rate };
        // A page that ends early, or a total beyond the search's reach: some of the hits were not seen.
        if (page.length < pageMax || seen >= searchMax)
          return failedSearch("fewer messages than announced", page.rate);
      }
    },
    async check(signal) {
      return readCheck(await request(signal, (client) => client.getServer()));
    },
    async account(signal) {
      const id = serverIdOf(await request(signal, (client) => client.getServer()));
      return id === undefined ? undefined : String(id);
    },
  };
}

/**
 * The SDK builds the request and is given an empty answer; the true one is read here, since the SDK drops the
 * headers and takes any text for success. A client a request, because `fetch` is all that it lets through.
 */
function requester(serverToken: string, baseUrl: string) {
  const useHttps = baseUrl.startsWith("https:");
  const requestHost = baseUrl.replace(/^https?:\/\//, "");
  return async (signal: AbortSignal, call: (client: ServerClient) => Promise<unknown>): Promise<Exchange> => {
    let reply: Exchange | undefined;
    const client = new ServerClient(serverToken, {
      useHttps,
      requestHost,
      async fetch(url, init) {
        reply = await exchange(String(url), init ?? {}, signal);
        return new Response();
      },
    });
    await call(client);
    if (!reply) throw new Error("postmark: the SDK made no request");
    return reply;
  };
}

function messagesOf(outgoing: Outgoing): Message[] {
  return outgoing.emails.map(({ id, email }) => ({
    From: formatMailbox(email.from, email.from_name),
    To: formatMailbox(email.to, email.to_name),
    ...(email.reply_to !== undefined && { ReplyTo: email.reply_to }),
    Subject: email.subject,
    TextBody: email.body,
    ...(email.html !== undefined && { HtmlBody: email.html }),
    MessageStream: outgoing.context,
    Metadata: { email_id: id, batch_id: outgoing.batchId },
  }));
}

function readAnswer(reply: Exchange, count: number): { result: SendResult; rate: RateHint } {
  if (reply.kind !== "answer")
    return { result: { kind: "whole", outcome: outcomeOfSilence(reply) }, rate: {} };
  const rate = retryAfterHint(reply.headers);
  if (reply.status >= 200 && reply.status < 300) return { result: readItems(reply, count), rate };
  return { result: { kind: "whole", outcome: refusalOf(reply) }, rate };
}

/** A 2xx: one item for each email, in the order of the request. */
function readItems({ status, body }: { status: number; body: unknown }, count: number): SendResult {
  const unknown = (reason: string): SendResult => ({
    kind: "whole",
    outcome: { kind: "unknown", reason: reasonOf(status, "without a full account:", reason), own: false },
  });
  if (!Array.isArray(body)) return unknown("no list of results");
  if (body.length !== count) return unknown("wrong number of emails");
  const outcomes: Outcome[] = [];
  const ids = new Set<string>();
  for (const item of body) {
    // "Message accepted, but delivery may be delayed." comes without a code.
    const code = property(item, "ErrorCode") ?? 0;
    if (code !== 0) {
      const message = property(item, "Message");
      if (!Number.isInteger(code) || typeof message !== "string")
        return unknown("no result that could be read");
      outcomes.push(refusalByCode(code as number, message, ""));
      continue;
    }
    const providerMessageId = property(item, "MessageID");
    if (typeof providerMessageId !== "string" || providerMessageId === "") return unknown("an id is missing");
    if (ids.has(providerMessageId)) return unknown("an id twice");
    ids.add(providerMessageId);
    outcomes.push({ kind: "accepted", providerMessageId });
  }
  return { kind: "each", outcomes };
}

/**
 * Whether an answer that is no success is Postmark's own, rather than a gateway's in front of it. How its 429 looks
 * is not documented.
 */
function isOwnRefusal({ status, body }: { status: number; body: unknown }): boolean {
  if (status === 429 && body !== undefined) return true;
  return Number.isInteger(property(body, "ErrorCode")) && typeof property(body, "Message") === "string";
}

type Refusal = Exclude<Outcome, { kind: "accepted" }>;

/** The request was refused: its status first, then the code in its body, whose numbers mean something else. */
function refusalOf({ status, body }: { status: number; body: unknown }): Refusal {
  if (!isOwnRefusal({ status, body })) return outcomeOfGateway(status);
  const code = property(body, "ErrorCode");
  const message = stringOr(property(body, "Message"), "");
  const reason = reasonOf(
    status,
    Number.isInteger(code) ? `code ${code}:` : "",
    message || "no reason that could be read",
  );
  const byStatus = outcomeOfStatus(status, reason);
  if (byStatus) return byStatus;
  switch (status) {
    case 401:
    case 403:
      return { kind: "accountRefused", reason };
    case 409:
      return { kind: "unknown", reason, own: true };
    case 413:
      return { kind: "rejected", reason, stable: true };
    case 429:
      return { kind: "throttled", reason };
  }
  // Refused and "OK" in one answer.
  if (code === 0) return { kind: "unknown", reason, own: true };
  return refusalByCode(code as number, message, String(status));
}

/** Postmark's error codes, as they come for a request or for one email of it. */
function refusalByCode(code: number, message: string, status: string): Refusal {
  const reason = reasonOf(status, `code ${code}:`, message || "no reason given");
  switch (code) {
    case 400: // the From is no sender signature
    case 401: // or one that was not confirmed
      return { kind: "senderRefused", reason };
    case 300: // an invalid email; some of its texts are about the signature
      if (/sender signature|verified/i.test(message)) return { kind: "senderRefused", reason };
      return { kind: "rejected", reason, stable: true };
    case 11: // several of these at once
    case 402: // invalid JSON
    case 403: // invalid fields
    case 409: // JSON required
    case 410: // too many emails: halved, there are fewer
    case 411: // attachment type
    case 1101: // templates, from here on
    case 1109:
    case 1120:
    case 1121:
    case 1122:
    case 1123:
      return { kind: "rejected", reason, stable: true };
    case 406: // an inactive recipient, which can become active
      return { kind: "rejected", reason, stable: false };
    case 100: // maintenance
      return { kind: "unavailable", reason, own: true };
    case 101: // internal error
      return { kind: "unknown", reason, own: true };
    case 429:
      return { kind: "throttled", reason };
    default: // token, approval, credits, stream, allowed addresses, and codes that never come from sending
      return { kind: "accountRefused", reason };
  }
}

function readCheck(reply: Exchange): CheckResult {
  const answered = isAnswered(reply);
  if (reply.kind !== "answer") return { ok: false, answered, reason: reply.reason };
  const { status, body } = reply;
  if (serverIdOf(reply) !== undefined) {
    const isSandbox = property(body, "DeliveryType") === "Sandbox";
    return {
      ok: true,
      answered,
      detail: `the token is valid${isSandbox ? ", of a sandbox server, which delivers nothing" : ""}`,
    };
  }
  const code = property(body, "ErrorCode");
  const message = stringOr(property(body, "Message"), "no answer of Postmark's API");
  return {
    ok: false,
    answered,
    reason: reasonOf(status, Number.isInteger(code) ? `code ${code}:` : "", message),
  };
}

/** The id in the answer of `GET /server`; undefined for any other answer. */
function serverIdOf(reply: Exchange): number | undefined {
  if (reply.kind !== "answer" || reply.status !== 200) return undefined;
  const id = property(reply.body, "ID");
  return Number.isInteger(id) ? (id as number) : undefined;
}

type RecallAnswer = { result: SearchResult; rate: RateHint };

type Page =
  | { kind: "page"; found: ReadonlyMap<string, string>; length: number; total: number; rate: RateHint }
  | { kind: "failed"; answer: RecallAnswer };

function readPage(reply: Exchange, batchId: string): Page {
  if (reply.kind !== "answer") {
    return {
      kind: "failed",
      answer: { result: { kind: "failed", outcome: outcomeOfSilence(reply) }, rate: {} },
    };
  }
  const rate = retryAfterHint(reply.headers);
  if (reply.status < 200 || reply.status >= 300) {
    const outcome = outcomeOfFailedSearch(refusalOf(reply));
    return { kind: "failed", answer: { result: { kind: "failed", outcome }, rate } };
  }
  const failed = (reason: string): Page => ({ kind: "failed", answer: failedSearch(reason, rate) });
  const messages = property(reply.body, "Messages");
  // A number from the API, a string in the SDK's types.
  const total = Number(property(reply.body, "TotalCount") ?? Number.NaN);
  if (!Array.isArray(messages) || !Number.isInteger(total) || total < 0) return failed("no list of messages");
  const found = new Map<string, string>();
  for (const message of messages) {
    const metadata = property(message, "Metadata");
    const messageId = property(message, "MessageID");
    const emailId = property(metadata, "email_id");
    if (typeof messageId !== "string" || messageId === "" || typeof emailId !== "string")
      return failed("a message without its ids");
    if (property(metadata, "batch_id") !== batchId) return failed("a message of another batch");
    found.set(emailId, messageId);
  }
  return { kind: "page", found, length: messages.length, total, rate };
}

function failedSearch(reason: string, rate: RateHint): RecallAnswer {
  return {
    result: { kind: "failed", outcome: { kind: "unknown", reason: reasonOf("search:", reason), own: false } },
    rate,
  };
}

/** A search has no message and no sender to blame: what would be theirs is then the account's. */
function outcomeOfFailedSearch(refusal: Refusal): Extract<SearchResult, { kind: "failed" }>["outcome"] {
  switch (refusal.kind) {
    case "rejected":
    case "senderRefused":
    case "keyReused":
      return { kind: "accountRefused", reason: refusal.reason };
    default:
      return refusal;
  }
}
