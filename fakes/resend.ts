// Resend's API as far as this service uses it: sending one email or a batch, with idempotency keys, limits and quotas.
// Where the real API's behavior is undocumented, a setting chooses.

import { domainOf, parseMailbox, splitMailboxes } from "./address_rules.ts";
import { type Api, Fake, type FakeOptions } from "./fake.ts";
import { type Answer, jsonAnswer, type Request } from "./http.ts";
import { type Ledger, type Message, type RecordedRequest, recordViolations } from "./ledger.ts";
import { RateLimit } from "./rate_limit.ts";
import { isRefusal, readMessage, type Refusal } from "./resend_message.ts";
import { findViolations, type Specification } from "./schema.ts";
import spec from "./specs/resend.json";

export interface ResendSettings {
  apiKey: string;
  /** Whether the key may only send. */
  sendOnly: boolean;
  /** The only domain from which the key may send; null for any. */
  keyDomain: string | null;
  /** Status of the answer to a wrong key: the documentation and observed answers differ. */
  wrongKeyStatus: 400 | 401 | 403;
  /** Requests per second; null for no limit and no headers about it. */
  rateLimit: number | null;
  /** Whether a request over the limit is refused before its key is looked up, or only if its key is new. */
  limitBeforeKey: boolean;
  /** Number of recipients; null for no quota. */
  dailyQuota: number | null;
  monthlyQuota: number | null;
  /** Domains that are not verified. */
  unverifiedDomains: string[];
  /** Whether an email from one of these, or not from `keyDomain`, refuses only itself (in permissive mode) or its request. */
  unverifiedRefuses: "email" | "request";
  /** How long a key is remembered, ms. */
  keyLifeMs: number;
  /** Whether a refusal is remembered under its key, as an acceptance is. */
  rememberRefusals: boolean;
  /** How long the API works on a request, ms. Meanwhile its key is in use. */
  workMs: number;
}

export interface FakeResendOptions extends FakeOptions, Partial<ResendSettings> {}

export function startFakeResend(options: FakeResendOptions = {}): Fake<ResendSettings> {
  const settings: ResendSettings = {
    apiKey: options.apiKey ?? "re_fake",
    sendOnly: options.sendOnly ?? false,
    keyDomain: options.keyDomain ?? null,
    wrongKeyStatus: options.wrongKeyStatus ?? 400,
    rateLimit: options.rateLimit ?? null,
    limitBeforeKey: options.limitBeforeKey ?? true,
    dailyQuota: options.dailyQuota ?? null,
    monthlyQuota: options.monthlyQuota ?? null,
    unverifiedDomains: options.unverifiedDomains ?? [],
    unverifiedRefuses: options.unverifiedRefuses ?? "request",
    keyLifeMs: options.keyLifeMs ?? 24 * 3_600_000,
    rememberRefusals: options.rememberRefusals ?? false,
    workMs: options.workMs ?? 0,
  };
  return new Fake(options, settings, (ledger) => new ResendApi(settings, ledger));
}

/** The request under an idempotency key; it has no answer while it is in progress. */
interface Kept {
  /** Hash of the body, which may be large. */
  readonly body: number | bigint;
  readonly untilMs: number;
  answer?: Answer;
}

const { schemas } = spec as Specification;
const batchMax = 100;

class ResendApi implements Api {
  readonly provider = "resend";
  readonly #settings: ResendSettings;
  readonly #ledger: Ledger;
  /** Path and idempotency key -> the request under them. */
  readonly #keys = new Map<string, Kept>();
  readonly #limit = new RateLimit();
  /** Recipients that count towards the quotas. */
  #used = 0;

  constructor(settings: ResendSettings, ledger: Ledger) {
    this.#settings = settings;
    this.#ledger = ledger;
  }

