// Resend's API as far as this service could ever meet it: sending, alone and in batches, with idempotency keys,
// limits and quotas. Where nobody has published what the true one does, a setting chooses.

import { domainOf, parseMailbox } from "./address_rules.ts";
import { type Api, type Fake, type FakeOptions, startFake } from "./fake.ts";
import type { Answer, Request } from "./http.ts";
import type { Ledger } from "./ledger.ts";
import { createRateLimit } from "./limits.ts";
import { type Message, readMessage } from "./resend-message.ts";

export interface ResendSettings {
  apiKey: string;
  /** The key may do nothing but send. */
  sendOnly: boolean;
  /** The one domain that the key may send from; null: any. */
  keyDomain: string | null;
  /** The answer to a wrong key: its documentation and what has been seen differ. */
  wrongKeyStatus: 400 | 401 | 403;
  /** Requests per second; null: none, and no headers about it. */
  rateLimit: number | null;
  /** Whether a request over the limit is refused before its key is looked up, or only if it is a new one. */
  limitBeforeKey: boolean;
  /** Emails in all; null: as many as you like. */
  dailyQuota: number | null;
  monthlyQuota: number | null;
  /** Domains that are not verified. */
  unverifiedDomains: string[];
  /** Whether an email from one of these, or from another domain than the key's, is refused alone (in permissive mode), or its whole request. */
  unverifiedRefuses: "email" | "request";
  /** How long a key is remembered, ms. */
  keyLifeMs: number;
  /** Whether a refusal is kept under its key like an acceptance. */
  rememberRefusals: boolean;
  /** How long the API works on a request, ms. Its key is in flight for so long. */
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
  return startFake(options, settings, (ledger) => createApi(settings, ledger));
}

/** What is kept under an idempotency key; without an answer while the request is at work. */
interface Kept {
  readonly body: string;
  readonly untilMs: number;
  answer?: Answer;
}

const batchMax = 100;

function createApi(settings: ResendSettings, ledger: Ledger): Api {
  const keys = new Map<string, Kept>();
  const limit = createRateLimit();
  let used = 0;

  async function handle(request: Request, number: number, working: () => Promise<void>): Promise<Answer> {
    const refusedAtDoor = checkDoor(request, settings);
    if (refusedAtDoor) return refusedAtDoor;
    if (request.method === "GET" && request.path === "/domains") {
      if (settings.sendOnly)
        return refusal(401, "restricted_api_key", "This API key is restricted to only send emails");
      return ok({ object: "list", has_more: false, data: [] });
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
    const overLimit = limitRate(headers);
    if (overLimit && settings.limitBeforeKey) return withHeaders(overLimit);

    const key = request.headers["idempotency-key"];
    if (key !== undefined && (key.length < 1 || key.length > 256)) {
      return withHeaders(
        refusal(400, "invalid_idempotency_key", "The key must be between 1-256 characters."),
      );
    }
    const scoped = key === undefined ? undefined : `${request.path} ${key}`;
    const kept = scoped === undefined ? undefined : lookUp(scoped);
    if (kept) return withHeaders(answerUnderKey(kept, request.body));
    if (overLimit) return withHeaders(overLimit);

    const entry: Kept = { body: request.body, untilMs: Date.now() + settings.keyLifeMs };
    if (scoped !== undefined) keys.set(scoped, entry);
    if (settings.workMs > 0) await Bun.sleep(settings.workMs);
    await working();
    const answer = accept(request, batch, key ?? "", number);
    if (scoped !== undefined) {
      if (answer.status === 200 || settings.rememberRefusals) entry.answer = answer;
      else keys.delete(scoped);
    }
    return withHeaders(answer);
  }

  function lookUp(scoped: string): Kept | undefined {
    const kept = keys.get(scoped);
    if (kept && kept.untilMs > Date.now()) return kept;
    keys.delete(scoped);
    return undefined;
  }

  function limitRate(headers: Record<string, string>): Answer | undefined {
    if (settings.rateLimit === null) return undefined;
    const { allowed, remaining, resetMs } = limit.take(settings.rateLimit, Date.now());
    const resetSeconds = String(Math.ceil(resetMs / 1000));
    headers["ratelimit-limit"] = String(settings.rateLimit);
    headers["ratelimit-remaining"] = String(remaining);
    headers["ratelimit-reset"] = resetSeconds;
    headers["ratelimit-policy"] = `${settings.rateLimit};w=1`;
    if (allowed) return undefined;
    headers["retry-after"] = resetSeconds;
    return refusal(
      429,
      "rate_limit_exceeded",
      `Too many requests. You can only make ${settings.rateLimit} requests per second. See rate limit response headers for more information.`,
    );
  }

  function accept(request: Request, batch: boolean, key: string, number: number): Answer {
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
      const text = refusalOfDomain(domain);
      if (text !== undefined) {
        if (!permissive || settings.unverifiedRefuses === "request")
          return refusal(403, "validation_error", text);
        errors.push({ index, message: text });
        continue;
      }
      messages.push(message);
    }
    const overQuota = checkQuota(messages.length);
    if (overQuota) return overQuota;
    used += messages.length;
    const data = messages.map((message) => {
      const messageId = crypto.randomUUID();
      const emailId = message.labels["email_id"] ?? "";
      ledger.accept({
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
    if (!batch) return ok(data[0]);
    return ok(permissive ? { data, errors } : { data });
  }

  function refusalOfDomain(domain: string): string | undefined {
    const { keyDomain, unverifiedDomains } = settings;
    if (keyDomain !== null && domain !== keyDomain)
      return `This API key is not authorized to send emails from ${domain}`;
    if (unverifiedDomains.includes(domain))
      return `The ${domain} domain is not verified. Please, add and verify your domain on https://resend.com/domains`;
    return undefined;
  }

  function checkQuota(more: number): Answer | undefined {
    if (settings.dailyQuota !== null && used + more > settings.dailyQuota) {
      return withRetryAfter(
        refusal(429, "daily_quota_exceeded", "You have reached your daily email sending quota."),
      );
    }
    if (settings.monthlyQuota !== null && used + more > settings.monthlyQuota) {
      return withRetryAfter(
        refusal(429, "monthly_quota_exceeded", "You have reached your monthly email sending quota."),
      );
    }
    return undefined;
  }

  return {
    provider: "resend",
    handle,
    clear() {
      keys.clear();
      limit.clear();
      used = 0;
    },
  };
}

/** What is refused before anything of the request is understood. */
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

function ok(body: unknown): Answer {
  return {
    status: 200,
    headers: { "content-type": "application/json; charset=utf-8" },
    body: JSON.stringify(body),
  };
}

function refusal(statusCode: number, name: string, message: string): Answer {
  return {
    status: statusCode,
    headers: { "content-type": "application/json; charset=utf-8" },
    body: JSON.stringify({ statusCode, name, message }),
  };
}

/** The quota's refusals have been seen with the rate limit's header, which says nothing about the quota. */
function withRetryAfter(answer: Answer): Answer {
  return { ...answer, headers: { ...answer.headers, "retry-after": "1" } };
}
