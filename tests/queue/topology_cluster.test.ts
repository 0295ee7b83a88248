// The queue on a real Redis Cluster.

import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import type { Consumer, Producer } from "../../lib/queue/contract.ts";
import { checkRedis } from "../../lib/queue/redis/admin.ts";
import { RedisProducer } from "../../lib/queue/redis/producer.ts";
import { claimRequest } from "../support/claim_request.ts";
import { eventually } from "../support/eventually.ts";
import { silent } from "../support/log.ts";
import { createNetwork } from "../support/network.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { type ClusterOptions, type RedisCluster, startRedisCluster } from "../support/redis_cluster.ts";
import { allLeadTo, queueKey, queueOptions, queuePrefix, useRedisQueues } from "../support/redis_queue.ts";
import { submission } from "./conformance_tools.ts";

const { closing, open } = useRedisQueues();

async function start(options?: ClusterOptions): Promise<RedisCluster> {
  const cluster = await startRedisCluster(options);
  closing.push(cluster.stop);
  return cluster;
}

const within = (ms: number) => performance.now() + ms;
const urlOf = (...nodes: RedisServer[]) =>
  `redis+cluster://${nodes.map(({ port }) => `127.0.0.1:${port}`).join(",")}`;

const reasonOf = (one: Producer | Consumer) => {
  const health = one.health();
  return health.ok ? "" : health.reason;
};

/** The ends of an old primary. */
const ends: Record<string, (cluster: RedisCluster) => unknown> = {
  killed: (cluster) => cluster.primaryOf(queueKey).kill("SIGKILL"),
  hung: (cluster) => cluster.primaryOf(queueKey).kill("SIGSTOP"),
  "replaced by an operator": (cluster) => cluster.failOver(queueKey),
};

describe.each(Object.keys(ends))("cluster: a primary that is %s", (how) => {
  test("is left by every connection, and no submission fails", async () => {
    const cluster = await start();
    const { producer, consumer, admin } = await open(cluster.url, 1);
    const old = cluster.primaryOf(queueKey);
    await allLeadTo(old);
    expect((await producer.submit(submission(), within(30_000))).kind).toBe("stored");
    const ended = ends[how]!(cluster);
    const answer = producer.submit(submission(), within(60_000));
    await ended;
    expect((await answer).kind).toBe("stored");
    expect(cluster.primaryOf(queueKey)).not.toBe(old);
    await allLeadTo(cluster.primaryOf(queueKey));
    const known = await eventually("the operator is answered", () => admin.stats().catch(() => undefined));
    expect(known.states.waiting).toBe(2);
    await eventually("a claim is answered", async () => {
      const result = await consumer.claim(claimRequest({ countMax: 10 })).catch(() => undefined);
      return result?.kind === "batch" && result.batch.emails.length === 2;
    });
    const woken = Promise.withResolvers<void>();
    consumer.onWake(woken.resolve);
    expect((await consumer.claim(claimRequest())).kind).toBe("empty");
    expect((await producer.submit(submission(), within(30_000))).kind).toBe("stored");
    await woken.promise;
  });
});

test("cluster: a primary that is cut off from the other nodes is left", async () => {
  const network = createNetwork();
  closing.push(network.stop);
  const cluster = await start({ network });
  const { producer, admin } = await open(cluster.url, 1);
  const old = cluster.primaryOf(queueKey);
  const heal = network.cut({ host: old.name, from: "peers" });
  const emails = Array.from({ length: 20 }, () => submission());
  const answers = emails.map((one) => producer.submit(one, within(60_000)));
  expect((await Promise.all(answers)).map(({ kind }) => kind)).toEqual(emails.map(() => "stored"));
  expect(old.cli("ROLE")).toStartWith("master");
  const next = cluster.primaryOf(queueKey);
  expect(next).not.toBe(old);
  await allLeadTo(next);
  await open(cluster.url, 1);
  heal();
  await eventually("the old primary follows", () => old.cli("ROLE").startsWith("slave"));
  const stats = await eventually("the operator is answered", () => admin.stats().catch(() => undefined));
  expect(stats.states.waiting).toBe(emails.length);
});

test("cluster: nodes are learned from the only one that is configured, and one that hangs delays no connection", async () => {
  const cluster = await start({ replicas: 1 });
  const other = cluster.otherPrimary(queueKey);
  const { producer } = await open(urlOf(other));
  other.kill("SIGSTOP");
  cluster.primaryOf(queueKey).cli("CLIENT", "KILL", "TYPE", "normal");
  expect((await producer.submit(submission(), within(30_000))).kind).toBe("stored");
});

