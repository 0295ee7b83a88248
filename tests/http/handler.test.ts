import { afterAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { decodeEmail, type Email } from "../../lib/email/email.ts";
import type { Log } from "../../lib/runtime/log.ts";
import type { Producer, Submission, SubmitResult } from "../../lib/queue/contract.ts";
import { Handler, type HandlerOptions } from "../../lib/http/handler.ts";
import { eventually } from "../support/eventually.ts";
import { silent } from "../support/log.ts";
import { connectRaw } from "../support/raw_http.ts";

interface Running {
  readonly port: number;
  readonly url: string;
  readonly submissions: Submission[];
  readonly handler: Handler;
  emails(): Email[];
}

const servers: Bun.Server<undefined>[] = [];
afterAll(() => Promise.all(servers.map((server) => server.stop(true))));

type Submit = (submission: Submission, deadlineMs: number) => Promise<SubmitResult>;

const store: Submit = async ({ id }) => ({ kind: "stored", id, repeated: false });

/** A server with the real handler, and a function as its queue. */
function serve(
  submit: Submit = store,
  options: Partial<HandlerOptions> & { idleTimeout?: number } = {},
): Running {
  const submissions: Submission[] = [];
  const producer: Pick<Producer, "submit"> = {
    submit(submission, deadlineMs) {
      submissions.push(submission);
      return submit(submission, deadlineMs);
    },
  };
  const { idleTimeout = 30, ...rest } = options;
  const handler = new Handler({
    producer,
    host: "127.0.0.1",
    defaultFrom: "app@example.org",
    defaultFromName: "App",
    maxBodyBytes: 2000,
    submitTimeoutMs: 1000,
    log: silent,
    ...rest,
  });
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    idleTimeout,
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    development: false,
    fetch: (request) => handler.handle(request),
  });
  servers.push(server);
  const port = server.port ?? 0;
  return {
    port,
    url: `http://127.0.0.1:${port}/`,
    submissions,
    handler,
    emails: () => submissions.map(({ text }) => decodeEmail(text)),
  };
}

const least = { subject: "Hello", body: "World", to: "ada@example.org" };
const formType = "application/x-www-form-urlencoded";
const leastForm = new URLSearchParams(least).toString();

async function read(response: Response): Promise<unknown[]> {
  expect(response.headers.get("content-type")).toStartWith("application/json");
  return [response.status, await response.json()];
}

const refusal = (text: string) => ({ ok: false, error_message: text });

function post(server: Running, body: string, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(server.url, { method: "POST", body, headers: { "content-type": formType, ...headers } });
}

/** A whole request as bytes. */
function wire(body: string, { path = "/", version = "1.1", host = "Host: a\r\n", more = "" } = {}): string {
  return (
    `POST ${path} HTTP/${version}\r\n${host}Content-Type: ${formType}\r\n${more}` +
    `Content-Length: ${body.length}\r\n\r\n${body}`
  );
}

test("submit: an email is stored, and its id returned", async () => {
  const server = serve();
  const [status, answer] = await read(await post(server, leastForm));
  const { id } = server.submissions[0]!;
  expect([status, answer]).toEqual([200, { ok: true, id }]);
  expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect(server.emails()).toEqual([{ ...least, from: "app@example.org", from_name: "App" }]);
});

test("submit: all three encodings give the same email and the same fingerprint", async () => {
  const server = serve();
  const fields = { ...least, subject: " Grüße 😀\r\n", html: "<p>\r\n</p>", reply_to: "re@example.org" };
  const data = new FormData();
  for (const [name, value] of Object.entries(fields).toReversed()) data.append(name, value);
  const bodies = [new URLSearchParams(fields), data, JSON.stringify(fields)];
  for (const body of bodies) {
    const headers: Record<string, string> = { "idempotency-key": "k" };
    if (typeof body === "string") headers["content-type"] = "application/json";
    expect((await fetch(server.url, { method: "POST", body, headers })).status).toBe(200);
  }
  const [first, ...others] = server.submissions.map(({ text, idempotency }) => ({ text, idempotency }));
  expect(decodeEmail(first!.text).subject).toBe("Grüße 😀");
  expect(first!.idempotency).toEqual({ key: "k", fingerprint: expect.any(String), token: "" });
  for (const other of others) expect(other).toEqual(first!);
});

test("submit: files and the time to send reach the queue, and only emails with new fields are hidden", async () => {
  const server = serve(store, { maxBodyBytes: 100_000 });
  const small = new File(["hi"], "a.txt");
  const large = new File([new Uint8Array(50_000).fill(7)], "b.bin2");
  const data = new FormData();
  for (const [name, value] of Object.entries({ ...least, send_at: "2020-01-01T00:00:00+01:00" }))
    data.append(name, value);
  for (const file of [small, large]) data.append("attachment", file);
  expect((await fetch(server.url, { method: "POST", body: data })).status).toBe(200);
  const json = {
    ...least,
    attachments: [{ filename: "a.txt", content: Buffer.from("hi").toString("base64") }],
  };
  for (const body of [
    json,
    { ...least, send_at: "1900-01-01T00:00:00Z" },
    { ...least, cc: "a@example.org" },
    least,
  ])
    expect((await post(server, JSON.stringify(body), { "content-type": "application/json" })).status).toBe(
      200,
    );

  const seen = server.submissions.map(({ files, sendAtMs, isHidden }) => [
    files?.map((file) => [...file.subarray(-2), file.length]),
    sendAtMs,
    isHidden,
  ]);
  const hi = [0x68, 0x69, 2];
  expect(seen).toEqual([
    [[hi, [7, 7, 50_000]], Date.parse("2019-12-31T23:00:00Z"), true],
    [[hi], undefined, true],
    [undefined, 0, true],
    [undefined, undefined, true],
    [undefined, undefined, undefined],
  ]);
  expect(server.emails()[0]!.send_at).toBe("2019-12-31T23:00:00.000Z");
});

