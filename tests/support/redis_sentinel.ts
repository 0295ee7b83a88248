// A real primary with replicas and Sentinels for one test. They know each other from the start: finding each other takes
// seconds.

import { randomBytes } from "node:crypto";
import { eventually } from "./eventually.ts";
import type { RedisServer } from "./redis.ts";
import {
  type NodesOptions,
  type PlannedNode,
  planNode,
  startAll,
  startNode,
  stopAll,
  urlOf,
} from "./redis_nodes.ts";

export interface SentinelOptions extends NodesOptions {
  /** Default: 2. */
  readonly replicas?: number;
  /** Default: 3. A majority of them decides. */
  readonly sentinels?: number;
}

export interface RedisSentinel {
  /** Names all Sentinels. */
  readonly url: string;
  /** The name under which Sentinel knows the primary. */
  readonly name: string;
  /** First the primary of the start, then its replicas. */
  readonly nodes: readonly RedisServer[];
  readonly sentinels: readonly RedisServer[];
  /** The primary as running Sentinels name it; of several, the one with the latest configuration. */
  primary(): RedisServer;
  /** All other nodes that are running. */
  replicas(): RedisServer[];
  /** Promotes a replica as an operator would, and returns it. The old primary does not know of it at once. */
  failOver(): Promise<RedisServer>;
  /** Waits until all nodes are running, every Sentinel names the same primary, and the others follow it. */
  settled(withinMs?: number): Promise<void>;
  stop(): Promise<void>;
}

/** How long the primary may be silent until a Sentinel holds it for dead, ms. */
export const downAfterMs = 1000;
/** How often Sentinels look at the nodes and tell each other, ms; by default 10 s and 2 s. */
const quick = ["info-period", "500", "publish-period", "500"];

export async function startRedisSentinel(options: SentinelOptions = {}): Promise<RedisSentinel> {
  const { replicas = 2, sentinels = 3, settings = {} } = options;
  // Ports are used again. A Sentinel of another setup that still looks at one of them would be taken for one of ours.
  const name = `queue-${randomBytes(4).toString("hex")}`;
  const password = settings["requirepass"];
  const planned = await planAll("node", 1 + replicas, options);
  const [primary, ...others] = planned;
  const nodes = await startAll(
    planned.map((node) => {
      const role = node === primary ? {} : { replicaof: `127.0.0.1 ${primary!.announcedPort}` };
      const announced = {
        "replica-announce-ip": "127.0.0.1",
        "replica-announce-port": String(node.announcedPort),
      };
      return startNode(node, options, { ...role, ...announced, ...settings });
    }),
  );
  const watchers = (await planAll("sentinel", sentinels, options)).map((plan) => ({
    ...plan,
    id: randomBytes(20).toString("hex"),
  }));
  const common = [
    `sentinel monitor ${name} 127.0.0.1 ${primary!.announcedPort} ${Math.floor(sentinels / 2) + 1}`,
    `sentinel down-after-milliseconds ${name} ${downAfterMs}`,
    `sentinel failover-timeout ${name} 2000`,
    `sentinel parallel-syncs ${name} ${replicas}`,
    ...(password === undefined ? [] : [`sentinel auth-pass ${name} ${password}`]),
    ...others.map(({ announcedPort }) => `sentinel known-replica ${name} 127.0.0.1 ${announcedPort}`),
  ];
  const started = await startAll(
    watchers.map((myself) => {
      const peers = watchers.filter((one) => one !== myself);
      const file = [
        `sentinel myid ${myself.id}`,
        "sentinel announce-ip 127.0.0.1",
        `sentinel announce-port ${myself.announcedPort}`,
        ...common,
        ...peers.map((one) => `sentinel known-sentinel ${name} 127.0.0.1 ${one.announcedPort} ${one.id}`),
        "",
      ].join("\n");
      return startNode(
        myself,
        options,
        {},
        { files: { "sentinel.conf": file }, args: ["sentinel.conf", "--sentinel"] },
      );
    }),
  ).catch(async (error: unknown) => {
    await stopAll(nodes);
    throw error;
  });
  const setup = sentinelOf(name, nodes, started, password);
  await setup.settled();
  return setup;
}

async function planAll(kind: string, count: number, options: NodesOptions): Promise<PlannedNode[]> {
  const planned: PlannedNode[] = [];
  while (planned.length < count) planned.push(await planNode(`${kind}-${planned.length}`, options));
  return planned;
}

/** A Sentinel's answers about the primary. */
interface View {
  readonly port: number;
  readonly epoch: number;
  readonly isHealthy: boolean;
}

function viewOf(sentinel: RedisServer, name: string): View {
  const words = sentinel.cli("SENTINEL", "MASTER", name).split("\n");
  const field = (key: string) => words[words.indexOf(key) + 1] ?? "";
  return {
    port: Number(field("port")),
    epoch: Number(field("config-epoch")),
    isHealthy: field("flags") === "master",
  };
}

function sentinelOf(
  name: string,
  nodes: readonly RedisServer[],
  sentinels: readonly RedisServer[],
  password: string | undefined,
): RedisSentinel {
  const awake = () => sentinels.filter((sentinel) => sentinel.isRunning);
  function primary(): RedisServer {
    const [view] = awake()
      .map((sentinel) => viewOf(sentinel, name))
      .toSorted((a, b) => b.epoch - a.epoch);
    const node = nodes.find(({ announcedPort }) => announcedPort === view?.port);
    if (node === undefined) throw new Error("no running Sentinel names a primary");
    return node;
  }
  /** Forgotten by a Sentinel that is restarted. */
  function hurry(): void {
    for (const sentinel of awake()) sentinel.cli("SENTINEL", "DEBUG", ...quick);
  }
  const follows = (node: RedisServer, port: number) => {
    const info = node.cli("INFO", "replication");
    return info.includes(`master_port:${port}\r`) && info.includes("master_link_status:up");
  };

  function isSettled(): boolean {
    if ([...nodes, ...sentinels].some((one) => !one.isRunning)) return false;
    const views = sentinels.map((sentinel) => viewOf(sentinel, name));
    const port = views[0]!.port;
    if (!views.every((view) => view.isHealthy && view.port === port)) return false;
    if (!nodes.every((node) => node.announcedPort === port || follows(node, port))) return false;
    return sentinels.every((sentinel) => {
      const replicas = sentinel.cli("SENTINEL", "REPLICAS", name);
      const known = replicas.match(/^master-link-status\nok$/gm)?.length ?? 0;
      const isQuorate = sentinel.cli("SENTINEL", "CKQUORUM", name).startsWith("OK");
      return known === nodes.length - 1 && !/_down|disconnected/.test(replicas) && isQuorate;
    });
  }

  return {
    url: `${urlOf("redis+sentinel", sentinels, password)}/${name}`,
    name,
    nodes,
    sentinels,
    primary,
    replicas() {
      const current = primary();
      return nodes.filter((node) => node !== current && node.isRunning);
    },
    async failOver() {
      const old = primary();
      hurry();
      const answer = () => awake()[0]!.cli("SENTINEL", "FAILOVER", name);
      // Refused until Sentinel has heard of the replicas since the last one.
      await eventually("Sentinel begins a failover", () => answer() === "OK");
      await eventually("another node is the primary", () => primary() !== old);
      return primary();
    },
    async settled(withinMs) {
      hurry();
      await eventually("all have settled", isSettled, withinMs);
    },
    stop: () => stopAll([...nodes, ...sentinels]),
  };
}
