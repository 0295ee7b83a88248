// Resend: batches in permissive mode under an idempotency key. What goes into a request is a function of the
// batch alone and never changes between tries, or the key would be refused.

import { Resend, type Response as ResendResponse } from "resend";
import type { Outcome, RateHint, SendResult } from "../policy/request_outcome.ts";
import { formatMailbox, isAddress } from "../email/address.ts";
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

export interface ResendSettings {
  readonly apiKey: string;
  readonly baseUrl?: string | undefined;
}

/** Until an earlier request under the same key, still at work, is asked about again: ms. */
const concurrentWaitMs = 2_000;

export function createResend(settings: ResendSettings): Provider {
  const { apiKey } = settings;
  const baseUrl = normalBaseUrl(settings.baseUrl ?? "https://api.resend.com");
  const client = new ResendExchange(apiKey, { baseUrl });
  return {
    name: "resend",
    batchMax: 100,
    // The smallest limit that Resend's documentation has ever named; its headers name the true one.
    startRate: 2,
    maxRate: 2,
    context: "",
    credential: digestOf(baseUrl, apiKey),
    async send(outgoing, signal) {
      const sent = await client.batch.send(messagesOf(outgoing), {
        idempotencyKey: outgoing.batchId,
        batchValidation: "permissive",
        signal,
      });
      return readAnswer(sent.data as unknown as Exchange, outgoing.emails.length);
    },
    async check(signal) {
      const listed = await client.within(signal).domains.list();
      return readCheck(listed.data as unknown as Exchange);
    },
  };
}

/** The SDK builds the request; `fetchRequest`, which is public for this, hands the exchange through as it was. */
class ResendExchange extends Resend {
  readonly #signal: AbortSignal | undefined;

  constructor(apiKey: string | undefined, options: { readonly baseUrl: string }, signal?: AbortSignal) {
    super(apiKey, options);
    this.#signal = signal;
  }

  /** The same, for those calls of the SDK that take no signal. */
  within(signal: AbortSignal): ResendExchange {
    return new ResendExchange(this.key, { baseUrl: this.baseUrl }, signal);
  }

  override async fetchRequest<T>(path: string, options: RequestInit = {}): Promise<ResendResponse<T>> {
    const signal = options.signal ?? this.#signal ?? new AbortController().signal;
    const reply = await exchange(`${this.baseUrl}${path}`, options, signal);
    return { data: reply as T, error: null, headers: null };
  }
}

function messagesOf(outgoing: Outgoing) {
  return outgoing.emails.map(({ id, email }) => ({
    from: formatMailbox(email.from, email.from_name),
    to: formatMailbox(email.to, email.to_name),
    ...(email.reply_to !== undefined && { replyTo: email.reply_to }),
    subject: email.subject,
    text: email.body,
    ...(email.html !== undefined && { html: email.html }),
    tags: [{ name: "email_id", value: id }],
  }));
}

function readAnswer(reply: Exchange, count: number): { result: SendResult; rate: RateHint } {
  if (reply.kind !== "answer")
    return { result: { kind: "whole", outcome: outcomeOfSilence(reply) }, rate: {} };
  const rate = rateHint(reply.headers);
  if (reply.status >= 200 && reply.status < 300) {
    const result = readAccepted(reply, count);
    // Gateways have limits of their own, in headers of the same names.
    return { result, rate: result.kind === "each" ? rate : {} };
  }
  if (!isOwnRefusal(reply.body))
    return { result: { kind: "whole", outcome: outcomeOfGateway(reply.status) }, rate: {} };

  const { name } = reply.body;
  const outcome = refusalOf(reply.status, reply.body);
  const result: SendResult = { kind: "whole", outcome };
  if (name === "concurrent_idempotent_requests")
    return { result, rate: { retryAfterMs: concurrentWaitMs, ...rate } };
  if (reply.status === 429 && outcome.kind === "accountRefused") {
    // A used-up quota comes with the `retry-after` of the rate limit, a second, which says nothing about it.
    const { retryAfterMs: _, ...rest } = rate;
    return { result, rate: rest };
  }
  return { result, rate };
}

function readCheck(reply: Exchange): CheckResult {
  const answered = isAnswered(reply);
  if (reply.kind !== "answer") return { ok: false, answered, reason: reply.reason };
  const { status, body } = reply;
  if (status === 200 && Array.isArray(property(body, "data")))
    return { ok: true, answered, detail: "the key is valid" };
  const name = stringOr(property(body, "name"), undefined);
  // A key that may do nothing but send is told from a wrong one by this, and from one that is shut off by the status.
  if (status === 401 && name === "restricted_api_key") {
    return { ok: true, answered, detail: "the key is valid, for sending alone" };
  }
  const message = stringOr(property(body, "message"), "no answer of Resend's API");
  return { ok: false, answered, reason: reasonOf(status, name === undefined ? "" : `${name}:`, message) };
}

