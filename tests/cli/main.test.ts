import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import manifest from "../../package.json" with { type: "json" };
import { banner, devSettings, formatEntry } from "../../lib/cli/dev.ts";
import { settings } from "../../lib/config/settings.ts";

const main = join(import.meta.dir, "../../lib/cli/main.ts");
const folder = mkdtempSync(join(tmpdir(), "reliable-email-cli-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function run(...args: string[]) {
  const child = Bun.spawn([process.execPath, "--no-install", main, ...args], {
    cwd: folder,
    env: { PATH: process.env["PATH"] ?? "" },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { stdout, stderr, code };
}

describe("cli: help", () => {
  test.each([["--help"], ["-h"], ["help"]])("%s names every command, on stdout", async (arg) => {
    const { stdout, stderr, code } = await run(arg);
    expect({ stderr, code }).toEqual({ stderr: "", code: 0 });
    for (const command of ["server", "worker", "dev", "queue", "config"])
      expect(stdout).toMatch(new RegExp(`^  ${command} `, "m"));
  });

  test.each([["server"], ["worker"], ["dev"]])("%s --help starts nothing", async (name) => {
    const { stdout, stderr, code } = await run(name, "--help");
    expect({ stderr, code }).toEqual({ stderr: "", code: 0 });
    expect(stdout).toStartWith(`Usage: reliable-email ${name}`);
    expect((await run("help", name)).stdout).toBe(stdout);
  });

  test.each([[["--help"]], [["server", "-h"]], [["worker", "-h"]], [["dev", "-h"]]])(
    "help: %j names existing settings, in lines that fit a terminal",
    async (args) => {
      const { stdout } = await run(...args);
      const named = stdout.match(/\b[A-Z]+(_[A-Z]+)+\b|\b(HOST|PORT|PROVIDERS|LEASE)\b/g) ?? [];
      expect(named.length).toBeGreaterThan(2);
      expect(named.filter((name) => !(name in settings))).toEqual([]);
      expect(stdout.split("\n").filter((line) => line.length > 80)).toEqual([]);
    },
  );

  test("a reader that has gone is not an error", async () => {
    // The shell opens the pipe once it has a reader, and continues when the reader has gone.
    const script = 'mkfifo pipe && { : < pipe & } && exec 3> pipe && wait && "$@" >&3';
    const child = Bun.spawn(["sh", "-c", script, "sh", process.execPath, "--no-install", main, "--help"], {
      cwd: folder,
      stdout: "pipe",
      stderr: "pipe",
    });
    expect(await child.exited).toBe(0);
    expect(await child.stderr.text()).toBe("");
  });
});

test("cli: the version is package.json's, marked as run from the sources", async () => {
  const { stdout, stderr, code } = await run("--version");
  expect({ stdout, stderr, code }).toEqual({
    stdout: `reliable-email ${manifest.version} (from sources, bun ${Bun.version})\n`,
    stderr: "",
    code: 0,
  });
});

test.each([
  [[], "Which command?", "reliable-email --help"],
  [
    ["sever"],
    "Unknown command 'sever': the commands are server, worker, dev, queue, config",
    "reliable-email --help",
  ],
  [["--colour"], "Unknown option '--colour'", "reliable-email --help"],
  [["--version", "now"], "Unexpected argument 'now'", "reliable-email --help"],
  [["--help", "server"], "Unexpected argument 'server'", "reliable-email --help"],
  [
    ["help", "sever"],
    "Unknown command 'sever': the commands are server, worker, dev, queue, config",
    "reliable-email --help",
  ],
  [["server", "--port=1"], "Unknown option '--port'", "reliable-email server --help"],
  [["worker", "now"], "Unexpected argument 'now'", "reliable-email worker --help"],
  [["dev", "-x"], "Unknown option '-x'", "reliable-email dev --help"],
])("cli: %j is a usage error on stderr", async (args, usageError, hint) => {
  expect(await run(...args)).toEqual({ stdout: "", stderr: `${usageError}\nTry: ${hint}\n`, code: 2 });
});

describe("dev: settings", () => {
  const read = (env: Record<string, string>) => {
    const result = devSettings(env);
    if (!result.ok) throw new Error(result.message);
    return result.settings;
  };

  const sandboxes = [
    { name: "sandbox", weight: 1 },
    { name: "sandbox-2", weight: 1 },
  ] as const;

  test("without settings, emails go to two sandboxes from an invented sender, and are retried soon", () => {
    const { server, worker, inventedFrom } = read({});
    expect(worker.providers).toEqual([...sandboxes]);
    expect(worker.retryMaxMs).toBe(10_000);
    expect(read({ RETRY_BASE: "1m" }).worker.retryMaxMs).toBe(3_600_000);
    expect(worker.queue.kind).toBe("sqlite");
    expect(server).toMatchObject({ defaultFrom: "dev@example.com", logLevel: "warn" });
    expect(inventedFrom).toBe(true);
  });

  test("given settings are kept, and an empty value counts as absent", () => {
    const given = { PROVIDERS: "sandbox:2,resend", RESEND_API_KEY: "re_1", DEFAULT_FROM: "me@example.org" };
    const { server, worker, unused, inventedFrom } = read({ ...given, LOG_LEVEL: "error" });
    expect(worker.providers).toEqual([
      { name: "sandbox", weight: 2 },
      { name: "resend", weight: 1 },
    ]);
    expect(server).toMatchObject({ defaultFrom: "me@example.org", logLevel: "error" });
    expect({ unused, inventedFrom }).toEqual({ unused: [], inventedFrom: false });
    const { server: empty } = read({ PROVIDERS: "", DEFAULT_FROM: "", LOG_LEVEL: "" });
    expect(empty).toMatchObject({
      providers: sandboxes,
      defaultFrom: "dev@example.com",
      logLevel: "warn",
    });
  });

  test("credentials without PROVIDERS are named and not used", () => {
    const file = join(folder, "token");
    writeFileSync(file, "a-token");
    const { worker, unused } = read({ RESEND_API_KEY: "re_1", POSTMARK_SERVER_TOKEN_FILE: file });
    expect(worker.resendApiKey).toBeUndefined();
    expect(worker.postmarkServerToken).toBeUndefined();
    expect(worker.providers).toEqual([...sandboxes]);
    expect(unused).toEqual(["RESEND_API_KEY", "POSTMARK_SERVER_TOKEN_FILE"]);
  });

  test("server and worker have separate admin ports, or none", () => {
    const ports = (env: Record<string, string>) => {
      const { server, worker } = read(env);
      return [server.admin, worker.admin];
    };
    const host = "127.0.0.1";
    expect(ports({})).toEqual([
      { host, port: 3001 },
      { host, port: 3002 },
    ]);
    expect(ports({ ADMIN_PORT: "4000" })).toEqual([
      { host, port: 4000 },
      { host, port: 4001 },
    ]);
    expect(ports({ ADMIN_PORT: "0" })).toEqual([
      { host, port: 0 },
      { host, port: 0 },
    ]);
    expect(ports({ ADMIN_PORT: "" })).toEqual([undefined, undefined]);
  });

  test.each([
    ["127.0.0.1", "http://127.0.0.1:80"],
    ["0.0.0.0", "http://127.0.0.1:80"],
    ["[::]", "http://[::1]:80"],
    ["::1", "http://[::1]:80"],
    ["mail.example", "http://mail.example:80"],
  ])("a server on %s is reached at %s", (host, url) => {
    const text = banner(read({ HOST: host, ALLOW_ANONYMOUS: "1" }), 80);
    expect(text).toContain(`\n  curl -d subject=Hi -d body=Hello -d to=jane@example.org ${url}\n`);
  });

  test("with limited access, the greeting's example would be accepted, and contains no real token", () => {
    const token = "token-0123456789";
    const settings = read({ API_TOKENS: token, ALLOWED_FROM: "@example.net" });
    expect(settings).toMatchObject({ inventedFrom: false });
    expect(settings.server.defaultFrom).toBeUndefined();
    const text = banner(settings, 80);
    expect(text).toContain(
      "curl -H 'Authorization: Bearer TOKEN' -d subject=Hi -d body=Hello -d to=jane@example.org -d from=dev@example.net http:",
    );
    expect(text).not.toContain(token);
  });

  test("the greeting names the web client, if there is one", () => {
    expect(banner(read({}), 80, "http://127.0.0.1:3003/#token")).toContain(
      "\nWeb client  http://127.0.0.1:3003/#token\n",
    );
    expect(banner(read({}), 80)).not.toContain("Web client");
  });

  test("the greeting names providers that send for real, and never a password", () => {
    const text = banner(
      read({
        PROVIDERS: "resend,postmark:0",
        RESEND_API_KEY: "re_1",
        REDIS_URL: "redis://u:secret@redis.example",
      }),
      80,
    );
    expect(text).toContain("for real, by resend\n");
    expect(text).toContain("dev@example.com, which resend will refuse");
    expect(text).toContain("Redis at redis.example:6379,");
    expect(text).not.toMatch(/secret|outbox|postmark/);
  });
});

test("dev: log lines are formatted for people", () => {
  const entry = { time: "2026-01-01T00:00:00Z", level: "warn", event: "store-lost", after: "a b", count: 2 };
  expect(formatEntry("worker", entry)).toBe('worker: warn store-lost after="a b" count=2');
});
