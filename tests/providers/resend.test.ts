import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { answerInstead } from "../../fakes/faults.ts";
import { classOf, outgoing, outgoingWithFile, send, startResend, wholeOf } from "./adapters.ts";

const { fake, provider } = startResend();
afterAll(() => fake.stop());
beforeEach(() => fake.clear());

const html = { text: "<html>no</html>", headers: { "content-type": "text/html" } };

describe("resend: an answer for the whole request is", () => {
  const answers: [status: number, name: string, message: string, expected: string][] = [
    [400, "validation_error", "Invalid `to` field.", "rejected, stable"],
    [400, "validation_error", "API key is invalid", "accountRefused"],
    [401, "validation_error", "API key is invalid", "accountRefused"],
    [403, "invalid_api_key", "API key is invalid", "accountRefused"],
    [400, "invalid_idempotency_key", "The key must be between 1-256 characters.", "accountRefused"],
    [401, "missing_api_key", "Missing API key.", "accountRefused"],
    [401, "restricted_api_key", "This API key is restricted to only send emails.", "accountRefused"],
    [403, "restricted_api_key", "API key is not active", "accountRefused"],
    [403, "suspended_api_key", "The key is suspended.", "accountRefused"],
    [403, "invalid_permission", "No.", "accountRefused"],
    [
      403,
      "validation_error",
      "The example.com domain is not verified. Please, add and verify it.",
      "senderRefused",
    ],
    [
      403,
      "validation_error",
      "You can only send testing emails to your own email address (a@b.c).",
      "senderRefused",
    ],
    [
      403,
      "validation_error",
      "This API key is not authorized to send emails from gmail.com",
      "senderRefused",
    ],
    [
      403,
      "restricted_api_key",
      "This API key is not authorized to send emails from x.test.",
      "senderRefused",
    ],
    [403, "validation_error", "The domain has been registered already.", "accountRefused"],
    [403, "email_above_quota", "Upgrade your plan.", "accountRefused"],
    [403, "invalid_from_address", "Invalid from.", "senderRefused"],
    [404, "not_found", "The requested endpoint does not exist.", "accountRefused"],
    [405, "method_not_allowed", "No.", "accountRefused"],
    [409, "concurrent_idempotent_requests", "In progress.", "unknown"],
    [409, "invalid_idempotent_request", "Used with a different body.", "keyReused"],
    [409, "resource_locked", "Locked.", "unavailable"],
    [409, "something_new", "What?", "unknown"],
    [413, "validation_error", "Too large.", "rejected, stable"],
    [422, "validation_error", "Invalid `from` field.", "rejected, stable"],
    [422, "validation_error", "Your API key is a fine subject.", "rejected, stable"],
    [422, "missing_required_field", "Missing `subject` field.", "rejected, stable"],
    [422, "missing_required_parameter", "Missing.", "rejected, stable"],
    [422, "invalid_parameter", "Invalid.", "rejected, stable"],
    [422, "invalid_attachment", "Invalid.", "rejected, stable"],
    [422, "invalid_from_address", "Invalid.", "rejected, stable"],
    [422, "something_new", "Invalid.", "rejected, stable"],
    [429, "rate_limit_exceeded", "Too many requests.", "throttled"],
    [429, "something_new", "Too many requests.", "throttled"],
    [429, "daily_quota_exceeded", "Too many emails.", "accountRefused"],
    [429, "monthly_quota_exceeded", "Too many emails.", "accountRefused"],
    [451, "security_error", "We suspect this.", "rejected"],
    [406, "not_acceptable", "No.", "rejected"],
    [408, "timeout", "Too slow.", "unknown"],
    [402, "payment_required", "Pay.", "accountRefused"],
    [425, "too_early", "Later.", "unavailable"],
    [418, "teapot", "Short and stout.", "accountRefused"],
    [300, "multiple_choices", "Which?", "accountRefused"],
    [303, "see_other", "Done, look there.", "unknown"],
    [500, "application_error", "Internal.", "unknown"],
    [500, "internal_server_error", "Internal.", "unknown"],
    [502, "bad_gateway", "No.", "unknown"],
    [504, "gateway_timeout", "No.", "unknown"],
    [503, "service_unavailable", "Later.", "unavailable"],
  ];
  test.each(answers)("%i %s (%s): %s", async (status, name, message, expected) => {
    fake.faults.next(answerInstead(status, { statusCode: status, name, message }));
    expect(await wholeOf(send(provider))).toBe(expected);
  });
});

