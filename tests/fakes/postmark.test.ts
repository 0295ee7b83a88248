import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { startFakePostmark } from "../../fakes/postmark.ts";

const fake = startFakePostmark();
const usual = structuredClone(fake.settings);
afterAll(() => fake.stop());
beforeEach(() => {
  fake.clear();
  Object.assign(fake.settings, usual);
});

const email = { From: "Shop <shop@example.com>", To: "a@example.org", Subject: "s", TextBody: "t" };
const headers = {
  accept: "application/json",
  "content-type": "application/json",
  "x-postmark-server-token": "fake-token",
};

async function ask(path: string, init: RequestInit & { headers?: Record<string, string> } = {}) {
  const response = await fetch(fake.url + path, { ...init, headers: { ...headers, ...init.headers } });
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    json: text === "" ? undefined : JSON.parse(text),
  };
}

const post = (body: unknown, path = "/email/batch", more: Record<string, string> = {}) =>
  ask(path, { method: "POST", body: typeof body === "string" ? body : JSON.stringify(body), headers: more });

describe("fake postmark: before reading the body", () => {
  test("a missing or wrong token is 401 with code 10, which is in a header too", async () => {
    for (const token of ["", "other"]) {
      const answer = await post([email], "/email/batch", { "x-postmark-server-token": token });
      expect(answer).toMatchObject({ status: 401, json: { ErrorCode: 10 } });
      expect(answer.headers.get("x-pm-apierrorcode")).toBe("10");
    }
  });

  test("a missing content type or accept is 415", async () => {
    expect((await post([email], "/email/batch", { accept: "*/*" })).status).toBe(415);
    expect((await post([email], "/email/batch", { "content-type": "text/plain" })).status).toBe(415);
  });

  test("other paths are 404", async () => {
    expect((await post([email], "/email/batches")).status).toBe(404);
    expect((await ask("/server")).status).toBe(200);
  });
});

describe("fake postmark: a batch", () => {
  test("is answered with 200, with a result for each email in order", async () => {
    const { status, json } = await post([email, { ...email, To: "nobody" }, email]);
    expect(status).toBe(200);
    expect(json.map(({ ErrorCode }: { ErrorCode: number }) => ErrorCode)).toEqual([0, 300, 0]);
    expect(json[1]).not.toHaveProperty("MessageID");
    expect(fake.acceptances.map(({ messageId }) => messageId)).toEqual([
      json[0].MessageID,
      json[2].MessageID,
    ]);
  });

  test("has at most 500 emails, and is JSON", async () => {
    expect((await post(Array.from({ length: 500 }, () => email))).status).toBe(200);
    expect(await post(Array.from({ length: 501 }, () => email))).toMatchObject({
      status: 422,
      json: { ErrorCode: 410 },
    });
    expect(await post("[")).toMatchObject({ status: 422, json: { ErrorCode: 402 } });
    expect(await post({})).toMatchObject({ status: 422, json: { ErrorCode: 403 } });
  });

  const wrong: [name: string, change: object, code: number][] = [
    ["no sender", { From: undefined }, 300],
    ["no recipient", { To: undefined }, 300],
    ["no text", { TextBody: undefined }, 300],
    ["an unquoted comma in a name", { From: "Shop, Inc <shop@example.com>" }, 300],
    ["two senders", { From: "a@example.com, b@example.com" }, 300],
    ["a second recipient that is no address", { To: "a@example.org, b" }, 300],
    ["a long subject", { Subject: "x".repeat(2001) }, 300],
    ["a long sender", { From: `${"x".repeat(250)} <shop@example.com>` }, 300],
    ["a long metadata value", { Metadata: { email_id: "x".repeat(81) } }, 300],
    ["a long metadata name", { Metadata: { ["x".repeat(21)]: "x" } }, 300],
    ["a metadata name twice", { Metadata: { a: "1", A: "2" } }, 300],
    ["a subject that is no text", { Subject: 7 }, 403],
    ["an unknown stream", { MessageStream: "elsewhere" }, 1235],
    ["an unverified sender", { From: "x@bad.example" }, 400],
    ["an inactive recipient", { To: "Gone <gone@example.org>" }, 406],
  ];
  test.each(wrong)("refuses only %s", async (_, change, code) => {
    Object.assign(fake.settings, { unverifiedDomains: ["bad.example"], inactive: ["gone@example.org"] });
    const { json } = await post([{ ...email, ...change }, email]);
    expect(json[0].ErrorCode).toBe(code);
    expect(json[1].ErrorCode).toBe(0);
    expect(await post({ ...email, ...change }, "/email")).toMatchObject({
      status: 422,
      json: { ErrorCode: code },
    });
  });

  test("of an account that awaits approval can only go to its own domain", async () => {
    fake.settings.pendingDomain = "example.com";
    const { json } = await post([email, { ...email, To: "b@example.com" }]);
    expect(json.map(({ ErrorCode }: { ErrorCode: number }) => ErrorCode)).toEqual([412, 0]);
  });

  test("with an unverified sender is refused as a whole, if set so", async () => {
    Object.assign(fake.settings, { unverifiedDomains: ["bad.example"], refuses: "request" });
    const answer = await post([email, { ...email, From: "x@bad.example" }]);
    expect(answer).toMatchObject({ status: 422, json: { ErrorCode: 400 } });
    expect(fake.acceptances).toHaveLength(0);
  });

  test("over the limit is 429 without further details", async () => {
    Object.assign(fake.settings, { rateLimit: 1, retryAfter: null });
    await post([email]);
    const silent = await post([email]);
    expect([silent.status, silent.json, silent.headers.get("retry-after")]).toEqual([429, undefined, null]);
    fake.settings.retryAfter = 3;
    expect((await post([email])).headers.get("retry-after")).toBe("3");
  });
});

