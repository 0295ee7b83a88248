// A whole queue on one REDIS_URL, as a server, a worker and an operator open it, and its connections as a node sees them.

import { afterEach } from "bun:test";
import type { Admin, Consumer, Producer } from "../../lib/queue/contract.ts";
import { openRedisAdmin } from "../../lib/queue/redis/admin.ts";
import { RedisConsumer } from "../../lib/queue/redis/consumer.ts";
import { RedisProducer } from "../../lib/queue/redis/producer.ts";
import { eventually } from "./eventually.ts";
import { recordingLog } from "./log.ts";
import type { RedisServer } from "./redis.ts";

export const queuePrefix = "topology";
/** A key of the queue, which leads to its slot. */
export const queueKey = `{${queuePrefix}:0}`;

export interface RedisQueue {
  readonly producer: Producer;
  readonly consumer: Consumer;
  readonly admin: Admin;
  readonly log: ReturnType<typeof recordingLog>;
  close(): Promise<void>;
}

export function queueOptions(url: string, minReplicas = 0) {
  return {
    url,
    prefix: queuePrefix,
    minReplicas,
    durability: "verify" as const,
    retainMs: 3_600_000,
    log: recordingLog(),
    onFatal: () => {},
  };
}

/** Resolves when all have found their store ready. */
export async function openRedisQueue(url: string, minReplicas = 0): Promise<RedisQueue> {
  const options = queueOptions(url, minReplicas);
  const [producer, consumer] = [new RedisProducer(options), new RedisConsumer(options)];
  await eventually(
    () => `server and worker are ready: ${JSON.stringify([producer.health(), consumer.health()])}`,
    () => producer.health().ok && consumer.health().ok,
  );
  const admin = await openRedisAdmin(options);
  const close = async () => void (await Promise.all([producer.close(), consumer.close(), admin.close()]));
  return { producer, consumer, admin, log: options.log, close };
}

/** Opens queues for the tests of one file, and closes after each test what it has opened and what it adds to `closing`. */
export function useRedisQueues() {
  const closing: (() => unknown)[] = [];
  afterEach(async () => {
    for (const close of closing.splice(0).toReversed()) await close();
  });
  async function open(url: string, minReplicas = 0): Promise<RedisQueue> {
    const queue = await openRedisQueue(url, minReplicas);
    closing.push(queue.close);
    return queue;
  }
  return { closing, open };
}

export const queueRoles = ["claims", "operator", "server", "settlements", "wakes"];

/** The roles of the queue's connections to this node; those that only ask for the topology are omitted. */
export function connectionsTo(node: RedisServer): string[] {
  const names = node.cli("CLIENT", "LIST").matchAll(/ name=reliable-email-(\w+) /g);
  return Array.from(names, ([, name = ""]) => name)
    .filter((name) => name !== "topology")
    .toSorted();
}

/** Resolves when all connections of one open queue lead to this node. */
export async function allLeadTo(primary: RedisServer | (() => RedisServer)): Promise<void> {
  const connections = () => connectionsTo(typeof primary === "function" ? primary() : primary);
  await eventually(
    () => `all lead to the primary: ${connections()}`,
    () => connections().join() === queueRoles.join(),
  );
}
