import { tmpdir } from "node:os";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { eventually, freePort } from "./support/eventually.ts";
import { connectRaw } from "./support/raw.ts";
import { type RedisServer, startRedis } from "./support/redis.ts";
import { startProcess } from "./support/service.ts";

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

function spawn(env: Record<string, string>) {
  const child = Bun.spawn([process.execPath, "--no-install", `${import.meta.dir}/../server.ts`], {
    // Away from the project: there may be an .env in it, of whoever works there.
    cwd: tmpdir(),
    env: { PATH: process.env["PATH"] ?? "", PORT: "0", ADMIN_PORT: "", REDIS_URL: redis.url, ...env },
    stdout: "pipe",
    stderr: "pipe",
  });
  children.push(child);
  return child;
}

/** A server that listens, and its log as it grows. */
async function start(env: Record<string, string> = {}) {
  const child = spawn(env);
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
  const listening = await eventually("the server listens", find("listening"));
  const port = Number(listening["port"]);
  const send = () => fetch(`http://127.0.0.1:${port}/`, { method: "POST", body: form, headers: formHeaders });
  return { child, port, find, send };
}

const head = `POST / HTTP/1.1\r\nHost: a\r\nContent-Type: ${formHeaders["content-type"]}\r\n`;
/** Half a request, whose head the server says that it has read. */
const half = `${head}Content-Length: ${form.length}\r\nExpect: 100-continue\r\n\r\n${form.slice(0, 10)}`;

test.each(["server.ts", "worker.ts"])(
  "%s: a folder that cannot hold the queue is named, and it exits with 1",
  async (file) => {
    // Not even root may make one there.
    const process = startProcess(file, { DATA_DIR: "/sys/reliable-email", PROVIDERS: "sandbox", PORT: "0" });
    expect(await process.exited).toBe(1);
    const { reason } = await process.event("store-unusable");
    expect(reason).toStartWith("DATA_DIR /sys/reliable-email cannot be written to");
  },
);

test("server: wrong settings are all named on stderr, and it exits with 2", async () => {
  const child = spawn({ PORT: "x", LEASE: "1s" });
  expect(await child.exited).toBe(2);
  expect(await child.stderr.text()).toMatch(/^Cannot start: PORT .*\nCannot start: LEASE .*\n$/);
});

test("server: a taken port is named, and it exits with 1", async () => {
  const other = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response() });
  const child = spawn({ PORT: String(other.port) });
  expect(await child.exited).toBe(1);
  expect(await child.stderr.text()).toContain(`PORT ${other.port} is taken`);
  await other.stop(true);
});

test("server: two share one port", async () => {
  const first = await start();
  const second = await start({ PORT: String(first.port) });
  expect(second.port).toBe(first.port);
  await eventually("an email is stored", async () => (await first.send()).status === 200);
});

test("server: without a store the answer is a 500 within SUBMIT_TIMEOUT", async () => {
  const server = await start({ SUBMIT_TIMEOUT: "300ms", REDIS_URL: `redis://127.0.0.1:${await freePort()}` });
  const startMs = performance.now();
  const response = await server.send();
  expect(response.status).toBe(500);
  expect(await response.json()).toEqual({ ok: false, error_message: expect.any(String) });
  expect(performance.now() - startMs).toBeLessThan(1500);
});

test.each(["SIGTERM", "SIGINT"] as const)(
  "server: %s lets a half-received request be answered, then it exits with 0",
  async (signal) => {
    const server = await start();
    await eventually("an email is stored", async () => (await server.send()).status === 200);
    const raw = await connectRaw(server.port);
    raw.write(half);
    await raw.received(/^HTTP\/1.1 100 /);
    server.child.kill(signal);
    await eventually("it shuts down", server.find("draining"));
    await eventually("it accepts nobody", () =>
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

test("server: a body that never comes does not outlast SHUTDOWN_TIMEOUT, and is answered", async () => {
  const server = await start({ SHUTDOWN_TIMEOUT: "1s" });
  const raw = await connectRaw(server.port);
  raw.write(half);
  await raw.received(/^HTTP\/1.1 100 /);
  server.child.kill("SIGTERM");
  expect(await raw.closed()).toMatch(/\nHTTP\/1.1 400 [^]*did not arrive in time/);
  expect(await server.child.exited).toBe(0);
});

test("server: another signal ends it at once", async () => {
  const { server, raw } = await draining("SIGTERM");
  server.child.kill("SIGINT");
  expect(await server.child.exited).toBe(1);
  raw.end();
});

test("server: the same signal at once is the first one, as npm passes Ctrl-C on; later it ends it", async () => {
  const { server, raw } = await draining("SIGINT");
  const startMs = performance.now();
  await eventually("it is ended at once", () => {
    server.child.kill("SIGINT");
    return server.find("stopped-at-once")();
  });
  expect(performance.now() - startMs).toBeGreaterThan(500);
  expect(await server.child.exited).toBe(1);
  raw.end();
});

/** A server that was told to stop, and waits for the rest of a request. */
async function draining(signal: NodeJS.Signals) {
  const server = await start();
  const raw = await connectRaw(server.port);
  raw.write(half);
  await raw.received(/^HTTP\/1.1 100 /);
  server.child.kill(signal);
  await eventually("it shuts down", server.find("draining"));
  return { server, raw };
}
