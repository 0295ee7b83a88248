// The memory limit of a server in docs/api.md, measured on a real server whose store hangs: whatever the bytes of the
// bodies, and however much longer they are once stored.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { eventually } from "../support/eventually.ts";
import { watchMemory } from "../support/process_memory.ts";
import { connectRaw } from "../support/raw_http.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { post, startServer } from "../support/service.ts";

/** As docs/api.md states, plus some overhead of the allocator. */
const grownMaxMiB = 600;

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
