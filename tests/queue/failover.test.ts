// A failover of Redis behind one address: the address leads to another node, while existing connections do not.

import { afterAll, describe, expect, test } from "bun:test";
import { startProxy } from "../../fakes/tcp_proxy.ts";
import { RedisProducer } from "../../lib/queue/redis/producer.ts";
import { openRedisAdmin } from "../../lib/queue/redis/admin.ts";
import { RedisConsumer } from "../../lib/queue/redis/consumer.ts";
import { claimRequest } from "../support/claim_request.ts";
import { eventually } from "../support/eventually.ts";
import { recordingLog, silent } from "../support/log.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { submission } from "./conformance_tools.ts";

const closing: (() => unknown)[] = [];
afterAll(async () => {
  for (const close of closing.toReversed()) await close();
});

const roles = ["server", "claims", "settlements", "wakes", "operator"];

/** The service's connections to this node. */
function connectionsTo(redis: RedisServer): string[] {
  const names = redis.cli("CLIENT", "LIST").matchAll(/ name=reliable-email-(\w+) /g);
  return Array.from(names, ([, name = ""]) => name).toSorted();
}

async function startPair() {
  const primary = await startRedis();
  const replica = await startRedis({ replicaof: `127.0.0.1 ${primary.port}` });
  closing.push(() => Promise.all([primary.stop(), replica.stop()]));
  await eventually("the replica follows", () =>
    replica.cli("INFO", "replication").includes("master_link_status:up"),
  );
  const address = await startProxy(primary.port);
  closing.push(address.stop);
  return { primary, replica, address };
}

async function openQueue(url: string) {
  const log = recordingLog();
  const options = {
    url,
    prefix: "failover",
    minReplicas: 0,
    durability: "verify" as const,
    retainMs: 3_600_000,
    log,
    onFatal: () => {},
  };
  const [producer, consumer] = [new RedisProducer(options), new RedisConsumer(options)];
  await eventually("both are connected", () => producer.health().ok && consumer.health().ok);
  const admin = await openRedisAdmin(options);
  closing.push(() => Promise.all([producer.close(), consumer.close(), admin.close()]));
  return { producer, consumer, admin, log };
}

const within = (ms: number) => performance.now() + ms;

/** The fates of the old primary, to which the address no longer leads. */
const ends: Record<string, (old: RedisServer, next: RedisServer) => unknown> = {
  demoted: (old, next) => old.cli("REPLICAOF", "127.0.0.1", String(next.port)),
  hung: (old) => old.kill("SIGSTOP"),
  dead: (old) => old.kill("SIGKILL"),
};

describe.each(Object.keys(ends))("failover: a primary that is replaced behind its address and %s", (how) => {
  async function failOver({ primary, replica, address }: Awaited<ReturnType<typeof startPair>>) {
    await eventually("the replica has everything", () => {
      const offset = (redis: RedisServer, name: string) =>
        new RegExp(`^${name}:(\\d+)`, "m").exec(redis.cli("INFO", "replication"))?.[1];
      return offset(primary, "master_repl_offset") === offset(replica, "slave_repl_offset");
    });
    replica.cli("REPLICAOF", "NO", "ONE");
    address.target = replica.port;
    ends[how]!(primary, replica);
  }

  test("is left by every idle connection", async () => {
    const pair = await startPair();
    const { producer, consumer, admin, log } = await openQueue(`redis://127.0.0.1:${pair.address.port}`);
    await eventually("all are connected", () => connectionsTo(pair.primary).length === roles.length);
    await failOver(pair);
    await eventually(
      () => `all lead to the new primary: ${connectionsTo(pair.replica)}`,
      () => connectionsTo(pair.replica).join() === roles.toSorted().join(),
      60_000,
    );
    await eventually("both find it ready", () => producer.health().ok && consumer.health().ok);
    expect((await consumer.claim(claimRequest())).kind).toBe("empty");
    const woken = Promise.withResolvers<void>();
    consumer.onWake(woken.resolve);
    const one = submission();
    expect((await producer.submit(one, within(20_000))).kind).toBe("stored");
    await woken.promise;
    expect((await admin.show(one.id))!.state).toBe("waiting");
    if (how === "demoted") {
      expect(connectionsTo(pair.primary)).toEqual([]);
      const reasons = log.events("store-connection-lost").map(({ reason }) => reason);
      expect(reasons).toContain("this node is a replica, not the primary");
    }
  });

  test("is left under load, without a submission or claim that exceeds its time", async () => {
    const pair = await startPair();
    const { producer, consumer, admin } = await openQueue(`redis://127.0.0.1:${pair.address.port}`);
    let stopping = false;
    const answers: Promise<{ kind: string }>[] = [];
    let claimed = 0;
    const submitting = (async () => {
      while (!stopping) {
        const answer = producer.submit(submission(), within(30_000));
        answers.push(answer);
        await Promise.race([answer, Bun.sleep(20)]);
      }
    })();
    const claiming = (async () => {
      while (!stopping) {
        const result = await consumer.claim(claimRequest({ countMax: 10 })).catch(() => undefined);
        if (result?.kind !== "batch") {
          await Bun.sleep(20);
          continue;
        }
        const fates = result.batch.emails.map(({ id }) => ({ id, kind: "sent" as const, record: "{}" }));
        await consumer.settle(result.batch, { fates, counts: {} }).catch(() => {});
        claimed += fates.length;
      }
    })();
    await eventually("emails come and go", () => claimed > 20);
    await failOver(pair);
    const [before, claimedBefore] = [answers.length, claimed];
    await eventually("all lead to the new primary", () => connectionsTo(pair.replica).length >= 4, 60_000);
    await eventually("emails come and go again", () => claimed > claimedBefore + 20, 60_000);
    stopping = true;
    await Promise.all([submitting, claiming]);
    expect(answers.length).toBeGreaterThan(before);
    for (const answer of await Promise.all(answers)) expect(answer.kind).toBe("stored");
    await eventually("the operator is answered", () => admin.stats().catch(() => undefined), 60_000);
  });
});

test("failover: a node that is slow to load its data is left for the one that its address leads to by then", async () => {
  const [loading, next] = await Promise.all([startRedis({ rdbcompression: "no" }), startRedis()]);
  closing.push(() => Promise.all([loading.stop(), next.stop()]));
  const fill = "for i = 1, 3000 do redis.call('SET', 'filler-' .. i, string.rep('x', 2000)) end";
  loading.cli("EVAL", fill, "0");
  loading.cli("BGREWRITEAOF");
  const isLoading = () => loading.cli("INFO", "persistence").includes("loading:1");
  await eventually("all data is in the base file", () =>
    /aof_rewrite_in_progress:0[^]*aof_rewrite_scheduled:0/.test(loading.cli("INFO", "persistence")),
  );
  // Microseconds per key: more than two minutes in all.
  await loading.restart(
    { "key-load-delay": "50000", "loading-process-events-interval-bytes": "1024" },
    "answer",
  );
  const address = await startProxy(loading.port);
  closing.push(address.stop);
  const producer = new RedisProducer({
    url: `redis://127.0.0.1:${address.port}`,
    prefix: "loading",
    minReplicas: 0,
    durability: "verify",
    log: silent,
    onFatal: () => {},
  });
  closing.push(() => producer.close());
  await eventually("it is connected", () => connectionsTo(loading).length === 1);
  address.target = next.port;
  await eventually("the other one is found ready", () => producer.health().ok, 40_000);
  expect(isLoading()).toBe(true);
});
