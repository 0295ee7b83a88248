// A real primary with replicas and Sentinels for one test. They know each other from the start: finding each other takes
// seconds.

import { randomBytes } from "node:crypto";
import { eventually, freePort } from "./eventually.ts";
import { type RedisServer, startRedis } from "./redis.ts";
import { startAll } from "./redis_cluster.ts";

export interface SentinelOptions {
  /** Default: 2. */
  readonly replicas?: number;
  /** Default: 3. A majority of them decides. */
  readonly sentinels?: number;
  /** Settings of every Redis, on top of those that are durable. */
  readonly settings?: Readonly<Record<string, string>>;
  /**
   * Sentinels look at the nodes as rarely as in production: they leave an old primary a primary for ten seconds after
   * they have promoted another node.
   */
  readonly isSlow?: boolean;
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
  settled(): Promise<void>;
  stop(): Promise<void>;
}

/** How long the primary may be silent until a Sentinel holds it for dead, ms. */
export const downAfterMs = 1000;
const name = "queue";
/** How often Sentinels look at the nodes and tell each other, ms; by default 10 s and 2 s. */
const quick = ["info-period", "500", "publish-period", "500"];

export async function startRedisSentinel(options: SentinelOptions = {}): Promise<RedisSentinel> {
  const { replicas = 2, sentinels = 3, settings = {}, isSlow = false } = options;
  const ports = await freePorts(1 + replicas);
  const [primary = 0, ...others] = ports;
  const nodes = await startAll(
    ports.map((port) => () => {
      const role = port === primary ? {} : { replicaof: `127.0.0.1 ${primary}` };
      return startRedis({ ...role, ...settings, port: String(port) });
    }),
  );
  const watchers = (await freePorts(sentinels)).map((port) => ({
    port,
    id: randomBytes(20).toString("hex"),
  }));
  const common = [
    `sentinel monitor ${name} 127.0.0.1 ${primary} ${Math.floor(sentinels / 2) + 1}`,
    `sentinel down-after-milliseconds ${name} ${downAfterMs}`,
    `sentinel failover-timeout ${name} 3000`,
    `sentinel parallel-syncs ${name} ${replicas}`,
    ...(settings["requirepass"] === undefined
      ? []
      : [`sentinel auth-pass ${name} ${settings["requirepass"]}`]),
    ...others.map((port) => `sentinel known-replica ${name} 127.0.0.1 ${port}`),
  ];
  const started = await startAll(
    watchers.map((myself) => () => {
      const peers = watchers.filter((one) => one !== myself);
      const known = peers.map(({ port, id }) => `sentinel known-sentinel ${name} 127.0.0.1 ${port} ${id}`);
      const file = [`sentinel myid ${myself.id}`, ...common, ...known, ""].join("\n");
      return startRedis(
        { port: String(myself.port) },
        { files: { "sentinel.conf": file }, args: ["sentinel.conf", "--sentinel"] },
      );
    }),
  ).catch(async (error: unknown) => {
    await Promise.all(nodes.map((node) => node.stop()));
    throw error;
  });
  const setup = sentinelOf(nodes, started, { password: settings["requirepass"], isSlow });
  await setup.settled();
  return setup;
}

async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) ports.push(await freePort());
  return ports;
}

/** What a Sentinel says about the primary. */
interface View {
  readonly port: number;
  readonly epoch: number;
  readonly isHealthy: boolean;
}

function viewOf(sentinel: RedisServer): View {
  const words = sentinel.cli("SENTINEL", "MASTER", name).split("\n");
  const field = (key: string) => words[words.indexOf(key) + 1] ?? "";
  return {
    port: Number(field("port")),
    epoch: Number(field("config-epoch")),
    isHealthy: field("flags") === "master",
  };
}

function sentinelOf(
  nodes: readonly RedisServer[],
  sentinels: readonly RedisServer[],
  { password, isSlow }: { password: string | undefined; isSlow: boolean },
): RedisSentinel {
  const awake = () => sentinels.filter((sentinel) => sentinel.isRunning);
  function primary(): RedisServer {
    const [view] = awake()
      .map(viewOf)
      .toSorted((a, b) => b.epoch - a.epoch);
    const node = nodes.find(({ port }) => port === view?.port);
    if (node === undefined) throw new Error("no running Sentinel names a primary");
    return node;
  }
  /** Forgotten by a Sentinel that is restarted. */
  function hurry(): void {
    if (!isSlow) for (const sentinel of awake()) sentinel.cli("SENTINEL", "DEBUG", ...quick);
  }
  const follows = (node: RedisServer, port: number) => {
    const info = node.cli("INFO", "replication");
    return info.includes(`master_port:${port}\r`) && info.includes("master_link_status:up");
  };

  function isSettled(): boolean {
    if ([...nodes, ...sentinels].some((one) => !one.isRunning)) return false;
    const views = sentinels.map(viewOf);
    const port = views[0]!.port;
    if (!views.every((view) => view.isHealthy && view.port === port)) return false;
    if (!nodes.every((node) => node.port === port || follows(node, port))) return false;
    return sentinels.every((sentinel) => {
      const replicas = sentinel.cli("SENTINEL", "REPLICAS", name);
      const known = replicas.match(/^master-link-status\nok$/gm)?.length ?? 0;
      const isQuorate = sentinel.cli("SENTINEL", "CKQUORUM", name).startsWith("OK");
      return known === nodes.length - 1 && !/_down|disconnected/.test(replicas) && isQuorate;
    });
  }

  return {
    url: `redis+sentinel://${password === undefined ? "" : `:${password}@`}${sentinels.map(({ port }) => `127.0.0.1:${port}`).join(",")}/${name}`,
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
    async settled() {
      hurry();
      await eventually("all have settled", isSettled);
    },
    async stop() {
      await Promise.all([...nodes, ...sentinels].map((one) => one.stop()));
    },
  };
}