test("submit: files for which the queue has no room are refused as busy, and reported once", async () => {
  const lines: unknown[] = [];
  const log: Log = { ...silent, warn: (event, fields) => lines.push([event, fields]) };
  const server = serve(async () => ({ kind: "filesFull" }), { log });
  expect(await read(await post(server, leastForm))).toEqual([
    500,
    refusal("the service is busy: try again later"),
  ]);
  const reason = "the files in the queue would exceed MAX_ATTACHMENT_BACKLOG";
  expect(lines).toEqual([["submission-failed", { count: 1, reason }]]);
});

test("submit: a submission without a key has no fingerprint", async () => {
  const server = serve();
  await post(server, leastForm);
  expect(server.submissions[0]!.idempotency).toBeUndefined();
});

test("submit: the observer gets every answered submission with its duration, and nothing else", async () => {
  const answers: number[] = [];
  const times: number[] = [];
  const server = serve(store, {
    apiTokens: ["known-token-0123456789"],
    onAnswer(status, elapsedMs) {
      answers.push(status);
      times.push(elapsedMs);
    },
  });
  const token = { authorization: "Bearer known-token-0123456789" };
  await post(server, leastForm, token);
  await post(server, "", token);
  await post(server, leastForm);
  await fetch(server.url);
  await fetch(`${server.url}metrics`);
  expect(answers).toEqual([200, 400, 401]);
  expect(times.every((time) => time >= 0 && time < 60_000)).toBe(true);
});

test("submit: the load counts submissions in progress, and says whether another one would be too many", async () => {
  const gate = Promise.withResolvers<void>();
  const wait = async ({ id }: Submission): Promise<SubmitResult> => {
    await gate.promise;
    return { kind: "stored", id, repeated: false };
  };
  const server = serve(wait, { pendingMax: 2, pendingBytesMax: 10_000 });
  const load = () => server.handler.load();
  expect(load()).toEqual({ submissions: 0, bytes: 0, overload: undefined });
  const first = post(server, leastForm);
  await eventually("one is pending", () => server.submissions.length === 1);
  const stored = server.submissions[0]!.text.length;
  expect(load()).toEqual({ submissions: 1, bytes: stored, overload: undefined });
  const second = post(server, leastForm);
  await eventually("two are pending", () => server.submissions.length === 2);
  expect(load()).toMatchObject({ submissions: 2, overload: "too many submissions under way" });
  gate.resolve();
  await Promise.all([first, second]);
  expect(load()).toEqual({ submissions: 0, bytes: 0, overload: undefined });

  const small = serve(store, { pendingBytesMax: 1000 });
  expect(small.handler.load().overload).toBe("too many bytes under way");
});

describe("routing", () => {
  const server = serve();

  test.each(["/x", "//", "/index.html", "/a?/../x/"])("submit: %j is not found", async (path) => {
    const raw = await connectRaw(server.port);
    raw.write(wire(leastForm, { path }));
    expect(await raw.received(/\}$/)).toMatch(/^HTTP\/1.1 404 [^]*application\/json[^]*"ok":false/);
    raw.end();
  });

  test.each(["/?", "/?a=b", "/?x=//y/z", "/?a?b"])("submit: %j reaches the endpoint", async (path) => {
    const raw = await connectRaw(server.port);
    raw.write(wire(leastForm, { path }));
    expect(await raw.received(/\}$/)).toStartWith("HTTP/1.1 200 ");
    raw.end();
  });

  test.each([
    ["/", "HTTP/1.1 200 "],
    ["/?a=//b", "HTTP/1.1 200 "],
    ["//", "HTTP/1.1 404 "],
    ["/x?/", "HTTP/1.1 404 "],
  ])("submit: HTTP/1.0 without Host for %j is answered", async (path, status) => {
    const raw = await connectRaw(server.port);
    raw.write(wire(leastForm, { path, version: "1.0", host: "" }));
    expect(await raw.closed()).toStartWith(status);
  });

  test("submit: an unusual Host makes no difference", async () => {
    for (const host of ["a/b", "a?b", "a#b", "[::1", ""]) {
      const raw = await connectRaw(server.port);
      raw.write(wire(leastForm, { host: `Host: ${host}\r\n` }));
      expect(await raw.received(/\}$/)).toStartWith("HTTP/1.1 200 ");
      raw.end();
    }
  });

  test.each(["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])("submit: %s is not allowed", async (method) => {
    const response = await fetch(server.url, { method });
    expect(response.headers.get("allow")).toBe("POST");
    expect(await read(response)).toEqual([405, refusal("the method must be POST")]);
  });

  test("submit: HEAD is not allowed, and an unknown path is answered first", async () => {
    const response = await fetch(server.url, { method: "HEAD" });
    expect([response.status, response.headers.get("allow")]).toEqual([405, "POST"]);
    expect((await fetch(`${server.url}x`, { method: "HEAD" })).status).toBe(404);
  });
});

