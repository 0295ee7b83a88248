import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { faults } from "../../fakes/faults.ts";
import { startFakeResend } from "../../fakes/resend.ts";
import { eventually } from "../support/eventually.ts";

const fake = startFakeResend();
const usual = structuredClone(fake.settings);
afterAll(() => fake.stop());
beforeEach(() => {
  fake.clear();
  Object.assign(fake.settings, usual);
});

const email = { from: "Shop <shop@example.com>", to: "a@example.org", subject: "s", text: "t" };

async function post(body: unknown, headers: Record<string, string> = {}, path = "/emails/batch") {
  const response = await fetch(fake.url + path, {
    method: "POST",
    headers: { authorization: "Bearer re_fake", "content-type": "application/json", ...headers },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  const text = await response.text();
  const json = text.startsWith("{") ? JSON.parse(text) : undefined;
  return {
    status: response.status,
    headers: response.headers,
    json,
    name: json?.name,
    message: json?.message,
  };
}

const permissive = { "x-batch-validation": "permissive" };

describe("fake resend: before reading the body", () => {
  test("a missing key is 401, a wrong one has the status that is set", async () => {
    expect(await post([email], { authorization: "" })).toMatchObject({
      status: 401,
      name: "missing_api_key",
    });
    const wrong = { authorization: "Bearer re_other" };
    expect(await post([email], wrong)).toMatchObject({
      status: 400,
      name: "validation_error",
      message: "API key is invalid",
    });
    fake.settings.wrongKeyStatus = 403;
    expect(await post([email], wrong)).toMatchObject({ status: 403, name: "invalid_api_key" });
  });

  test("no user agent is 403 in HTML", async () => {
    const response = await post([email], { "user-agent": "" });
    expect(response.status).toBe(403);
    expect(response.json).toBeUndefined();
  });

  test("other paths are 404, other methods 405", async () => {
    expect(await post([email], {}, "/emails/batches")).toMatchObject({ status: 404, name: "not_found" });
    const headers = { authorization: "Bearer re_fake" };
    expect((await fetch(`${fake.url}/emails/batch`, { method: "PUT", headers })).status).toBe(405);
    expect((await fetch(`${fake.url}/domains`, { headers })).status).toBe(200);
  });
});

describe("fake resend: validation", () => {
  const wrong: [name: string, email: object, says: string][] = [
    ["no sender", { from: undefined }, "`from`"],
    ["no recipient", { to: undefined }, "`to`"],
    ["no subject", { subject: undefined }, "`subject`"],
    ["no text", { text: undefined }, "`text`"],
    ["a sender without a domain", { from: "shop" }, "`from`"],
    ["two recipients in one text", { to: "a@example.org, b@example.org" }, "`to`"],
    ["51 recipients", { to: Array.from({ length: 51 }, () => "a@example.org") }, "`to`"],
    ["an unquoted comma in a name", { from: "Shop, Inc <shop@example.com>" }, "`from`"],
    ["a line feed in a name", { from: "Shop\nBcc: <shop@example.com>" }, "`from`"],
    ["a letter beyond ASCII before the @", { to: "é@example.org" }, "`to`"],
    ["a tag with a space", { tags: [{ name: "email_id", value: "a b" }] }, "Tags"],
  ];
  test.each(wrong)("%s is refused, in permissive mode without the others", async (_, change, says) => {
    const body = [email, { ...email, ...change }];
    expect(await post(body)).toMatchObject({
      status: 422,
      name: "validation_error",
      message: expect.stringContaining(says),
    });
    expect(fake.acceptances).toHaveLength(0);
    const { status, json } = await post(body, permissive);
    expect(status).toBe(200);
    expect(json.data).toHaveLength(1);
    expect(json.errors).toEqual([{ index: 1, message: expect.stringContaining(says) }]);
    expect(fake.acceptances).toHaveLength(1);
  });

  test("a batch has 1 to 100 emails", async () => {
    expect((await post(Array.from({ length: 100 }, () => email))).status).toBe(200);
    expect((await post(Array.from({ length: 101 }, () => email))).status).toBe(422);
    expect((await post([])).status).toBe(422);
    expect((await post(email)).status).toBe(422);
    expect((await post("[")).status).toBe(400);
  });

  test("an unverified domain refuses its request or only its email, as set", async () => {
    fake.settings.unverifiedDomains = ["bad.example"];
    const body = [email, { ...email, from: "x@bad.example" }];
    expect(await post(body, permissive)).toMatchObject({
      status: 403,
      message: expect.stringContaining("not verified"),
    });
    fake.settings.unverifiedRefuses = "email";
    expect((await post(body, permissive)).json.errors).toEqual([
      { index: 1, message: expect.stringContaining("not verified") },
    ]);
    expect((await post(body)).status).toBe(403);
  });
});

test("fake resend: a key restricted to a domain refuses any other", async () => {
  fake.settings.keyDomain = "example.com";
  const body = [email, { ...email, from: "x@gmail.com" }];
  const message = "This API key is not authorized to send emails from gmail.com";
  expect(await post(body, permissive)).toMatchObject({ status: 403, message });
  fake.settings.unverifiedRefuses = "email";
  expect((await post(body, permissive)).json.errors).toEqual([{ index: 1, message }]);
});

describe("fake resend: an idempotency key", () => {
  const key = { "idempotency-key": "k" };

  test("answers the same request as before, and sends nothing", async () => {
    const first = await post([email], key);
    expect((await post([email], key)).json).toEqual(first.json);
    expect(fake.acceptances).toHaveLength(1);
    expect(fake.acceptances[0]?.batch).toBe("k");
  });

  test("refuses another body", async () => {
    await post([email], key);
    expect(await post([{ ...email, subject: "other" }], key)).toMatchObject({
      status: 409,
      name: "invalid_idempotent_request",
    });
  });

  test("belongs to its endpoint", async () => {
    await post([email], key);
    expect((await post(email, key, "/emails")).status).toBe(200);
    expect(fake.acceptances).toHaveLength(2);
  });

  test("refuses a second request while the first is in progress", async () => {
    fake.faults.next({ stage: "working", delayMs: 1000, effect: "nothing" });
    const first = post([email], key);
    await eventually("the first has arrived", () => fake.requests.length === 1);
    expect(await post([email], key)).toMatchObject({ status: 409, name: "concurrent_idempotent_requests" });
    expect((await first).status).toBe(200);
    expect((await post([email], key)).json).toEqual((await first).json);
  });

  test("remembers what was accepted when the answer was lost", async () => {
    fake.faults.next(faults.resetAfterAccepting);
    await post([email], key).catch(() => undefined);
    const { json } = await post([email], key);
    expect(json.data).toEqual([{ id: fake.acceptances[0]?.messageId }]);
    expect(fake.acceptances).toHaveLength(1);
  });

  test("is forgotten after its lifetime", async () => {
    fake.settings.keyLifeMs = 0;
    await post([email], key);
    await post([email], key);
    expect(fake.acceptances).toHaveLength(2);
  });

  test("remembers a refusal or not, as set", async () => {
    const bad = [{ ...email, to: "nobody" }];
    await post(bad, key);
    expect((await post([email], key)).status).toBe(200);
    fake.clear();
    fake.settings.rememberRefusals = true;
    const first = await post(bad, key);
    expect((await post(bad, key)).json).toEqual(first.json);
    expect((await post([email], key)).status).toBe(409);
  });

  test.each(["", "k".repeat(257)])("has 1 to 256 characters", async (text) => {
    expect(await post([email], { "idempotency-key": text })).toMatchObject({
      status: 400,
      name: "invalid_idempotency_key",
    });
  });
});

describe("fake resend: limits", () => {
  test("the number of requests per second is limited, and every answer states the limit", async () => {
    fake.settings.rateLimit = 2;
    const answers = [await post([email]), await post([email]), await post([email])];
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 429]);
    expect(answers.map(({ headers }) => headers.get("ratelimit-remaining"))).toEqual(["1", "0", "0"]);
    expect(answers[2]?.name).toBe("rate_limit_exceeded");
    expect(answers[2]?.headers.get("ratelimit-policy")).toBe("2;w=1");
    expect(answers[2]?.headers.get("retry-after")).toBe("1");
  });

  test("the limit applies before or after the key is looked up, as set", async () => {
    const key = { "idempotency-key": "k" };
    await post([email], key);
    fake.settings.rateLimit = 0;
    expect((await post([email], key)).status).toBe(429);
    fake.settings.limitBeforeKey = false;
    expect((await post([email], key)).status).toBe(200);
    expect((await post([email], { "idempotency-key": "other" })).status).toBe(429);
  });

  test.each(["daily", "monthly"] as const)("a %s quota limits the number of emails", async (which) => {
    fake.settings[`${which}Quota`] = 3;
    expect((await post([email, email])).status).toBe(200);
    expect(await post([email, email])).toMatchObject({ status: 429, name: `${which}_quota_exceeded` });
    expect((await post([email])).status).toBe(200);
  });
});

test("fake resend: duplicates are emails accepted more than once", async () => {
  const tagged = (id: string) => ({ ...email, tags: [{ name: "email_id", value: id }] });
  await post([tagged("a"), tagged("b"), email]);
  await post([tagged("a"), email]);
  expect([...fake.duplicates().keys()]).toEqual(["a"]);
  expect(fake.duplicates().get("a")).toHaveLength(2);
});