test("cluster: a slot moves away and back while emails are submitted and claimed, and none is lost", async () => {
  const cluster = await start({ replicas: 0 });
  const { producer, consumer, admin } = await open(cluster.url);
  const answers: Promise<{ kind: string }>[] = [];
  let [isMoving, sent] = [true, 0];
  const submitting = (async () => {
    while (isMoving) {
      answers.push(producer.submit(submission(), within(60_000)));
      await Bun.sleep(5);
    }
  })();
  const claiming = (async () => {
    while (isMoving) {
      const result = await consumer.claim(claimRequest({ countMax: 10 })).catch(() => undefined);
      if (result?.kind !== "batch") {
        await Bun.sleep(5);
        continue;
      }
      const fates = result.batch.emails.map(({ id }) => ({ id, kind: "sent" as const, record: "{}" }));
      const settled = await consumer.settle(result.batch, { fates, counts: {} }).catch(() => undefined);
      if (settled !== undefined) sent += fates.length;
    }
  })();
  const home = cluster.primaryOf(queueKey);
  for (const target of [cluster.otherPrimary(queueKey), home]) {
    const [before, sentBefore] = [answers.length, sent];
    await eventually("emails come and go", () => answers.length > before + 20 && sent > sentBefore + 20);
    const move = cluster.startMove(queueKey, target);
    while (move.migrate(1) > 0) await Bun.sleep(20);
    move.finish();
    await allLeadTo(target);
  }
  isMoving = false;
  await Promise.all([submitting, claiming]);
  for (const answer of await Promise.all(answers)) expect(answer.kind).toBe("stored");
  const { states } = await eventually("it is answered", () => admin.stats().catch(() => undefined));
  expect(Object.values(states).reduce((sum, count) => sum + count, 0)).toBe(answers.length);
});

test("cluster: a move that was broken off is reported, and redis-cli --cluster fix ends it without loss", async () => {
  const cluster = await start({ replicas: 0 });
  const { producer, admin } = await open(cluster.url);
  const one = submission();
  expect((await producer.submit(one, within(30_000))).kind).toBe("stored");
  const move = cluster.startMove(queueKey, cluster.otherPrimary(queueKey));
  expect(move.migrate(2)).toBeGreaterThan(0);
  const fix = `redis-cli --cluster fix 127.0.0.1:${move.source.port}`;
  await eventually("it is not ready, with the reason", () => reasonOf(producer).endsWith(fix));
  const answer = producer.submit({ ...one }, within(60_000));
  Bun.spawnSync(["sh", "-c", `yes yes | ${fix}`]);
  expect(await answer).toMatchObject({ kind: "stored", repeated: true });
  const email = await eventually("the operator is answered", () => admin.show(one.id).catch(() => undefined));
  expect(email.state).toBe("waiting");
});

describe("cluster: a node that is promoted in the middle of a move", () => {
  /** These nodes of the move die. Each is replaced by a replica, which does not know of the move. */
  test.each([[["source"]], [["source", "target"]]] as const)(
    "(%j) closes the slot until redis-cli --cluster fix has united it",
    async (dying) => {
      const cluster = await start({ replicas: 1 });
      const queue = await open(cluster.url);
      const one = submission();
      expect((await queue.producer.submit(one, within(30_000))).kind).toBe("stored");
      const slot = cluster.slotOf(queueKey);
      const target = cluster.otherPrimary(slot);
      const ofTarget = cluster.nodes.indexOf(target) * (16_384 / 3) + 1;
      const replicas = {
        source: cluster.replicasOf(slot),
        target: cluster.replicasOf(Math.ceil(ofTarget)),
      };
      const move = cluster.startMove(slot, target);
      expect(move.migrate(2)).toBeGreaterThan(0);
      const keysOn = (node: RedisServer) => node.cli("CLUSTER", "COUNTKEYSINSLOT", String(slot));
      for (const name of dying) {
        const [node, [replica]] = [move[name], replicas[name]];
        await eventually("its replica has the same", () => keysOn(replica!) === keysOn(node));
        node.kill("SIGKILL");
        await eventually("it is replaced", () => replica!.cli("ROLE").startsWith("master"));
      }
      const primary = cluster.primaryOf(slot);
      expect(primary).toBe(replicas.source[0]!);
      const fix = `redis-cli --cluster fix 127.0.0.1:${primary.port}`;
      await eventually("both are not ready, with the reason", () =>
        [queue.producer.health(), queue.consumer.health()].every(
          (one) => !one.ok && one.reason.includes(fix),
        ),
      );
      expect(await queue.producer.submit(submission(), within(300))).toEqual({
        kind: "failed",
        reason: expect.stringContaining(fix),
      });
      expect(queue.consumer.claim(claimRequest())).rejects.toThrow();
      expect(queue.admin.stats()).rejects.toThrow();
      const [, commands = ""] = / run (redis-cli .*)$/.exec(reasonOf(queue.producer)) ?? [];
      // redis-cli refuses while nodes do not answer.
      await Promise.all(dying.map((name) => move[name].start()));
      await eventually(
        "all nodes are back",
        () => !/fail|disconnected/.test(primary.cli("CLUSTER", "NODES")),
      );
      const { stdout } = Bun.spawnSync(["sh", "-c", `yes yes | { ${commands}; }`]);
      expect(stdout.toString()).toContain("All 16384 slots covered");
      await eventually("both are ready", () => queue.producer.health().ok && queue.consumer.health().ok);
      expect(await queue.producer.submit({ ...one }, within(30_000))).toMatchObject({ repeated: true });
      expect((await queue.admin.show(one.id))!.state).toBe("waiting");
    },
  );
});

