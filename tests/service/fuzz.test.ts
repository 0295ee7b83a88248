// Whatever is sent to a real server's port, it answers as docs/api.md says, or not at all, and survives. fast-check
// prints the seed of a failure: pass it to `fc.assert` as `{ seed, path }` to reproduce it.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { residentMiB } from "../support/process_memory.ts";
import { exchangeRaw } from "../support/raw_http.ts";
import { post, startServer } from "../support/service.ts";
import { queueAdminOf } from "../support/processes.ts";

const least = { subject: "Hi", body: "Hello", to: "jane@example.org" };
const maxBodyBytes = 4000;

let folder = "";
let server: Awaited<ReturnType<typeof startServer>>;
let env: Record<string, string>;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "reliable-email-fuzz-"));
  env = {
    PORT: "0",
    ADMIN_PORT: "",
    DATA_DIR: folder,
    DEFAULT_FROM: "shop@example.com",
    MAX_BODY_BYTES: String(maxBodyBytes),
  };
  server = await startServer(env);
});
afterAll(async () => {
  await server.kill();
  rmSync(folder, { recursive: true, force: true });
});

const portOf = () => Number(new URL(server.url).port);
const latin1 = (text: string) => Buffer.from(text, "latin1");

/** Nearly valid bodies in each encoding: truncated, doubled, or with some bytes replaced. */
const field = fc.oneof(
  fc.constantFrom(
    "jane@example.org",
    "Hi",
    "",
    " \r\n",
    "a\0b",
    "\u2028",
    "x".repeat(2001),
    "a@b",
    "__proto__",
  ),
  fc.string({ unit: "binary", maxLength: 20 }),
);
const name = fc.constantFrom(
  "subject",
  "body",
  "to",
  "to_name",
  "from",
  "from_name",
  "html",
  "reply_to",
  "cc",
  "bcc[]",
  "headers[X-A]",
  "headers",
  "tags[a]",
  "tags[",
  "attachments",
  "attachment[0]",
  "inline",
  "send_at",
  "unknown",
  "__proto__",
  "constructor",
  "toString",
  "length",
  "",
);
const pairs = fc
  .tuple(fc.array(fc.tuple(name, field), { maxLength: 4 }), fc.boolean())
  .map(([wild, whole]) =>
    whole ? [...Object.entries(least), ...wild.filter(([key]) => !(key in least))] : wild,
  );
const form = pairs.map((all) => all.map((pair) => pair.map(encodeURIComponentSafely).join("=")).join("&"));
const attachment = fc.record(
  { filename: field, content: fc.oneof(fc.constant("aGk="), field), content_type: field, content_id: field },
  { requiredKeys: [] },
);
const lists = fc.record(
  {
    cc: fc.oneof(field, fc.array(field, { maxLength: 3 })),
    headers: fc.dictionary(fc.constantFrom("X-A", "From", "__proto__"), fc.oneof(field, fc.jsonValue())),
    tags: fc.dictionary(field, field, { maxKeys: 3 }),
    attachments: fc.array(fc.oneof(attachment, fc.jsonValue()), { maxLength: 3 }),
    send_at: fc.constantFrom("2020-01-01T00:00:00Z", "x"),
  },
  { requiredKeys: [] },
);
const json = fc.oneof(
  lists.map((one) => JSON.stringify({ ...least, ...one })),
  pairs.map((all) => `{${all.map((pair) => pair.map((text) => JSON.stringify(text)).join(":")).join(",")}}`),
  fc.json(),
  fc.constantFrom(
    `{"a":${"[".repeat(1500)}${"]".repeat(1500)}}`,
    `{"a":${"9".repeat(3000)}}`,
    "[".repeat(3999),
  ),
);
const filename = fc.constantFrom(
  "",
  '; filename="a.txt"',
  '; filename=""',
  "; filename*=utf-8''%e9",
  "; filename=a.exe",
);
const multipart = fc.tuple(pairs, filename).map(([all, file]) => {
  const parts = all.map(([key, value]) => {
    const isFile = /^(?:attach|inline|unknown)/.test(key);
    return `--b\r\nContent-Disposition: form-data; name="${key}"${isFile ? file : ""}\r\n\r\n${value}\r\n`;
  });
  return `${parts.join("")}--b--\r\n`;
});

/** A lone surrogate has no encoding: it is written as bytes that are not UTF-8. */
function encodeURIComponentSafely(text: string): string {
  return text.isWellFormed() ? encodeURIComponent(text) : "%ED%A0%80";
}