describe("resend: a success that does not account for every email is unknown:", () => {
  const [a, b] = [{ id: "a" }, { id: "b" }];
  const refused = (index: unknown) => ({ index, message: "Invalid `to` field." });
  const accounts: [name: string, json: unknown][] = [
    ["null", null],
    ["an empty object", {}],
    ["a bare list", [a, b]],
    ["one too few", { data: [a], errors: [] }],
    ["one too many", { data: [a, b], errors: [refused(0)] }],
    ["an id missing", { data: [a, {}] }],
    ["an id that is not a string", { data: [a, { id: 7 }] }],
    ["an empty id", { data: [a, { id: "" }] }],
    ["an id twice", { data: [a, a] }],
    ["an index twice", { data: [], errors: [refused(0), refused(0)] }],
    ["an index below", { data: [a], errors: [refused(-1)] }],
    ["an index above", { data: [a], errors: [refused(2)] }],
    ["an index that is not a number", { data: [a], errors: [refused("0")] }],
    ["a fractional index", { data: [a], errors: [refused(0.5)] }],
    ["errors that are not a list", { data: [a, b], errors: {} }],
  ];
  test.each(accounts)("%s", async (_, json) => {
    fake.faults.next(answerInstead(200, json));
    expect(await wholeOf(send(provider))).toBe("unknown");
  });
});

describe("resend: each email", () => {
  test("is accepted under its own id, in the order of the request", async () => {
    const batch = outgoing(3);
    const { result } = await send(provider, batch);
    expect(result).toEqual({
      kind: "each",
      outcomes: fake.acceptances.map(({ messageId }) => ({ kind: "accepted", providerMessageId: messageId })),
    });
    expect(fake.acceptances.map(({ emailId }) => emailId)).toEqual(batch.emails.map(({ id }) => id));
    expect(fake.acceptances.every(({ batch: key }) => key === batch.batchId)).toBe(true);
  });

  test("that is refused does not change the others' ids", async () => {
    const refusals = ["Invalid `to` field.", "The b.example domain is not verified.", "API key is invalid"];
    const errors = [
      { index: 3, message: refusals[1] },
      { index: 0, message: refusals[0] },
      { index: 4, message: refusals[2] },
    ];
    fake.faults.next(answerInstead(200, { data: [{ id: "first" }, { id: "second" }], errors }));
    const { result } = await send(provider, outgoing(5));
    if (result.kind !== "each") throw new Error("whole");
    expect(result.outcomes.map(classOf)).toEqual([
      "rejected, stable",
      "accepted",
      "accepted",
      "senderRefused",
      "accountRefused",
    ]);
    expect(result.outcomes.slice(1, 3)).toEqual([
      { kind: "accepted", providerMessageId: "first" },
      { kind: "accepted", providerMessageId: "second" },
    ]);
  });

  test("whose sender the key may not use is refused for its sender, although the message is about the key", async () => {
    const message = "This API key is not authorized to send emails from gmail.com";
    fake.faults.next(answerInstead(200, { data: [{ id: "first" }], errors: [{ index: 1, message }] }));
    const { result } = await send(provider, outgoing(2));
    expect(result).toEqual({
      kind: "each",
      outcomes: [
        { kind: "accepted", providerMessageId: "first" },
        { kind: "senderRefused", reason: `refused: ${message}`, domain: "gmail.com" },
      ],
    });
  });

  test("with an invalid address is refused alone by the API", async () => {
    const batch = outgoing(2);
    const [first, second] = batch.emails;
    if (!first || !second) throw new Error("two");
    const bad = { ...batch, emails: [{ ...first, email: { ...first.email, to: "nobody" } }, second] };
    const { result } = await send(provider, bad);
    expect(result.kind === "each" && result.outcomes.map(classOf)).toEqual(["rejected, stable", "accepted"]);
  });

  test("is accepted once, however often its batch is sent", async () => {
    const batch = outgoing(2);
    const first = await send(provider, batch);
    expect(await send(provider, batch)).toEqual(first);
    expect(fake.acceptances).toHaveLength(2);
  });
});

const testing =
  "You can only send testing emails to your own email address (a@b.c). To send emails to other recipients, please verify a domain at resend.com/domains";
test.each([
  ["The x.test domain is not verified. Please, add and verify your domain.", "x.test"],
  ["The Mail.X.TEST domain is not verified", "mail.x.test"],
  ["The `x.test` domain is not verified.", "x.test"],
  ["This API key is not authorized to send emails from GMail.com", "gmail.com"],
  ["This API key is not authorized to send emails from gmail.com. Please use another.", "gmail.com"],
  ["This API key is not authorized to send emails from xn--bcher-kva.example", "xn--bcher-kva.example"],
  [testing, undefined],
  ["The domain is not verified.", undefined],
  ["Your domain is not verified: see resend.com", undefined],
  ["The localhost domain is not verified.", undefined],
  ["The 127.0.0.1 domain is not verified.", undefined],
  ["The x..test domain is not verified.", undefined],
  ["This API key is not authorized to send emails from a@x.test", undefined],
  ["This API key is not authorized to send emails from this domain", undefined],
])("resend: the sender refusal %j names the domain %p", async (message, domain) => {
  fake.faults.next(answerInstead(403, { name: "validation_error", message }));
  const { result } = await send(provider);
  if (result.kind !== "whole" || result.outcome.kind !== "senderRefused") throw new Error("not the sender's");
  expect(result.outcome.domain).toBe(domain);
});

