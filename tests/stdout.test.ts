import { expect, test } from "bun:test";
import { join } from "node:path";

test("stdout: on a pipe that another has made non-blocking, everything arrives, whole and in order", async () => {
  const module = JSON.stringify(join(import.meta.dir, "../lib/stdout.ts"));
  // Bun makes a pipe that it writes to as stderr one that does not wait.
  const code = `
    const { writeStdout } = await import(${module});
    process.stderr.write("");
    for (let line = 0; line < 20000; line += 1) writeStdout(line + " " + "x".repeat(90) + "\\n");`;
  const child = Bun.spawn(["sh", "-c", 'exec "$0" -e "$1" 2>&1', process.execPath, code], { stdout: "pipe" });
  const lines = (await new Response(child.stdout).text()).trimEnd().split("\n");
  expect(await child.exited).toBe(0);
  expect(lines.length).toBe(20_000);
  expect(lines.every((line, i) => line === `${i} ${"x".repeat(90)}`)).toBe(true);
});
