import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createLog, type LogFields, type LogLevel } from "../../lib/runtime/log.ts";

function logged(level: LogLevel, secrets: string[] = []) {
  const lines: string[] = [];
  const log = createLog({
    level,
    secrets,
    write: (line) => lines.push(line) > 0,
  });
  return { log, lines };
}

test("log: a line is one JSON object with time, level and event first", () => {
  const { log, lines } = logged("info");
  log.info("server-listening", { host: "::1", port: 3000, open: true });
  const [, time, rest] = /^\{"time":"([^"]+)",(.*\}\n)$/s.exec(lines.join(""))!;
  expect(new Date(time!).toISOString()).toBe(time!);
  expect(rest).toBe('"level":"info","event":"server-listening","host":"::1","port":3000,"open":true}\n');
});

test("log: lines below the level are dropped", () => {
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

test("log: each text in a list is scrubbed", () => {
  const { log, lines } = logged("info", ["s3cr3t-key"]);
  log.warn("event", { ids: ["a", "s3cr3t-key", "you@example.org"] });
  expect(JSON.parse(lines[0]!).ids).toEqual(["a", "[secret]", "[address]"]);
});

test("log: a long reason is cut at 500 characters", () => {
  const { log, lines } = logged("info");
  log.warn("event", { reason: "x".repeat(10_000) });
  expect(JSON.parse(lines[0]!).reason).toHaveLength(500);
});

test("log: a field with a private name is dropped, even if a cast hides it from the compiler", () => {
  const { log, lines } = logged("info");
  log.info("event", { id: "1", subject: "Hello", to: "you", token: "x", level: "y" } as unknown as LogFields);
  expect(JSON.parse(lines[0]!)).toEqual({ time: expect.any(String), level: "info", event: "event", id: "1" });
});

test("log: the next line that can be written reports how many were lost", () => {
  const lines: string[] = [];
  let works = false;
  const log = createLog({
    level: "info",
    write(line) {
      if (works) lines.push(line);
      return works;
    },
  });
  for (let i = 0; i < 3; i++) log.info("event");
  log.debug("below");
  works = true;
  for (let i = 0; i < 2; i++) log.info("event");
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([
    { level: "warn", event: "log-lines-lost", count: 3 },
    { event: "event" },
    { event: "event" },
  ]);
});

test("log: a stalled reader costs whole lines, which are counted, and no time", async () => {
  const folder = mkdtempSync(join(tmpdir(), "reliable-email-log-"));
  const pipe = join(folder, "pipe");
  const total = 4000;
  const talker = `
    import { createLog } from "./lib/runtime/log.ts";
    const log = createLog({ level: "info" });
    for (let i = 0; i < ${total}; i++) log.info("event", { i, reason: "ä".repeat(400) });
    console.error("alive");
    const timer = setInterval(() => log.info("later"), 10);
    await Bun.stdin.text();
    clearInterval(timer);
  `;
  const spawn = (command: string, ...args: string[]) =>
    Bun.spawn(["sh", "-c", command, pipe, ...args], {
      cwd: `${import.meta.dir}/../..`,
      stdin: "pipe",
      stdout: "pipe",
      stderr: "pipe",
    });
  try {
    Bun.spawnSync(["mkfifo", pipe]);
    const reader = spawn('exec 3<"$0"; read go; cat <&3');
    const child = spawn('exec "$1" -e "$2" >"$0"', process.execPath, talker);
    const { value } = await child.stderr.getReader().read();
    expect(new TextDecoder().decode(value)).toBe("alive\n");

    reader.stdin.write("\n");
    reader.stdin.flush();
    let text = "";
    for await (const chunk of reader.stdout.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      if (text.includes("later")) child.stdin.end();
    }
    expect(await child.exited).toBe(0);
    const lines = text.trimEnd().split("\n");
    const events = lines.map((line) => JSON.parse(line));
    const kept = events.filter(({ event }) => event === "event");
    expect(kept.map(({ i }) => i)).toEqual(kept.map((_, i) => i));
    expect(kept.length).toBeGreaterThan(10);
    // There may be room for a line as short as this one.
    const lost = events.filter(({ event }) => event === "log-lines-lost");
    const count = lost.reduce((sum, one) => sum + one.count, 0);
    expect(count).toBeGreaterThanOrEqual(total - kept.length);
    expect(events.length).toBeGreaterThan(kept.length + lost.length);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

const chatter = `
  import { createLog } from "./lib/runtime/log.ts";
  const log = createLog({ level: "info" });
  await Bun.stdin.text();
  for (let i = 0; i < 100; i++) log.info("event", { i });
  console.error("alive");
`;

test("log: a closed pipe and a full disk do not end the process", async () => {
  for (const stdout of ["pipe", Bun.file("/dev/full")] as const) {
    const child = Bun.spawn([process.execPath, "-e", chatter], {
      cwd: `${import.meta.dir}/../..`,
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
