// A queue moves to another store under load, with real servers, workers and commands: every key keeps its id, every
// email arrives once, and no dead letter is lost or sent by both queues.

import { afterEach, expect, test } from "bun:test";
import { cliCommand, jsonOfCli, runCli } from "../support/cli.ts";
import { fileOf } from "../support/env_file.ts";
import { eventually } from "../support/eventually.ts";
import { drained, queueAdminOf, useProcesses } from "../support/processes.ts";
import { startRedisCluster } from "../support/redis_cluster.ts";
import { startRedisSentinel } from "../support/redis_sentinel.ts";
import { shapeQueue } from "../support/queue_states.ts";
import { post, type Process, startServer, startWorker } from "../support/service.ts";

const stack = useProcesses();
const started: Process[] = [];
const stopping: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  await Promise.all(started.splice(0).map((one) => one.kill("SIGKILL")));
  await Promise.all(stopping.splice(0).map((stop) => stop()));
});

async function running<P extends Process>(process: Promise<P>): Promise<P> {
  const one = await process;
  started.push(one);
  return one;
}

/** Clients that submit with keys and repeat earlier keys, at any of the servers that get traffic, until they stop. */
function startClients(name: string, urls: readonly string[]) {
  const traffic = { urls, isOver: false };
  const idsOf = new Map<string, Set<string>>();
  let refusals = 0;
  async function submit(key: string): Promise<void> {
    for (;;) {
      const url = traffic.urls[Math.floor(Math.random() * traffic.urls.length)]!;
      const email = { subject: `${name} ${key}`, body: "Hello", to: "jane@example.org" };
      const { status, id = "" } = await post(url, email, { "idempotency-key": key });
      if (status === 200) {
        idsOf.set(key, (idsOf.get(key) ?? new Set()).add(id));
        return;
      }
      expect(status).toBe(500);
      refusals += 1;
    }
  }
  const clients = Array.from({ length: 6 }, async (_, client) => {
    for (let i = 0; !traffic.isOver; i += 1) {
      await submit(`${client}-${i}`);
      // The answer got lost, or an old job runs again.
      await submit(`${client}-${i}`);
      await submit(`${client}-${Math.floor(Math.random() * i)}`);
    }
  });
  return {
    idsOf,
    refusals: () => refusals,
    direct: (to: readonly string[]) => (traffic.urls = to),
    /** Waits until the clients have submitted so many new keys from now on. */
    submitted: (count: number) => {
      const before = idsOf.size;
      return eventually("the clients submit", () => idsOf.size >= before + count);
    },
    async stop() {
      traffic.isOver = true;
      await Promise.all(clients);
    },
  };
}

const moves = [
  { from: "Redis", to: "Redis", source: stack.settings, target: stack.settings },
  {
    from: "the embedded queue",
    to: "four partitions",
    source: stack.embedded,
    target: () => stack.settings({ REDIS_PARTITIONS: "4" }),
  },
] as const;

/** Replicas have to acknowledge, and nodes are found. The old primary is replaced after the close. */
function topologies() {
  let failOver = async (): Promise<unknown> => undefined;
  return {
    from: "Redis with Sentinel",
    to: "a cluster",
    async source() {
      const sentinel = await startRedisSentinel();
      stopping.push(sentinel.stop);
      failOver = sentinel.failOver;
      return stack.settings({ REDIS_URL: sentinel.url, REDIS_MIN_REPLICAS: "2" });
    },
    async target() {
      const cluster = await startRedisCluster({ replicas: 1 });
      stopping.push(cluster.stop);
      return stack.settings({ REDIS_URL: cluster.url, REDIS_MIN_REPLICAS: "1" });
    },
    failOver: () => failOver(),
  };
}

test.each([...moves, topologies()])(
  "move: from $from to $to under load, every key keeps its id and every email arrives once",
  async (one) => {
    // A limit that the provider states need not be learned.
    await stack.fakes.settings("resend", { rateLimit: 1000 });
    const [source, target] = await Promise.all([one.source(), one.target()]);
    const file = fileOf(target);
    const [oldServer] = [await running(startServer(source)), await running(startWorker(source))];
    const name = Bun.randomUUIDv7();
    const clients = startClients(name, [oldServer.url]);
    await clients.submitted(50);

    const [newServer] = [await running(startServer(target)), await running(startWorker(target))];
    const copied = await jsonOfCli(source, ["queue", "move", file, "--copy"]);
    expect(copied.step).toBe("copied");
    expect(copied.keys.added).toBeGreaterThanOrEqual(50);
    await clients.submitted(20);
    expect((await jsonOfCli(source, ["queue", "move", file, "--close"])).step).toBe("closed");
    if ("failOver" in one) await one.failOver();
    // One server after the other takes the traffic over.
    clients.direct([oldServer.url, newServer.url]);
    await clients.submitted(50);
    clients.direct([newServer.url]);
    await clients.submitted(20);
    const emptied = await jsonOfCli(source, ["queue", "move", file]);
    expect(emptied).toMatchObject({
      step: "emptied",
      keys: { conflicts: 0 },
      left: { waiting: 0, retrying: 0, sending: 0, "in-doubt": 0, dead: 0 },
    });
    await clients.submitted(20);
    await clients.stop();

    const twice = [...clients.idsOf].filter(([, ids]) => ids.size > 1);
    expect(twice).toEqual([]);
    // An old server has refused new keys.
    expect(clients.refusals()).toBeGreaterThan(0);
    const admin = await queueAdminOf(target);
    await drained(admin);
    await admin.close();
    const arrived = (await stack.fakes.acceptances()).filter(({ subject }) => subject.startsWith(name));
    const wanted = [...clients.idsOf.values()].flatMap((ids) => [...ids]);
    expect(arrived.map(({ emailId }) => emailId).toSorted()).toEqual(wanted.toSorted());
  },
);

