// Resend: batches in permissive mode under an idempotency key. An email with files is sent alone, because batches drop
// files. A request depends on the batch alone and never changes between attempts: Resend refuses a key that was used with
// other bytes.

import { Resend } from "resend";
import * as v from "valibot";
import { formatMailbox, isAddress } from "../email/address.ts";
import { hasFiles } from "../email/email.ts";
import type { FailedOutcome, Outcome } from "../policy/request_outcome.ts";
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
  readRetryAfter,
  readSent,
} from "./http.ts";
import { attachedFiles, type OutgoingEmail, type Provider } from "./provider.ts";

export interface ResendSettings {
  readonly apiKey: string;
  readonly baseUrl?: string | undefined;
}

/** Pause before the next attempt while Resend still processes an earlier request under the same key, ms. */
const concurrentWaitMs = 2_000;

/** The SDK gets this instead of the answer. */
const notRead = { message: "", statusCode: null, name: "application_error" } as const;

export function createResend({ apiKey, ...settings }: ResendSettings): Provider {
  const baseUrl = normalizeBaseUrl(settings.baseUrl ?? "https://api.resend.com");
  const request = (signal: AbortSignal, call: (client: Resend) => Promise<unknown>): Promise<Exchange> =>
    exchangeBy(signal, (fetch) => {
      const client = new Resend(apiKey, { baseUrl });
      // Public in the SDK, so that it can be replaced.
      client.fetchRequest = async (path, options) => {
        await fetch(baseUrl + path, options);
        return { data: null, error: notRead, headers: null };
      };
      return call(client);
    });
  return {
    name: "resend",
    batchMax: 100,
    // Resend's batches drop files silently.
    batchesFiles: false,
    // The smallest limit that Resend's documentation has ever named; the headers of its answers name the true one.
    startRate: 2,
    maxRate: 2,
    context: "",
    credential: digestOf(baseUrl, apiKey),
    async send({ batchId: idempotencyKey, emails }, signal) {
      const withFiles = emails.find(({ email }) => hasFiles(email));
      if (withFiles !== undefined) {
        if (emails.length > 1) throw new TypeError("an email with files is not alone");
        const message = messageWithFiles(withFiles);
        const reply = await request(signal, (client) => client.emails.send(message, { idempotencyKey }));
        return readSent(reply, emails, singleDialect);
      }
      const options = { idempotencyKey, batchValidation: "permissive" } as const;
      const reply = await request(signal, (client) => client.batch.send(emails.map(messageOf), options));
      return readSent(reply, emails, dialect);
    },
    async check(signal) {
      const reply = await request(signal, (client) => client.domains.list());
      return readCheck(reply, dialect, (status, body) => {
        if (status === 200 && v.is(domainList, body)) return { detail: "the key is valid" };
        // Only this name at this status means a key that may only send: a disabled key gets the same name with 403.
        const isSendOnly = status === 401 && v.is(ownRefusal, body) && body.name === "restricted_api_key";
        return isSendOnly ? { detail: "the key is valid, for sending only" } : undefined;
      });
    },
  };
}

function messageOf({ id, email }: OutgoingEmail) {
  const { tags = [], headers, cc, bcc } = email;
  return {
    from: formatMailbox(email.from, email.from_name),
    to: formatMailbox(email.to, email.to_name),
    ...(cc !== undefined && { cc: [...cc] }),
    ...(bcc !== undefined && { bcc: [...bcc] }),
    ...(email.reply_to !== undefined && { replyTo: email.reply_to }),
    subject: email.subject,
    text: email.body,
    ...(email.html !== undefined && { html: email.html }),
    ...(headers !== undefined && { headers: Object.fromEntries(headers) }),
    tags: [["email_id", id] as const, ...tags].map(([name, value]) => ({ name, value })),
  };
}

function messageWithFiles(outgoing: OutgoingEmail) {
  const attachments = attachedFiles(outgoing).map(
    ({ filename, content_type, declares_type, content_id, content }) => ({
      filename,
      content,
      // Resend accepts a type that contradicts the extension, and then never sends the email. It may map an extension to
      // another type than this service does.
      ...(declares_type === true && { contentType: content_type }),
      ...(content_id !== undefined && { contentId: content_id }),
    }),
  );
  return { ...messageOf(outgoing), attachments };
}

const domainList = v.object({ data: v.array(v.unknown()) });
const ownRefusal = v.object({ name: v.string(), message: v.string() });
/** A 2xx: the ids of the accepted emails, in the order of the request, and the refused emails by their index in it. */
const ownAcceptance = v.object({
  data: v.array(v.object({ id: v.string() })),
  errors: v.nullish(v.array(v.object({ index: v.number(), message: v.fallback(v.string(), "") })), []),
});

/** The 2xx answer to a single email. */
const singleAcceptance = v.object({ id: v.string() });

