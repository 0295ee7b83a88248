// The components of a run: a store, the fakes of both providers in a process that is never killed, several servers and
// workers, and a proxy on each link that the scenario disturbs. The service is used only from outside, through its
// entry points, settings and commands.

import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { type Proxy, startProxy } from "../fakes/tcp_proxy.ts";
import { freePort } from "../tests/support/eventually.ts";
import { askRedis } from "../tests/support/redis_command.ts";
import { serviceCommand } from "../tests/support/service_command.ts";
import { type Clock, createClock } from "./clock/clock.ts";
import { type Disk, openDisk } from "./disk/disk.ts";
import { defaultFrom, unverifiedDomain } from "./emails.ts";
import { follow } from "./failover.ts";
import { controlOf, fakeAddresses, type FakeControl } from "./fakes.ts";
import { killAllNodes, type Nodes, startAllNodes, startNodes } from "./nodes.ts";
import { createManagedProcess, type ManagedProcess } from "./managed_process.ts";
import type { Watched } from "./readiness_watch.ts";
import type { Clocked, Fault, Link, Provider, Scenario, Store } from "./scenario.ts";

export interface DeploymentOptions {
  readonly scenario: Scenario;
  readonly store: Store;
  readonly seed: number;
  /** Holds everything that the run leaves behind. */
  readonly folder: string;
  /** The service: the folder of its sources, or the executable. */
  readonly product: string;
  /** The sources of the adjacent release; required if the scenario has workers of it. */
  readonly previousRelease?: string | undefined;
  /** Library that makes a disk fail; required if a fault of the scenario concerns the disk. */
  readonly diskLibrary: string | undefined;
  /** Library that shifts the wall clock; required if the scenario steps one. */
  readonly clockLibrary: string | undefined;
}

export interface Deployment {
  readonly servers: readonly ManagedProcess[];
  readonly workers: readonly ManagedProcess[];
  /** The primary, if there are two. */
  readonly redis: Redis | undefined;
  /** The nodes of Sentinel or Cluster. */
  readonly nodes: Nodes | undefined;
  /** Its replica, if a fault of the scenario promotes it. */
  readonly standby: Redis | undefined;
  /** The store's disk; undefined if no fault of the scenario concerns it. */
  readonly disk: Disk | undefined;
  /** Throws if the scenario steps no clock. */
  clock(of: Clocked): Clock;
  /** Holds what the processes print. */
  readonly logs: string;
  /** The file of the embedded queue. */
  readonly file: string;
  /** The URL of each server, for clients. */
  readonly urls: readonly string[];
  /** The service's processes and their admin ports; empty unless the scenario watches readiness. */
  readonly watched: readonly Watched[];
  /** The proxies on a link, one for each server or worker; empty if the scenario does not disturb that link. */
  proxies(link: Link): readonly Proxy[];
  fakes(provider: Provider): FakeControl;
  /** Serializes everything that stops and starts processes. */
  exclusively<T>(what: () => Promise<T>): Promise<T>;
  startEverything(): Promise<void>;
  killEverything(): Promise<void>;
  /** Settings that lead an operator to the queue. */
  queueSettings(): Record<string, string>;
  /** Runs an operator command and returns its JSON output. */
  operate(...args: string[]): Promise<unknown>;
  /** Makes the standby the primary: every link to Redis leads new connections to it. */
  switchPrimary(): void;
  /** Processes that ended without being asked to. */
  readonly crashes: readonly Crash[];
  stop(): Promise<void>;
}

export interface Crash {
  readonly component: string;
  readonly how: string;
  readonly atMs: number;
}

export interface Redis {
  readonly component: ManagedProcess;
  readonly port: number;
  readonly folder: string;
  cli(...command: string[]): string;
}

const storeIn = (folder: string) => join(folder, "store");

/** The sandbox's outbox of a run. */
export function outboxIn(folder: string): string {
  return join(storeIn(folder), "outbox");
}

const root = resolve(import.meta.dir, "..");
/** Runs before each start of Redis, as it does under systemd. */
const repairLog = join(root, "deploy/systemd/redis/repair-log");

/** The settings that the operator's guide requires of Redis. */
const redisSettings = {
  appendonly: "yes",
  appendfsync: "always",
  "no-appendfsync-on-rewrite": "no",
  "maxmemory-policy": "noeviction",
  "aof-load-truncated": "no",
  save: "",
  // Makes rewrites of the log happen during the run.
  "auto-aof-rewrite-percentage": "50",
  "auto-aof-rewrite-min-size": "4mb",
};

/** Lease of a batch, ms. */
export const leaseMs = 2000;

/** Shorter times than in production. */
const serviceSettings = {
  DEFAULT_FROM: defaultFrom,
  SUBMIT_TIMEOUT: "3s",
  PROVIDER_TIMEOUT: "1s",
  LEASE: `${leaseMs}ms`,
  POSTMARK_SEARCH_WAIT: "2s",
  RETRY_BASE: "50ms",
  RETRY_MAX: "1s",
  // Longer than any fault of a provider: by then a batch in doubt has an answer, or a refused sender.
  DOUBT_SPLIT_AFTER: "20s",
  SHUTDOWN_TIMEOUT: "5s",
  PROVIDERS: "resend:2,postmark:1",
};

