// Commands on many emails next to a running server and worker: every email arrives, once.

import { afterEach, expect, test } from "bun:test";
import { cliInTerminal, jsonOfCli, runCli } from "../support/cli.ts";
import { eventually } from "../support/eventually.ts";
import { post, type Process, startServer, startWorker } from "../support/service.ts";
import { drained, useProcesses } from "../support/processes.ts";
import { shapeQueue } from "../support/queue_states.ts";

const stack = useProcesses();
const started: Process[] = [];
afterEach(async () => {
  await Promise.all(started.splice(0).map((one) => one.kill("SIGKILL")));
});

const queues = [
  ["the embedded queue", () => stack.embedded()],
  ["Redis", () => stack.settings()],
] as const;

test.each(queues)(
  "queue: on %s thousands are retried while server and worker run, and all arrive",
  async (_, settings) => {
    const env = settings();
    const queue = await shapeQueue(env);
    const dead = await queue.dead(4000);
    // A limit that the provider states need not be learned.
    await stack.fakes.settings("resend", { rateLimit: 1000 });
    const [server, worker] = await Promise.all([startServer(env), startWorker(env)]);
    started.push(server, worker);

    let submitting = true;
    const submitted: string[] = [];
    const client = (async () => {
      while (submitting) {
        const { id } = await post(server.url, { subject: "Hi", body: "Hello", to: "jane@example.org" });
        submitted.push(id!);
      }
    })();
    const printed = await jsonOfCli(env, ["queue", "retry", "--all"]);
    submitting = false;
    await client;

    expect(printed.retried.toSorted()).toEqual(dead.toSorted());
    await drained(queue.admin);
    const wanted = new Set([...dead, ...submitted]);
    const arrived = (await stack.fakes.acceptances())
      .map(({ emailId }) => emailId)
      .filter((id) => wanted.has(id));
    expect(arrived.toSorted()).toEqual([...wanted].toSorted());
    const stats = await jsonOfCli(env, ["queue", "stats"]);
    expect(stats).toMatchObject({ dead: 0, waiting: 0, sent: wanted.size, retried_by_operator: dead.length });
    await queue.close();
  },
);

test.each(queues)(
  "queue: on %s a pause stops a running worker, and resume starts it immediately",
  async (_, settings) => {
    const env = settings();
    const queue = await shapeQueue(env);
    const [server, worker] = await Promise.all([startServer(env), startWorker(env)]);
    started.push(server, worker);
    await runCli(env, "queue", "pause");
    const answers = await Promise.all(
      Array.from({ length: 20 }, () =>
        post(server.url, { subject: "Hi", body: "Hello", to: "jane@example.org" }),
      ),
    );
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
    // A worker claims at least once a second.
    await worker.event("claims-paused");
    expect((await queue.admin.stats()).states).toMatchObject({ waiting: 20, sent: 0 });
    await runCli(env, "queue", "resume");
    await eventually("all are sent", async () => (await queue.admin.stats()).states.sent === 20);
    await queue.close();
  },
);

test("queue: long commands show their progress at a terminal, and clear it at the end", async () => {
  const env = stack.embedded();
  const queue = await shapeQueue(env);
  await queue.dead(20_000);
  const child = cliInTerminal(env, ["queue", "retry", "--all"]);
  expect(await child.exited).toBe(0);
  expect(child.shown()).toEndWith(`20,000 emails back to waiting (queue in ${env["DATA_DIR"]})\n`);
  // A fast machine may show none.
  const lines = child.shown().split("\r");
  const clear = "\u001b[K";
  for (const line of lines.slice(1, -1)) {
    expect(line === clear || /Retrying: [\d,]+ of 20,000$/.test(line)).toBe(true);
  }
  await queue.close();
});