describe("access", () => {
  const known = "known-token-0123456789";
  const server = serve(store, { apiTokens: [known, "another-token-0123456"], pendingMax: 1 });
  const unknown = "Authorization: must be Bearer and a token that is known here";
  const head = (more: string) => `POST / HTTP/1.1\r\nHost: a\r\nContent-Type: ${formType}\r\n${more}`;

  test("submit: a request without a known token is answered with 401 and a challenge", async () => {
    for (const headers of [{}, { authorization: "Bearer x" }, { authorization: `Basic ${known}` }]) {
      const response = await post(server, leastForm, headers);
      expect(response.headers.get("www-authenticate")).toBe("Bearer");
      expect(await read(response)).toEqual([401, refusal(unknown)]);
    }
    expect(server.submissions).toEqual([]);
  });

  test("submit: any of the tokens gives access", async () => {
    for (const authorization of [`Bearer ${known}`, "bearer another-token-0123456"]) {
      expect((await post(server, leastForm, { authorization })).status).toBe(200);
    }
    expect((await post(server, "", { authorization: `Bearer ${known}` })).status).toBe(400);
  });

  test("submit: checks run in this order: path, method, token, body", async () => {
    const url = `${server.url}x`;
    expect((await fetch(url, { method: "POST", body: "x" })).status).toBe(404);
    expect((await fetch(server.url, { method: "PUT", body: "x" })).status).toBe(405);
    expect((await post(server, "x", { "content-type": "text/plain" })).status).toBe(401);
    expect((await post(server, "x".repeat(5000))).status).toBe(401);
  });

  test.each([
    ["twice", `Authorization: Bearer ${known}\r\nAuthorization: Bearer ${known}\r\n`],
    ["a second time, empty", `Authorization: Bearer ${known}\r\nAuthorization:\r\n`],
    ["a second time, before", `Authorization: Bearer x\r\nAuthorization: Bearer ${known}\r\n`],
    ["in a cookie", `Cookie: Bearer ${known}\r\n`],
  ])("submit: a token given %s is rejected", async (_, lines) => {
    const raw = await connectRaw(server.port);
    raw.write(`${head(lines)}Content-Length: ${leastForm.length}\r\n\r\n${leastForm}`);
    expect(await raw.received(/\}$/)).toStartWith("HTTP/1.1 401 ");
    raw.end();
  });

  test("submit: an unauthorized request is answered without its body, and does not count as in progress", async () => {
    const raws = await Promise.all([1, 2, 3].map(() => connectRaw(server.port)));
    for (const [i, rest] of [
      "Content-Length: 1900",
      "Content-Length: 90000",
      "Transfer-Encoding: chunked",
    ].entries()) {
      raws[i]!.write(`${head(rest)}\r\n\r\n`);
      expect(await raws[i]!.received(/\}$/)).toStartWith("HTTP/1.1 401 ");
    }
    expect((await post(server, leastForm, { authorization: `Bearer ${known}` })).status).toBe(200);
    for (const raw of raws) raw.end();
  });

  test("submit: the body of an unauthorized request is discarded, and the connection stays usable", async () => {
    const raw = await connectRaw(server.port);
    raw.write(`${head("Content-Length: 3000000")}\r\n\r\n`);
    expect(await raw.received(/\}$/)).toStartWith("HTTP/1.1 401 ");
    await raw.writeAll(new Uint8Array(3_000_000).fill(0x61));
    raw.write(wire(leastForm, { more: `Authorization: Bearer ${known}\r\n` }));
    expect(await raw.received(/"id"/)).toContain("HTTP/1.1 200 ");
    raw.end();
  });
});

describe("browsers", () => {
  const send = (server: Running, lines: string) =>
    connectRaw(server.port).then(async (raw) => {
      raw.write(`POST / HTTP/1.1\r\n${lines}Content-Type: ${formType}\r\n`);
      raw.write(`Content-Length: ${leastForm.length}\r\n\r\n${leastForm}`);
      const answer = await raw.received(/\}$/);
      raw.end();
      return answer;
    });

  test.each([
    [
      "Host: localhost:3000\r\nOrigin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\n",
      "Sec-Fetch-Site",
    ],
    ["Host: localhost:3000\r\nOrigin: null\r\n", "Origin"],
    [
      "Host: evil.example:3000\r\nOrigin: http://evil.example:3000\r\nSec-Fetch-Site: same-origin\r\n",
      "Host",
    ],
  ])("submit: %j is refused before its body is read", async (lines, name) => {
    const server = serve();
    expect(await send(server, lines)).toMatch(new RegExp(`^HTTP/1.1 400 [^]*"error_message":"${name}: `));
    expect(server.submissions).toEqual([]);
  });

  test("submit: path and method are checked before the origin, which does not matter with a token", async () => {
    const token = "known-token-0123456789";
    const server = serve(store, { apiTokens: [token] });
    const lines = "Host: a\r\nOrigin: https://other.example\r\nSec-Fetch-Site: cross-site\r\n";
    expect(await send(server, lines)).toStartWith("HTTP/1.1 401 ");
    expect(await send(server, `${lines}Authorization: Bearer ${token}\r\n`)).toStartWith("HTTP/1.1 200 ");
    const origin = { origin: "https://other.example" };
    const open = serve();
    expect((await fetch(`${open.url}x`, { method: "POST", headers: origin })).status).toBe(404);
    expect((await fetch(open.url, { method: "OPTIONS", headers: origin })).status).toBe(405);
  });

  test("submit: a page of the server's own site can submit", async () => {
    const server = serve();
    const lines = "Host: localhost:3000\r\nOrigin: http://localhost:3000\r\nSec-Fetch-Site: same-origin\r\n";
    expect(await send(server, lines)).toStartWith("HTTP/1.1 200 ");
  });
});

