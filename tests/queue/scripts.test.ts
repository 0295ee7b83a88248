// What is said of an error of Redis.

import { expect, test } from "bun:test";
import { RedisConnection, redisErrorText } from "../../lib/queue/redis/connection.ts";
import { eventually } from "../support/eventually.ts";
import { silent } from "../support/log.ts";
import { startRedis } from "../support/redis.ts";

test("script: of a command that Redis does not know, its arguments are left out", async () => {
  const server = await startRedis();
  const connection = new RedisConnection({ url: server.url, prefix: "test", log: silent }, "test");
  const { redis } = connection;
  try {
    await eventually("it is connected", () => redis.status === "ready");
    const error: unknown = await redis.call("nonsense", "Sekrit").catch((reason: unknown) => reason);
    expect(String(error)).toContain("Sekrit");
    expect(redisErrorText(error)).toBe("ERR unknown command 'nonsense'");
  } finally {
    connection.close();
    await server.stop();
  }
});