/** Whether runs of the scenario need the library that shifts the wall clock. */
export function needsClock({ faults }: Scenario): boolean {
  return faults.some((fault) => fault.do === "stepClock");
}

/** Merges environments and preloads the libraries of all of them. */
function joined(...all: (Readonly<Record<string, string>> | undefined)[]): Record<string, string> {
  const libraries = all.flatMap((env) => env?.["LD_PRELOAD"] ?? []);
  return Object.assign({}, ...all, libraries.length > 0 && { LD_PRELOAD: libraries.join(":") });
}

const isAboutDisk = (fault: Fault) => ["cutPower", "fillDisk", "slowDisk"].includes(fault.do);

/** Whether runs of the scenario need the library that makes a disk fail. */
export function needsDisk({ faults, diskSyncMs = 0 }: Scenario): boolean {
  return diskSyncMs > 0 || faults.some(isAboutDisk);
}

const isFailover = (fault: Fault) => fault.do === "failOver";

function disturbedLinks({ faults }: Scenario): Set<Link> {
  return new Set(
    faults.flatMap((fault): Link[] => {
      if (isFailover(fault)) return ["server-redis", "worker-redis"];
      if (fault.do === "network") return [fault.link];
      return fault.do === "freezeBeforeSettlement" ? [fault.name, "worker-redis"] : [];
    }),
  );
}

