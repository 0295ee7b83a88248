// failover: how long after the end of Redis's primary Redis could accept an email again, on a new primary that a replica
// follows, and how long after that a server answers with 200.

import { Redis } from "ioredis";
import { eventually, freePort } from "../tests/support/eventually.ts";
import type { RedisServer } from "../tests/support/redis.ts";
import {
  primaryEnds,
  replicatedKinds,
  type ReplicatedStore,
  startReplicatedStore,
} from "../tests/support/replicated_store.ts";
import { startProcess } from "../tests/support/service.ts";
import { type Case, compare, type Sample } from "./compare.ts";
import { form } from "./email.ts";
import type { Table } from "./table.ts";

const promoted = "ms to the promotion";
const usable = "ms to its first replica";
const answered = "ms to the first 200";
const between = "ms after the replica";
/** How often a request is sent, and a replica is asked for its role, ms. */
const intervalMs = 10;

export async function benchFailover({ rounds }: { readonly rounds: number }): Promise<Table> {
  const cases = replicatedKinds.flatMap((store) =>
    (["killed", "hung"] as const).map((end): Case => {
      const labels = { store, primary: end };
      return { labels, group: 0, measure: () => measureFailover(store, end) };
    }),
  );
  const rows = await compare(cases, { rounds, rate: answered });
  return {
    name: "failover",
    notes: [
      `From the end of the primary; REDIS_MIN_REPLICAS=1 of two replicas; medians (and ranges) of ${rounds}.`,
      "Sentinel's down-after-milliseconds and the cluster's cluster-node-timeout are 1 s.",
    ],
    columns: [["store"], ["primary"], [promoted], [usable], [answered], [between]],
    ranged: [promoted, usable, answered, between],
    rows: rows.map((row) => ({ ...row, "times ours": undefined })),
  };
}

/** @param kind of the store @param end of its primary */
export async function measureFailover(
  kind: (typeof replicatedKinds)[number],
  end: keyof typeof primaryEnds,
): Promise<Sample> {
  const store = await startReplicatedStore(kind, "{reliable-email:0}");
  const port = String(await freePort());
  const server = startProcess("server.ts", {
    PORT: port,
    DEFAULT_FROM: "shop@example.com",
    REDIS_URL: store.url,
    REDIS_PARTITIONS: "1",
    REDIS_MIN_REPLICAS: "1",
  });
  const url = `http://127.0.0.1:${port}/`;
  try {
    await eventually("the server accepts an email", async () => (await post(url)) === 200);
    return await measureEnd(store, end, url);
  } finally {
    await server.kill();
    await store.stop();
  }
}

async function measureEnd(
  store: ReplicatedStore,
  end: keyof typeof primaryEnds,
  url: string,
): Promise<Sample> {
  const old = store.primary();
  const replicas = store.replicas().map(createClient);
  try {
    const startMs = performance.now();
    primaryEnds[end](store, old);
    const [promotedMs, usableMs, answeredMs] = await Promise.all([
      waitForPrimary(replicas, 0),
      waitForPrimary(replicas, 1),
      waitForAnswer(url),
    ]);
    return {
      ok: true,
      numbers: {
        [promoted]: promotedMs - startMs,
        [usable]: usableMs - startMs,
        [answered]: answeredMs - startMs,
        [between]: answeredMs - usableMs,
      },
    };
  } finally {
    for (const replica of replicas) replica.disconnect();
  }
}

function createClient({ port }: RedisServer): Redis {
  const client = new Redis(port);
  client.on("error", () => {});
  return client;
}

/** Waits until one of these nodes is a primary that so many replicas follow. */
async function waitForPrimary(nodes: readonly Redis[], replicas: number): Promise<number> {
  for (;;) {
    const roles = await Promise.all(nodes.map((node) => node.role()));
    // A primary names the replicas that are online.
    if (roles.some(([role, , list]) => role === "master" && (list as unknown[]).length >= replicas)) {
      return performance.now();
    }
    await Bun.sleep(intervalMs);
  }
}

/** Sends requests until one of them is answered with 200. */
async function waitForAnswer(url: string): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  const timer = setInterval(() => {
    void post(url).then((status) => status === 200 && resolve(performance.now()));
  }, intervalMs);
  return promise.finally(() => clearInterval(timer));
}

/** The status of the answer; undefined without one. */
async function post(url: string): Promise<number | undefined> {
  try {
    return (await fetch(url, { method: "POST", body: new URLSearchParams(form) })).status;
  } catch {
    return undefined;
  }
}