describe("refusals", () => {
  const server = serve(store, { defaultFrom: undefined });
  const form = (fields: Record<string, string>) =>
    new URLSearchParams({ ...least, from: "a@example.org", ...fields });
  const json = (fields: object) => JSON.stringify({ ...least, from: "a@example.org", ...fields });
  const asJson = { "content-type": "application/json" };

  test.each([
    ["", {}, "subject: is required; body: is required; to: is required; from: is required"],
    [leastForm, {}, "from: is required"],
    [form({ to: "ada" }), {}, "to: is not an email address"],
    [form({ to: "ada", subject: "" }), {}, "subject: is required; to: is not an email address"],
    [form({ subject: "a\r\nBcc: b" }), {}, "subject: has a control character"],
    [form({ to_name: "a\u2029b" }), {}, "to_name: has a control character"],
    [`${form({})}&to=ada%40example.org`, {}, "to: is given twice"],
    ["to=%ff", {}, "the form is not valid UTF-8"],
    [json({ to: 1 }), asJson, "to: is not a string"],
    [json({ subject: ["a"], html: {} }), asJson, "subject: is not a string; html: is not a string"],
    [json({ subject: "\ud800" }), asJson, "subject: has a lone surrogate"],
    ['{"to":"a","to":"b"}', asJson, undefined],
    ["{", asJson, "the body is not valid JSON"],
    ["", asJson, "the body is not valid JSON"],
    ["[]", asJson, "the body is not a JSON object"],
    ["x", { "content-type": "text/plain" }, undefined],
    ["x", { "content-type": "multipart/form-data" }, "the content type has no valid boundary"],
    ["x", { "content-type": "multipart/form-data; boundary=a" }, "the form does not begin with its boundary"],
    [form({}), { "content-type": `${formType}; charset=latin1` }, "the charset must be UTF-8"],
    [form({}), { "content-encoding": "gzip" }, "a content encoding is not supported"],
    [form({ body: "x".repeat(2000) }), {}, "the body is over 2000 bytes"],
    [form({}), { "idempotency-key": "" }, "Idempotency-Key: must be 1 to 255 visible ASCII characters"],
    [form({}), { "idempotency-key": "a b" }, "Idempotency-Key: must be 1 to 255 visible ASCII characters"],
    [form({}), { "idempotency-key": "é" }, "Idempotency-Key: must be 1 to 255 visible ASCII characters"],
    [
      form({ to: "ada" }),
      { "idempotency-key": "x".repeat(256) },
      "to: is not an email address; Idempotency-Key: must be 1 to 255 visible ASCII characters",
    ],
  ] as const)("submit: %# is refused with 400", async (body, headers, text) => {
    const response = await post(server, String(body), headers);
    expect(await read(response)).toEqual([400, refusal(text ?? (expect.any(String) as unknown as string))]);
  });

  test("submit: a request without a content type is refused, with or without a body", async () => {
    for (const rest of ["Content-Length: 1\r\n\r\nx", "Content-Length: 0\r\n\r\n", "\r\n"]) {
      const raw = await connectRaw(server.port);
      raw.write(`POST / HTTP/1.1\r\nHost: a\r\n${rest}`);
      expect(await raw.received(/\}$/)).toMatch(/^HTTP\/1.1 400 [^]*the content type must be/);
      raw.end();
    }
  });

  test("submit: refused submissions never reach the queue", () => {
    expect(server.submissions).toEqual([]);
  });

  test("submit: the longest key is accepted", async () => {
    const key = "~".repeat(255);
    const other = serve();
    expect((await post(other, leastForm, { "idempotency-key": key })).status).toBe(200);
    expect(other.submissions[0]!.idempotency!.key).toBe(key);
  });
});

describe("the queue's answers", () => {
  test("submit: a repeated submission is answered with the first id", async () => {
    const server = serve(async () => ({ kind: "stored", id: "first", repeated: true }));
    expect(await read(await post(server, leastForm))).toEqual([200, { ok: true, id: "first" }]);
  });

  test("submit: a key that belongs to another email is refused", async () => {
    const server = serve(async () => ({ kind: "conflict" }));
    const response = await post(server, leastForm, { "idempotency-key": "k" });
    expect(await read(response)).toEqual([400, refusal("Idempotency-Key: belongs to another email")]);
  });

  test("submit: a submission that the store cannot take in time is refused as busy", async () => {
    const server = serve(async () => ({ kind: "busy" }));
    expect(await read(await post(server, leastForm))).toEqual([
      500,
      refusal("the service is busy: try again later"),
    ]);
  });

  test.each([
    ["fails", async () => ({ kind: "failed", reason: "redis at 10.0.0.1 is OOM" }) as const],
    ["throws", () => Promise.reject(new Error("redis at 10.0.0.1"))],
    [
      "breaks",
      () => {
        throw new TypeError("redis at 10.0.0.1");
      },
    ],
  ] as const)("submit: when the queue %s, the answer is a 500 that reveals nothing", async (_, submit) => {
    const server = serve(submit);
    const response = await post(server, leastForm);
    const text = await response.text();
    expect(response.status).toBe(500);
    expect(response.headers.get("content-type")).toStartWith("application/json");
    expect(JSON.parse(text)).toEqual(
      refusal(expect.stringContaining("Idempotency-Key") as unknown as string),
    );
    expect(text).not.toMatch(/redis|10\.0|TypeError|<html/i);
  });

  test("submit: the queue's deadline counts from the end of the body", async () => {
    let deadline = 0;
    const server = serve(async ({ id }, deadlineMs) => {
      deadline = deadlineMs - performance.now();
      return { kind: "stored", id, repeated: false };
    });
    await post(server, leastForm);
    expect(deadline).toBeGreaterThan(500);
    expect(deadline).toBeLessThanOrEqual(1000);
  });

  test("submit: failures are logged once a second, without content of the email", async () => {
    const lines: unknown[] = [];
    const log: Log = { ...silent, warn: (event, fields) => lines.push([event, fields]) };
    const server = serve(async () => ({ kind: "failed", reason: "full" }), { log });
    await Promise.all(Array.from({ length: 20 }, () => post(server, leastForm)));
    const first = ["submission-failed", { count: 1, reason: "full" }];
    expect(lines).toEqual([first]);
    // The others are logged although no further submission fails.
    await eventually("the others are logged", () => lines.length > 1);
    expect(lines).toEqual([first, ["submission-failed", { count: 19, reason: "full" }]]);
  });
});

