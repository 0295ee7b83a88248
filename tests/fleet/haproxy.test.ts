// deploy/haproxy.cfg in front of scripted servers: what is repeated and what is not, and which answers clients see.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text as readText } from "node:stream/consumers";
import { connect } from "node:tls";
import { readConfig } from "../../lib/config/config.ts";
import { defaultLimits } from "../../lib/http/body/upload.ts";
import { eventually, freePort } from "../support/eventually.ts";
import { type Process, startCommand } from "../support/service.ts";
import { shipped, writeHaproxyFiles } from "./haproxy.ts";

/** The reaction of a scripted server to a request, once it has all of it. */
type Behavior = "answer" | "close" | "hang" | "refuse";

let folder = "";
let port = 0;
/** The port of a second frontend, in which the optional line is not a comment. */
let portWithKeys = 0;
let haproxy: Process;
let ask: (command: string) => Promise<string>;
const servers: Server[] = [];
/** The size of each body that was received, by the `x-test` of its request. */
const received = new Map<string, readonly number[]>();
/** The keys of the same requests. */
const keys = new Map<string, readonly unknown[]>();
/** The reactions to the requests of each `x-test`, in order; requests after the last are answered. */
const scripts = new Map<string, readonly Behavior[]>();
/** The status of every `/readyz`. */
let readiness = 200;

async function startScripted(at: number): Promise<void> {
  const one = createServer(async (request, response) => {
    if (request.method === "GET") {
      response.statusCode = request.url === "/readyz" ? readiness : 200;
      return void response.end();
    }
    const { length: bytes } = await readText(request);
    const name = String(request.headers["x-test"]);
    const all = received.get(name) ?? [];
    received.set(name, [...all, bytes]);
    keys.set(name, [...(keys.get(name) ?? []), request.headers["idempotency-key"]]);
    const behavior = scripts.get(name)?.[all.length] ?? "answer";
    if (behavior === "close") request.socket.destroy();
    if (behavior === "answer") response.end(JSON.stringify({ ok: true }));
    if (behavior === "refuse") {
      response.statusCode = 500;
      response.end(JSON.stringify({ ok: false, error_message: "the service is busy" }));
    }
  });
  servers.push(one);
  const { promise, resolve } = Promise.withResolvers<void>();
  one.listen(at, "127.0.0.1", resolve);
  await promise;
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "reliable-email-haproxy-"));
  port = await freePort();
  portWithKeys = await freePort();
  const [dead, a1, b1] = [await freePort(), await freePort(), await freePort()];
  const files = writeHaproxyFiles(folder, (config) =>
    config
      .replace("bind :443", `bind 127.0.0.1:${port}`)
      .replace(/^frontend [^]*?\n\n/m, (frontend) => {
        const other = frontend
          .replace("submissions", "with-keys")
          .replace(String(port), String(portWithKeys));
        return frontend + other.replace("#http-request", "http-request");
      })
      .replaceAll(/ a1 \S+:3000(?: port 3001)?$/gm, ` a1 127.0.0.1:${a1}`)
      .replaceAll(/ b1 \S+:3000(?: port 3001)?$/gm, ` b1 127.0.0.1:${b1}`)
      .replaceAll(/ a2 \S+(?: port 3011)?$/gm, ` a2 127.0.0.1:${dead}`)
      .replaceAll(/^ +server b2 .*\n/gm, "")
      // Shorter.
      .replace("timeout http-request 30s", "timeout http-request 2s")
      .replace("timeout server 12s", "timeout server 2s"),
  );
  ({ ask } = files);
  await Promise.all([startScripted(a1), startScripted(b1)]);
  haproxy = startCommand([...files.command], { env: { PATH: Bun.env["PATH"] ?? "" } });
  await eventually(
    () => `HAProxy is up (${haproxy.stderr()})`,
    () => haproxy.stderr().includes("Loading success"),
  );
});
afterAll(async () => {
  await haproxy.kill();
  for (const one of servers) one.close();
  rmSync(folder, { recursive: true, force: true });
});

interface Exchange {
  readonly to?: number;
  readonly script?: readonly Behavior[];
  readonly body?: string;
  readonly hasKey?: boolean;
}

/** Posts once, and returns the answer and what the servers received. */
async function post({ to = port, script = [], body = "body", hasKey = false }: Exchange) {
  const name = Bun.randomUUIDv7();
  scripts.set(name, script);
  const response = await fetch(`https://127.0.0.1:${to}/`, {
    method: "POST",
    headers: { "x-test": name, ...(hasKey && { "idempotency-key": name }) },
    body,
    tls: { rejectUnauthorized: false },
    keepalive: false,
  });
  const { status, headers } = response;
  const answer = (await response.json()) as object;
  const type = headers.get("content-type");
  return { name, status, type, answer, received: received.get(name) ?? [] };
}

/** Opens a connection and sends the beginning of a request. */
function begin(bodyBytes: number, sent: string) {
  let text = "";
  const socket = connect({ host: "127.0.0.1", port, rejectUnauthorized: false });
  socket.on("data", (bytes) => (text += bytes.toString()));
  socket.write(`POST / HTTP/1.1\r\nHost: mail.example.com\r\nContent-Length: ${bodyBytes}\r\n\r\n${sent}`);
  return {
    write: (more: string) => socket.write(more),
    text: () => text,
    async answered() {
      await eventually("it is answered", () => text.includes("}"));
      socket.destroy();
      return text;
    },
  };
}