describe("cluster: a node", () => {
  test("that would stop with another shard is not written to, and a replica that would lose emails is reported", async () => {
    const cluster = await start({ replicas: 1 });
    const { producer, log } = await open(cluster.url);
    const [replica] = cluster.replicasOf(queueKey);
    for (const node of cluster.nodes) node.cli("CONFIG", "SET", "cluster-require-full-coverage", "yes");
    await eventually("it is refused", () =>
      reasonOf(producer).startsWith(
        `127.0.0.1:${cluster.primaryOf(queueKey).port}: cluster-require-full-coverage is yes`,
      ),
    );
    for (const node of cluster.nodes) node.cli("CONFIG", "SET", "cluster-require-full-coverage", "no");
    replica!.cli("CONFIG", "SET", "appendfsync", "everysec");
    await eventually("it is used again", () => producer.health().ok);
    await eventually("the replica is reported", () =>
      log
        .events("replica-not-durable")
        .some(({ fix }) => fix === "CONFIG SET appendfsync always; CONFIG REWRITE"),
    );
    for (const { replica: address } of log.events("replica-not-durable")) {
      expect(address).toBe(`127.0.0.1:${replica!.port}`);
    }
  });

  test("needs no more permissions than docs/deploy-redis.md lists", async () => {
    const page = await Bun.file(join(import.meta.dir, "..", "..", "docs/deploy-redis.md")).text();
    const [, general = ""] = /redis-cli ACL SETUSER mail ([^`]*)\n```/.exec(page) ?? [];
    const [, more = ""] = /On a cluster, the user also needs `([^`]+)`/.exec(page) ?? [];
    const words = `${general} ${more}`
      .replaceAll("\\\n", " ")
      .replaceAll("'", "")
      .replaceAll("reliable-email", queuePrefix);
    const cluster = await start({ replicas: 1 });
    for (const node of cluster.nodes)
      expect(node.cli("ACL", "SETUSER", "mail", ...words.split(/\s+/))).toBe("OK");
    const { producer } = await open(cluster.url.replace("://", "://mail:secret@"));
    expect((await producer.submit(submission(), within(30_000))).kind).toBe("stored");
  });
});

test("cluster: a URL of the wrong kind says which one to use", async () => {
  const [cluster, plain] = await Promise.all([start({ primaries: 3, replicas: 0 }), startRedis()]);
  closing.push(plain.stop);
  const { port } = cluster.nodes[0]!;
  const refusal = async (url: string) => {
    const producer = new RedisProducer(queueOptions(url));
    closing.push(() => producer.close());
    const health = await checkRedis({ ...queueOptions(url), log: silent });
    await eventually("it is not ready, with the reason", () => reasonOf(producer).includes("use redis"));
    return health.ok ? "" : health.reason;
  };
  const reasons = await Promise.all([
    refusal(`redis://127.0.0.1:${port}`),
    refusal(`redis+sentinel://127.0.0.1:${port}/queue`),
    refusal(`redis+cluster://127.0.0.1:${plain.port}`),
  ]);
  const text = `this node is part of a Redis Cluster: use redis+cluster://127.0.0.1:${port}`;
  expect(reasons).toEqual([
    expect.stringContaining(text),
    expect.stringContaining(text),
    expect.stringContaining(`use redis://127.0.0.1:${plain.port}`),
  ]);
});
