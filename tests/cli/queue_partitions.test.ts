// Commands on a queue of which one partition cannot be used: it has lost its data.

import { beforeAll, afterAll, expect, test } from "bun:test";
import { readConfig } from "../../lib/config/config.ts";
import { openProducer } from "../../lib/queue/open.ts";
import type { Admin } from "../../lib/queue/contract.ts";
import { createId, tagOf } from "../../lib/queue/redis/partition.ts";
import { jsonOfCli, runCli } from "../support/cli.ts";
import { eventually } from "../support/eventually.ts";
import { silent } from "../support/log.ts";
import { queueAdminOf, useProcesses } from "../support/processes.ts";
import { soon, submission } from "../queue/conformance_tools.ts";

const stack = useProcesses();
const lost = 1;
const reason = "it has lost its data";
const unreached = [{ partition: lost, reason }];
const line = `Partition ${lost} of the queue does not answer: ${reason}\n`;
const opened: Admin[] = [];
afterAll(() => Promise.all(opened.map((one) => one.close())));

/** Settings of a queue with an email in each partition, of which one is lost; and the ids. */
async function damaged() {
  const env = stack.settings({ REDIS_PARTITIONS: "4" });
  opened.push(await queueAdminOf(env));
  const read = readConfig(env, "server");
  if (!read.ok) throw new Error(read.message);
  const producer = await openProducer(read.config.queue, { log: silent, onFatal() {} });
  await eventually("all partitions are ready", () => producer.health().partitions!.every(({ ok }) => ok));
  const all = [0, 1, 2, 3].map((partition) => submission({ id: createId(partition, 4) }));
  const answers = await Promise.all(all.map((one) => producer.submit(one, soon())));
  for (const answer of answers) expect(answer.kind).toBe("stored");
  await producer.close();
  stack.redis.cli("DEL", `${tagOf(env["REDIS_PREFIX"]!, lost, 4)}:format`);
  return { env, ids: all.map(({ id }) => id) };
}

let queue: Awaited<ReturnType<typeof damaged>>;
beforeAll(async () => {
  queue = await damaged();
});

test("queue: stats and list show the rest, name the partition, and fail", async () => {
  const { env, ids } = queue;
  const stats = await jsonOfCli(env, ["queue", "stats"], 1);
  expect(stats).toMatchObject({ waiting: 3, unreached, store: { ok: false } });
  const listed = await jsonOfCli(env, ["queue", "list", "waiting"], 1);
  expect(
    listed
      .slice(0, 3)
      .map(({ id }: { id: string }) => id)
      .toSorted(),
  ).toEqual(ids.filter((_, number) => number !== lost).toSorted());
  expect(listed[3]).toEqual({ error: line.trim() });
  const shown = await runCli(env, "queue", "list", "waiting");
  expect(shown).toMatchObject({ code: 1, stderr: line });
  expect(shown.stdout.trim().split("\n").length).toBe(4);
});

test("queue: show of an email in another partition succeeds, and of one in that partition fails", async () => {
  const { env, ids } = queue;
  expect(await jsonOfCli(env, ["queue", "show", ids[0]!])).toMatchObject({ state: "waiting" });
  expect((await runCli(env, "queue", "show", ids[0]!)).code).toBe(0);
  const { code, stderr } = await runCli(env, "queue", "show", ids[lost]!);
  expect(code).toBe(1);
  expect(stderr).toContain(`partition ${lost}: ${reason}`);
});

test("queue: pause and resume reach the rest, and say which they did not", async () => {
  const { env } = queue;
  expect(await jsonOfCli(env, ["queue", "pause"], 1)).toMatchObject({ paused: true, unreached });
  expect(await runCli(env, "queue", "resume")).toMatchObject({ code: 1, stderr: line });
});

test("queue: config --check finds the store broken", async () => {
  const { code, stdout } = await runCli(queue.env, "config", "--check");
  expect(code).toBe(1);
  expect(stdout).toContain(`partition ${lost}: it has lost its data`);
});

test("queue: retry, delete and clear do what they can, and name the rest", async () => {
  const { env, ids } = await damaged();
  const failed = [{ id: ids[lost]!, problem: "unreached" }];
  const retried = await jsonOfCli(env, ["queue", "retry", ids[0]!, ids[lost]!], 1);
  expect(retried.failed).toEqual([{ id: ids[0]!, problem: "waiting" }, ...failed]);
  expect(await jsonOfCli(env, ["queue", "delete", ids[0]!, ids[lost]!], 1)).toMatchObject({
    deleted: 1,
    failed,
  });
  expect(await jsonOfCli(env, ["queue", "clear", "--yes"], 1)).toMatchObject({ deleted: 2, unreached });
  expect(await jsonOfCli(env, ["queue", "retry", "--all"], 1)).toMatchObject({ retried: [], unreached });
});

test("queue: with another REDIS_PARTITIONS, commands refuse", async () => {
  const { code, stderr } = await runCli({ ...queue.env, REDIS_PARTITIONS: "8" }, "queue", "stats");
  expect(code).toBe(1);
  expect(stderr).toContain("the queue has 4 partitions, REDIS_PARTITIONS is 8");
});
