// How long the service needs to recover its normal throughput after a fault. Pure.

/** Throughput is measured in windows of this length, ms. */
const windowMs = 100;
const stepMs = 10;
/** Normal throughput, as a fraction of the offered load. */
const normalShare = 0.75;

export interface Recovery {
  /** Faults that no other fault followed before throughput was normal again. */
  readonly count: number;
  readonly p50Ms: number;
  readonly maxMs: number;
}

/**
 * @param ends when each fault ended, Unix ms, in order; of overlapping faults only the last end counts
 * @param answeredAtMs times of all 200s, in order
 * @param rate emails offered per second
 */
export function recoveries(
  strikes: readonly { readonly startMs: number; readonly endMs: number }[],
  answeredAtMs: readonly number[],
  rate: number,
): Recovery {
  const lastMs = answeredAtMs.at(-1) ?? 0;
  const took: number[] = [];
  for (const { startMs, endMs } of strikes) {
    const others = strikes.filter((other) => other.startMs > startMs || other.endMs > endMs);
    const nextMs = Math.min(lastMs, ...others.map((other) => other.startMs));
    for (let atMs = endMs; atMs + windowMs <= nextMs; atMs += stepMs) {
      if (answeredBetween(answeredAtMs, atMs, atMs + windowMs) < (normalShare * rate * windowMs) / 1000)
        continue;
      took.push(atMs - endMs);
      break;
    }
  }
  took.sort((a, b) => a - b);
  return { count: took.length, p50Ms: took[Math.floor(took.length / 2)] ?? 0, maxMs: took.at(-1) ?? 0 };
}

function answeredBetween(sorted: readonly number[], fromMs: number, toMs: number): number {
  return firstFrom(sorted, toMs) - firstFrom(sorted, fromMs);
}

/** Number of times earlier than `atMs`. */
function firstFrom(sorted: readonly number[], atMs: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] as number) < atMs) low = middle + 1;
    else high = middle;
  }
  return low;
}
