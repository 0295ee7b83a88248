// Malicious clients against a real server: bare sockets, and memory as the kernel counts it. Whatever is sent, memory
// stays bounded and others are served meanwhile.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "../support/eventually.ts";
import { watchMemory } from "../support/process_memory.ts";
import { connectRaw, type RawConnection } from "../support/raw_http.ts";
import { post, startCommand, startServer } from "../support/service.ts";

const token = "token-0123456789";
const least = { subject: "Hi", body: "Hello", to: "jane@example.org", from: "shop@example.com" };
const formType = "Content-Type: application/x-www-form-urlencoded\r\n";
const head = `POST / HTTP/1.1\r\nHost: a\r\n${formType}`;

let folder = "";
let restricted: Awaited<ReturnType<typeof startServer>>;
let open: Awaited<ReturnType<typeof startServer>>;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "reliable-email-abuse-"));
  const env = { PORT: "0", DATA_DIR: folder };
  [restricted, open] = await Promise.all([
    startServer({ ...env, API_TOKENS: token }),
    startServer({ ...env, ADMIN_PORT: "0" }),
  ]);
});
afterAll(async () => {
  await Promise.all([restricted.kill(), open.kill()]);
  rmSync(folder, { recursive: true, force: true });
});

const portOf = (server: { url: string }) => Number(new URL(server.url).port);

function connectMany(port: number, count: number): Promise<RawConnection[]> {
  return Promise.all(Array.from({ length: count }, () => connectRaw(port)));
}

/** Number of submissions without an answer yet, as the server without tokens reports it. */
async function inProgress(): Promise<number> {
  const { port } = await open.event("admin-listening");
  const metrics = await (await fetch(`http://127.0.0.1:${String(port)}/metrics`)).text();
  return Number(/^reliable_email_submissions_in_progress (\d+)$/m.exec(metrics)?.[1]);
}

/** Expects that well-behaved clients are served. */
async function expectServed(): Promise<void> {
  const authorization = `Bearer ${token}`;
  expect(await post(restricted.url, least, { authorization })).toMatchObject({ status: 200, ok: true });
  expect(await post(open.url, least)).toMatchObject({ status: 200, ok: true });
}

test.each([
  ["announced", `${head}Content-Length: 900000000\r\n\r\n`, Buffer.alloc(100_000, "a")],
  [
    "chunked",
    `${head}Transfer-Encoding: chunked\r\n\r\n`,
    Buffer.from(`186a0\r\n${"a".repeat(100_000)}\r\n`),
  ],
])("abuse: bodies without a token, %s, are never kept", async (_, request, piece) => {
  const memory = watchMemory(restricted.pid);
  const raws = await connectMany(portOf(restricted), 10);
  await Promise.all(
    raws.map(async (raw) => {
      raw.write(request);
      await raw.received(/401 Unauthorized[^]*\}$/);
      for (let i = 0; i < 200; i++) await raw.writeAll(piece);
    }),
  );
  await expectServed();
  expect(memory.grownMiB()).toBeLessThan(60);
  for (const raw of raws) raw.end();
});

test("abuse: a body in pieces of one byte takes no more memory than its length", async () => {
  const memory = watchMemory(open.pid);
  const raws = await connectMany(portOf(open), 10);
  const pieces = Buffer.from("1\r\na\r\n".repeat(100_000));
  await Promise.all(
    raws.map(async (raw) => {
      raw.write(`${head}Transfer-Encoding: chunked\r\n\r\n`);
      await raw.writeAll(pieces);
      raw.write("0\r\n\r\n");
      await raw.received(/400 Bad Request[^]*\}$/, 100_000);
    }),
  );
  await expectServed();
  // With an object for each piece it would grow by 200.
  expect(memory.grownMiB()).toBeLessThan(100);
  for (const raw of raws) raw.end();
});

test("abuse: announced bodies that never arrive delay nobody else, however many there are", async () => {
  const memory = watchMemory(open.pid);
  // 129 MiB: more than a server accepts at a time.
  const raws = await connectMany(portOf(open), 2060);
  for (const raw of raws) raw.write(`${head}Content-Length: 65536\r\n\r\n`);
  await eventually("all are in progress", async () => (await inProgress()) >= raws.length);
  for (let i = 0; i < 20; i++) await expectServed();
  expect(memory.grownMiB()).toBeLessThan(100);
  for (const raw of raws) raw.end();
});

test("abuse: bodies that stall take no more memory than the limit, and make room for others", async () => {
  const memory = watchMemory(open.pid);
  const raws = await connectMany(portOf(open), 300);
  const most = Buffer.alloc(990_000, "a");
  for (const raw of raws) {
    raw.write(`${head}Content-Length: 1000000\r\n\r\n`);
    void raw.writeAll(most);
  }
  const answered = () => raws.filter((raw) => raw.text().includes("500 Internal Server Error")).length;
  // 128 MiB are enough for 134 of them.
  await eventually(
    () => `all are refused that are too many (${answered()})`,
    () => answered() >= raws.length - 134,
    60_000,
  );
  // None of the stalled requests has ended.
  await eventually("others are served", async () => (await post(open.url, least)).status === 200, 60_000);
  // The bodies, and garbage from their pieces that is not collected yet.
  expect(memory.grownMiB()).toBeLessThan(600);
  for (const raw of raws) raw.end();
});

