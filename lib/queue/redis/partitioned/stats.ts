// The statistics of a queue from those of its partitions: sums, the oldest, and merged conditions. Each partition's times
// are by its own node's clock, so that ages are merged, not times.

import { QueueMissing } from "../../contract.ts";
import type { PartialAnswer, ProviderCondition, QueueStats } from "../../contract.ts";
import { redisErrorText } from "../error_text.ts";
import type { PartitionStats } from "../batch_codec.ts";

/** Rejects if no partition answers. */
export async function gatherStats(asked: readonly Promise<PartitionStats>[]): Promise<QueueStats> {
  const answers = await Promise.allSettled(asked);
  const reached = answers.flatMap((answer) => (answer.status === "fulfilled" ? [answer.value] : []));
  if (reached.length === 0)
    await Promise.any(asked).catch(({ errors }: AggregateError) => Promise.reject(errors[0]));
  return { ...mergeStats(reached), ...unreachedOf(answers) };
}

/** @param numbers of the partitions that were asked; default: all */
export function unreachedOf(
  answers: readonly PromiseSettledResult<unknown>[],
  numbers: readonly number[] = [...answers.keys()],
): PartialAnswer {
  const unreached = answers.flatMap((answer, i) =>
    answer.status === "fulfilled" ? [] : [{ partition: numbers[i]!, reason: reasonOf(answer.reason) }],
  );
  return unreached.length === 0 ? {} : { unreached };
}

/** Why a partition could not be asked, in words. */
export function reasonOf(error: unknown): string {
  const text = redisErrorText(error);
  return error instanceof QueueMissing || text.startsWith("NOQUEUE") ? "it has lost its data" : text;
}

/** Clocks that differ by less are taken for equal, ms: the partitions are not asked at the same moment. */
const skewMinMs = 2000;

/** @param partitions at least one */
export function mergeStats(partitions: readonly PartitionStats[]): QueueStats {
  const nowMs = Math.max(...partitions.map((one) => one.nowMs));
  const all = partitions.map((one) => (nowMs - one.nowMs < skewMinMs ? one : shift(one, nowMs - one.nowMs)));
  // Several partitions may be on one node.
  const nodes = [...new Map(all.map((one) => [one.node, one])).values()];
  return {
    nowMs,
    states: sumOf(all.map(({ states }) => states)) as QueueStats["states"],
    fileBytes: all.reduce((sum, one) => sum + one.fileBytes, 0),
    counters: sumOf(all.map(({ counters }) => counters)),
    providers: mergeConditions(all.map(({ providers }) => providers)),
    oldestDueAtMs: least(all.map((one) => one.oldestDueAtMs)),
    oldestDoubtSinceMs: least(all.map((one) => one.oldestDoubtSinceMs)),
    paused: newestPause(all).paused,
    moving: all.some(({ moving }) => moving),
    clockStep: all.flatMap(({ clockStep }) => clockStep ?? []).toSorted((a, b) => b.atMs - a.atMs)[0],
    bytesUsed: nodes.reduce((sum, one) => sum + one.bytesUsed, 0),
    bytesMax: nodes.reduce<number | undefined>(
      (sum, one) => (sum === undefined || one.bytesMax === undefined ? undefined : sum + one.bytesMax),
      0,
    ),
  };
}

/** The statistics as a clock would have stamped them that is ahead by this time. */
function shift(stats: PartitionStats, byMs: number): PartitionStats {
  return JSON.parse(JSON.stringify(stats), (name: string, value: unknown) =>
    typeof value === "number" && /(at|Since|Until)Ms$/i.test(name) ? value + byMs : value,
  ) as PartitionStats;
}

/** The pause or resumption with the highest version, which holds for all partitions; of two with the same, a pause. */
export function newestPause<Pause extends { readonly paused: boolean; readonly pauseVersion: number }>(
  pauses: readonly Pause[],
): Pause {
  return pauses.reduce((newest, one) => {
    const isNewer = one.pauseVersion > newest.pauseVersion;
    return isNewer || (one.pauseVersion === newest.pauseVersion && one.paused) ? one : newest;
  });
}

function least(numbers: readonly (number | undefined)[]): number | undefined {
  const known = numbers.filter((one) => one !== undefined);
  return known.length === 0 ? undefined : Math.min(...known);
}

function sumOf(all: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const one of all) {
    for (const [name, count] of Object.entries(one)) sums[name] = (sums[name] ?? 0) + count;
  }
  return sums;
}

function mergeConditions(partitions: readonly QueueStats["providers"][]): QueueStats["providers"] {
  const names = new Set(partitions.flatMap((one) => Object.keys(one)));
  return Object.fromEntries(
    Array.from(names, (name) => [name, mergeCondition(partitions.flatMap((one) => one[name] ?? []))]),
  );
}

/** The provider fails if its last failure anywhere is newer than its last acceptance anywhere. */
function mergeCondition(found: readonly ProviderCondition[]): ProviderCondition {
  const [last] = found.toSorted((a, b) => (b.lastFailedAtMs ?? 0) - (a.lastFailedAtMs ?? 0));
  const acceptedAtMs = Math.max(...found.map(({ lastAcceptedAtMs = 0 }) => lastAcceptedAtMs));
  const failures = found.map(({ failingSinceMs = 0 }) => failingSinceMs);
  const failingSinceMs = least(failures.filter((sinceMs) => sinceMs > acceptedAtMs));
  return {
    ...last,
    lastAcceptedAtMs: acceptedAtMs || undefined,
    failingSinceMs,
    isUnanswered: failingSinceMs === undefined ? undefined : last?.isUnanswered,
    rate: found.find(({ rate }) => rate !== undefined)?.rate,
  };
}
