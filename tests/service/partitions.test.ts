// Real processes on a queue of four partitions, of which one cannot be used: it has lost its data.

import { expect, test } from "bun:test";
import { tagOf } from "../../lib/queue/redis/partition.ts";
import { adminOf, withAdmin } from "../support/admin.ts";
import { eventually } from "../support/eventually.ts";
import { useProcesses } from "../support/processes.ts";
import { post, startServer, startWorker } from "../support/service.ts";

const stack = useProcesses();

test("partitions: with one lost, processes stay ready and say so, and what is submitted is delivered", async () => {
  const env = stack.settings({ REDIS_PARTITIONS: "4", ...withAdmin });
  const first = await startServer(env);
  await (await adminOf(first)).isReady();
  await first.kill("SIGTERM");
  stack.redis.cli("DEL", `${tagOf(env["REDIS_PREFIX"]!, 2, 4)}:format`);

  const [server, worker] = await Promise.all([startServer(env), startWorker(env)]);
  const warnings = [expect.stringMatching(/partition 2: it has lost its data/)];
  for (const one of [server, worker]) {
    const admin = await adminOf(one);
    const ready = await eventually("it is ready, but for a partition", async () => {
      const { status, ...rest } = await admin.ready();
      const isConnected = "warnings" in rest && !String(rest.warnings).includes("not connected");
      return status === 200 && isConnected ? rest : undefined;
    });
    expect(ready.warnings).toEqual(warnings);
    await eventually("all others are up", async () => {
      const { value } = await admin.scrape();
      const up = [0, 1, 2, 3].map((partition) =>
        value("reliable_email_partition_up", { partition: String(partition) }),
      );
      return up.join() === "1,1,0,1";
    });
  }
  const fields = { to: "jane@example.org", subject: "Hi", body: "Hello" };
  const answers = await Promise.all(Array.from({ length: 40 }, () => post(server.url, fields)));
  expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
  const accepted = await eventually("all are accepted", async () => {
    const all = await stack.fakes.acceptances();
    return all.length === 40 ? all : undefined;
  });
  expect(new Set(accepted.map(({ emailId }) => emailId))).toEqual(new Set(answers.map(({ id }) => id!)));
  expect([await server.kill("SIGTERM"), await worker.kill("SIGTERM")]).toEqual([0, 0]);
});

test("partitions: a process with another REDIS_PARTITIONS does not go on", async () => {
  const env = stack.settings({ REDIS_PARTITIONS: "2", ...withAdmin });
  const first = await startServer(env);
  await (await adminOf(first)).isReady();
  const other = await startServer({ ...env, REDIS_PARTITIONS: "3" });
  expect(await other.event("store-unusable")).toMatchObject({
    reason: "the queue has 2 partitions, REDIS_PARTITIONS is 3",
  });
  expect(await other.exited).toBe(1);
  await first.kill("SIGTERM");
});
