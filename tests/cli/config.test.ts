// `config` and `config --check`: the effective settings without secrets, and a check of the store and the providers
// that sends nothing.

import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { settingNames } from "../../lib/config/settings.ts";
import { startFakePostmark } from "../../fakes/postmark.ts";
import { startFakeResend } from "../../fakes/resend.ts";
import { cliInTerminal, jsonOfCli, runCli } from "../support/cli.ts";
import { startRedis } from "../support/redis.ts";
import { shapeQueue } from "../support/queue_states.ts";

const folder = mkdtempSync(join(tmpdir(), "reliable-email-config-"));
const [resend, postmark] = [startFakeResend(), startFakePostmark()];
afterAll(() => {
  resend.stop();
  postmark.stop();
  rmSync(folder, { recursive: true, force: true });
});
beforeEach(() => {
  resend.clear();
  postmark.clear();
  resend.settings.apiKey = "re_fake";
});

const embedded = { DATA_DIR: join(folder, "data") };
const both = {
  RESEND_API_KEY: "re_fake",
  RESEND_BASE_URL: resend.url,
  POSTMARK_SERVER_TOKEN: "fake-token",
  POSTMARK_BASE_URL: postmark.url,
};

describe("config: the output", () => {
  test("lists every setting with its source", async () => {
    const token = join(folder, "token");
    writeFileSync(token, "fake-token\n");
    const { settings: shown } = await jsonOfCli(
      { ...embedded, LEASE: "90s", ADMIN_HOST: "", RETAIN: "", POSTMARK_SERVER_TOKEN_FILE: token },
      ["config"],
    );
    expect(Object.keys(shown)).toEqual(settingNames);
    expect(shown).toMatchObject({
      PORT: { value: "3000", source: "default" },
      LEASE: { value: "90s", source: "environment" },
      RETAIN: { value: "24h", source: "default" },
      ADMIN_HOST: { value: "", source: "environment" },
      DATA_DIR: { value: embedded.DATA_DIR, source: "environment" },
      PROVIDERS: { value: "postmark:1", source: "default" },
      POSTMARK_SERVER_TOKEN: { value: "[secret]", source: "file", file: token },
    });
    expect(shown.RESEND_API_KEY).toEqual({ source: "default" });
  });

  test.each([[], ["--json"], ["--check"], ["--check", "--json"]])(
    "contains no secret (%s %s)",
    async (...args) => {
      const env = {
        REDIS_URL: "redis://mail:the-pass%2Fword@127.0.0.1:1/2",
        API_TOKENS: "a-token-of-some-length,another-token-of-length",
        RESEND_API_KEY: "re_the_key",
        RESEND_BASE_URL: "http://127.0.0.1:1",
      };
      const { stdout, stderr } = await runCli(env, "config", ...args.filter((arg) => arg !== undefined));
      expect(stdout).toContain("redis://mail:[secret]@127.0.0.1:1/2");
      expect(stdout).toContain("[secret],[secret]");
      expect(stdout + stderr).not.toMatch(/the-pass|a-token-of|another-token|re_the_key/);
    },
  );

  test("warns of a likely misspelling of a setting, without its value", async () => {
    const env = { ...embedded, API_TOKEN: "a-token-of-some-length", RESEND_KEY: "re_the_key" };
    const { stdout, stderr, code } = await runCli(env, "config");
    expect(code).toBe(0);
    expect(stderr).toBe(
      "Warning: API_TOKEN is not a setting: did you mean API_TOKENS?\n" +
        "Warning: RESEND_KEY is not a setting: did you mean RESEND_API_KEY?\n",
    );
    const { warnings } = await jsonOfCli(env, ["config", "--check"], 1);
    expect(warnings).toEqual([
      { setting: "API_TOKEN", reason: "is not a setting: did you mean API_TOKENS?" },
      { setting: "RESEND_KEY", reason: "is not a setting: did you mean RESEND_API_KEY?" },
    ]);
    expect(stdout + JSON.stringify(warnings)).not.toMatch(/a-token-of|re_the_key/);
  });

  test("hides the password of a Redis without a user too", async () => {
    const { stdout } = await runCli({ REDIS_URL: "rediss://:pa:ss@redis.example" }, "config");
    expect(stdout).toContain("rediss://:[secret]@redis.example");
  });

  test("fits a terminal", async () => {
    const child = cliInTerminal({ ...embedded, ALLOWED_FROM: `@${"example".repeat(9)}.org` }, ["config"], 60);
    expect(await child.exited).toBe(0);
    for (const line of child.shown().split("\n")) expect(Bun.stringWidth(line)).toBeLessThanOrEqual(60);
  });

  test("is replaced by the errors in JSON while a setting is invalid", async () => {
    expect(await jsonOfCli({ PORT: "x" }, ["config"], 2)).toEqual({
      error: 'Cannot start: PORT "x" is not a whole number from 0 to 65535',
    });
    expect(await jsonOfCli({}, ["config", "--nonsense"], 2)).toEqual({
      error: "Unknown option '--nonsense'",
    });
  });

  test("is omitted while a setting is invalid", async () => {
    expect(await runCli({ PORT: "x", LEASE: "y" }, "config", "--check")).toMatchObject({
      code: 2,
      stdout: "",
      stderr: expect.stringMatching(/PORT [^]*LEASE /),
    });
  });
});