const dialect: Dialect = {
  readOutcomes(body, { length: count }) {
    const parsed = v.safeParse(ownAcceptance, body);
    if (!parsed.success) return mismatchOf(parsed.issues);
    const { data, errors } = parsed.output;
    if (data.length + errors.length !== count) return "wrong number of emails";
    const refused = new Map(errors.map(({ index, message }) => [index, message]));
    const accepted = data.values();
    return Array.from({ length: count }, (_, index): Outcome => {
      const message = refused.get(index);
      // As with a 400, only the message says why.
      if (message !== undefined) return outcomeOfRefusal(400, "", message, reasonOf("refused:", message));
      // The ids run out if an index is out of range or occurs twice.
      return { kind: "accepted", providerMessageId: accepted.next().value?.id ?? "" };
    });
  },
  readRefusal(status, body) {
    if (!v.is(ownRefusal, body)) return undefined;
    const { name, message } = body;
    return outcomeOfRefusal(status, name, message, reasonOf(status, `${name}:`, message));
  },
  /** The limit per window, and the window's length in `ratelimit-policy` ("10;w=1"), in seconds. */
  readRate(headers, refusal) {
    const limit = numberIn(headers.get("ratelimit-limit"));
    const remaining = numberIn(headers.get("ratelimit-remaining"));
    const resetSeconds = numberIn(headers.get("ratelimit-reset"));
    const windowSeconds = numberIn(/;\s*w=([\d.]+)/.exec(headers.get("ratelimit-policy") ?? "")?.[1]) || 1;
    const isAtWork = refusal?.kind === "unknown" && refusal.isAtWork;
    const isQuota = refusal?.kind === "accountRefused" && refusal.isQuota;
    return {
      ...(limit !== undefined && limit > 0 && { limitPerSecond: limit / windowSeconds }),
      ...(remaining !== undefined && { remaining }),
      ...(resetSeconds !== undefined && { resetMs: resetSeconds * 1000 }),
      ...(isAtWork && { retryAfterMs: concurrentWaitMs }),
      // A used-up quota comes with the `retry-after` of the rate limit, one second, which says nothing about the quota.
      ...(!isQuota && readRetryAfter(headers)),
    };
  },
};

const singleDialect: Dialect = {
  ...dialect,
  readOutcomes(body) {
    const parsed = v.safeParse(singleAcceptance, body);
    return parsed.success
      ? [{ kind: "accepted", providerMessageId: parsed.output.id }]
      : mismatchOf(parsed.issues);
  },
};

/**
 * The outcome of a refusal. `name` means little by itself: `validation_error` comes with 400, 401, 403 and 422, and a wrong
 * key with any of the first three.
 */
function outcomeOfRefusal(status: number, name: string, message: string, reason: string): FailedOutcome {
  if (status === 409 && name === "invalid_idempotent_request") return { kind: "keyReused", reason };
  if (status === 409 && name === "concurrent_idempotent_requests")
    return { kind: "unknown", reason, own: true, isAtWork: true };
  if (status === 409 && name === "resource_locked") return { kind: "unavailable", reason, own: true };
  if (status === 429 && name.includes("quota")) return { kind: "accountRefused", reason, isQuota: true };

  const byStatus = outcomeOfStatus(status, reason);
  if (byStatus) return byStatus;
  const bySender = senderRefusal(message, reason);
  if (bySender) return bySender;
  if (status === 403 && name === "invalid_from_address") return { kind: "senderRefused", reason };
  const isAboutKey = name === "invalid_idempotency_key" || (status === 400 && /\bapi key\b/i.test(message));
  if (status === 401 || status === 403 || isAboutKey) return { kind: "accountRefused", reason };
  return { kind: "rejected", reason, stable: true };
}

/**
 * Resend's words about a sender, at any status: its domain is not verified, or is the one for tests, or is not the one
 * that the API key is restricted to. The last is about the key, but the key would accept another sender.
 */
const aboutSender = /\bdomain is not verified\b|\btesting emails\b|\bnot authorized to send emails from\b/i;

/** The forms in which a refusal of a sender names the domain. */
const refusedDomain = [
  /^The [`'"]?([a-z0-9.-]+)[`'"]? domain is not verified\b/i,
  /\bnot authorized to send emails from [`'"]?([a-z0-9.-]*[a-z0-9])[`'"]?(?:[.,;]?$|[.,;]?\s)/i,
];

/** A refusal of the sender if the message says so; undefined otherwise. */
function senderRefusal(message: string, reason: string): FailedOutcome | undefined {
  if (!aboutSender.test(message)) return undefined;
  const domain = refusedDomain
    .map((form) => form.exec(message)?.[1]?.toLowerCase())
    .find((found) => found !== undefined && isAddress(`x@${found}`));
  return { kind: "senderRefused", reason, ...(domain !== undefined && { domain }) };
}

function numberIn(text: string | null | undefined): number | undefined {
  return text && /^\d+(\.\d+)?$/.test(text.trim()) ? Number(text) : undefined;
}
