// Commands on many emails that are interrupted: their report matches what was done.

import { afterAll, describe, expect, test } from "bun:test";
import { Database } from "bun:sqlite";
import { readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cliCommand, jsonOfCli, runCli } from "../support/cli.ts";
import { eventually } from "../support/eventually.ts";
import { type Proxy, startProxy } from "../../fakes/tcp_proxy.ts";
import { useProcesses } from "../support/processes.ts";
import { type ShapedQueue, shapeQueue } from "../support/queue_states.ts";

const stack = useProcesses();
const opened: ShapedQueue[] = [];
const proxies: Proxy[] = [];
afterAll(async () => {
  for (const proxy of proxies) proxy.stop();
  await Promise.all(opened.map((one) => one.close()));
});

async function open(env: Record<string, string>) {
  const queue = await shapeQueue(env);
  opened.push(queue);
  return queue;
}

function start(env: Record<string, string>, ...args: string[]) {
  const child = Bun.spawn(cliCommand("queue", ...args), {
    cwd: tmpdir(),
    env: { PATH: process.env["PATH"] ?? "", ...env },
    stdout: "pipe",
    stderr: "pipe",
  });
  return {
    child,
    /** Waits until its signal handlers are installed. */
    handlesSignals: () => eventually("it handles signals", () => catches(child.pid)),
    async ended() {
      const [stdout, stderr, code] = await Promise.all([
        child.stdout.text(),
        child.stderr.text(),
        child.exited,
      ]);
      return { stdout, stderr, code };
    },
  };
}

/** With chunks of a thousand, a signal after the first chunk arrives before the last one. */
const many = 4500;

/** Whether it handles SIGINT (signal 2), for which commands install a handler after that for SIGTERM. */
function catches(pid: number): boolean {
  const [, mask = "0"] = /^SigCgt:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return (BigInt(`0x${mask}`) & 2n) !== 0n;
}

/** Locks the queue's file until the returned function is called. */
function hold(env: Record<string, string>): () => void {
  const db = new Database(join(env["DATA_DIR"]!, "queue.db"));
  db.run("PRAGMA busy_timeout = 60000");
  db.run("BEGIN IMMEDIATE");
  return () => db.close();
}

/** Redis's reply to a chunk of this many emails. */
const answerTo: Record<string, (count: number) => string> = {
  retry: (count) => `*${count}\r\n$36\r\n`,
  delete: (count) => `*${count}\r\n$7\r\ndeleted`,
  clear: (count) => `:${count}\r\n`,
};

/** Starts a command, and holds Redis's reply to its first chunk. */
async function atFirstChunk(env: Record<string, string>, args: readonly string[], count = 1000) {
  const proxy = await startProxy(stack.redis.port);
  proxies.push(proxy);
  proxy.onlyWith = answerTo[args[0]!]!(count);
  proxy.replies = "hold";
  const command = start({ ...env, REDIS_URL: `redis://127.0.0.1:${proxy.port}` }, ...args);
  await eventually("the reply to a chunk is held", () => proxy.heldReplies > 0);
  return { proxy, command };
}

/** For each queue: sends a signal to a command during its first chunk. */
const signalling = {
  async "the embedded queue"(args: string[], signal: NodeJS.Signals) {
    const env = stack.embedded();
    const queue = await open(env);
    return {
      env,
      queue,
      async run() {
        const unlock = hold(env);
        const command = start(env, ...args);
        await command.handlesSignals();
        command.child.kill(signal);
        unlock();
        return command.ended();
      },
    };
  },
  async Redis(args: string[], signal: NodeJS.Signals) {
    const env = stack.settings();
    const queue = await open(env);
    return {
      env,
      queue,
      async run() {
        const { proxy, command } = await atFirstChunk(env, args);
        command.child.kill(signal);
        proxy.release();
        return command.ended();
      },
    };
  },
};

describe.each(Object.entries(signalling))("queue: a signal, on %s,", (_, prepare) => {
  test.each(["SIGINT", "SIGTERM"] as const)(
    "ends retry after a chunk, which is reported with its possible duplicates (%s)",
    async (signal) => {
      const { queue, run } = await prepare(["retry", "--all", "--force", "--json"], signal);
      const ids = await queue.dead(many, "gone", { doubted: true });
      const { code, stdout, stderr } = await run();
      expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/^Interrupted: .*\n$/) });
      const report = JSON.parse(stdout);
      expect(report).toMatchObject({ interrupted: true, failed: [] });
      expect(report.retried.length % 1000).toBe(0);
      expect(report.retried.length).toBeGreaterThan(0);
      expect(report.retried.length).toBeLessThan(ids.length);
      expect(report.possible_duplicates).toEqual(report.retried);
      const { states, counters } = await queue.admin.stats();
      expect(states.waiting).toBe(report.retried.length);
      expect(counters["possible_duplicates"]).toBe(report.retried.length);
      expect((await queue.admin.show(report.retried[0]))?.state).toBe("waiting");
    },
  );

  test("ends retry, delete and clear with a report", async () => {
    for (const [args, filled, word] of [
      [["retry", "--all", "--force"], "dead", /^(\d),000 emails back to waiting \(queue in /],
      [["delete", "--all-dead", "--yes"], "dead", /^(\d),000 emails deleted \(queue in /],
      [["clear", "--yes"], "waiting", /^(\d),000 emails deleted\. Left: /],
    ] as const) {
      const { queue, run } = await prepare([...args], "SIGINT");
      if (filled === "dead") await queue.dead(many, "gone", { doubted: true });
      else await queue.submit(many);
      const { code, stdout, stderr } = await run();
      expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/^Interrupted: .*\n$/) });
      const done = 1000 * Number(word.exec(stdout)?.[1]);
      expect((await queue.admin.stats()).states[filled]).toBe(many - done);
      if (args[0] === "retry") expect(stdout.match(/^ {2}\S+$/gm)).toHaveLength(done);
    }
  });
});