const notStored = { ok: false, error_message: expect.stringMatching(/^the email may have been stored/) };

describe("haproxy: a request with a key", () => {
  test.concurrent.each<Behavior>(["close", "hang"])("is sent again if its server does %s", async (first) => {
    const { status, received } = await post({ script: [first], hasKey: true });
    expect(status).toBe(200);
    expect(received).toEqual([4, 4]);
  });

  test.concurrent("is repeated with a body of 120 KiB", async () => {
    const body = "x".repeat(120 * 1024);
    const { status, received } = await post({ script: ["close"], body, hasKey: true });
    expect(status).toBe(200);
    expect(received).toEqual([body.length, body.length]);
  });

  test.concurrent("passes with a larger body, but is not repeated", async () => {
    const body = "x".repeat(4_000_000);
    expect(await post({ body, hasKey: true })).toMatchObject({
      status: 200,
      received: [body.length],
    });
    const failed = await post({ script: ["close"], body, hasKey: true });
    expect(failed).toMatchObject({ status: 500, answer: notStored, received: [body.length] });
  });

  test.concurrent("is not repeated after a server's own 500", async () => {
    const { status, answer, received } = await post({ script: ["refuse"], hasKey: true });
    expect({ status, answer }).toEqual({
      status: 500,
      answer: { ok: false, error_message: "the service is busy" },
    });
    expect(received).toHaveLength(1);
  });
});

describe("haproxy: a request without a key", () => {
  test.concurrent.each<Behavior>(["close", "hang"])(
    "is not repeated if its server does %s",
    async (first) => {
      const { status, type, answer, received } = await post({ script: [first] });
      expect({ status, type, answer }).toEqual({ status: 500, type: "application/json", answer: notStored });
      expect(received).toHaveLength(1);
    },
  );

  test.concurrent("is sent again under the same key, if HAProxy gives it one", async () => {
    const { name, status } = await post({ to: portWithKeys, script: ["close"] });
    const [first, second] = keys.get(name)!;
    expect({ status, second }).toEqual({ status: 200, second: first });
    expect(first).toMatch(/^[0-9a-f-]{36}$/);
    const own = await post({ to: portWithKeys, hasKey: true });
    expect(keys.get(own.name)).toEqual([own.name]);
  });
});

test.concurrent("haproxy: a body that does not arrive in time is answered with 500", async () => {
  const answer = await begin(10, "half").answered();
  expect(answer).toMatch(/^HTTP\/1.1 500 [^]*"ok":false[^]*did not arrive in time/);
});

test.concurrent("haproxy: a larger body may pause for longer than an answer may take", async () => {
  const request = begin(300_000, "x".repeat(200_000));
  // That takes two seconds, as long as an answer may take.
  await post({ script: ["hang"] });
  expect(request.text()).toBe("");
  request.write("x".repeat(100_000));
  expect(await request.answered()).toMatch(/^HTTP\/1.1 200 /);
});

test.concurrent("haproxy: HTTP/2 is not offered", async () => {
  const { promise, resolve } = Promise.withResolvers<string | false | null>();
  const options = { host: "127.0.0.1", port, rejectUnauthorized: false, ALPNProtocols: ["h2", "http/1.1"] };
  const socket = connect(options, () => resolve(socket.alpnProtocol));
  expect(await promise).not.toBe("h2");
  socket.destroy();
});

// Nothing listens on the port of a2, and nothing checks the servers while none is ready.
test("haproxy: a server that refuses the connection costs no error, even while none is ready", async () => {
  readiness = 503;
  await eventually(
    "no server is ready",
    async () => (await ask("show stat")).match(/^ready,(?:a1|a2|b1),.*,DOWN,/gm)?.length === 3,
  );
  const answers = await Promise.all(Array.from({ length: 6 }, () => post({})));
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
});

describe("haproxy: the file", () => {
  const secondsOf = (setting: string) => Number(new RegExp(`${setting} (\\d+)s`).exec(shipped)?.[1]);

  test("gives a body and an answer as much time as the servers do", () => {
    const defaults = readConfig({}, "server");
    if (!defaults.ok) throw new Error(defaults.message);
    const bodyS = defaultLimits.bodyTimeoutMs / 1000;
    const answerS = defaults.config.submitTimeoutMs / 1000 + 2;
    expect(secondsOf("timeout http-request")).toBe(bodyS);
    expect(secondsOf("timeout server")).toBe(answerS);
    expect(secondsOf("set-timeout server")).toBe(bodyS + answerS);
  });

  test("has every server in both lists, under the same name", () => {
    const serversOf = (backend: string) =>
      shipped
        .slice(shipped.indexOf(`\nbackend ${backend}\n`))
        .split("\n\n")[0]!
        .match(/server \w+ [\d.]+:\d+/g);
    expect(serversOf("ready")).toHaveLength(4);
    expect(serversOf("any")).toEqual(serversOf("ready"));
  });
});
