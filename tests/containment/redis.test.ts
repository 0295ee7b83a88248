import { afterAll, beforeAll } from "bun:test";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { containment } from "./containment.ts";

let redis: RedisServer;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());

containment(() => redis.url);