interface Mutation {
  readonly at: number;
  readonly kind: "none" | "cut" | "double" | "byte" | "insert";
  readonly byte: number;
}

const mutation: fc.Arbitrary<Mutation> = fc.record({
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  kind: fc.constantFrom("none", "none", "none", "cut", "double", "byte", "insert"),
  byte: fc.oneof(fc.constantFrom(...Buffer.from('\r\n\0"{}[]%&=;:-\\')), fc.integer({ min: 0, max: 255 })),
});

const kinds = {
  "application/x-www-form-urlencoded": form,
  "application/json": json,
  "multipart/form-data; boundary=b": multipart,
};

/** Most have the type that they declare. */
const typed = fc.oneof(
  ...Object.entries(kinds).map(([type, text]) =>
    fc.tuple(
      fc.constant(type),
      text.map((one) => Buffer.from(one)),
    ),
  ),
  fc.tuple(
    contentType(),
    fc.oneof(
      ...Object.values(kinds).map((text) => text.map((one) => Buffer.from(one))),
      fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
      fc.constant(Buffer.alloc(maxBodyBytes + 1, "a")),
    ),
  ),
);

function mutated(bytes: Buffer, { at, kind, byte }: Mutation): Buffer {
  const place = Math.floor(at * bytes.length);
  const [before, behind] = [bytes.subarray(0, place), bytes.subarray(place)];
  switch (kind) {
    case "none":
      return bytes;
    case "cut":
      return before;
    case "double":
      return Buffer.concat([bytes, behind]);
    case "byte":
      return Buffer.concat([before, Buffer.of(byte), behind.subarray(1)]);
    case "insert":
      return Buffer.concat([before, Buffer.of(byte), behind]);
  }
}

function contentType(): fc.Arbitrary<string> {
  return fc.oneof(
    fc.constantFrom(
      "application/x-www-form-urlencoded",
      "application/json",
      "multipart/form-data; boundary=b",
      'Multipart/Form-Data;\tboundary="b"; charset=utf-8',
      "application/json; charset=latin1",
      "text/plain",
    ),
    fc.string({ unit: fc.constantFrom(...'abc/;="\\ \t,-é'), maxLength: 30 }),
  );
}
const headerName = fc.oneof(
  fc.constantFrom(
    "Idempotency-Key",
    "Content-Encoding",
    "Authorization",
    "Cookie",
    "X-Any",
    "Accept",
    "Origin",
  ),
  fc
    .string({ unit: fc.constantFrom(..."abcXYZ-_09"), minLength: 1, maxLength: 20 })
    .map((text) => `X-${text}`),
);
const headerValue = fc
  .oneof(
    fc.string({
      unit: fc.integer({ min: 0x20, max: 0xff }).map((code) => String.fromCharCode(code)),
      maxLength: 40,
    }),
    fc.constantFrom("", "gzip", "identity", "k".repeat(255), "k".repeat(256), "k".repeat(2500)),
  )
  .map((text) => text.replace(/\x7f/g, ""));

const request = fc.record({
  method: fc.constantFrom("POST", "POST", "POST", "POST", "GET", "PUT", "DELETE", "PATCH", "OPTIONS"),
  path: fc.constantFrom("/", "/", "/", "/?x=/y", "/x", "//", "/%00", "/?", "/\xff", "/..;/"),
  typed,
  mutation,
  headers: fc.array(fc.tuple(headerName, headerValue), { maxLength: 5 }),
  chunked: fc.boolean(),
});
type Request = typeof request extends fc.Arbitrary<infer T> ? T : never;

function wire({ method, path, typed: [type, given], mutation: change, headers, chunked }: Request): Buffer {
  const bytes = mutated(given, change);
  const lines = [["Content-Type", type], ...headers].map(([key, value]) => `${key}: ${value}\r\n`).join("");
  const length = chunked ? "Transfer-Encoding: chunked" : `Content-Length: ${bytes.length}`;
  const head = latin1(
    `${method} ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n${lines}${length}\r\n\r\n`,
  );
  if (!chunked) return Buffer.concat([head, bytes]);
  const half = bytes.length >> 1;
  const pieces = [bytes.subarray(0, half), bytes.subarray(half)].filter(({ length: size }) => size > 0);
  return Buffer.concat([
    head,
    ...pieces.flatMap((piece) => [latin1(`${piece.length.toString(16)}\r\n`), piece, latin1("\r\n")]),
    latin1("0\r\n\r\n"),
  ]);
}

