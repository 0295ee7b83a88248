// The partitions of a queue as one process sees them: options for each, and the question to all.

import type { Health } from "../../contract.ts";
import type { Log, LogFields } from "../../../runtime/log.ts";
import type { ConnectionOptions } from "../connection.ts";
import { QueueFormat } from "../queue_format.ts";

/** The options for each partition, which share what this process knows about the queue's format. */
export function splitOptions<Options extends ConnectionOptions>(
  options: Options,
): (Options & { readonly format: QueueFormat })[] {
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

/**
 * Healthy if one partition is: a process that serves only some is better than none. Those that cannot be used are a warning
 * then.
 */
export function mergeHealth(partitions: readonly Health[]): Health {
  const isUsable = partitions.some(({ ok }) => ok);
  const text = describeEach(partitions.map((one) => (one.ok ? one.warning : one.reason)));
  if (isUsable) return { ok: true, warning: text, partitions };
  return { ok: false, reason: `no partition can be used (${text})`, partitions };
}

/** Healthy only if all partitions are. */
export function mergeStrictly(partitions: readonly Health[]): Health {
  const reason = describeEach(partitions.map((one) => (one.ok ? undefined : one.reason)));
  return reason === undefined ? mergeHealth(partitions) : { ok: false, reason, partitions };
}

/** @param texts by the number of the partition; undefined: there is nothing to say about it */
function describeEach(texts: readonly (string | undefined)[]): string | undefined {
  const each = [...new Set(texts)].flatMap((text) => {
    const numbers = texts.flatMap((one, number) => (one === text ? [number] : []));
    return text === undefined ? [] : [`partition ${numbers.join(", ")}: ${text}`];
  });
  return each.length === 0 ? undefined : each.join("; ");
}

/** Waits for something, but not for longer than `ms`. */
export async function within(done: Promise<unknown>, ms: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = ms === Infinity ? undefined : setTimeout(resolve, ms);
  await Promise.race([done, promise]);
  clearTimeout(timer);
}
