// A test that fails before it has stopped its Redis, for clean_up.test.ts.

import { test } from "bun:test";
import { startRedis } from "./redis.ts";

test("fails", async () => {
  const { port, folder } = await startRedis();
  console.log(JSON.stringify({ port, folder }));
  throw new Error("as intended");
});
