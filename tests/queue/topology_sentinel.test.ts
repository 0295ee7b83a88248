// The queue on a primary that real Sentinels watch.

import { describe, expect, test } from "bun:test";
import { checkRedis } from "../../lib/queue/redis/admin.ts";
import { RedisProducer } from "../../lib/queue/redis/producer.ts";
import { claimRequest } from "../support/claim_request.ts";
import { eventually } from "../support/eventually.ts";
import { silent } from "../support/log.ts";
import { createNetwork } from "../support/network.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { allLeadTo, queueOptions, useRedisQueues } from "../support/redis_queue.ts";
import { type RedisSentinel, type SentinelOptions, startRedisSentinel } from "../support/redis_sentinel.ts";
import { submission } from "./conformance_tools.ts";

const { closing, open } = useRedisQueues();

async function start(options?: SentinelOptions): Promise<RedisSentinel> {
  const setup = await startRedisSentinel(options);
  closing.push(setup.stop);
  return setup;
}

const within = (ms: number) => performance.now() + ms;
const urlOf = ({ name }: RedisSentinel, ...sentinels: RedisServer[]) =>
  `redis+sentinel://${sentinels.map(({ port }) => `127.0.0.1:${port}`).join(",")}/${name}`;

/** The ends of an old primary. */
const ends: Record<string, (setup: RedisSentinel) => unknown> = {
  killed: (setup) => setup.primary().kill("SIGKILL"),
  hung: (setup) => setup.primary().kill("SIGSTOP"),
  "replaced by an operator": (setup) => setup.failOver(),
};

describe.each(Object.keys(ends))("sentinel: a primary that is %s", (how) => {
  test("is left by every connection, and no submission fails", async () => {
    const setup = await start();
    // A primary that is alive goes on until it hears of the other one, and the replica that acknowledges may not be that.
    const minReplicas = how === "replaced by an operator" ? 2 : 1;
    const { producer, consumer, admin } = await open(setup.url, minReplicas);
    const old = setup.primary();
    await allLeadTo(old);
    const before = submission();
    expect((await producer.submit(before, within(30_000))).kind).toBe("stored");
    const ended = ends[how]!(setup);
    const one = submission();
    const answer = producer.submit(one, within(60_000));
    await ended;
    expect((await answer).kind).toBe("stored");
    await eventually("another node is the primary", () => setup.primary() !== old);
    await allLeadTo(setup.primary);
    const known = await eventually("the operator is answered", () => admin.stats().catch(() => undefined));
    expect(known.states.waiting).toBe(2);
    const woken = Promise.withResolvers<void>();
    consumer.onWake(woken.resolve);
    await eventually("a claim is answered", async () => {
      const result = await consumer.claim(claimRequest({ countMax: 10 })).catch(() => undefined);
      return result?.kind === "batch" && result.batch.emails.length === 2;
    });
    expect((await consumer.claim(claimRequest())).kind).toBe("empty");
    expect((await producer.submit(submission(), within(30_000))).kind).toBe("stored");
    await woken.promise;
  });
});

test("sentinel: a primary that is cut off with a Sentinel, and goes on by their word, is left", async () => {
  const network = createNetwork();
  closing.push(network.stop);
  const setup = await start({ network });
  const { producer, admin } = await open(setup.url, 1);
  const old = setup.primary();
  const heal = [old, setup.sentinels[0]!].map(({ name }) => network.cut({ host: name, from: "peers" }));
  const emails = Array.from({ length: 20 }, () => submission());
  const answers = emails.map((one) => producer.submit(one, within(60_000)));
  expect((await Promise.all(answers)).map(({ kind }) => kind)).toEqual(emails.map(() => "stored"));
  expect(old.cli("ROLE")).toStartWith("master");
  const next = await eventually("another is promoted", () =>
    setup.nodes.find((node) => node !== old && node.cli("ROLE").startsWith("master")),
  );
  await allLeadTo(next);
  await open(setup.url, 1);
  for (const end of heal) end();
  await eventually("the old primary follows", () => old.cli("ROLE").startsWith("slave"));
  const stats = await eventually("the operator is answered", () => admin.stats().catch(() => undefined));
  expect(stats.states.waiting).toBe(emails.length);
});

test("sentinel: one that hangs, though it is the first, delays no connection", async () => {
  const setup = await start();
  setup.sentinels[0]!.kill("SIGSTOP");
  const { producer } = await open(setup.url);
  expect((await producer.submit(submission(), within(30_000))).kind).toBe("stored");
});

