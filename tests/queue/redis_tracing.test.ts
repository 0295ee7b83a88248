// ioredis prepares commands for tracing only while something subscribes.

import { expect, test } from "bun:test";
import { tracingChannel } from "node:diagnostics_channel";
import { Redis } from "ioredis";
import "../../lib/queue/redis/tracing.ts";
import { startRedis } from "../support/redis.ts";

test("redis: no argument of a command is made a text for tracing unless something subscribes", async () => {
  const server = await startRedis();
  const redis = new Redis(server.url);
  let texts = 0;
  const argument = Buffer.from("x");
  argument.toString = () => {
    texts += 1;
    return "x";
  };
  try {
    expect((await redis.call("EVAL", "return ARGV[1]", 0, argument)) as string).toBe("x");
    expect(texts).toBe(0);
    const ignore = () => {};
    const handlers = { start: ignore, end: ignore, asyncStart: ignore, asyncEnd: ignore, error: ignore };
    const channel = tracingChannel("ioredis:command");
    channel.subscribe(handlers);
    await redis.call("EVAL", "return ARGV[1]", 0, argument);
    channel.unsubscribe(handlers);
    expect(texts).toBe(1);
  } finally {
    redis.disconnect();
    await server.stop();
  }
});