describe("bytes after a body", () => {
  const head = `POST / HTTP/1.1\r\nHost: a\r\nContent-Type: ${formType}\r\n`;
  const chunks = `${leastForm.length.toString(16)}\r\n${leastForm}\r\n0\r\n`;

  // Bun itself answers these with an empty 400, after it has passed on the body.
  test.each([
    ["a trailer", `${head}Transfer-Encoding: chunked\r\n\r\n${chunks}X-A: 1\r\n\r\n`],
    ["a stray line end", `${wire(leastForm)}\r\n`],
    ["no request", `${wire(leastForm)}nonsense\r\n\r\n`],
    ["a second request", wire(leastForm).repeat(2)],
  ])("submit: a request that Bun refuses for %s after it is not queued", async (_, bytes) => {
    const server = serve();
    const raw = await connectRaw(server.port);
    raw.write(bytes);
    expect(await raw.closed()).not.toContain("200 OK");
    expect(server.submissions).toEqual([]);
  });

  test("submit: a request that Bun refuses after it is not queued, even if its body arrives after its headers", async () => {
    const server = serve();
    const raw = await connectRaw(server.port);
    const [headers = "", body = ""] = wire(leastForm).split("\r\n\r\n");
    raw.write(`${headers}\r\n\r\n`);
    await eventually("it is in progress", () => server.handler.load().submissions === 1);
    raw.write(`${body}nonsense\r\n\r\n`);
    expect(await raw.closed()).not.toContain("200 OK");
    expect(server.submissions).toEqual([]);
  });

  test("submit: an announced trailer is refused as JSON", async () => {
    const server = serve();
    const raw = await connectRaw(server.port);
    raw.write(`${head}Trailer: X-A\r\nTransfer-Encoding: chunked\r\n\r\n`);
    expect(await raw.received(/\}$/)).toMatch(/^HTTP\/1.1 400 [^]*a trailer is not supported/);
    raw.write(`${chunks}X-A: 1\r\n\r\n`);
    expect(server.submissions).toEqual([]);
    raw.end();
  });
});

describe("large bodies", () => {
  const big = new Uint8Array(8_000_000).fill(0x61);

  test("submit: an announced body over the limit is refused as JSON while it is still being sent", async () => {
    const server = serve();
    const raw = await connectRaw(server.port);
    raw.write(
      `POST / HTTP/1.1\r\nHost: a\r\nContent-Type: ${formType}\r\nContent-Length: ${big.length}\r\n\r\n`,
    );
    expect(await raw.received(/\}$/)).toMatch(/^HTTP\/1.1 400 [^]*the body is over 2000 bytes/);
    // A client that writes everything before it reads is not cut off, and the connection stays usable.
    await raw.writeAll(big);
    raw.write(wire(leastForm));
    expect(await raw.received(/"id"/)).toContain("HTTP/1.1 200 ");
    raw.end();
  });

  test("submit: a chunked body over the limit is refused as JSON while it is still being sent", async () => {
    const server = serve();
    const raw = await connectRaw(server.port);
    raw.write(
      `POST / HTTP/1.1\r\nHost: a\r\nContent-Type: ${formType}\r\nTransfer-Encoding: chunked\r\n\r\n`,
    );
    const chunk = Buffer.concat([Buffer.from("186a0\r\n"), big.subarray(0, 100_000), Buffer.from("\r\n")]);
    await raw.writeAll(chunk);
    expect(await raw.received(/\}$/)).toMatch(/^HTTP\/1.1 400 [^]*the body is over 2000 bytes/);
    for (let i = 0; i < 50; i++) await raw.writeAll(chunk);
    raw.write(`0\r\n\r\n${wire(leastForm)}`);
    expect(await raw.received(/"id"/)).toContain("HTTP/1.1 200 ");
    raw.end();
  });

  test("submit: a body over the limit after Expect: 100-continue is refused as JSON", async () => {
    const server = serve();
    const raw = await connectRaw(server.port);
    raw.write(
      `POST / HTTP/1.1\r\nHost: a\r\nContent-Type: ${formType}\r\nExpect: 100-continue\r\n` +
        `Content-Length: ${big.length}\r\n\r\n`,
    );
    expect(await raw.received(/\}$/)).toMatch(/HTTP\/1.1 400 [^]*the body is over 2000 bytes/);
    raw.end();
  });

  test("submit: curl sees the refusal, whether the body is announced or chunked", async () => {
    const server = serve();
    for (const header of ["Expect:", "Expect: 100-continue", "Transfer-Encoding: chunked"]) {
      const child = Bun.spawn(
        ["curl", "-s", "-w", " %{http_code}", "-H", header, "--data-binary", "@-", server.url],
        {
          stdin: big,
          stdout: "pipe",
        },
      );
      expect(await child.stdout.text()).toBe(`${JSON.stringify(refusal("the body is over 2000 bytes"))} 400`);
      expect(await child.exited).toBe(0);
    }
  });

  test("submit: a client that never stops sending is cut off", async () => {
    const server = serve(store, { idleTimeout: 1 });
    const raw = await connectRaw(server.port);
    raw.write(
      `POST / HTTP/1.1\r\nHost: a\r\nContent-Type: ${formType}\r\nContent-Length: 9000000000\r\n\r\n`,
    );
    await raw.received(/\}$/);
    const endMs = performance.now() + 10_000;
    while (!raw.isClosed() && performance.now() < endMs) {
      raw.write("more");
      await Bun.sleep(20);
    }
    expect(raw.isClosed()).toBe(true);
  });

  test("submit: a body of exactly the limit is accepted, in one piece or in chunks", async () => {
    const server = serve();
    const body = `${leastForm}&x=`.padEnd(2000, "x");
    expect((await post(server, body)).status).toBe(200);
    const raw = await connectRaw(server.port);
    raw.write(
      `POST / HTTP/1.1\r\nHost: a\r\nContent-Type: ${formType}\r\nTransfer-Encoding: chunked\r\n\r\n`,
    );
    for (let i = 0; i < 2000; i += 100) raw.write(`64\r\n${body.slice(i, i + 100)}\r\n`);
    raw.write("0\r\n\r\n");
    expect(await raw.received(/\}$/)).toStartWith("HTTP/1.1 200 ");
    raw.end();
  });

  test("submit: a large body within the limit is stored to the last character", async () => {
    const server = serve(store, { maxBodyBytes: 3_000_000 });
    const body = "Grüße 😀\r\n".repeat(150_000);
    const text = JSON.stringify({ ...least, body });
    const response = await post(server, text, { "content-type": "application/json" });
    expect(response.status).toBe(200);
    expect(server.emails()[0]!.body === body).toBe(true);
  });
});

