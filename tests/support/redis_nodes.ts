// Several Redis nodes that form one store, on a network in which some can be cut off if a test wants that.

import { join } from "node:path";
import { freePort } from "./eventually.ts";
import type { Network } from "./network.ts";
import { type RedisProcess, type RedisServer, startRedis } from "./redis.ts";

export interface NodesOptions {
  /** Settings of every Redis, on top of those that are durable. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Every connection to a node passes through it; the nodes are its hosts, by their names. */
  readonly network?: Network;
  /** Holds the nodes' folders, which then remain after their end; temporary ones if absent. */
  readonly folder?: string;
}

/** A node before its start. */
export interface PlannedNode {
  readonly name: string;
  readonly port: number;
  readonly announcedPort: number;
}

export async function planNode(name: string, { network }: NodesOptions): Promise<PlannedNode> {
  const port = await freePort();
  return { name, port, announcedPort: (await network?.expose(name, port)) ?? port };
}

export function startNode(
  { name, port, announcedPort }: PlannedNode,
  { network, folder }: NodesOptions,
  settings: Readonly<Record<string, string>>,
  more: RedisProcess = {},
): Promise<RedisServer> {
  const source = network === undefined ? {} : { "bind-source-addr": network.addressOf(name) };
  return startRedis(
    { ...source, ...settings, port: String(port) },
    { ...more, ...(folder !== undefined && { folder: join(folder, name) }), name, announcedPort },
  );
}

/** Starts all at once; if one fails, stops the others and rejects. */
export async function startAll(starts: readonly Promise<RedisServer>[]): Promise<RedisServer[]> {
  const results = await Promise.allSettled(starts);
  const started = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
  const failed = results.find((result) => result.status === "rejected");
  if (failed === undefined) return started;
  await stopAll(started);
  throw failed.reason;
}

export async function stopAll(nodes: readonly RedisServer[]): Promise<void> {
  await Promise.all(nodes.map((node) => node.stop()));
}

/** The URL of a store that these nodes name. */
export function urlOf(scheme: string, nodes: readonly RedisServer[], password?: string): string {
  const login = password === undefined ? "" : `:${password}@`;
  return `${scheme}://${login}${nodes.map(({ announcedPort }) => `127.0.0.1:${announcedPort}`).join(",")}`;
}
