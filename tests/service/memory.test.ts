// The memory limit of a server in docs/api.md, measured on a real server whose store hangs: whatever the bytes of the
// bodies, and however much longer they are once stored; and on one that stores large files.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { eventually } from "../support/eventually.ts";
import { watchMemory } from "../support/process_memory.ts";
import { connectRaw } from "../support/raw_http.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { post, startServer } from "../support/service.ts";

/** As docs/api.md states, plus some overhead of the allocator. */
const grownMaxMiB = 500;

let redis: RedisServer;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(async () => {
  redis.kill("SIGCONT");
  await redis.stop();
});

const least = { subject: "Hi", body: "Hello", to: "jane@example.org", from: "shop@example.com" };
const size = 1_000_000;
const form = (filling: Uint8Array) => ({
  type: "application/x-www-form-urlencoded",
  body: Buffer.concat([
    Buffer.from("subject=Hi&to=jane%40example.org&from=shop%40example.com&body=a"),
    filling,
  ]),
});

test.each([
  ["plain text", form(Buffer.alloc(size, "a"))],
  ["plain text, twice as long", form(Buffer.alloc(2 * size, "a"))],
  // Six times as long in JSON.
  ["control characters", form(Buffer.alloc(size, 1))],
  // Two bytes per character in memory, and one in UTF-8.
  ["one emoji and plain text", form(Buffer.from("😀".padEnd(size - 2, "a")))],
  [
    "JSON values, each of which takes an object",
    {
      type: "application/json",
      body: Buffer.from(`${JSON.stringify(least).slice(0, -1)},"x":[${"{},".repeat(size / 3)}1]}`),
    },
  ],
])("memory: hundreds of large bodies of %s stay within a server's limit", async (_, { type, body }) => {
  const server = await startServer({ PORT: "0", REDIS_URL: redis.url, SUBMIT_TIMEOUT: "6s" });
  try {
    await eventually("it is ready", async () => (await post(server.url, least)).status === 200);
    const memory = watchMemory(server.pid);
    redis.kill("SIGSTOP");
    const raws = await Promise.all(
      Array.from({ length: 300 }, async () => {
        const raw = await connectRaw(Number(new URL(server.url).port));
        raw.write(
          `POST / HTTP/1.1\r\nHost: a\r\nContent-Type: ${type}\r\nContent-Length: ${body.length}\r\n\r\n`,
        );
        await raw.writeAll(body);
        return raw;
      }),
    );
    for (const raw of raws) expect(await raw.received(/\}$/, 60_000)).toMatch(/^HTTP\/1.1 [45]00 /);
    expect(memory.grownMiB()).toBeLessThan(grownMaxMiB);
    for (const raw of raws) raw.end();
  } finally {
    redis.kill("SIGCONT");
    await server.kill();
  }
});

test("memory: ten submissions of 10 MiB at once, and a flood of larger ones, are stored or refused as busy", async () => {
  const server = await startServer({ PORT: "0", REDIS_URL: redis.url, REDIS_PREFIX: "files" });
  try {
    await eventually("it is ready", async () => (await post(server.url, least)).status === 200);
    const memory = watchMemory(server.pid);
    const content = Buffer.alloc(7_000_000, "content");
    const json = JSON.stringify({
      ...least,
      attachments: [{ filename: "a.b2", content: content.toString("base64") }],
    });
    const asJson = (bytes: number) => ({
      body: json.padEnd(bytes),
      headers: { "Content-Type": "application/json" },
    });
    const asForm = (bytes: number) => {
      const body = new FormData();
      for (const [name, value] of Object.entries(least)) body.append(name, value);
      body.append("attachment", new File([content], "a.b2"));
      body.append("ignored", "x".repeat(bytes - content.length - 1000));
      return { body };
    };
    const seen = new Map<string, number>();
    const send = async (init: RequestInit) => {
      const response = await fetch(server.url, { method: "POST", ...init });
      const { error_message = "" } = (await response.json()) as { error_message?: string };
      const answer = `${response.status} ${error_message}`;
      seen.set(answer, (seen.get(answer) ?? 0) + 1);
    };
    for (const one of [asJson, asForm]) {
      await Promise.all(Array.from({ length: 10 }, () => send(one(10 * 1024 * 1024))));
      await Promise.all(Array.from({ length: 25 }, () => send(one(15 * 1024 * 1024))));
    }
    const { "200 ": stored = 0, "500 the service is busy: try again later": busy = 0 } =
      Object.fromEntries(seen);
    expect(stored + busy).toBe(70);
    expect(stored).toBeGreaterThan(0);
    expect(memory.grownMiB()).toBeLessThan(grownMaxMiB);
    await eventually("others are served", async () => (await post(server.url, least)).status === 200);
  } finally {
    await server.kill();
  }
});