describe("slow and numerous requests", () => {
  const head = `POST / HTTP/1.1\r\nHost: a\r\nContent-Type: ${formType}\r\n`;

  test.each(["Content-Length: 1000\r\n\r\nto=", "Transfer-Encoding: chunked\r\n\r\n3\r\nto=\r\n"])(
    "submit: a body that stalls is refused in time: %j",
    async (rest) => {
      const server = serve(store, { bodyTimeoutMs: 100 });
      const raw = await connectRaw(server.port);
      raw.write(head + rest);
      expect(await raw.received(/\}$/)).toMatch(/^HTTP\/1.1 500 [^]*the body did not arrive in time/);
      raw.end();
    },
  );

  test("submit: a body that drips is refused in time", async () => {
    const server = serve(store, { bodyTimeoutMs: 200 });
    const raw = await connectRaw(server.port);
    raw.write(`${head}Content-Length: 1000\r\n\r\n`);
    const answered = raw.received(/\}$/);
    let settled = false;
    void answered.finally(() => (settled = true));
    while (!settled) {
      raw.write("x");
      await Bun.sleep(10);
    }
    expect(await answered).toContain("the body did not arrive in time");
    raw.end();
  });

  test("submit: a body that arrives in pieces is accepted", async () => {
    const server = serve();
    const raw = await connectRaw(server.port);
    raw.write(`${head}Content-Length: ${leastForm.length}\r\n\r\n`);
    for (const character of leastForm) {
      raw.write(character);
      await Bun.sleep(1);
    }
    expect(await raw.received(/\}$/)).toStartWith("HTTP/1.1 200 ");
    raw.end();
  });

  test("submit: a server that has to hurry answers requests whose body has not arrived", async () => {
    const server = serve();
    const raws = await Promise.all([connectRaw(server.port), connectRaw(server.port)]);
    raws[0]!.write(`${head}Content-Length: 1000\r\n\r\nto=`);
    raws[1]!.write(`${head}Transfer-Encoding: chunked\r\n\r\n3\r\nto=\r\n`);
    const all = Promise.all(raws.map((raw) => raw.received(/\}$/)));
    let settled = false;
    void all.finally(() => (settled = true));
    while (!settled) {
      server.handler.hurry();
      await Bun.sleep(5);
    }
    for (const answer of await all) expect(answer).toContain("the body did not arrive in time");
    for (const raw of raws) raw.end();
  });

  test("submit: submissions over the limit are refused immediately, and accepted again afterwards", async () => {
    const gate = Promise.withResolvers<void>();
    const server = serve(
      async ({ id }) => {
        await gate.promise;
        return { kind: "stored", id, repeated: false };
      },
      { pendingMax: 3 },
    );
    const pending = [1, 2, 3].map(() => post(server, leastForm));
    await eventually("all are pending", () => server.submissions.length === 3);
    const refused = await post(server, leastForm);
    expect(await read(refused)).toEqual([500, refusal("the service is busy: try again later")]);
    gate.resolve();
    expect((await Promise.all(pending)).map(({ status }) => status)).toEqual([200, 200, 200]);
    expect((await post(server, leastForm)).status).toBe(200);
  });

  const chunked = (body: string) =>
    `${head}Transfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n`;

  test("submit: bytes over the limit are refused immediately, and accepted again afterwards", async () => {
    const server = serve(store, { pendingBytesMax: 1500, bodyTimeoutMs: 20_000, silenceMaxMs: 20_000 });
    const holder = await connectRaw(server.port);
    holder.write(chunked("x".repeat(1400)));
    const busy = await eventually("the bytes are spent", async () => {
      const response = await post(server, leastForm);
      return response.status === 500 ? response : undefined;
    });
    expect(await read(busy)).toEqual([500, refusal("the service is busy: try again later")]);
    holder.end();
    await eventually("the bytes are released", async () => (await post(server, leastForm)).status === 200);
    for (let i = 0; i < 20; i++) expect((await post(server, leastForm)).status).toBe(200);
    for (let i = 0; i < 20; i++) expect((await post(server, "x".repeat(1999))).status).toBe(500);
    expect((await post(server, leastForm)).status).toBe(200);
    expect(server.handler.load()).toMatchObject({ submissions: 0, bytes: 0 });
  });

  test("submit: large bodies that fill their part of the memory hold up no small one", async () => {
    const mib = 1024 * 1024;
    const limits = { pendingBytesMax: 4 * mib, reservedBytes: mib, maxBodyBytes: 4 * mib };
    const server = serve(store, { ...limits, silenceMaxMs: 20_000 });
    const holders = await Promise.all([1, 2].map(() => connectRaw(server.port)));
    for (const raw of holders) raw.write(`${head}Content-Length: ${2 * mib}\r\n\r\n${"x".repeat(1.4 * mib)}`);
    expect(await Promise.race(holders.map((raw) => raw.received(/\}$/)))).toContain("the service is busy");
    expect(server.handler.load()).toMatchObject({ submissions: 1, overload: "too many bytes under way" });
    expect((await post(server, leastForm)).status).toBe(200);
    for (const raw of holders) raw.end();
  });

  /** A request whose body is `leastForm` and padding, in pieces that are there as soon as they are read. */
  function requestInPieces(bytes: number, onPull: () => void): Request {
    const whole = Buffer.from(`${leastForm}&x=`.padEnd(bytes, "x"));
    let position = 0;
    const body = new ReadableStream<Uint8Array>(
      {
        pull(controller) {
          onPull();
          controller.enqueue(new Uint8Array(whole.subarray(position, (position += 100_000))));
          if (position >= bytes) controller.close();
        },
      },
      { highWaterMark: 0 },
    );
    const headers = { "content-type": formType, "content-length": String(bytes) };
    return new Request("http://a/", { method: "POST", headers, body });
  }

  test("submit: of two large bodies, the one with less left is read first", async () => {
    const { handler } = serve(store, { maxBodyBytes: 2_000_000 });
    let order = "";
    const long = handler.handle(requestInPieces(1_900_000, () => (order += "L")));
    const short = handler.handle(requestInPieces(900_000, () => (order += "S")));
    expect([(await long).status, (await short).status]).toEqual([200, 200]);
    // The first piece of each is read at once.
    expect(order).toBe(`L${"S".repeat(9)}${"L".repeat(18)}`);
  });

  test("submit: a body that waits for others to be read does not count as silent", async () => {
    const { handler } = serve(store, { maxBodyBytes: 2_000_000, pendingMax: 2, silenceMaxMs: 0 });
    let small: Promise<Response> | undefined;
    const long = handler.handle(requestInPieces(1_900_000, () => {}));
    let pulls = 0;
    const short = handler.handle(
      requestInPieces(900_000, () => {
        pulls += 1;
        if (pulls < 5) return;
        small ??= Promise.resolve(handler.handle(requestInPieces(1000, () => {})));
      }),
    );
    // The one that is being read makes room, since it has been silent for 0 ms.
    expect((await short).status).toBe(500);
    expect([(await long).status, (await small)?.status]).toEqual([200, 200]);
  });

  test("submit: a body is charged for the bytes that have arrived, not for those announced", async () => {
    const server = serve(store, { pendingBytesMax: 3000, silenceMaxMs: 20_000 });
    const silent = await Promise.all(Array.from({ length: 20 }, () => connectRaw(server.port)));
    for (const raw of silent) raw.write(`${head}Content-Length: 1900\r\n\r\n`);
    await eventually("all are in progress", () => server.handler.load().submissions === 20);
    expect(server.handler.load().bytes).toBe(0);
    expect((await post(server, leastForm)).status).toBe(200);
    for (const raw of silent) raw.end();
  });

  test("submit: a client that stalls in the middle of its body makes room for others", async () => {
    const server = serve(store, { pendingMax: 2, pendingBytesMax: 1500, silenceMaxMs: 0 });
    const silent = await Promise.all(Array.from({ length: 2 }, () => connectRaw(server.port)));
    for (const raw of silent) raw.write(`${head}Content-Length: 1900\r\n\r\n`);
    await eventually("they are in progress", () => server.handler.load().submissions === 2);
    expect((await post(server, leastForm)).status).toBe(200);
    expect(await silent[0]!.received(/\}$/)).toMatch(/^HTTP\/1.1 500 [^]*did not arrive in time/);
    const holder = await connectRaw(server.port);
    holder.write(chunked("x".repeat(1400)));
    await eventually("the bytes are spent", () => server.handler.load().bytes === 1400);
    expect((await post(server, leastForm)).status).toBe(200);
    expect(await holder.received(/\}$/)).toMatch(/^HTTP\/1.1 500 [^]*did not arrive in time/);
    expect(server.handler.load().bytes).toBe(0);
    for (const raw of [...silent, holder]) raw.end();
  });

  test("submit: a submission that waits for the store is charged for as many bytes as will be stored", async () => {
    const gate = Promise.withResolvers<void>();
    const server = serve(
      async ({ id }) => {
        await gate.promise;
        return { kind: "stored", id, repeated: false };
      },
      { pendingBytesMax: 20_000 },
    );
    // Each takes six bytes in JSON.
    const large = new URLSearchParams({ ...least, body: `a${"\u0001".repeat(600)}` }).toString();
    const statuses: number[] = [];
    while (statuses.length === 0) {
      const before = server.submissions.length;
      void post(server, large).then(({ status }) => statuses.push(status));
      await eventually("it waits or is refused", () => statuses.length + server.submissions.length > before);
    }
    expect(statuses).toEqual([500]);
    const { text } = server.submissions[0]!;
    expect(text.length).toBeGreaterThan(3600);
    expect(server.submissions).toHaveLength(5);
    expect(server.handler.load().bytes).toBe(5 * text.length);
    gate.resolve();
    await eventually("all are answered", () => statuses.length === 6);
    expect(statuses.slice(1)).toEqual([200, 200, 200, 200, 200]);
    await eventually("all bytes are released", () => server.handler.load().bytes === 0);
  });

  test("submit: large bodies that arrive together are read in different turns of the event loop", async () => {
    let turn = 0;
    const turns: number[] = [];
    const server = serve(
      (submission, deadlineMs) => {
        turns.push(turn);
        return store(submission, deadlineMs);
      },
      { maxBodyBytes: 200_000 },
    );
    const body = new URLSearchParams({ ...least, body: "x".repeat(100_000) }).toString();
    const headers = { "content-type": formType, "content-length": String(body.length) };
    const answers = Array.from({ length: 5 }, () =>
      server.handler.handle(new Request(server.url, { method: "POST", headers, body })),
    );
    while (turns.length < 5) {
      await new Promise(setImmediate);
      turn += 1;
    }
    for (const { status } of await Promise.all(answers)) expect(status).toBe(200);
    expect(new Set(turns).size).toBe(5);
  });

  test("submit: a large email is refused before it is encoded, if its text might be too long", async () => {
    const server = serve(store, { maxBodyBytes: 100_000, pendingBytesMax: 200_000 });
    const sent = (length: number) =>
      post(server, new URLSearchParams({ ...least, body: "x".repeat(length) }).toString());
    // Until they are encoded, six bytes are reserved for each character.
    expect((await sent(30_000)).status).toBe(200);
    expect(await read(await sent(60_000))).toEqual([500, refusal("the service is busy: try again later")]);
    expect(server.submissions).toHaveLength(1);
    expect(server.handler.load().bytes).toBe(0);
  });

  test("submit: a form with files is charged for all of it until it is answered, and JSON for its files", async () => {
    const gate = Promise.withResolvers<void>();
    const server = serve(
      async ({ id }) => {
        await gate.promise;
        return { kind: "stored", id, repeated: false };
      },
      { maxBodyBytes: 200_000 },
    );
    const content = new Uint8Array(60_000).fill(7);
    const data = new FormData();
    for (const [name, value] of Object.entries(least)) data.append(name, value);
    data.append("attachment", new File([content], "a.b2"));
    data.append("unknown", "x".repeat(10_000));
    const answers = [fetch(server.url, { method: "POST", body: data })];
    await eventually("the form waits", () => server.submissions.length === 1);
    const [{ text }] = server.submissions as [Submission];
    expect(server.handler.load().bytes - text.length).toBeWithin(70_000, 71_500);

    const before = server.handler.load().bytes;
    const attachments = [{ filename: "a.b2", content: content.toBase64() }];
    answers.push(
      post(server, JSON.stringify({ ...least, attachments }), { "content-type": "application/json" }),
    );
    await eventually("the JSON waits", () => server.submissions.length === 2);
    expect(server.handler.load().bytes - before).toBe(60_000 + server.submissions[1]!.text.length);
    gate.resolve();
    for (const { status } of await Promise.all(answers)) expect(status).toBe(200);
    expect(server.handler.load().bytes).toBe(0);
  });

  test("submit: JSON is charged five times before it is read", async () => {
    const server = serve(store, { maxBodyBytes: 30_000, readingBytesMax: 120_000 });
    const text = JSON.stringify({ ...least, x: "x".repeat(23_800) });
    const sent = (body: string) => post(server, body, { "content-type": "application/json" });
    expect(text.length).toBeWithin(23_800, 24_000);
    expect((await sent(text)).status).toBe(200);
    expect(await read(await sent(text.padEnd(24_001)))).toEqual([
      500,
      refusal("the service is busy: try again later"),
    ]);
    expect((await sent(text)).status).toBe(200);
  });

  test("submit: a body gets more time the more of it has arrived, and none for its silence", async () => {
    const server = serve(store, { bodyTimeoutMs: 1000, maxBodyBytes: 4_000_000 });
    const raw = await connectRaw(server.port);
    const startMs = performance.now();
    const filling = Buffer.alloc(2_000_000, "x");
    raw.write(`${head}Content-Length: ${leastForm.length + filling.length}\r\n\r\n${leastForm}&x=`);
    await raw.writeAll(filling.subarray(10_000));
    // Two million bytes give 7.6 s more.
    while (performance.now() < startMs + 1500) {
      raw.write("x");
      await Bun.sleep(50);
    }
    expect(raw.text()).toBe("");
    expect(await raw.received(/\}$/)).toMatch(/^HTTP\/1.1 500 [^]*the body did not arrive in time/);
    raw.end();
  });

  test("submit: a client that disconnects in the middle of its body harms no other", async () => {
    const server = serve(store, { pendingMax: 2 });
    for (let i = 0; i < 10; i++) {
      const raw = await connectRaw(server.port);
      raw.write(`${head}Content-Length: 100\r\n\r\nto=`);
      raw.end();
    }
    await eventually("the server answers again", async () => (await post(server, leastForm)).status === 200);
  });
});

