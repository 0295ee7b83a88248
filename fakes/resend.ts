// Resend's API as far as this service uses it: sending one email or a batch, with idempotency keys, limits and quotas.
// Where the real API's behavior is undocumented, a setting chooses.

import { domainOf, parseMailbox } from "./address_rules.ts";
import { type Api, Fake, type FakeOptions } from "./fake.ts";
import { type Answer, jsonAnswer, type Request } from "./http.ts";
import type { Ledger, Message } from "./ledger.ts";
import { RateLimit } from "./rate_limit.ts";
import { readMessage } from "./resend_message.ts";

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
  /** Number of emails; null for no quota. */
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
  readonly body: string;
  readonly untilMs: number;
  answer?: Answer;
}

const batchMax = 100;

class ResendApi implements Api {
  readonly provider = "resend";
  readonly #settings: ResendSettings;
  readonly #ledger: Ledger;
  /** Path and idempotency key -> the request under them. */
  readonly #keys = new Map<string, Kept>();
  readonly #limit = new RateLimit();
  /** Emails that count towards the quotas. */
  #used = 0;

  constructor(settings: ResendSettings, ledger: Ledger) {
    this.#settings = settings;
    this.#ledger = ledger;
  }

  async handle(request: Request, number: number, working: () => Promise<void>): Promise<Answer> {
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

    const entry: Kept = { body: request.body, untilMs: Date.now() + this.#settings.keyLifeMs };
    if (scoped !== undefined) this.#keys.set(scoped, entry);
    if (this.#settings.workMs > 0) await Bun.sleep(this.#settings.workMs);
    await working();
    const answer = this.#accept(request, batch, key ?? "", number);
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

  #accept(request: Request, batch: boolean, key: string, number: number): Answer {
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
      const message = readMessage(item);
      if (typeof message === "string") {
        if (!permissive) return refusal(422, "validation_error", message);
        errors.push({ index, message });
        continue;
      }
      const domain = domainOf(parseMailbox(message.from)?.address ?? "");
      const text = this.#refusalOfDomain(domain);
      if (text !== undefined) {
        if (!permissive || this.#settings.unverifiedRefuses === "request")
          return refusal(403, "validation_error", text);
        errors.push({ index, message: text });
        continue;
      }
      messages.push(message);
    }
    const overQuota = this.#checkQuota(messages.length);
    if (overQuota) return overQuota;
    this.#used += messages.length;
    const data = messages.map((message) => {
      const messageId = crypto.randomUUID();
      const emailId = message.labels["email_id"] ?? "";
      this.#ledger.accept({
        provider: "resend",
        messageId,
        atMs: Date.now(),
        request: number,
        batch: key,
        emailId,
        ...message,
      });
      return { id: messageId };
    });
    if (!batch) return jsonAnswer(200, data[0]);
    return jsonAnswer(200, permissive ? { data, errors } : { data });
  }

  #refusalOfDomain(domain: string): string | undefined {
    const { keyDomain, unverifiedDomains } = this.#settings;
    if (keyDomain !== null && domain !== keyDomain)
      return `This API key is not authorized to send emails from ${domain}`;
    if (unverifiedDomains.includes(domain))
      return `The ${domain} domain is not verified. Please, add and verify your domain on https://resend.com/domains`;
    return undefined;
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

function answerUnderKey(kept: Kept, body: string): Answer {
  if (kept.body !== body) {
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
