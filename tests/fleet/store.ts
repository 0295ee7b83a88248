// The Redis of a fleet: one, or a primary with two replicas and three Sentinels, each pair of them on a host of its own.

import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { eventually } from "../support/eventually.ts";
import type { Host } from "../support/hosts.ts";
import { durableSettings } from "../support/redis.ts";
import { Member } from "./member.ts";

export interface Store {
  /** Settings of the service. */
  readonly settings: { readonly REDIS_URL: string; readonly REDIS_MIN_REPLICAS: string };
  /** The primary at the start. */
  readonly primary: Member;
  start(): Promise<void>;
  kill(): Promise<unknown>;
}

const banner = "Ready to accept connections";

/** @param folder where it may create its own */
function createNode(host: Host, folder: string, settings: Readonly<Record<string, string>> = {}): Member {
  const dir = join(folder, `redis-${host.address}`);
  mkdirSync(dir);
  const all = {
    ...durableSettings,
    "repl-diskless-sync-delay": "0",
    bind: host.address,
    "protected-mode": "no",
    dir,
    ...settings,
  };
  const args = Object.entries(all).flatMap(([name, value]) => [`--${name}`, value]);
  return new Member({ host, command: () => ["redis-server", ...args], banner });
}

export function createRedis(host: Host, folder: string): Store {
  const primary = createNode(host, folder);
  return {
    settings: { REDIS_URL: `redis://${host.address}`, REDIS_MIN_REPLICAS: "0" },
    primary,
    start: () => primary.start(),
    kill: () => primary.kill(),
  };
}

interface Watcher {
  readonly host: Host;
  readonly id: string;
}

/** The Sentinels know each other and the nodes from the start: to find each other takes seconds. */
function sentinelFile({ host, id }: Watcher, all: readonly Watcher[]): string {
  const [first, ...others] = all.map((one) => one.host.address);
  const lines = [
    `bind ${host.address}`,
    "protected-mode no",
    `sentinel myid ${id}`,
    `sentinel monitor mail ${first} 6379 2`,
    "sentinel down-after-milliseconds mail 1000",
    "sentinel failover-timeout mail 2000",
    ...others.map((address) => `sentinel known-replica mail ${address} 6379`),
    ...all
      .filter((one) => one.id !== id)
      .map((one) => `sentinel known-sentinel mail ${one.host.address} 26379 ${one.id}`),
  ];
  return `${lines.join("\n")}\n`;
}

/** @param hosts first that of the primary */
export function createSentinel(hosts: readonly [Host, Host, Host], folder: string): Store {
  const [first, ...others] = hosts;
  const primary = createNode(first, folder);
  const replicas = others.map((host) => createNode(host, folder, { replicaof: `${first.address} 6379` }));
  const watchers = hosts.map((host) => ({ host, id: randomBytes(20).toString("hex") }));
  const sentinels = watchers.map((watcher) => {
    const { host } = watcher;
    const file = join(folder, `sentinel-${host.address}.conf`);
    writeFileSync(file, sentinelFile(watcher, watchers));
    return new Member({ host, command: () => ["redis-server", file, "--sentinel"], banner: "+monitor" });
  });
  const members = [primary, ...replicas, ...sentinels];
  function ask(host: Host, ...question: string[]): string {
    const command = ["redis-cli", "-h", host.address, "-p", "26379", "SENTINEL", ...question];
    return Bun.spawnSync(host.command(command)).stdout.toString();
  }

  return {
    settings: {
      REDIS_URL: `redis+sentinel://${hosts.map(({ address }) => address).join(",")}/mail`,
      REDIS_MIN_REPLICAS: "1",
    },
    primary,
    async start() {
      await Promise.all(members.map((member) => member.start()));
      // Otherwise they look at the nodes every ten seconds.
      for (const host of hosts) ask(host, "DEBUG", "info-period", "500", "publish-period", "500");
      await eventually("the Sentinels know the replicas", () =>
        hosts.every((host) => {
          const linked = ask(host, "REPLICAS", "mail").match(/^master-link-status\nok$/gm);
          return linked?.length === 2 && ask(host, "CKQUORUM", "mail").startsWith("OK 3 ");
        }),
      );
    },
    kill: () => Promise.all(members.map((member) => member.kill())),
  };
}