test("submit: any POST is answered with a 200 or a 400 in JSON", async () => {
  const server = serve();
  const type = fc.constantFrom(
    formType,
    "application/json",
    "multipart/form-data; boundary=XX",
    "text/html",
    `${formType}; charset=x`,
  );
  const field = fc.record(
    {
      subject: fc.string(),
      body: fc.string({ unit: "binary" }),
      to: fc.emailAddress(),
      to_name: fc.string(),
    },
    { requiredKeys: [] },
  );
  const body = fc.oneof(
    fc.uint8Array({ maxLength: 3000 }),
    fc.string({ unit: "binary" }).map((text) => Buffer.from(text)),
    field.map((fields) => Buffer.from(JSON.stringify(fields))),
    field.map((fields) => Buffer.from(new URLSearchParams(fields).toString())),
  );
  const statuses = new Set<number>();
  await fc.assert(
    fc.asyncProperty(type, body, async (contentType, bytes) => {
      const response = await fetch(server.url, {
        method: "POST",
        body: new Uint8Array(bytes),
        headers: { "content-type": contentType },
      });
      const answer = (await response.json()) as { ok: boolean };
      statuses.add(response.status);
      expect([200, 400]).toContain(response.status);
      expect(answer.ok).toBe(response.status === 200);
    }),
    { numRuns: 300 },
  );
  expect([...statuses].toSorted()).toEqual([200, 400]);
});

test("submit: a key is stored with a digest of the token, however the header is written", async () => {
  const tokens = ["a-token-of-20-letters", "another-of-20-letters"];
  const server = serve(store, { apiTokens: tokens });
  for (const authorization of [`Bearer ${tokens[0]}`, `bearer  ${tokens[0]}`, `Bearer ${tokens[1]}`]) {
    const headers = {
      authorization,
      "idempotency-key": "k",
      "content-type": "application/x-www-form-urlencoded",
    };
    expect((await fetch(server.url, { method: "POST", body: leastForm, headers })).status).toBe(200);
  }
  const [first, same, other] = server.submissions.map(({ idempotency }) => idempotency?.token);
  expect(first).toMatch(/^[0-9a-f]{16}$/);
  expect(same).toBe(first!);
  expect(other).not.toBe(first);
});
