import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { runCli } from "../support/cli.ts";
import { eventually, freePort } from "../support/eventually.ts";
import { connectRaw } from "../support/raw_http.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { askRedis } from "../support/redis_command.ts";
import { startProcess } from "../support/service.ts";

let redis: RedisServer;
const children: Bun.Subprocess[] = [];

beforeAll(async () => {
  redis = await startRedis();
});
afterAll(async () => {
  for (const child of children) child.kill("SIGKILL");
  await redis.stop();
});

const form = "subject=Hello&body=World&to=ada%40example.org&from=me%40example.org";
const formHeaders = { "content-type": "application/x-www-form-urlencoded" };

/** @param before a command in front of it */
function spawn(env: Record<string, string>, before: string[] = []) {
  const child = Bun.spawn(
    [...before, process.execPath, "--no-install", `${import.meta.dir}/../../server.ts`],
    {
      // Outside the project, where the developer may have an .env file.
      cwd: tmpdir(),
      env: { PATH: process.env["PATH"] ?? "", PORT: "0", ADMIN_PORT: "", REDIS_URL: redis.url, ...env },
      stdout: "pipe",
      stderr: "pipe",
    },
  );
  children.push(child);
  return child;
}

/** Starts a server, waits until it listens, and follows its log. */
async function start(env: Record<string, string> = {}, before: string[] = []) {
  const child = spawn(env, before);
  const lines: Record<string, unknown>[] = [];
  void (async () => {
    let rest = "";
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
      const all = (rest + text).split("\n");
      rest = all.pop() ?? "";
      lines.push(...all.map((line) => JSON.parse(line)));
    }
  })();
  const find = (event: string) => () => lines.find((line) => line["event"] === event);
  const listening = await eventually("the server listens", find("server-listening"));
  const port = Number(listening["port"]);
  const send = () => fetch(`http://127.0.0.1:${port}/`, { method: "POST", body: form, headers: formHeaders });
  return { child, port, find, send };
}

const head = `POST / HTTP/1.1\r\nHost: a\r\nContent-Type: ${formHeaders["content-type"]}\r\n`;
/** Half a request; the server's 100 Continue confirms that it has read the head. */
const half = `${head}Content-Length: ${form.length}\r\nExpect: 100-continue\r\n\r\n${form.slice(0, 10)}`;

test.each(["server.ts", "worker.ts"])(
  "%s: it exits with 1 and names a folder that cannot contain the queue",
  async (file) => {
    // Not even root can create a folder below a file.
    const folder = `${import.meta.path}/data`;
    const process = startProcess(file, { DATA_DIR: folder, PROVIDERS: "sandbox", PORT: "0" });
    expect(await process.exited).toBe(1);
    const { reason } = await process.event("store-unusable");
    expect(reason).toStartWith(`DATA_DIR ${folder} cannot be created: ${import.meta.path} is a file`);
  },
);

test("server: it exits with 2 and names all invalid settings on stderr", async () => {
  const child = spawn({ PORT: "x", LEASE: "1s" });
  expect(await child.exited).toBe(2);
  expect(await child.stderr.text()).toMatch(/^Cannot start: PORT .*\nCannot start: LEASE .*\n$/);
});

test.each(["server.ts", "worker.ts"])(
  "%s: a likely misspelling of a setting is logged at startup, without its value",
  async (file) => {
    const env = { REDIS_URL: redis.url, PROVIDERS: "sandbox", PORT: "0", API_TOKEN: "the-value" };
    const process = startProcess(file, env);
    expect(await process.event("setting-suspicious")).toMatchObject({
      level: "warn",
      setting: "API_TOKEN",
      reason: "is not a setting: did you mean API_TOKENS?",
    });
    await process.event(file === "server.ts" ? "server-listening" : "worker-started");
    await process.kill();
    expect(process.stdout()).not.toContain("the-value");
  },
);

test("server: it exits with 1 and names a taken port", async () => {
  const other = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response() });
  const child = spawn({ PORT: String(other.port) });
  expect(await child.exited).toBe(1);
  expect(await child.stderr.text()).toContain(`PORT ${other.port} is taken`);
  await other.stop(true);
});

test("server: Redis can be reached over a socket, with a password and a database", async () => {
  const folder = mkdtempSync(join(tmpdir(), "reliable-email-socket-"));
  const socket = join(folder, "redis@1.sock");
  const behind = await startRedis({ unixsocket: socket });
  try {
    behind.cli("CONFIG", "SET", "requirepass", "p@ss/word");
    const REDIS_URL = `redis+unix://:p%40ss%2Fword@localhost${socket}?db=3`;
    const server = await start({ REDIS_URL });
    await eventually("an email is stored", async () => (await server.send()).status === 200);
    expect(askRedis(behind.port, ["INFO", "keyspace"], "p@ss/word")).toContain("db3:keys=");
    const { stdout, stderr } = await runCli({ REDIS_URL }, "queue", "pause");
    expect({ stdout, stderr }).toEqual({
      stdout: expect.stringContaining(`Redis at ${socket},`),
      stderr: "",
    });
    server.child.kill("SIGKILL");
  } finally {
    await behind.stop();
    rmSync(folder, { recursive: true, force: true });
  }
});