test.each(moves)(
  "move: from $from to $to, scheduled emails survive commands that are killed, and are sent once, on time",
  async (one) => {
    await stack.fakes.settings("resend", { rateLimit: 1000 });
    const [source, target] = [one.source(), one.target()];
    const file = fileOf(target);
    const queue = await shapeQueue(source);
    const admin = await queueAdminOf(target);
    await running(startWorker(source));
    await running(startWorker(target));
    // Some become due in the old queue, some on their way, some in the new one.
    const times = Array.from({ length: 15 }, (_, i) => new Date(Date.now() + 300 * (i + 1)).toISOString());
    const sendAt = new Map<string, string>();
    for (const send_at of times)
      for (const id of await queue.submit(40, { send_at })) sendAt.set(id, send_at);
    await runCli(source, "queue", "move", file, "--close");

    const left = async () => {
      const { scheduled, waiting, sending, dead } = (await queue.admin.stats()).states;
      return scheduled + waiting + sending + dead;
    };
    while ((await left()) > 0) {
      const before = await left();
      const command = Bun.spawn(cliCommand("queue", "move", file, "--no-wait"), {
        env: { PATH: process.env["PATH"] ?? "", ...source },
        stdout: "ignore",
        stderr: "ignore",
      });
      const goal = Math.max(0, before - 1 - Math.floor(Math.random() * 150));
      await eventually("it moves emails", async () => (await left()) <= goal || command.exitCode !== null);
      command.kill("SIGKILL");
      await command.exited;
    }
    expect(await jsonOfCli(source, ["queue", "move", file])).toMatchObject({
      failed: [],
      left: { scheduled: 0, dead: 0 },
    });
    expect((await admin.stats()).states.dead).toBe(0);
    await eventually("all are due", async () => (await admin.stats()).states.scheduled === 0);
    await drained(admin);

    const arrived = (await stack.fakes.acceptances()).filter(({ emailId }) => sendAt.has(emailId));
    expect(arrived.map(({ emailId }) => emailId).toSorted()).toEqual([...sendAt.keys()].toSorted());
    expect(arrived.filter(({ emailId, atMs }) => atMs < Date.parse(sendAt.get(emailId)!))).toEqual([]);
    await Promise.all([queue.close(), admin.close()]);
  },
);

test.each(moves)(
  "move: from $from to $to, dead letters survive commands that are killed, and are sent by one queue",
  async (one) => {
    await stack.fakes.settings("resend", { rateLimit: 1000 });
    const [source, target] = [one.source(), one.target()];
    const file = fileOf(target);
    const queue = await shapeQueue(source);
    const dead = await queue.dead(600);
    const admin = await queueAdminOf(target);
    await runCli(source, "queue", "move", file, "--close");
    await running(startWorker(source));
    await running(startWorker(target));

    /** Operators retry whatever is dead, on both sides. */
    let isOver = false;
    const operators = [source, target].map(async (env) => {
      while (!isOver) await runCli(env, "queue", "retry", "--all");
    });
    for (let moved = -1; moved !== dead.length;) {
      const left = async () => (await queue.admin.stats()).states.dead;
      const command = Bun.spawn(cliCommand("queue", "move", file, "--no-wait"), {
        env: { PATH: process.env["PATH"] ?? "", ...source },
        stdout: "ignore",
        stderr: "ignore",
      });
      // Killed at an instant when some letters are under way.
      const before = await left();
      const goal = Math.max(0, before - 1 - Math.floor(Math.random() * 150));
      await eventually("it moves letters", async () => (await left()) <= goal || command.exitCode !== null);
      command.kill("SIGKILL");
      await command.exited;
      moved = dead.length - (await left());
    }
    const emptied = await jsonOfCli(source, ["queue", "move", file]);
    expect(emptied).toMatchObject({ failed: [], left: { dead: 0 } });
    isOver = true;
    await Promise.all(operators);
    await runCli(target, "queue", "retry", "--all");
    await drained(admin);

    const wanted = new Set(dead);
    const arrived = (await stack.fakes.acceptances()).filter(({ emailId }) => wanted.has(emailId));
    expect(arrived.map(({ emailId }) => emailId).toSorted()).toEqual(dead.toSorted());
    await Promise.all([queue.close(), admin.close()]);
  },
);
