// The partitions of a queue as one process sees them: options for each, and the question to all.

import type { Health } from "../../contract.ts";
import type { Log, LogFields } from "../../../runtime/log.ts";
import type { RedisStoreOptions } from "../connection.ts";
import { QueueFormat } from "../queue_format.ts";

/** The options for each partition, which share what this process knows about the queue's format. */
export function splitOptions<Options extends RedisStoreOptions>(options: Options): Options[] {
  const { partitions = 1, urlOf, log } = options;
  const format = new QueueFormat(partitions);
  return Array.from({ length: partitions }, (_, partition) => {
    const url = urlOf?.(partition) ?? options.url;
    return { ...options, url, partition, format, log: withPartition(log, partition) };
  });
}

function withPartition(log: Log, partition: number): Log {
  const at =
    (level: keyof Log) =>
    (event: string, fields: LogFields = {}) =>
      log[level](event, { ...fields, partition });
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

/** Healthy if one partition is: a process that serves only some is better than none. */
export function mergeHealth(partitions: readonly Health[]): Health {
  if (partitions.some(({ ok }) => ok)) return { ok: true, ...mergeWarnings(partitions), partitions };
  const [first] = partitions;
  const reason = first === undefined || first.ok ? "no partition" : first.reason;
  return { ok: false, reason: `no partition can be used (partition 0: ${reason})`, partitions };
}

/** Reports also a partition that cannot be used, which is a warning while others can. */
export function mergeWarnings(partitions: readonly Health[]): { readonly warning?: string } {
  const texts = partitions.map((one) => (one.ok ? one.warning : one.reason));
  const warnings = [...new Set(texts)].flatMap((text) => {
    const numbers = texts.flatMap((one, number) => (one === text ? [number] : []));
    return text === undefined ? [] : [`partition ${numbers.join(", ")}: ${text}`];
  });
  return warnings.length === 0 ? {} : { warning: warnings.join("; ") };
}

/** Waits for something, but not for longer than `ms`. */
export async function within(done: Promise<unknown>, ms: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = ms === Infinity ? undefined : setTimeout(resolve, ms);
  await Promise.race([done, promise]);
  clearTimeout(timer);
}