test("abuse: answers that nobody reads do not pile up", async () => {
  const memory = watchMemory(open.pid);
  const raw = await connectUnread(portOf(open));
  const requests = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n".repeat(5000);
  for (let i = 0; i < 200 && raw.write(requests); i++) await Bun.sleep(0);
  await expectServed();
  expect(memory.grownMiB()).toBeLessThan(60);
  raw.end();
});

/** Connects without ever reading. */
async function connectUnread(port: number): Promise<{ write(text: string): boolean; end(): void }> {
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: { data() {}, error() {} },
  });
  socket.pause();
  return { write: (text) => socket.write(text) >= 0, end: () => void socket.terminate() };
}

test("abuse: silent connections, endless heads and dripping heads are closed, and others are served", async () => {
  const memory = watchMemory(open.pid);
  const port = portOf(open);
  const [silent, halves, dripping] = await Promise.all([
    connectMany(port, 500),
    connectMany(port, 200),
    connectMany(port, 50),
  ]);
  for (const raw of halves) raw.write(`${head}X: ${"y".repeat(8000)}`);
  for (const raw of dripping) raw.write(`${head}X: `);
  await expectServed();
  const drip = setInterval(() => {
    for (const raw of dripping) raw.write("y");
  }, 200);
  const left = () => [...silent, ...halves, ...dripping].filter((raw) => !raw.isClosed()).length;
  await eventually(
    () => `all are closed but ${left()}`,
    () => left() === 0,
    30_000,
  );
  clearInterval(drip);
  expect(memory.grownMiB()).toBeLessThan(60);
});

/** Starts a process with a limit of 100 open files, and a connection to its admin port that stays open. */
async function startWithFew(file: string, env: Record<string, string>) {
  const few = startCommand(
    [
      "sh",
      "-c",
      'ulimit -n 100 && exec "$0" --no-install "$1"',
      process.execPath,
      `${import.meta.dir}/../../${file}`,
    ],
    { env: { PATH: process.env["PATH"] ?? "", PORT: "0", ADMIN_PORT: "0", DATA_DIR: folder, ...env } },
  );
  const adminPort = Number((await few.event("admin-listening"))["port"]);
  const admin = await connectRaw(adminPort);
  let asked = 0;
  /** Its readiness, as reported on that connection. */
  async function readiness(): Promise<string> {
    asked += 1;
    admin.write("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n");
    const answers = await admin.received(new RegExp(`(?:"reasons"[^]*){${asked}}\\}$`), 15_000);
    return answers.slice(answers.lastIndexOf("HTTP/1.1"));
  }
  await eventually("it is ready", async () => (await readiness()).startsWith("HTTP/1.1 200 "));
  return { few, adminPort, readiness };
}

test("abuse: a server without free descriptors serves its connections, reports the shortage, and recovers", async () => {
  const { few, readiness } = await startWithFew("server.ts", {});
  const port = Number((await few.event("server-listening"))["port"]);
  const first = await connectRaw(port);
  const body = new URLSearchParams(least).toString();
  first.write(`${head}Content-Length: ${body.length}\r\nExpect: 100-continue\r\n\r\n`);
  await first.received(/100 Continue/);
  const others = await connectMany(port, 200);
  await few.event("descriptors-exhausted");
  expect(await readiness()).toMatch(/^HTTP\/1.1 503 [^]*"descriptors: fewer than 16 /);
  first.write(body);
  await first.received(/HTTP\/1.1 200 [^]*\}$/);
  for (const raw of [first, ...others]) raw.end();
  expect(await post(`http://127.0.0.1:${port}/`, least)).toMatchObject({ status: 200 });
  await eventually("it is ready again", async () => (await readiness()).startsWith("HTTP/1.1 200 "));
  expect(few.lines.filter(({ event }) => event === "descriptors-exhausted")).toHaveLength(1);
  await few.kill();
});

test("abuse: idle connections make room for others when descriptors run out", async () => {
  const { few } = await startWithFew("server.ts", {});
  const port = Number((await few.event("server-listening"))["port"]);
  const idle = await connectMany(port, 200);
  for (const raw of idle) raw.write("GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
  // Each is closed in turn, long before the idle timeout.
  for (const raw of idle) await raw.received(/404 Not Found/, 20_000);
  expect(await post(`http://127.0.0.1:${port}/`, least)).toMatchObject({ status: 200 });
  for (const raw of idle) raw.end();
  await few.kill();
});

test("abuse: a worker without free descriptors reports the shortage", async () => {
  const { few, adminPort, readiness } = await startWithFew("worker.ts", { PROVIDERS: "sandbox" });
  const others = await connectMany(adminPort, 200);
  await few.event("descriptors-exhausted");
  expect(await readiness()).toMatch(/^HTTP\/1.1 503 [^]*"descriptors: fewer than 16 /);
  for (const raw of others) raw.end();
  await eventually("it is ready again", async () => (await readiness()).startsWith("HTTP/1.1 200 "));
  await few.kill();
});