test("queue: a list in JSON that loses the store half-way is a complete document with an error", async () => {
  const env = stack.settings();
  const queue = await open(env);
  // One page of each.
  const first = await queue.dead(1000, "an early reason");
  await queue.dead(1000, "a late reason");
  const proxy = await startProxy(stack.redis.port);
  proxies.push(proxy);
  const way = { ...env, REDIS_URL: `redis://127.0.0.1:${proxy.port}` };
  proxy.onlyWith = "a late reason";
  proxy.replies = "cut";
  const { code, stdout, stderr } = await runCli(way, "queue", "list", "dead", "--limit", "2000", "--json");
  expect(code).toBe(1);
  const emails = JSON.parse(stdout);
  expect(emails.slice(0, -1).map(({ id }: { id: string }) => id)).toEqual(first);
  expect(emails.at(-1)).toEqual({ error: expect.stringMatching(/^The queue does not answer /) });
  expect(stderr).toContain("The queue does not answer (Redis at 127.0.0.1:");
});

test("queue: a third signal ends a command immediately", async () => {
  const env = stack.embedded();
  const queue = await open(env);
  await queue.dead(10);
  const unlock = hold(env);
  const command = start(env, "retry", "--all");
  await command.handlesSignals();
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) command.child.kill(signal);
  expect(await command.ended()).toEqual({ code: 1, stdout: "", stderr: "" });
  unlock();
  expect((await queue.admin.stats()).states.dead).toBe(10);
});

test.each([
  ["retry", "dead", "retried", ["retry", "--all"], [[], ["--json"]]],
  ["delete", "dead", "deleted", ["delete", "--all-dead", "--yes"], [[], ["--json"]]],
  ["clear", "waiting", "deleted", ["clear", "--yes"], [["--json"]]],
] as const)(
  "queue: if the store is lost, %s reports it, and can be run again for the rest",
  async (_, filled, key, args, modes) => {
    const env = stack.settings();
    const queue = await open(env);
    await (filled === "dead" ? queue.dead(1500) : queue.submit(1500));
    const none = { retried: [], deleted: 0 }[key];
    for (const json of modes) {
      const left = (await queue.admin.stats()).states[filled];
      const { proxy, command } = await atFirstChunk(env, [...args, ...json], Math.min(left, 1000));
      proxy.stop();
      const { code, stdout, stderr } = await command.ended();
      expect(code).toBe(1);
      expect(stderr).toContain(
        "Interrupted: the changes above were made, and perhaps those of one more step",
      );
      expect(stderr).toContain("The queue does not answer (Redis at 127.0.0.1:");
      if (json.length === 0) expect(stdout).toStartWith("0 emails ");
      else expect(JSON.parse(stdout)).toMatchObject({ interrupted: true, [key]: none });
    }
    expect((await runCli(env, "queue", ...args)).code).toBe(0);
    expect((await queue.admin.stats()).states[filled]).toBe(0);
  },
);

test("queue: if the reply to an end of doubt is lost, retry reports it, and lists its changes when run again", async () => {
  const env = stack.settings();
  const queue = await open(env);
  const { ids } = await queue.inDoubt(3);
  const proxy = await startProxy(stack.redis.port);
  proxies.push(proxy);
  // The reply to the settlement: an array of one integer.
  proxy.onlyWith = "*1\r\n:1\r\n";
  proxy.replies = "drop";
  const command = start(
    { ...env, REDIS_URL: `redis://127.0.0.1:${proxy.port}` },
    "retry",
    "--force",
    ids[1]!,
  );
  const lost = await command.ended();
  expect(lost).toMatchObject({ code: 1, stdout: expect.stringMatching(/^0 emails back to waiting/) });
  expect(lost.stderr).toContain("Interrupted: ");
  expect((await queue.admin.stats()).counters).toMatchObject({ possible_duplicates: 3, replayed: 3 });
  expect(await jsonOfCli(env, ["queue", "retry", "--force", ids[1]!], 1)).toMatchObject({
    retried: [],
    failed: [{ id: ids[1], problem: "waiting" }],
  });
  expect((await queue.admin.stats()).counters).toMatchObject({ possible_duplicates: 3, replayed: 3 });
});