/** A 2xx: the ids of those accepted in the order of the request, and the refused ones by their index. */
function readAccepted({ status, body }: { status: number; body: unknown }, count: number): SendResult {
  const accepted = property(body, "data");
  const refused = property(body, "errors") ?? [];
  const unknown = (reason: string): SendResult => ({
    kind: "whole",
    outcome: { kind: "unknown", reason: reasonOf(status, "without a full account:", reason), own: false },
  });
  if (!Array.isArray(accepted) || !Array.isArray(refused)) return unknown("no list of ids");
  if (accepted.length + refused.length !== count) return unknown("wrong number of emails");

  const outcomes: (Outcome | undefined)[] = Array.from({ length: count });
  for (const error of refused) {
    const index = property(error, "index");
    if (!Number.isInteger(index) || (index as number) < 0 || (index as number) >= count)
      return unknown("index out of range");
    if (outcomes[index as number]) return unknown("index twice");
    outcomes[index as number] = refusalOfItem(stringOr(property(error, "message"), ""));
  }
  const ids = new Set<string>();
  for (const item of accepted) {
    const id = property(item, "id");
    if (typeof id !== "string" || id === "") return unknown("an id is missing");
    if (ids.has(id)) return unknown("an id twice");
    ids.add(id);
  }
  const next = ids.values();
  return {
    kind: "each",
    outcomes: outcomes.map(
      (outcome) => outcome ?? { kind: "accepted", providerMessageId: next.next().value as string },
    ),
  };
}

/**
 * What Resend says about a sender, at whatever status: its domain is not verified here, or is the one for tests alone,
 * or is not the one that the key is restricted to. The last names the key, but it is the sender that does not fit.
 */
const aboutSender = /\bdomain is not verified\b|\btesting emails\b|\bnot authorized to send emails from\b/i;
const aboutKey = /\bapi key\b/i;

/** The forms in which a refusal of a sender names the domain. */
const refusedDomain = [
  /^The [`'"]?([a-z0-9.-]+)[`'"]? domain is not verified\b/i,
  /\bnot authorized to send emails from [`'"]?([a-z0-9.-]*[a-z0-9])[`'"]?(?:[.,;]?$|[.,;]?\s)/i,
];

/** A refusal of the sender if the message says so; undefined otherwise. */
function senderRefusal(
  message: string,
  reason: string,
): Extract<Outcome, { kind: "senderRefused" }> | undefined {
  if (!aboutSender.test(message)) return undefined;
  const domain = refusedDomain
    .map((form) => form.exec(message)?.[1]?.toLowerCase())
    .find((found) => found !== undefined && isAddress(`x@${found}`));
  return { kind: "senderRefused", reason, ...(domain !== undefined && { domain }) };
}

/** One email refused in a request that was accepted: there is nothing but the text to tell by. */
function refusalOfItem(message: string): Outcome {
  const reason = reasonOf("refused:", message);
  const refusal = senderRefusal(message, reason);
  if (refusal) return refusal;
  if (aboutKey.test(message)) return { kind: "accountRefused", reason };
  return { kind: "rejected", reason, stable: true };
}

interface OwnRefusal {
  readonly name: string;
  readonly message: string;
}

/** Whether an answer that is no success is Resend's own, rather than a gateway's in front of it. */
function isOwnRefusal(body: unknown): body is OwnRefusal {
  return typeof property(body, "name") === "string" && typeof property(body, "message") === "string";
}

/**
 * The request was refused. `name` means little by itself: `validation_error` comes with 400, 401, 403 and 422,
 * and a wrong key has been seen as each of the first three.
 */
function refusalOf(status: number, { name, message }: OwnRefusal): Exclude<Outcome, { kind: "accepted" }> {
  const reason = reasonOf(status, `${name}:`, message);
  const byStatus = outcomeOfStatus(status, reason);
  if (byStatus) return byStatus;

  if (status === 429) {
    return /quota/.test(name)
      ? { kind: "accountRefused", reason, isQuota: true }
      : { kind: "throttled", reason };
  }
  if (status === 409) {
    if (name === "invalid_idempotent_request") return { kind: "keyReused", reason };
    if (name === "concurrent_idempotent_requests")
      return { kind: "unknown", reason, own: true, isAtWork: true };
    return { kind: name === "resource_locked" ? "unavailable" : "unknown", reason, own: true };
  }
  const refusal = senderRefusal(message, reason);
  if (refusal) return refusal;
  if (status === 401) return { kind: "accountRefused", reason };
  if (status === 403)
    return { kind: name === "invalid_from_address" ? "senderRefused" : "accountRefused", reason };
  if (status === 413) return { kind: "rejected", reason, stable: true };
  if (name === "invalid_idempotency_key") return { kind: "accountRefused", reason };
  if (status === 400 && aboutKey.test(message)) return { kind: "accountRefused", reason };
  return { kind: "rejected", reason, stable: true };
}

/** Resend's headers: the limit per window, and the window's length in `ratelimit-policy` ("10;w=1"), in seconds. */
function rateHint(headers: Headers): RateHint {
  const limit = numberIn(headers.get("ratelimit-limit"));
  const remaining = numberIn(headers.get("ratelimit-remaining"));
  const resetSeconds = numberIn(headers.get("ratelimit-reset"));
  const windowSeconds = numberIn(/;\s*w=([\d.]+)/.exec(headers.get("ratelimit-policy") ?? "")?.[1]) || 1;
  return {
    ...(limit !== undefined && limit > 0 && { limitPerSecond: limit / windowSeconds }),
    ...(remaining !== undefined && { remaining }),
    ...(resetSeconds !== undefined && { resetMs: resetSeconds * 1000 }),
    ...retryAfterHint(headers),
  };
}

function numberIn(text: string | null | undefined): number | undefined {
  return text && /^\d+(\.\d+)?$/.test(text.trim()) ? Number(text) : undefined;
}