async function answerTo(bytes: Buffer): Promise<{ status: number; head: string; body: string }> {
  const text = await exchangeRaw(portOf(), bytes);
  const [head = "", ...rest] = text.split("\r\n\r\n");
  return { status: Number(/^HTTP\/1.1 (\d{3}) /.exec(head)?.[1]), head, body: rest.join("\r\n\r\n") };
}

const shapes = [
  {
    status: 200,
    shape: /^\{"ok":true,"id":"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"\}$/,
  },
  { status: 400, shape: /^\{"ok":false,"error_message":"[^"\\]([^"]|\\")*"\}$/ },
];

async function expectAlive(): Promise<void> {
  expect(await post(server.url, least)).toMatchObject({ status: 200, ok: true });
}

test("fuzz: valid HTTP gets a documented answer in JSON", async () => {
  const seen = new Map<number, number>();
  const runs = { numRuns: 4000 };
  const once = () =>
    fc.assert(
      fc.asyncProperty(request, async (one) => {
        const { status, head, body: answer } = await answerTo(wire(one));
        seen.set(status, (seen.get(status) ?? 0) + 1);
        const isEndpoint = one.path === "/" || one.path.startsWith("/?");
        const expected = !isEndpoint ? [404] : one.method !== "POST" ? [405] : [200, 400];
        expect(expected).toContain(status);
        expect(head).toMatch(/\r\nContent-Type: application\/json/i);
        const parsed = JSON.parse(answer);
        expect(Object.keys(parsed)).toEqual(status === 200 ? ["ok", "id"] : ["ok", "error_message"]);
        expect(parsed.ok).toBe(status === 200);
        expect(answer).toMatch(shapes.find((shape) => shape.status === status)?.shape ?? /./);
      }),
      runs,
    );
  await once();
  const before = residentMiB(server.pid);
  await once();
  expect(residentMiB(server.pid)! - before!).toBeLessThan(40);
  for (const status of [200, 400, 404, 405]) expect(seen.get(status) ?? 0).toBeGreaterThan(20);
  await expectAlive();
});

test("fuzz: bytes that are not valid HTTP get a refusal or a closed connection", async () => {
  const pieces = fc.constantFrom(
    "POST / HTTP/1.1\r\n",
    "GET ",
    "/ ",
    "HTTP/1.1",
    "HTTP/9.9",
    "\r\n",
    "\n",
    "\r",
    "\0",
    ": ",
    " ",
    "\t",
    "Host: a\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: -1\r\n",
    "Content-Length: 99999999999999999999\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip\r\n",
    "ffffffffffffffff\r\n",
    "0\r\n\r\n",
    "-1\r\n",
    "Upgrade: websocket\r\nConnection: Upgrade\r\n",
    "Expect: 100-continue\r\n",
    "PRI * HTTP/2.0\r\n\r\n",
    "\x16\x03\x01\x02\x00\x01",
    "X: ".padEnd(20_000, "y"),
    "a=b",
    "\xff\xfe",
    "CONNECT a:1 HTTP/1.1\r\n",
  );
  const anything = fc.oneof(
    fc.array(pieces, { maxLength: 12 }).map((all) => latin1(all.join(""))),
    fc.array(pieces, { maxLength: 8 }).map((all) => latin1(`POST / HTTP/1.1\r\nHost: a\r\n${all.join("")}`)),
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
  );
  await fc.assert(
    fc.asyncProperty(anything, async (bytes) => {
      const statuses = [...(await exchangeRaw(portOf(), bytes, true)).matchAll(/^HTTP\/1.1 (\d{3}) /gm)].map(
        ([, status]) => status,
      );
      // 505 is HTTP's answer to a version other than 1.1.
      expect(statuses.filter((status) => !/^(100|200|400|404|405|413|431|505)$/.test(status!))).toEqual([]);
    }),
    { numRuns: 3000 },
  );
  await expectAlive();
});

test("fuzz: accepted emails can be read, and none of their content was logged", async () => {
  const admin = await queueAdminOf(env);
  const { states } = await admin.stats();
  expect(states.waiting).toBeGreaterThan(20);
  await admin.close();
  expect(server.lines.filter(({ level }) => level !== "info")).toEqual([]);
  expect(server.stdout()).not.toContain("jane");
  expect(server.stderr()).toBe("");
});
