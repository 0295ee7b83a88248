// The examples of docs/clients.md in every language, unchanged: each submits an email to the service, and keeps the
// three rules of that page towards a server that fails in every way that they name.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually, freePort } from "../support/eventually.ts";
import { python, pythonEnv } from "../support/python.ts";
import { type Process, startServer, startWorker } from "../support/service.ts";

const page = readFileSync(join(import.meta.dir, "../../docs/clients.md"), "utf8");

interface Example {
  readonly name: string;
  readonly code: string;
  readonly file: string;
  readonly command: readonly string[];
}

const inLanguage = {
  sh: { file: "send.sh", command: ["sh"] },
  js: { file: "send.mjs", command: ["node"] },
  python: { file: "send.py", command: [python] },
  java: { file: "Send.java", command: ["java"] },
} as const;

const examples: Example[] = [...page.matchAll(/^```(\w+)\n([^]*?)^```$/gm)].map(
  ([, language, code = ""], index) => {
    const known = inLanguage[language as keyof typeof inLanguage];
    return { name: `${index + 1}, in ${language}`, code, ...known };
  },
);

const folder = mkdtempSync(join(tmpdir(), "reliable-email-clients-"));
/** A folder in front of PATH, whose `sleep` takes no time. */
const noSleep = join(folder, "bin");
afterAll(() => rmSync(folder, { recursive: true, force: true }));
beforeAll(() => {
  mkdirSync(noSleep);
  writeFileSync(join(noSleep, "sleep"), "#!/bin/sh\n");
  chmodSync(join(noSleep, "sleep"), 0o755);
});

let runs = 0;

/** Runs an example against another port. */
async function run({ code, file, command }: Example, port: number) {
  runs += 1;
  const cwd = join(folder, String(runs));
  mkdirSync(cwd);
  expect(code).toContain("localhost:3000");
  writeFileSync(join(cwd, file), code.replaceAll("localhost:3000", `127.0.0.1:${port}`));
  const child = Bun.spawn([...command, file], {
    cwd,
    env: { ...pythonEnv, PATH: `${noSleep}:${pythonEnv["PATH"]}` },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, exitCode] = await Promise.all([
    child.stdout.text(),
    child.stderr.text(),
    child.exited,
  ]);
  return { stdout, stderr, exitCode };
}

test("docs/clients.md: has examples in four languages, Python with and without the package", () => {
  expect(examples.map(({ file }) => file)).toEqual([
    "send.sh",
    "send.mjs",
    "send.py",
    "send.py",
    "Send.java",
  ]);
});

describe("docs/clients.md: towards the service", () => {
  const running: Process[] = [];
  let port = 0;
  beforeAll(async () => {
    port = await freePort();
    const env = { DATA_DIR: folder, PROVIDERS: "sandbox", DEFAULT_FROM: "shop@example.com" };
    running.push(await startServer({ ...env, PORT: String(port) }), await startWorker(env));
  });
  afterAll(() => Promise.all(running.map((one) => one.kill())));

  test.each(examples)("example $name submits an email, and prints its id", async (example) => {
    const { stdout, stderr, exitCode } = await run(example, port);
    expect({ stderr, exitCode }).toEqual({ stderr: "", exitCode: 0 });
    const [id] = /[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21}/.exec(stdout)!;
    const files = new Bun.Glob(`outbox/${id}.*.eml`);
    const path = await eventually("the email arrives", () => [...files.scanSync({ cwd: folder })][0]);
    expect(readFileSync(join(folder, path), "utf8")).toContain("\r\nSubject: Hi\r\n");
  });
});

/**
 * A server that answers each request, on a connection of its own, with the next of these bytes; with none it closes the
 * connection.
 */
async function scripted(answers: readonly string[]) {
  const keys: (string | undefined)[] = [];
  const bodies: string[] = [];
  const server: Server = createServer((socket: Socket) => {
    let received = "";
    socket.on("error", () => {});
    socket.on("data", (data) => {
      received += data;
      const [head = "", body] = received.split("\r\n\r\n");
      const length = Number(/^content-length: (\d+)/im.exec(head)?.[1] ?? 0);
      if (body === undefined || body.length < length) return;
      received = "";
      const answer = answers[Math.min(keys.length, answers.length - 1)]!;
      keys.push(/^idempotency-key: (.*)$/im.exec(head)?.[1]);
      bodies.push(body);
      socket.end(answer);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return { port: address.port, keys, bodies, close: () => server.close() };
}

const http = (status: number, body: string) =>
  `HTTP/1.1 ${status} Reason\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`;
const stored = http(200, '{"ok":true,"id":"01990000-0000-7000-8000-000000000000"}');
const refused = (status: number) => http(status, '{"ok":false,"error_message":"the reason"}');

describe("docs/clients.md: the rules", () => {
  const failures = [
    refused(500),
    http(503, "<html>"),
    http(408, ""),
    http(429, "<html>"),
    http(200, "<html>It works!"),
    // A broken connection.
    "",
  ];

  test.each(examples)("example $name repeats under one key until it is acknowledged", async (example) => {
    const server = await scripted([...failures, stored]);
    const { stdout, exitCode } = await run(example, server.port);
    expect(exitCode).toBe(0);
    expect(stdout).toContain("01990000-0000-7000-8000-000000000000");
    expect(server.keys).toHaveLength(failures.length + 1);
    expect(new Set(server.keys).size).toBe(1);
    expect(server.keys[0]).toMatch(/^[0-9a-f-]{36}$/);
    expect(new Set(server.bodies).size).toBe(1);
    server.close();
  });

  test.each(examples.flatMap((example) => [400, 401].map((status) => ({ ...example, status }))))(
    "example $name does not repeat a $status, and says why",
    async ({ status, ...example }) => {
      const server = await scripted([refused(status)]);
      const { stdout, stderr, exitCode } = await run(example, server.port);
      expect({ stdout, exitCode }).toEqual({ stdout: "", exitCode: 1 });
      expect(stderr).toContain("the reason");
      expect(server.keys).toHaveLength(1);
      server.close();
    },
  );
});