test("server: two servers share one port", async () => {
  const first = await start();
  const second = await start({ PORT: String(first.port) });
  expect(second.port).toBe(first.port);
  await eventually("an email is stored", async () => (await first.send()).status === 200);
});

test("server: without a store it answers 500 within SUBMIT_TIMEOUT", async () => {
  const withoutStore = { REDIS_URL: `redis://127.0.0.1:${await freePort()}` };
  const patient = await start({ ...withoutStore, SUBMIT_TIMEOUT: "120s" });
  const server = await start({ ...withoutStore, SUBMIT_TIMEOUT: "300ms" });
  const waiting = patient.send();
  const response = await Promise.race([waiting, server.send()]);
  expect(response.url).toBe(`http://127.0.0.1:${server.port}/`);
  expect(response.status).toBe(500);
  expect(await response.json()).toEqual({ ok: false, error_message: expect.any(String) });
  patient.child.kill("SIGKILL");
  await waiting.catch(() => {});
});

test.each(["SIGTERM", "SIGINT", "SIGHUP"] as const)(
  "server: on %s it answers a half-received request, then exits with 0",
  async (signal) => {
    const server = await start();
    await eventually("an email is stored", async () => (await server.send()).status === 200);
    const raw = await connectRaw(server.port);
    raw.write(half);
    await raw.received(/^HTTP\/1.1 100 /);
    server.child.kill(signal);
    await eventually("it shuts down", server.find("drain-started"));
    await eventually("it refuses connections", () =>
      server.send().then(
        () => false,
        () => true,
      ),
    );
    raw.write(form.slice(10));
    expect(await raw.closed()).toMatch(/\nHTTP\/1.1 200 [^]*"ok":true/);
    expect(await server.child.exited).toBe(0);
    expect(await server.child.stderr.text()).toBe("");
  },
);

test("server: a body that never arrives does not outlast SHUTDOWN_TIMEOUT, and is answered", async () => {
  const server = await start({ SHUTDOWN_TIMEOUT: "1s" });
  const raw = await connectRaw(server.port);
  raw.write(half);
  await raw.received(/^HTTP\/1.1 100 /);
  server.child.kill("SIGTERM");
  expect(await raw.closed()).toMatch(/\nHTTP\/1.1 500 [^]*did not arrive in time/);
  expect(await server.child.exited).toBe(0);
});

test("server: a second signal ends it immediately, if it comes more than 200 ms after the first", async () => {
  const { server, raw } = await draining("SIGINT");
  // The first signal has been handled by now, so the two are at least this far apart.
  const startMs = performance.now();
  await eventually("the second signal is due", () => performance.now() > startMs + 250);
  server.child.kill("SIGINT");
  expect(await server.child.exited).toBe(1);
  expect(server.find("exit-forced")()).toMatchObject({ signal: "SIGINT" });
  raw.end();
});

test("server: a third signal ends it immediately, however soon it comes", async () => {
  // As under npm, where a second signal counts as the first for longer: this holds however busy the machine is.
  const { server, raw } = await draining("SIGTERM", { npm_lifecycle_event: "server" });
  for (const signal of ["SIGINT", "SIGHUP"] as const) server.child.kill(signal);
  expect(await server.child.exited).toBe(1);
  raw.end();
});

test("server: SIGUSR1 and SIGUSR2 do nothing", async () => {
  const server = await start();
  for (const signal of ["SIGUSR1", "SIGUSR2"] as const) server.child.kill(signal);
  await eventually("an email is stored", async () => (await server.send()).status === 200);
  server.child.kill("SIGTERM");
  expect(await server.child.exited).toBe(0);
});

test("server: if SIGHUP was ignored at startup, it stays ignored", async () => {
  const server = await start({}, ["nohup"]);
  await eventually("an email is stored", async () => (await server.send()).status === 200);
  server.child.kill("SIGHUP");
  await eventually("an email is stored", async () => (await server.send()).status === 200);
  server.child.kill("SIGTERM");
  expect(await server.child.exited).toBe(0);
  expect(server.find("drain-started")()).toMatchObject({ signal: "SIGTERM" });
});

/** A server that is draining and waits for the rest of a request. */
async function draining(signal: NodeJS.Signals, env: Record<string, string> = {}) {
  const server = await start(env);
  const raw = await connectRaw(server.port);
  raw.write(half);
  await raw.received(/^HTTP\/1.1 100 /);
  const startMs = performance.now();
  server.child.kill(signal);
  await eventually("it shuts down", server.find("drain-started"));
  return { server, raw, startMs };
}
