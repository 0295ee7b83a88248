// The format of a queue, which each of its partitions stores: its number, then the number of partitions if there are
// several. A process uses a partition only if it finds its own format there. Creates the queue: once, and in all
// partitions, since a partition that lost its data must not be taken for a new one.

import { StoreUnavailable } from "../contract.ts";
import type { RedisConnection } from "./connection.ts";
import { redisErrorText, shortfallText } from "./error_text.ts";
import { type StoreState, refuse } from "./durability.ts";

/** Releases with another number do not understand the keys of this one. */
const storeFormat = "1";

export function formatText(partitions: number): string {
  return partitions === 1 ? storeFormat : `${storeFormat} ${partitions}`;
}

const creatingText = (partitions: number) => `${formatText(partitions)} creating`;

/** Why a process must not use a partition that has this format. */
function foreignText(format: string, partitions: number): string {
  const [, number, count = "1"] = /^(\S+)(?: (\d+))?(?: creating)?$/.exec(format) ?? [];
  if (number !== storeFormat)
    return `the store has format ${format}, this version reads and writes format ${storeFormat}`;
  return `the queue has ${count} ${count === "1" ? "partition" : "partitions"}, REDIS_PARTITIONS is ${partitions}`;
}

/** Why this process must not use the queue, if the error is a script's refusal of another format. */
export function foreignFormat(error: unknown, partitions: number): string | undefined {
  const [, format] = /^FORMAT (.*)$/.exec(redisErrorText(error)) ?? [];
  return format === undefined ? undefined : foreignText(format, partitions);
}

/** The queue has another format, or another number of partitions, than this process reads. */
export class FormatMismatch extends StoreUnavailable {}

export type FoundFormat =
  | { readonly kind: "present" }
  /** `creating`, only of partition 0: a process has begun to create the queue, and perhaps died. */
  | { readonly kind: "absent" | "creating" }
  | { readonly kind: "foreign"; readonly reason: string };

/** The format as one process found it, shared by its watches over all partitions. */
export class QueueFormat {
  readonly #partitions: number;
  /** The format that each partition was found to have last. */
  readonly #found = new Map<number, FoundFormat["kind"]>();
  /** Connections to partitions in which the queue can be created. */
  readonly #offers = new Map<number, RedisConnection>();
  readonly #callbacks: (() => void)[] = [];

  constructor(partitions: number) {
    this.#partitions = partitions;
  }

  async read({ redis, tag, partition }: RedisConnection): Promise<FoundFormat> {
    const found = this.#classify(await redis.get(`${tag}:format`));
    this.#found.set(partition, found.kind);
    return found;
  }

  onCreated(callback: () => void): void {
    this.#callbacks.push(callback);
  }

  /**
   * The state of a partition that has no format although the queue was created: it has lost its data. Nothing may be
   * submitted to it: ids and idempotency keys that it knew would be accepted twice.
   */
  async judgeLoss(connection: RedisConnection): Promise<StoreState | undefined> {
    const { partition, tag } = connection;
    // Partition 0 is written first and completed last. So next to another format, its own is missing only if it was lost.
    const others = partition === 0 ? [...this.#found] : [[0, this.#found.get(0)] as const];
    const [other] = others.find(([, kind]) => kind === "present") ?? [];
    if (other === undefined || (await this.read(connection)).kind !== "absent") return undefined;
    return this.#lossOf(tag, other);
  }

  #lossOf(tag: string, other: number): StoreState {
    const reason = `it has lost its data: partition ${other} has the queue's format, but it has not`;
    const fix = `SET ${tag}:format "${formatText(this.#partitions)}"`;
    return refuse("store-not-durable", reason, [`restore its data or, to give them up: ${fix}`]);
  }

  /**
   * Creates the queue once it can be created in every partition, or completes its creation.
   * @param connection to a durable partition that has no complete format
   * @returns why it has to wait; nothing if the partition should be looked at again
   */
  async create(connection: RedisConnection, minReplicas: number): Promise<StoreState | undefined> {
    this.#offers.set(connection.partition, connection);
    const numbers = Array.from({ length: this.#partitions }, (_, number) => number);
    const incomplete = numbers.filter((number) => this.#found.get(number) !== "present");
    const missing = incomplete.filter((number) => !this.#offers.has(number));
    if (missing.length > 0) {
      const reason = `the queue is created once all its partitions can be used; not yet ${missing.join(", ")}`;
      return { kind: "pending", reason };
    }
    const offers = incomplete.map((number) => this.#offers.get(number)!);
    const [first] = offers;
    const complete = numbers.find((number) => !incomplete.includes(number));
    // Several were lost, and partition 0 is one of them.
    if (first?.partition === 0 && complete !== undefined && (await this.read(first)).kind === "absent")
      return this.#lossOf(connection.tag, complete);
    return this.#createIn(offers, minReplicas);
  }

  /**
   * Partition 0 decides between processes that are set to different numbers of partitions: only those that find their own
   * number there write to others. It is complete last, so that a creation that was interrupted is completed.
   */
  async #createIn(partitions: readonly RedisConnection[], minReplicas: number) {
    const [first, ...others] = partitions;
    // Another process has just created it.
    if (first?.partition !== 0) return undefined;
    const complete = formatText(this.#partitions);
    const begun = this.#partitions === 1 ? complete : creatingText(this.#partitions);
    await this.#write(first, begun, "NX", minReplicas);
    if ((await this.read(first)).kind === "creating") {
      await Promise.all(others.map((other) => this.#write(other, complete, "NX", minReplicas)));
      await this.#write(first, complete, "XX", minReplicas);
    }
    const found = await Promise.all(partitions.map((one) => this.read(one)));
    const foreign = found.find((one) => one.kind === "foreign");
    if (foreign !== undefined) return refuse("store-not-durable", foreign.reason);
    for (const callback of this.#callbacks) callback();
    return undefined;
  }

  async #write(connection: RedisConnection, text: string, when: "NX" | "XX", minReplicas: number) {
    const { redis, tag } = connection;
    await redis.call("set", `${tag}:format`, text, when);
    const replicas = minReplicas === 0 ? 0 : await redis.wait(minReplicas, 500);
    if (replicas < minReplicas) throw new Error(shortfallText(replicas, minReplicas));
  }

  #classify(format: string | null): FoundFormat {
    if (format === null) return { kind: "absent" };
    if (format === formatText(this.#partitions)) return { kind: "present" };
    if (format === creatingText(this.#partitions)) return { kind: "creating" };
    return { kind: "foreign", reason: foreignText(format, this.#partitions) };
  }
}
