// The text of Redis's errors.

import { expect, test } from "bun:test";
import { RedisConnection } from "../../lib/queue/redis/connection.ts";
import { redisErrorText } from "../../lib/queue/redis/error_text.ts";
import { eventually } from "../support/eventually.ts";
import { silent } from "../support/log.ts";
import { startRedis } from "../support/redis.ts";

test("script: the arguments of an unknown command are omitted", async () => {
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