describe("config --check", () => {
  const checksOf = async (env: Record<string, string>, code = 0) => {
    const { ok, checks } = await jsonOfCli(env, ["config", "--check"], code);
    expect(ok).toBe(code === 0);
    return checks as { name: string; ok: boolean; detail: string }[];
  };

  test("finds the embedded queue and both providers good, and sends nothing", async () => {
    const { close } = await shapeQueue(embedded);
    await close();
    const checks = await checksOf({ ...embedded, ...both });
    expect(checks.map(({ name, ok }) => ({ name, ok }))).toEqual([
      { name: "store", ok: true },
      { name: "resend", ok: true },
      { name: "postmark", ok: true },
    ]);
    expect([...resend.acceptances, ...postmark.acceptances]).toEqual([]);
    const methods = [...resend.requests, ...postmark.requests].map(({ method }) => method);
    expect(new Set(methods)).toEqual(new Set(["GET"]));
    const { stdout, code } = await runCli({ ...embedded, ...both }, "config", "--check");
    expect(code).toBe(0);
    expect(stdout).toMatch(/^ok +store .*fsynced$/m);
  });

  test("warns of a Postmark stream for broadcasts", async () => {
    const env = { POSTMARK_MESSAGE_STREAM: "broadcast", ...both, PROVIDERS: "postmark" };
    const checks = await checksOf({ ...embedded, ...env });
    expect(checks.find(({ name }) => name === "postmark")).toEqual({
      name: "postmark",
      ok: true,
      detail: expect.stringMatching(/; warning: the message stream broadcast .*List-Unsubscribe/),
    });
  });

  test("fails on a wrong key, a provider that is down, and a path that is not a folder", async () => {
    resend.settings.apiKey = "re_another";
    postmark.goDown();
    const file = join(folder, "file");
    writeFileSync(file, "");
    const checks = await checksOf({ ...both, PROVIDERS: "resend,postmark,sandbox", DATA_DIR: file }, 1);
    postmark.comeUp();
    expect(checks.map(({ name, ok }) => `${name} ${ok}`)).toEqual([
      "store false",
      "resend false",
      "postmark false",
      "sandbox false",
    ]);
    expect(checks[0]!.detail).toContain("DATA_DIR");
    expect(checks[1]!.detail).toContain("API key is invalid");
    expect(checks[2]!.detail).toContain("no answer");
  });

  test("omits a credential that a refusal quotes", async () => {
    const proxy = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch({ headers }) {
        const key = headers.get("authorization") ?? headers.get("x-postmark-server-token");
        const message = `API key ${key} is not valid`;
        return Response.json(
          { name: "validation_error", statusCode: 401, message, ErrorCode: 10, Message: message },
          { status: 401 },
        );
      },
    });
    const url = `http://127.0.0.1:${proxy.port}`;
    const env = { ...embedded, ...both, RESEND_BASE_URL: url, POSTMARK_BASE_URL: url };
    try {
      const [, ...refused] = await checksOf(env, 1);
      expect(refused).toHaveLength(2);
      for (const { detail } of refused) expect(detail).toContain("[secret] is not valid");
      const { stdout, stderr } = await runCli(env, "config", "--check");
      expect(stdout).toContain("Bearer [secret] is not valid");
      expect(stdout + stderr).not.toMatch(/re_fake|fake-token/);
    } finally {
      await proxy.stop(true);
    }
  });

  test("creates no queue and no folder, and says what will", async () => {
    const data = join(folder, "none", "data");
    const checks = await checksOf({ DATA_DIR: data, PROVIDERS: "sandbox" });
    expect(checks.map(({ name, ok }) => `${name} ${ok}`)).toEqual(["store true", "sandbox true"]);
    expect(checks[0]!.detail).toStartWith(`no queue in ${data} yet: the first server or worker creates it`);
    expect(existsSync(join(folder, "none"))).toBe(false);
  });

  test("fails where no queue could be created", async () => {
    const link = join(folder, "link");
    symlinkSync(join(folder, "nowhere"), link);
    writeFileSync(join(folder, "in-the-way"), "");
    for (const [data, code] of [
      [link, "ENOENT"],
      [join(folder, "in-the-way"), "ENOTDIR"],
    ] as const) {
      const [store, sandbox] = await checksOf({ DATA_DIR: join(data, "data"), PROVIDERS: "sandbox" }, 1);
      expect(store).toMatchObject({ ok: false, detail: expect.stringContaining(data) });
      expect(sandbox).toMatchObject({ ok: false, detail: expect.stringContaining(code) });
    }
    expect(existsSync(join(folder, "nowhere"))).toBe(false);
  });

  test("leaves a queue and the sandbox's folder unchanged", async () => {
    const env = { DATA_DIR: join(folder, "there"), PROVIDERS: "sandbox" };
    const queue = await shapeQueue(env);
    await queue.submit(3);
    await queue.close();
    mkdirSync(join(env.DATA_DIR, "outbox"));
    const files = () =>
      readdirSync(env.DATA_DIR, { recursive: true, encoding: "utf8" })
        .toSorted()
        .map((name) => {
          const path = join(env.DATA_DIR, name);
          const about = statSync(path);
          return `${name} ${about.mtimeMs} ${about.isFile() ? Bun.hash(readFileSync(path)) : ""}`;
        });
    const before = files();
    expect(before.length).toBeGreaterThan(1);
    const [store] = await checksOf(env);
    expect(store!.detail).toContain("every write is fsynced");
    expect(files()).toEqual(before);
  });

  test("creates no key in a Redis without a queue", async () => {
    const redis = await startRedis();
    try {
      const [store] = await checksOf({ REDIS_URL: redis.url, ...both });
      expect(store).toMatchObject({ name: "store", ok: true });
      expect(store!.detail).toContain("fsyncs every write");
      expect(store!.detail).toContain(
        "no queue under prefix reliable-email yet: the first server or worker creates it",
      );
      expect(redis.cli("DBSIZE")).toBe("0");
    } finally {
      await redis.stop();
    }
  });

  test("fails without any provider, as a worker would", async () => {
    const [none] = await checksOf(embedded, 1);
    expect(none).toEqual({ name: "worker", ok: false, detail: expect.stringContaining("no provider") });
    expect((await runCli(embedded, "config", "--check")).stdout).toMatch(/^failed +worker .*no provider/m);
    const [missing] = await checksOf({ ...embedded, PROVIDERS: "resend" }, 1);
    expect(missing).toEqual({ name: "worker", ok: false, detail: expect.stringContaining("RESEND_API_KEY") });
  });

  test("reports whether Redis keeps what it acknowledges, and how to fix it", async () => {
    const redis = await startRedis();
    const store = async (over: Record<string, string> = {}, code = 0) =>
      (await checksOf({ REDIS_URL: redis.url, ...both, ...over }, code))[0]!;
    try {
      expect((await store()).detail).toContain("fsyncs every write");
      redis.cli("CONFIG", "SET", "appendfsync", "everysec");
      const refused = await store({}, 1);
      expect(refused.detail).toContain("appendfsync is everysec");
      expect(refused.detail).toContain("CONFIG SET appendfsync always");
      expect((await store({ REDIS_DURABILITY: "trust" })).detail).toContain("REDIS_DURABILITY=trust");
      expect((await store({ REDIS_MIN_REPLICAS: "1", REDIS_DURABILITY: "trust" }, 1)).detail).toContain(
        "REDIS_MIN_REPLICAS",
      );
    } finally {
      await redis.stop();
    }
    expect((await store({}, 1)).ok).toBe(false);
  });
});