test("sentinel: others are learned from the only one that is configured, and asked when it has died", async () => {
  const setup = await start();
  const { producer } = await open(urlOf(setup, setup.sentinels[0]!));
  setup.sentinels[0]!.kill("SIGKILL");
  const old = setup.primary();
  old.kill("SIGKILL");
  expect((await producer.submit(submission(), within(60_000))).kind).toBe("stored");
  await eventually("another node is the primary", () => setup.primary() !== old);
});

/** After a failover, the Sentinel `stale` takes the node `isolated` for the primary. */
async function startStale() {
  const [setup, isolated] = await Promise.all([start(), startRedis()]);
  closing.push(isolated.stop);
  const file = `sentinel myid ${"5".repeat(40)}\nsentinel monitor ${setup.name} 127.0.0.1 ${isolated.port} 1\n`;
  const stale = await startRedis({}, { files: { "s.conf": file }, args: ["s.conf", "--sentinel"] });
  closing.push(stale.stop);
  await setup.failOver();
  return { setup, isolated, stale };
}

test("sentinel: one that names a node which nobody else follows misleads no connection", async () => {
  const { setup, stale } = await startStale();
  await open(urlOf(setup, stale, setup.sentinels[1]!));
  await allLeadTo(setup.primary);
});

test("sentinel: a connection that began with one that was cut off leaves its node when others answer", async () => {
  const { setup, isolated, stale } = await startStale();
  for (const sentinel of setup.sentinels) sentinel.kill("SIGSTOP");
  await open(urlOf(setup, ...setup.sentinels, stale));
  await allLeadTo(isolated);
  for (const sentinel of setup.sentinels) sentinel.kill("SIGCONT");
  // They may take the primary for dead, since they have not heard of it, and fail over once more.
  await allLeadTo(setup.primary);
});

test("sentinel: another one that answers at the address of one that was learned misleads no connection", async () => {
  const [setup, foreign] = await Promise.all([start(), startRedis()]);
  closing.push(foreign.stop);
  const [first, gone] = setup.sentinels;
  await open(urlOf(setup, first!));
  await gone!.stop();
  const lines = [
    `myid ${"5".repeat(40)}`,
    `monitor ${setup.name} 127.0.0.1 ${foreign.port} 1`,
    `config-epoch ${setup.name} 99`,
  ];
  const other = await startRedis(
    { port: String(gone!.port) },
    {
      files: { "s.conf": lines.map((line) => `sentinel ${line}\n`).join("") },
      args: ["s.conf", "--sentinel"],
    },
  );
  closing.push(other.stop);
  await eventually("it is asked", () =>
    / name=reliable-email-topology .* cmd=sentinel/.test(other.cli("CLIENT", "LIST")),
  );
  await allLeadTo(setup.primary);
  expect(foreign.cli("CLIENT", "LIST")).not.toContain("reliable-email");
});

describe("sentinel: a URL of the wrong kind", () => {
  const reasonOf = async (url: string) => {
    const options = queueOptions(url);
    const producer = new RedisProducer(options);
    closing.push(() => producer.close());
    const [health] = await Promise.all([
      checkRedis({ ...options, log: silent }),
      eventually("the process is not ready, with the reason", () => {
        const own = producer.health();
        return !own.ok && /use redis|knows no/.test(own.reason);
      }),
    ]);
    expect(options.log.events("store-connection-lost")).toHaveLength(1);
    return health.ok ? "" : health.reason;
  };

  test("says which one to use", async () => {
    const [setup, plain] = await Promise.all([start({ replicas: 0, sentinels: 1 }), startRedis()]);
    closing.push(plain.stop);
    const { port } = setup.sentinels[0]!;
    const reasons = await Promise.all([
      reasonOf(`redis://127.0.0.1:${port}`),
      reasonOf(`redis+cluster://127.0.0.1:${port}`),
      reasonOf(`redis+sentinel://127.0.0.1:${plain.port}/queue`),
      reasonOf(`redis+sentinel://127.0.0.1:${port}/other`),
    ]);
    expect(reasons).toEqual([
      expect.stringContaining(`this node is a Sentinel: use redis+sentinel://127.0.0.1:${port}/name`),
      expect.stringContaining(`this node is a Sentinel: use redis+sentinel://127.0.0.1:${port}/name`),
      expect.stringContaining(`use redis://127.0.0.1:${plain.port}`),
      expect.stringContaining(`this Sentinel knows no primary called other, only ${setup.name}`),
    ]);
  });
});
