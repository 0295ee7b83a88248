import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { resolve } from "node:path";

test("clean-up: a test that fails leaves no process and no folder behind", async () => {
  const child = Bun.spawn([process.execPath, "--no-install", "test", "./tests/support/leaves_redis.ts"], {
    cwd: resolve(import.meta.dir, ".."),
    stdout: "pipe",
    // Redis inherits it, and would keep it open.
    stderr: "ignore",
  });
  const output = await child.stdout.text();
  expect(await child.exited).toBe(1);
  const { port, folder } = JSON.parse(/\{.*\}/.exec(output)![0]) as { port: number; folder: string };
  expect(existsSync(folder)).toBe(false);
  await expect(Bun.connect({ port, hostname: "127.0.0.1", socket: { data() {} } })).rejects.toThrow();
});