  async handle(request: Request, record: RecordedRequest, working: () => Promise<void>): Promise<Answer> {
    const refusedAtDoor = checkDoor(request, this.#settings);
    if (refusedAtDoor) return refusedAtDoor;
    if (request.method === "GET" && request.path === "/domains") {
      if (this.#settings.sendOnly)
        return refusal(401, "restricted_api_key", "This API key is restricted to only send emails");
      return jsonAnswer(200, { object: "list", has_more: false, data: [] });
    }

    const batch = request.path === "/emails/batch";
    if (!batch && request.path !== "/emails")
      return refusal(404, "not_found", "The requested endpoint does not exist.");
    if (request.method !== "POST")
      return refusal(405, "method_not_allowed", "This endpoint does not support this method.");

    const headers: Record<string, string> = {};
    const withHeaders = (answer: Answer): Answer => ({
      ...answer,
      headers: { ...answer.headers, ...headers },
    });
    const overLimit = this.#limitRate(headers);
    if (overLimit && this.#settings.limitBeforeKey) return withHeaders(overLimit);

    const key = request.headers["idempotency-key"];
    if (key !== undefined && (key.length < 1 || key.length > 256)) {
      return withHeaders(
        refusal(400, "invalid_idempotency_key", "The key must be between 1-256 characters."),
      );
    }
    const scoped = key === undefined ? undefined : `${request.path} ${key}`;
    const kept = scoped === undefined ? undefined : this.#lookUp(scoped);
    if (kept) return withHeaders(answerUnderKey(kept, request.body));
    if (overLimit) return withHeaders(overLimit);

    const entry: Kept = { body: Bun.hash(request.body), untilMs: Date.now() + this.#settings.keyLifeMs };
    if (scoped !== undefined) this.#keys.set(scoped, entry);
    if (this.#settings.workMs > 0) await Bun.sleep(this.#settings.workMs);
    await working();
    const answer = this.#send(request, batch, key ?? "", record);
    if (scoped !== undefined) {
      if (answer.status === 200 || this.#settings.rememberRefusals) entry.answer = answer;
      else this.#keys.delete(scoped);
    }
    return withHeaders(answer);
  }

  #lookUp(scoped: string): Kept | undefined {
    const kept = this.#keys.get(scoped);
    if (kept && kept.untilMs > Date.now()) return kept;
    this.#keys.delete(scoped);
    return undefined;
  }

  #limitRate(headers: Record<string, string>): Answer | undefined {
    if (this.#settings.rateLimit === null) return undefined;
    const { allowed, remaining, resetMs } = this.#limit.take(this.#settings.rateLimit, Date.now());
    const resetSeconds = String(Math.ceil(resetMs / 1000));
    headers["ratelimit-limit"] = String(this.#settings.rateLimit);
    headers["ratelimit-remaining"] = String(remaining);
    headers["ratelimit-reset"] = resetSeconds;
    headers["ratelimit-policy"] = `${this.#settings.rateLimit};w=1`;
    if (allowed) return undefined;
    headers["retry-after"] = resetSeconds;
    return refusal(
      429,
      "rate_limit_exceeded",
      `Too many requests. You can only make ${this.#settings.rateLimit} requests per second. See rate limit response headers for more information.`,
    );
  }

  #send(request: Request, batch: boolean, key: string, record: RecordedRequest): Answer {
    let body: unknown;
    try {
      body = JSON.parse(request.body);
    } catch {
      return refusal(400, "validation_error", "The request body is not valid JSON.");
    }
    if (!batch) body = [body];
    if (!Array.isArray(body)) return refusal(422, "validation_error", "The request body must be an array.");
    if (body.length < 1 || body.length > batchMax) {
      return refusal(422, "validation_error", `The batch must hold between 1 and ${batchMax} emails.`);
    }
    const permissive = batch && request.headers["x-batch-validation"] === "permissive";
    const messages: Message[] = [];
    const errors: { index: number; message: string }[] = [];
    for (const [index, item] of body.entries()) {
      const read = this.#read(item, batch ? index : undefined, record);
      if (!isRefusal(read)) {
        messages.push(read);
        continue;
      }
      const refusesAll = read.status === 403 && this.#settings.unverifiedRefuses === "request";
      if (!permissive || refusesAll) return refusal(read.status, read.name, read.message);
      errors.push({ index, message: read.message });
    }
    const recipients = messages.reduce((sum, message) => sum + countRecipients(message), 0);
    const overQuota = this.#checkQuota(recipients);
    if (overQuota) return overQuota;
    this.#used += recipients;
    const data = messages.map((message) => ({ id: this.#accept(message, key, record.number) }));
    if (!batch) return jsonAnswer(200, data[0]);
    return jsonAnswer(200, permissive ? { data, errors } : { data });
  }

  /** Reads one message, and records its violations of the API's description. */
  #read(item: unknown, index: number | undefined, record: RecordedRequest): Message | Refusal {
    const inBatch = index !== undefined;
    const violations = findViolations(item, { $ref: "SendEmailRequest" }, schemas);
    recordViolations(record, violations, inBatch ? `$[${index}]` : "$");
    const message = readMessage(item, violations, { inBatch });
    return isRefusal(message) ? message : (this.#refusalOfSender(message.from) ?? message);
  }

  #refusalOfSender(from: string): Refusal | undefined {
    const { keyDomain, unverifiedDomains } = this.#settings;
    const domain = domainOf(parseMailbox(from)?.address ?? "");
    const refuse = (message: string): Refusal => ({ status: 403, name: "validation_error", message });
    if (keyDomain !== null && domain !== keyDomain)
      return refuse(`This API key is not authorized to send emails from ${domain}`);
    if (unverifiedDomains.includes(domain))
      return refuse(
        `The ${domain} domain is not verified. Please, add and verify your domain on https://resend.com/domains`,
      );
    return undefined;
  }

  /** Returns the message's id. */
  #accept(message: Message, key: string, request: number): string {
    const messageId = crypto.randomUUID();
    const emailId = message.labels["email_id"] ?? "";
    this.#ledger.accept({
      provider: "resend",
      messageId,
      atMs: Date.now(),
      request,
      batch: key,
      emailId,
      ...message,
    });
    return messageId;
  }

  #checkQuota(more: number): Answer | undefined {
    if (this.#settings.dailyQuota !== null && this.#used + more > this.#settings.dailyQuota) {
      return withRetryAfter(
        refusal(429, "daily_quota_exceeded", "You have reached your daily email sending quota."),
      );
    }
    if (this.#settings.monthlyQuota !== null && this.#used + more > this.#settings.monthlyQuota) {
      return withRetryAfter(
        refusal(429, "monthly_quota_exceeded", "You have reached your monthly email sending quota."),
      );
    }
    return undefined;
  }

  clear(): void {
    this.#keys.clear();
    this.#limit.clear();
    this.#used = 0;
  }
}

/** Refusals that come before the request is read. */
function checkDoor(request: Request, settings: ResendSettings): Answer | undefined {
  if (!request.headers["user-agent"])
    return { status: 403, headers: { "content-type": "text/html" }, body: "<html>403</html>" };
  const authorization = request.headers["authorization"];
  if (!authorization) return refusal(401, "missing_api_key", "Missing API key in the authorization header.");
  if (authorization === `Bearer ${settings.apiKey}`) return undefined;
  const name = settings.wrongKeyStatus === 403 ? "invalid_api_key" : "validation_error";
  return refusal(settings.wrongKeyStatus, name, "API key is invalid");
}

function countRecipients({ to, cc = "", bcc = "" }: Message): number {
  return [to, cc, bcc].reduce((sum, list) => sum + splitMailboxes(list).length, 0);
}

function answerUnderKey(kept: Kept, body: string): Answer {
  if (kept.body !== Bun.hash(body)) {
    return refusal(
      409,
      "invalid_idempotent_request",
      "This idempotency key has been used on this HTTP method and endpoint with a different request body.",
    );
  }
  return (
    kept.answer ??
    refusal(
      409,
      "concurrent_idempotent_requests",
      "Another request with the same idempotency key is in progress.",
    )
  );
}

function refusal(statusCode: number, name: string, message: string): Answer {
  return jsonAnswer(statusCode, { statusCode, name, message });
}

/** Real refusals by quota carry the rate limit's header, which says nothing about the quota. */
function withRetryAfter(answer: Answer): Answer {
  return { ...answer, headers: { ...answer.headers, "retry-after": "1" } };
}
