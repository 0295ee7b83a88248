// Postmark: batches without an idempotency key. Each email carries its id and its batch's in its metadata, and a batch
// in doubt is searched for by them, never sent again.

import { type Attachment, type Message, ServerClient } from "postmark";
import * as v from "valibot";
import { formatMailbox } from "../email/address.ts";
import { hasFiles } from "../email/email.ts";
import type { FailedOutcome, Outcome, SearchResult } from "../policy/request_outcome.ts";
import { reasonOf } from "./failure_reason.ts";
import {
  digestOf,
  type Dialect,
  type Exchange,
  exchangeBy,
  normalizeBaseUrl,
  outcomeOfStatus,
  mismatchOf,
  readCheck,
  readRefused,
  readRetryAfter,
  readSent,
} from "./http.ts";
import { attachedFiles, type Outgoing, type OutgoingEmail, type Provider } from "./provider.ts";

export interface PostmarkSettings {
  readonly serverToken: string;
  readonly baseUrl?: string | undefined;
  readonly messageStream: string;
  /** See {@link Provider.searchWaitMs}. */
  readonly searchWaitMs?: number;
}

/** Most messages in one page of a search, and the farthest that a search reaches: Postmark's limits. */
const pageMax = 500;
const searchMax = 10_000;

export function createPostmark(settings: PostmarkSettings): Provider {
  const { serverToken, messageStream, searchWaitMs } = settings;
  const baseUrl = normalizeBaseUrl(settings.baseUrl ?? "https://api.postmarkapp.com");
  const sdk = { useHttps: baseUrl.startsWith("https:"), requestHost: baseUrl.replace(/^https?:\/\//, "") };
  const request = (
    signal: AbortSignal,
    call: (client: ServerClient) => Promise<unknown>,
  ): Promise<Exchange> =>
    exchangeBy(signal, (fetch) => call(new ServerClient(serverToken, { ...sdk, fetch })));
  return {
    name: "postmark",
    batchMax: 50,
    batchesFiles: true,
    startRate: 10,
    maxRate: 100,
    context: messageStream,
    credential: digestOf(baseUrl, serverToken),
    ...(searchWaitMs !== undefined && { searchWaitMs }),
    async send(outgoing, signal) {
      const messages = outgoing.emails.map((email) => messageOf(email, outgoing));
      const reply = await request(signal, (client) => client.sendEmailBatch(messages));
      return readSent(reply, outgoing.emails, dialect);
    },
    async search(outgoing, signal) {
      const found = new Map<string, string>();
      for (let seen = 0; ;) {
        const query = {
          count: pageMax,
          offset: seen,
          messagestream: outgoing.context,
          metadata_batch_id: outgoing.batchId,
        };
        const reply = await request(signal, (client) => client.getOutboundMessages(query));
        if (reply.kind !== "answer" || !reply.ok) {
          const { outcome, rate } = readRefused(reply, dialect);
          return { result: { kind: "failed", outcome: outcomeOfSearch(outcome) }, rate };
        }
        const rate = readRetryAfter(reply.headers);
        const page = v.safeParse(searchPage(outgoing.batchId), reply.body);
        if (!page.success) return { result: unreadableSearch(mismatchOf(page.issues)), rate };
        const { Messages: messages, TotalCount: total } = page.output;
        for (const { Metadata: ids, MessageID: messageId } of messages) found.set(ids.email_id, messageId);
        seen += messages.length;
        if (seen >= total) return { result: { kind: "searched", found }, rate };
        // Some hits are missing: the page is short, or the total is beyond the search's reach.
        if (messages.length < pageMax || seen >= searchMax)
          return { result: unreadableSearch("fewer messages than announced"), rate };
      }
    },
    async check(signal) {
      const reply = await request(signal, (client) => client.getServer());
      return readCheck(reply, dialect, (status, body) => {
        if (status !== 200 || !v.is(server, body)) return undefined;
        const note = body.DeliveryType === "Sandbox" ? ", of a sandbox server, which delivers nothing" : "";
        return { detail: `the token is valid${note}`, account: String(body.ID) };
      });
    },
    async findWarning(signal) {
      const reply = await request(signal, (client) =>
        client.getMessageStream(encodeURIComponent(messageStream)),
      );
      if (reply.kind !== "answer" || !reply.ok || !v.is(stream, reply.body)) return undefined;
      if (reply.body.MessageStreamType !== "Broadcasts") return undefined;
      return `the message stream ${messageStream} is for broadcasts: Postmark replaces List-Unsubscribe in its emails, and adds a footer`;
    },
  };
}

function messageOf(outgoing: OutgoingEmail, { batchId, context }: Outgoing): Message {
  const { id, email } = outgoing;
  const { tags = [], headers, cc, bcc } = email;
  const tag = tags.find(([name]) => name === "tag")?.[1];
  return {
    From: formatMailbox(email.from, email.from_name),
    To: formatMailbox(email.to, email.to_name),
    ...(cc !== undefined && { Cc: cc.join(", ") }),
    ...(bcc !== undefined && { Bcc: bcc.join(", ") }),
    ...(email.reply_to !== undefined && { ReplyTo: email.reply_to }),
    Subject: email.subject,
    ...(tag !== undefined && { Tag: tag }),
    TextBody: email.body,
    ...(email.html !== undefined && { HtmlBody: email.html }),
    MessageStream: context,
    ...(headers !== undefined && { Headers: headers.map(([Name, Value]) => ({ Name, Value })) }),
    Metadata: { email_id: id, batch_id: batchId, ...Object.fromEntries(tags) },
    ...(hasFiles(email) && { Attachments: filesOf(outgoing) }),
  };
}

function filesOf(outgoing: OutgoingEmail): Attachment[] {
  return attachedFiles(outgoing).map(({ filename, content_type, content_id, content }) => ({
    Name: filename,
    Content: content.toBase64(),
    ContentType: content_type,
    ContentID: content_id === undefined ? null : `cid:${content_id}`,
  }));
}

const integer = v.pipe(v.number(), v.integer());
const ownRefusal = v.object({ ErrorCode: integer, Message: v.string() });
/** The answer of `GET /server`. */
const server = v.object({ ID: integer, DeliveryType: v.optional(v.unknown()) });
/** The answer of `GET /message-streams/{id}`. */
const stream = v.object({ MessageStreamType: v.string() });
/** A 2xx: one item for each email, in the order of the request. */
const ownAcceptance = v.array(
  v.union([
    // "Message accepted, but delivery may be delayed." comes without a code.
    v.object({
      ErrorCode: v.nullish(v.literal(0)),
      MessageID: v.string(),
      Message: v.fallback(v.string(), ""),
    }),
    v.object({ ErrorCode: v.pipe(integer, v.notValue(0)), Message: v.string() }),
  ]),
);

function searchPage(batchId: string) {
  return v.object({
    // A number from the API, a string in the SDK's types.
    TotalCount: v.pipe(
      v.union([v.number(), v.pipe(v.string(), v.digits())]),
      v.transform(Number),
      v.integer(),
      v.minValue(0),
    ),
    Messages: v.array(
      v.object({
        MessageID: v.pipe(v.string(), v.nonEmpty()),
        Metadata: v.object({ email_id: v.string(), batch_id: v.literal(batchId) }),
      }),
    ),
  });
}

const dialect: Dialect = {
  readOutcomes(body, emails) {
    const parsed = v.safeParse(ownAcceptance, body);
    if (!parsed.success) return mismatchOf(parsed.issues);
    return parsed.output.map((item, index): Outcome => {
      const recipients = recipientsOf(emails[index]);
      if (!("MessageID" in item)) return outcomeOfCode(item, reasonFor(item), recipients.length);
      const note = noteIn(item.Message, recipients);
      return { kind: "accepted", providerMessageId: item.MessageID, ...(note !== undefined && { note }) };
    });
  },
  /** The status counts first. The code in the body reuses the numbers of statuses with other meanings. */
  readRefusal(status, body, emails) {
    if (!v.is(ownRefusal, body)) {
      // The form of Postmark's 429 is not documented: any JSON is believed, and so is an empty body.
      const isOwn = status === 429 && body !== undefined;
      return isOwn ? { kind: "throttled", reason: reasonOf(status, "no reason given") } : undefined;
    }
    const reason = reasonFor(body, status);
    const byStatus = outcomeOfStatus(status, reason);
    if (byStatus) return byStatus;
    if (status === 401 || status === 403) return { kind: "accountRefused", reason };
    // The answer is a refusal that says "OK".
    if (body.ErrorCode === 0) return { kind: "unknown", reason, own: true };
    return outcomeOfCode(body, reason, Math.max(1, ...emails.map((email) => recipientsOf(email).length)));
  },
  readRate: (headers) => readRetryAfter(headers),
};

function reasonFor(refusal: v.InferOutput<typeof ownRefusal>, status?: number): string {
  return reasonOf(status, `code ${refusal.ErrorCode}:`, refusal.Message || "no reason given");
}

/**
 * Codes for a fault of the email itself: 300 invalid, 11 several errors, 402, 403 and 409 invalid JSON or
 * fields, 410 too many emails (a split helps), 411 type of an attachment, 1101 and above templates.
 */
const rejections: ReadonlySet<number> = new Set([
  11, 300, 402, 403, 409, 410, 411, 1101, 1109, 1120, 1121, 1122, 1123,
]);

/**
 * The outcome by Postmark's error code, which comes for a request or for one email in it.
 * @param recipients how many the email has
 */
function outcomeOfCode(
  refusal: v.InferOutput<typeof ownRefusal>,
  reason: string,
  recipients: number,
): FailedOutcome {
  const { ErrorCode: number, Message: message } = refusal;
  if (number === 300 && /sender signature|verified/i.test(message)) return { kind: "senderRefused", reason };
  if (rejections.has(number)) return { kind: "rejected", reason, stable: true };
  switch (number) {
    case 400: // the sender has no signature
    case 401: // or one that is not confirmed
      return { kind: "senderRefused", reason };
    case 406: // an inactive recipient, which can become active again; the others may get the email nevertheless
      return recipients > 1
        ? { kind: "unknown", reason, own: true, isRefusal: true }
        : { kind: "rejected", reason, stable: false };
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

function recipientsOf(outgoing: OutgoingEmail | undefined): readonly string[] {
  if (outgoing === undefined) return [];
  const { to, cc = [], bcc = [] } = outgoing.email;
  return [to, ...cc, ...bcc];
}

/** Names the recipients that an accepted email is not delivered to, if Postmark says that there are some. */
function noteIn(message: string, recipients: readonly string[]): string | undefined {
  if (!/\bwill not deliver to\b/i.test(message)) return undefined;
  const words = new Set(
    message
      .toLowerCase()
      .split(/[\s,;:]+/)
      .map((word) => word.replace(/\.$/, "")),
  );
  const inactive = recipients.filter((address) => words.has(address.toLowerCase()));
  const names = inactive.length > 0 ? inactive.join(", ") : "some recipients";
  return `Postmark does not deliver it to ${names}: inactive after a bounce or a complaint`;
}

function unreadableSearch(fault: string): SearchResult {
  const reason = reasonOf("search:", fault);
  return { kind: "failed", outcome: { kind: "unknown", reason, own: false } };
}

/** A search has no message and no sender that could be refused, so the account was. */
function outcomeOfSearch(refusal: FailedOutcome): Extract<SearchResult, { kind: "failed" }>["outcome"] {
  const { kind, reason } = refusal;
  const isOfEmail = kind === "rejected" || kind === "senderRefused" || kind === "keyReused";
  return isOfEmail ? { kind: "accountRefused", reason } : refusal;
}