export async function startDeployment(options: DeploymentOptions): Promise<Deployment> {
  const { scenario, store, seed, folder, product } = options;
  const crashes: Crash[] = [];
  const logs = join(folder, "logs");
  const data = storeIn(folder);
  for (const path of [logs, data]) mkdirSync(path, { recursive: true });
  const component = (name: string, command: string[], env: Record<string, string>, before?: () => void) =>
    createManagedProcess({
      name,
      command,
      env,
      ...(before !== undefined && { before }),
      logFile: join(logs, `${name}.log`),
      onExit(code, signal) {
        crashes.push({
          component: name,
          how: signal === null ? `exit code ${code}` : String(signal),
          atMs: Date.now(),
        });
      },
    });
  const bun = [process.execPath, "--no-install"];

  const fakesComponent = component(
    "fakes",
    [
      ...bun,
      join(root, "fakes/main.ts"),
      "--quiet",
      "--keep-envelopes",
      "--seed",
      String(seed),
      "--journal",
      join(folder, "acceptances.jsonl"),
      "--poisoned",
      join(folder, "poisoned.jsonl"),
    ],
    {},
  );
  fakesComponent.start();
  const fakes = await fakeAddresses(join(logs, "fakes.log"));
  for (const [provider, settings] of [
    ["resend", scenario.resend],
    ["postmark", scenario.postmark],
  ] as const) {
    const unverifiedDomains = [unverifiedDomain];
    await controlOf(fakes[provider]).behave({ unverifiedDomains, ...settings });
  }
  const controls = { resend: controlOf(fakes.resend), postmark: controlOf(fakes.postmark) };

  const clocks = needsClock(scenario)
    ? { service: newClock("service"), redis: newClock("redis") }
    : undefined;
  function newClock(of: Clocked): Clock {
    return createClock({ file: join(folder, `clock-${of}`), library: options.clockLibrary! });
  }
  const disk = needsDisk(scenario)
    ? openDisk({ folder: data, journal: join(folder, "disk"), library: options.diskLibrary! })
    : undefined;
  disk?.setSyncDelay(scenario.diskSyncMs ?? 0);
  const redis = store === "redis" ? await createRedis("redis", data) : undefined;
  const nodes =
    store === "sentinel" || store === "cluster"
      ? await startNodes(store, folder, { ...redisSettings, ...scenario.redis })
      : undefined;
  let [primary, standby] = [redis, undefined as Redis | undefined];
  if (redis !== undefined && scenario.faults.some(isFailover)) {
    const dir = join(folder, "standby");
    mkdirSync(dir);
    standby = await createRedis("redis-standby", dir);
  }
  const links = disturbedLinks(scenario);
  const proxies = new Map<Link, Proxy[]>();
  /** Returns the port that leads to `port` over this link, through a proxy if the scenario disturbs it. */
  async function portOver(link: Link, port: number): Promise<number> {
    if (!links.has(link)) return port;
    const proxy = await startProxy(port);
    proxies.set(link, [...(proxies.get(link) ?? []), proxy]);
    return proxy.port;
  }

  async function createRedis(name: string, dir: string): Promise<Redis> {
    const port = await freePort();
    const settings = {
      ...redisSettings,
      ...scenario.redis,
      port: String(port),
      dir,
      bind: "127.0.0.1",
    };
    const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
    return {
      component: component(
        name,
        ["redis-server", ...args],
        joined(disk?.env, clocks?.redis.env),
        () => void Bun.spawnSync([repairLog, dir]),
      ),
      port,
      folder: dir,
      cli: (...command) => askRedis(port, command),
    };
  }

  async function queueSettings(link: Link): Promise<Record<string, string>> {
    if (nodes !== undefined) return { REDIS_URL: nodes.url };
    return redis === undefined
      ? { DATA_DIR: data, ...joined(disk?.env, clocks?.service.env) }
      : { REDIS_URL: `redis://127.0.0.1:${await portOver(link, redis.port)}`, ...clocks?.service.env };
  }
  const watched: Watched[] = [];
  /** Creates a process of the service, with an admin port if its readiness is watched. */
  async function serviceComponent(
    name: string,
    file: string,
    env: Record<string, string>,
    release = product,
  ): Promise<ManagedProcess> {
    const port = scenario.staysReady ? String(await freePort()) : "";
    const one = component(name, serviceCommand(file, release), { ...env, ADMIN_PORT: port });
    if (port !== "") watched.push({ component: one, url: `http://127.0.0.1:${port}` });
    return one;
  }
  const settings = { ...serviceSettings, ...scenario.settings };
  const urls: string[] = [];
  const servers: ManagedProcess[] = [];
  for (let i = 0; i < (scenario.servers ?? 2); i += 1) {
    const port = await freePort();
    const env = { ...settings, ...(await queueSettings("server-redis")), PORT: String(port) };
    servers.push(await serviceComponent(`server-${i}`, "server.ts", env));
    urls.push(`http://127.0.0.1:${await portOver("clients", port)}/`);
  }
  // All workers use the same base URLs: a worker with another one leaves batches in doubt to workers that have the
  // batch's own.
  const providerSettings = {
    RESEND_API_KEY: "re_fake",
    RESEND_BASE_URL: `http://127.0.0.1:${await portOver("resend", portOf(fakes.resend))}`,
    POSTMARK_SERVER_TOKEN: "fake-token",
    POSTMARK_BASE_URL: `http://127.0.0.1:${await portOver("postmark", portOf(fakes.postmark))}`,
  };
  const workers: ManagedProcess[] = [];
  for (let i = 0; i < (scenario.workers ?? 2); i += 1) {
    const env = {
      DATA_DIR: data,
      ...settings,
      ...providerSettings,
      ...(await queueSettings("worker-redis")),
    };
    const release = i < (scenario.previousWorkers ?? 0) ? options.previousRelease : product;
    workers.push(await serviceComponent(`worker-${i}`, "worker.ts", env, release));
  }

  const all = [...servers, ...workers];
  let turn: Promise<unknown> = Promise.resolve();
  const deployment: Deployment = {
    servers,
    workers,
    get redis() {
      return primary;
    },
    get standby() {
      return standby;
    },
    nodes,
    disk,
    clock: (of) => clocks![of],
    watched,
    logs,
    file: join(data, "queue.db"),
    urls,
    crashes,
    proxies: (link) => proxies.get(link) ?? [],
    fakes: (provider) => controls[provider],
    exclusively(what) {
      const result = turn.then(what);
      turn = result.catch(() => {});
      return result;
    },
    async startEverything() {
      for (const node of [primary, standby]) node?.component.start();
      if (nodes !== undefined) await startAllNodes(nodes);
      for (const one of all) one.start();
    },
    async killEverything() {
      await Promise.all([
        ...all.map((one) => one.kill()),
        primary?.component.kill(),
        standby?.component.kill(),
      ]);
      if (nodes !== undefined) killAllNodes(nodes);
    },
    queueSettings() {
      const url = nodes?.url ?? (primary && `redis://127.0.0.1:${primary.port}`);
      return url === undefined ? { DATA_DIR: data } : { REDIS_URL: url };
    },
    async operate(...args) {
      const child = Bun.spawn([...serviceCommand("lib/cli/main.ts", product), ...args, "--json"], {
        cwd: logs,
        env: {
          PATH: process.env["PATH"] ?? "",
          ...(redis === undefined && disk?.env),
          ...deployment.queueSettings(),
        },
        stdin: "ignore",
        stdout: "pipe",
        stderr: "pipe",
      });
      const [text, trouble] = await Promise.all([
        new Response(child.stdout).text(),
        new Response(child.stderr).text(),
      ]);
      if ((await child.exited) !== 0) throw new Error(`${args.join(" ")}: ${trouble.trim()}`);
      return JSON.parse(text) as unknown;
    },
    switchPrimary() {
      [primary, standby] = [standby, primary];
      for (const link of ["server-redis", "worker-redis"] as const) {
        for (const proxy of deployment.proxies(link)) proxy.target = primary!.port;
      }
    },
    async stop() {
      for (const one of [
        ...all,
        fakesComponent,
        ...[primary, standby].flatMap((node) => node?.component ?? []),
      ])
        one.signal("SIGCONT");
      await deployment.killEverything();
      await fakesComponent.kill();
      await nodes?.stop();
      for (const list of proxies.values()) for (const proxy of list) proxy.stop();
    },
  };
  await deployment.startEverything();
  if (standby !== undefined) await follow(standby, primary!);
  return deployment;
}

const portOf = (url: string) => Number(new URL(url).port);