test("resend: a reason has the status, the error and the provider's message, without addresses", async () => {
  fake.faults.next(answerInstead(422, { name: "validation_error", message: "Invalid `to` field: a@b.c." }));
  expect((await send(provider)).result).toMatchObject({
    outcome: { reason: "422 validation_error: Invalid `to` field: [address]." },
  });
  fake.faults.next({ stage: "read", effect: { status: 403, ...html } });
  expect((await send(provider)).result).toMatchObject({
    outcome: { reason: "403 not the provider's own answer" },
  });
});

describe("resend: rate hint", () => {
  const hints: [name: string, headers: Record<string, string>, expected: object][] = [
    ["none", {}, {}],
    [
      "all",
      {
        "ratelimit-limit": "20",
        "ratelimit-remaining": "3",
        "ratelimit-reset": "1",
        "ratelimit-policy": "20;w=1",
      },
      { limitPerSecond: 20, remaining: 3, resetMs: 1000 },
    ],
    ["a longer window", { "ratelimit-limit": "20", "ratelimit-policy": "20;w=10" }, { limitPerSecond: 2 }],
    ["a window of zero", { "ratelimit-limit": "20", "ratelimit-policy": "20;w=0" }, { limitPerSecond: 20 }],
    ["nonsense", { "ratelimit-limit": "many", "ratelimit-remaining": "-1", "retry-after": "soon" }, {}],
    ["a limit of zero", { "ratelimit-limit": "0" }, {}],
    ["seconds to wait", { "retry-after": "3" }, { retryAfterMs: 3000 }],
    ["a time in the past", { "retry-after": "Wed, 21 Oct 2015 07:28:00 GMT" }, {}],
  ];
  test.each(hints)("%s", async (_, headers, expected) => {
    fake.faults.next(answerInstead(429, { name: "rate_limit_exceeded", message: "Too many." }, headers));
    expect((await send(provider)).rate).toEqual(expected);
  });

  test("is not taken from a gateway", async () => {
    const headers = { "ratelimit-limit": "1", "ratelimit-remaining": "0", "retry-after": "60" };
    for (const status of [200, 429, 503]) {
      fake.faults.next(answerInstead(status, { message: "Slow down." }, headers));
      expect((await send(provider)).rate).toEqual({});
    }
  });

  test("has the API's limit", async () => {
    fake.settings.rateLimit = 7;
    try {
      expect((await send(provider)).rate).toMatchObject({ limitPerSecond: 7, remaining: 6 });
    } finally {
      fake.settings.rateLimit = null;
    }
  });

  test("does not mistake the rate limit's pause for the quota's", async () => {
    fake.faults.next(
      answerInstead(429, { name: "daily_quota_exceeded", message: "No." }, { "retry-after": "1" }),
    );
    expect((await send(provider)).rate).toEqual({});
  });

  test("waits for an earlier request under the same key", async () => {
    fake.faults.next(answerInstead(409, { name: "concurrent_idempotent_requests", message: "Wait." }));
    expect((await send(provider)).rate).toEqual({ retryAfterMs: 2000 });
  });
});

describe("resend: an email with files", () => {
  test("travels alone, under the id of its batch as its key", async () => {
    const batch = outgoingWithFile();
    for (let attempt = 0; attempt < 2; attempt += 1) {
      expect((await send(provider, batch)).result).toMatchObject({ outcomes: [{ kind: "accepted" }] });
    }
    expect(fake.requests.map(({ target }) => target)).toEqual(["/emails", "/emails"]);
    expect(fake.acceptances.map(({ batch: key }) => key)).toEqual([batch.batchId]);
  });

  test("is never put into a batch, which would drop them", async () => {
    const [alone, others] = [outgoingWithFile(), outgoing(1)];
    const batch = { ...alone, emails: [...alone.emails, ...others.emails] };
    await expect(send(provider, batch)).rejects.toThrow(TypeError);
    expect(fake.requests).toEqual([]);
  });

  test.each([[{ id: "" }], [{ id: null }], [{}], [[{ id: "a" }]], [{ data: [{ id: "a" }] }]])(
    "is not known to be accepted by the answer %j",
    async (json) => {
      fake.faults.next(answerInstead(200, json));
      expect(await wholeOf(send(provider, outgoingWithFile()))).toBe("unknown");
    },
  );
});