describe("fake postmark: a search", () => {
  const tagged = (batch: string, id: string, stream = "outbound") => ({
    ...email,
    MessageStream: stream,
    Metadata: { batch_id: batch, email_id: id },
  });
  const search = (query: string) => ask(`/messages/outbound?${query}`);
  const idsIn = (json: { Messages: { Metadata: { email_id: string } }[] }) =>
    json.Messages.map(({ Metadata }) => Metadata.email_id);

  test("finds by metadata, newest first, in pages", async () => {
    await post([tagged("b", "1"), tagged("b", "2"), tagged("c", "3"), tagged("b", "4")]);
    const { json } = await search("count=2&offset=0&metadata_batch_id=b");
    expect(json.TotalCount).toBe(3);
    expect(idsIn(json)).toEqual(["4", "2"]);
    expect(idsIn((await search("count=2&offset=2&metadata_batch_id=b")).json)).toEqual(["1"]);
    expect(idsIn((await search("count=2&offset=0&metadata_email_id=3")).json)).toEqual(["3"]);
    expect((await search("count=2&offset=0&metadata_email_id=9")).json).toEqual({
      TotalCount: 0,
      Messages: [],
    });
  });

  test("covers one stream, `outbound` by default", async () => {
    await post([tagged("b", "1"), tagged("b", "2", "broadcast")]);
    expect(idsIn((await search("count=9&offset=0&metadata_batch_id=b")).json)).toEqual(["1"]);
    expect(
      idsIn((await search("count=9&offset=0&metadata_batch_id=b&messagestream=broadcast")).json),
    ).toEqual(["2"]);
    expect(
      idsIn((await search("count=9&offset=0&metadata_batch_id=b&messageStream=broadcast")).json),
    ).toEqual(["2"]);
  });

  test("finds nothing before it is indexed", async () => {
    fake.settings.indexDelayMs = 3_600_000;
    await post([tagged("b", "1")]);
    expect((await search("count=1&offset=0&metadata_batch_id=b")).json.TotalCount).toBe(0);
    fake.settings.indexDelayMs = 0;
    expect((await search("count=1&offset=0&metadata_batch_id=b")).json.TotalCount).toBe(1);
  });

  test.each([
    "",
    "count=1",
    "offset=0",
    "count=501&offset=0",
    "count=0&offset=0",
    "count=500&offset=9501",
    "count=1&offset=0&metadata_a=1&metadata_b=2",
  ])("refuses %p", async (query) => {
    expect(await search(query)).toMatchObject({ status: 422, json: { ErrorCode: 700 } });
  });
});
