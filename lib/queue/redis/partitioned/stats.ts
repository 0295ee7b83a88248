// The statistics of a queue from those of its partitions: sums, the oldest, and merged conditions. Each partition's times
// are by its own node's clock, so that ages are merged, not times.

import { QueueMissing } from "../../contract.ts";
import type { ProviderCondition, QueueStats, Unreached } from "../../contract.ts";
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
): { unreached?: readonly Unreached[] } {
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
  /** The time as a clock would have shown it that shows `nowMs` now. */
  const shifted = (atMs: number | undefined, from: PartitionStats) =>
    atMs === undefined ? [] : [nowMs - from.nowMs < skewMinMs ? atMs : atMs + nowMs - from.nowMs];
  const oldest = (field: "oldestDueAtMs" | "oldestDoubtSinceMs") =>
    least(partitions.flatMap((one) => shifted(one[field], one)));
  // Several partitions may be on one node.
  const nodes = [...new Map(partitions.map((one) => [one.node, one])).values()];
  const newestStep = partitions
    .flatMap((one) =>
      one.clockStep === undefined ? [] : [{ ...one.clockStep, atMs: shifted(one.clockStep.atMs, one)[0]! }],
    )
    .toSorted((a, b) => b.atMs - a.atMs)[0];
  return {
    nowMs,
    states: sumOf(partitions.map(({ states }) => states)) as QueueStats["states"],
    counters: sumOf(partitions.map(({ counters }) => counters)),
    providers: mergeConditions(partitions, (atMs, from) => shifted(atMs, from)[0]),
    oldestDueAtMs: oldest("oldestDueAtMs"),
    oldestDoubtSinceMs: oldest("oldestDoubtSinceMs"),
    paused: newestPause(partitions).paused,
    moving: partitions.some(({ moving }) => moving),
    clockStep: newestStep,
    bytesUsed: nodes.reduce((sum, one) => sum + one.bytesUsed, 0),
    bytesMax: nodes.reduce<number | undefined>(
      (sum, one) => (sum === undefined || one.bytesMax === undefined ? undefined : sum + one.bytesMax),
      0,
    ),
  };
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

function least(numbers: readonly number[]): number | undefined {
  return numbers.length === 0 ? undefined : Math.min(...numbers);
}

function sumOf(all: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const one of all) {
    for (const [name, count] of Object.entries(one)) sums[name] = (sums[name] ?? 0) + count;
  }
  return sums;
}

type Shift = (atMs: number | undefined, from: PartitionStats) => number | undefined;

function mergeConditions(partitions: readonly PartitionStats[], shift: Shift): QueueStats["providers"] {
  const names = new Set(partitions.flatMap(({ providers }) => Object.keys(providers)));
  return Object.fromEntries(
    Array.from(names, (name) => {
      const found = partitions.flatMap((one) => {
        const condition = one.providers[name];
        if (condition === undefined) return [];
        const { lastAcceptedAtMs, failingSinceMs, lastFailedAtMs } = condition;
        const times = Object.entries({ lastAcceptedAtMs, failingSinceMs, lastFailedAtMs }).flatMap(
          ([field, atMs]) => (atMs === undefined ? [] : [[field, shift(atMs, one)]]),
        );
        const until = shift(condition.rate?.pausedUntilMs, one);
        const rate = condition.rate && {
          ...condition.rate,
          ...(until !== undefined && { pausedUntilMs: until }),
        };
        const shifted = Object.fromEntries(times) as ProviderCondition;
        return [{ ...condition, ...shifted, ...(rate && { rate }) }];
      });
      return [name, mergeCondition(found)];
    }),
  );
}

/** The provider fails if its last failure anywhere is newer than its last acceptance anywhere. */
function mergeCondition(found: readonly ProviderCondition[]): ProviderCondition {
  const acceptedAtMs = Math.max(-Infinity, ...found.flatMap(({ lastAcceptedAtMs: at }) => at ?? []));
  const failures = found.filter(({ lastFailedAtMs }) => lastFailedAtMs !== undefined);
  const last = failures.toSorted((a, b) => b.lastFailedAtMs! - a.lastFailedAtMs!)[0];
  const rate = found.find((one) => one.rate !== undefined)?.rate;
  const accepted = {
    ...(acceptedAtMs !== -Infinity && { lastAcceptedAtMs: acceptedAtMs }),
    ...(rate && { rate }),
  };
  if (last === undefined) return accepted;
  const { lastFailedAtMs, lastFailure, isUnanswered } = last;
  const failed = { lastFailedAtMs: lastFailedAtMs!, ...(lastFailure !== undefined && { lastFailure }) };
  const since = failures.flatMap(({ failingSinceMs: at }) =>
    at !== undefined && at > acceptedAtMs ? [at] : [],
  );
  const failingSinceMs = least(since);
  if (failingSinceMs === undefined) return { ...accepted, ...failed };
  return { ...accepted, ...failed, failingSinceMs, ...(isUnanswered && { isUnanswered }) };
}
