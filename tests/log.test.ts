import { expect, test } from "bun:test";
import { createLog, type LogFields, type LogLevel } from "../lib/log.ts";

function logged(level: LogLevel, secrets: string[] = []) {
  const lines: string[] = [];
  const log = createLog({ level, secrets, write: (line) => lines.push(line), now: () => 1_700_000_000_000 });
  return { log, lines };
}

test("log: a line is one JSON object with time, level and event first", () => {
  const { log, lines } = logged("info");
  log.info("listening", { host: "::1", port: 3000, open: true });
  expect(lines).toEqual([
    '{"time":"2023-11-14T22:13:20.000Z","level":"info","event":"listening","host":"::1","port":3000,"open":true}\n',
  ]);
});

test("log: what is below the level is dropped", () => {
  const { log, lines } = logged("warn");
  log.debug("a");
  log.info("b");
  log.warn("c");
  log.error("d");
  expect(lines.map((line) => JSON.parse(line).event)).toEqual(["c", "d"]);
});

test.each([
  ["550 no such user ada@example.org here", "550 no such user [address] here"],
  ["connect redis://user:pass@host:1", "connect [address]"],
  ["key s3cr3t-key refused", "key [secret] refused"],
  ["two\nlines", "two\nlines"],
])("log: %p is scrubbed", (reason, expected) => {
  const { log, lines } = logged("info", ["s3cr3t-key"]);
  log.warn("event", { reason });
  expect(JSON.parse(lines[0]!).reason).toBe(expected);
  expect(lines[0]!.indexOf("\n")).toBe(lines[0]!.length - 1);
});

test("log: a long reason is cut at 500 characters", () => {
  const { log, lines } = logged("info");
  log.warn("event", { reason: "x".repeat(10_000) });
  expect(JSON.parse(lines[0]!).reason).toHaveLength(500);
});

test("log: a field of a private name is dropped, whatever the compiler was told", () => {
  const { log, lines } = logged("info");
  log.info("event", { id: "1", subject: "Hello", to: "you", token: "x", level: "y" } as unknown as LogFields);
  expect(JSON.parse(lines[0]!)).toEqual({ time: expect.any(String), level: "info", event: "event", id: "1" });
});

test("log: a failing write is no failure of the caller", () => {
  const log = createLog({
    level: "info",
    write: () => {
      throw new Error("EPIPE");
    },
  });
  expect(() => log.error("event", { reason: "x" })).not.toThrow();
});

const chatter = `
  import { createLog } from "./lib/log.ts";
  const log = createLog({ level: "info" });
  await Bun.stdin.text();
  for (let i = 0; i < 100; i++) log.info("event", { i });
  console.error("alive");
`;

test("log: a closed pipe and a full disk do not end the process", async () => {
  for (const stdout of ["pipe", Bun.file("/dev/full")] as const) {
    const child = Bun.spawn([process.execPath, "-e", chatter], {
      cwd: `${import.meta.dir}/..`,
      stdin: "pipe",
      stdout,
      stderr: "pipe",
    });
    if (child.stdout instanceof ReadableStream) await child.stdout.cancel();
    child.stdin.end();
    expect(await child.stderr.text()).toBe("alive\n");
    expect(await child.exited).toBe(0);
  }
});
