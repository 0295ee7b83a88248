// Capacity: what a number of emails a day needs, computed from the measured costs of one email (costs.json, the output of
// `npm run bench -- costs --json`). The assumptions are here; docs/capacity.md explains them.

import type { Table } from "../table.ts";

export const assumptions = {
  /** The busiest minutes, to the mean of the day. */
  peakFactor: 5,
  /** Share of a core that a process may use at the peak. Redis spends much of the rest waiting for fsyncs. */
  coreShare: 0.5,
  /** All providers are down for so long, at the mean rate. */
  outageHours: 10,
  /** Records of sent emails are kept for so long. */
  retainHours: 1,
  /** A write of a server with its fsync, ms: it makes one at a time to each partition. */
  writeMs: 2,
  /** A provider's answer, ms, and the requests of a worker at the same time. */
  answerMs: 300,
  concurrency: 8,
  /** A provider's default: requests a second, emails in each, and the share of the limit that is used. */
  requestsPerSecond: 10,
  batchMax: 100,
  limitShare: 0.9,
  /** Most data in one primary, bytes: on a machine with twice that, for the copy that is made while its log is rewritten. */
  primaryBytes: 24e9,
  /** The size of the log when it is rewritten, and the new one next to it, to the data. */
  logFactor: 4,
  partitionsMax: 8,
} as const;

const secondsPerDay = 86_400;

export type Step = "submit" | "deliver" | "limited" | "empty";
export type Column =
  "CPU µs" | "Redis CPU µs" | "commands" | "bytes in" | "bytes out" | "log bytes" | "fsyncs";

/** The cost of one email, by the number of emails that share a write. */
export interface CostLine {
  /** For each write. */
  readonly fixed: number;
  /** For each email. */
  readonly each: number;
}

export function costOf({ fixed, each }: CostLine, emailsPerWrite: number): number {
  return each + fixed / emailsPerWrite;
}

export class Costs {
  readonly #rows: Table["rows"];

  constructor({ rows }: Pick<Table, "rows">) {
    this.#rows = rows;
  }

  /** Through the measured points with the fewest and the most emails in a write. */
  line(queue: string, step: Step, column: Column): CostLine {
    const points = this.points(queue, step, column);
    const [few, many] = [points[0]!, points.at(-1)!];
    const fixed = (few.cost - many.cost) / (1 / few.emails - 1 / many.emails);
    return { fixed, each: many.cost - fixed / many.emails };
  }

  /** The cost of one step that costs the same each time. */
  each(queue: string, step: Step, column: Column): number {
    return this.points(queue, step, column)[0]!.cost;
  }

  points(queue: string, step: Step, column: Column): { readonly emails: number; readonly cost: number }[] {
    return this.#rowsOf(queue, step).map((row) => {
      return { emails: Number(row["emails/write"]), cost: Number(row[column]) };
    });
  }

  /** Bytes of memory or file: per waiting email, or per sent one. */
  kept(queue: string, step: Step): number {
    return Number(this.#rowsOf(queue, step).at(-1)!["bytes kept"]);
  }

  #rowsOf(queue: string, step: Step): Table["rows"] {
    return this.#rows
      .filter((row) => row["queue"] === queue && row["step"] === step)
      .toSorted((a, b) => Number(a["emails/write"]) - Number(b["emails/write"]));
  }
}

/** The cost of a rate of emails in each process, and the batches that they form. */
export interface Flow {
  readonly emailsPerSecond: number;
  /** To all providers, and emails in each. */
  readonly requestsPerSecond: number;
  readonly emailsPerRequest: number;
  readonly emailsPerWrite: number;
  readonly serverCores: number;
  readonly workerCores: number;
  readonly redisCores: number;
  /** Into and out of Redis, bytes per second. */
  readonly redisBytesPerSecond: number;
  readonly logBytesPerSecond: number;
}

/** @param writers servers times the partitions of a queue: each makes one write at a time */
export function flowOf(costs: Costs, queue: string, emailsPerSecond: number, writers: number): Flow {
  const { limitShare, requestsPerSecond: limit, batchMax, writeMs } = assumptions;
  const emailsPerRequest = Math.min(batchMax, Math.max(1, emailsPerSecond / (limit * limitShare)));
  const emailsPerWrite = Math.max(1, (emailsPerSecond * writeMs) / 1000 / writers);
  const perSecond = (step: Step, column: Column) => {
    const line = costs.line(queue, step, column);
    return emailsPerSecond * costOf(line, step === "submit" ? emailsPerWrite : emailsPerRequest);
  };
  const both = (column: Column) => perSecond("submit", column) + perSecond("deliver", column);
  return {
    emailsPerSecond,
    requestsPerSecond: emailsPerSecond / emailsPerRequest,
    emailsPerRequest,
    emailsPerWrite,
    serverCores: perSecond("submit", "CPU µs") / 1e6,
    workerCores: perSecond("deliver", "CPU µs") / 1e6,
    redisCores: both("Redis CPU µs") / 1e6,
    redisBytesPerSecond: both("bytes in") + both("bytes out"),
    logBytesPerSecond: both("log bytes"),
  };
}

/** How many times the capacity of one of each, as far as it may be used: above 1, one is not enough. */
export interface Loads {
  readonly provider: number;
  readonly server: number;
  readonly worker: number;
  readonly redisCpu: number;
  readonly redisMemory: number;
}

/** How many of each there are. */
interface Fleet {
  readonly servers: number;
  readonly workers: number;
  /** In all queues together. */
  readonly primaries: number;
  /** In each queue. */
  readonly partitions: number;
  /** Each with its own `REDIS_PREFIX`, primaries, servers and workers. */
  readonly queues: number;
}

export interface Plan extends Fleet {
  readonly mean: Flow;
  readonly peak: Flow;
  readonly loads: Loads;
  readonly outageBytes: number;
  readonly sentBytes: number;
  readonly logBytes: number;
  readonly providerLimit: number;
}

/** The least that survives the loss of one server or worker. */
const smallest: Fleet = { servers: 2, workers: 2, primaries: 1, partitions: 1, queues: 1 };

export function plan(costs: Costs, emailsPerDay: number, queue = "redis"): Plan {
  const { outageHours, retainHours, logFactor, peakFactor } = assumptions;
  const perSecond = emailsPerDay / secondsPerDay;
  const outageBytes = perSecond * outageHours * 3600 * costs.kept(queue, "submit");
  const sentBytes = perSecond * retainHours * 3600 * costs.kept(queue, "deliver");
  const bytes = outageBytes + sentBytes;
  const flowFor = (rate: number, fleet: Fleet) =>
    flowOf(costs, queue, rate, fleet.servers * fleet.partitions);
  // More servers and partitions make smaller groups, which cost more.
  let fleet = smallest;
  for (;;) {
    const needed = fleetFor(loadsOf(flowFor(perSecond * peakFactor, fleet), bytes), fleet);
    if (Bun.deepEquals(needed, fleet)) break;
    fleet = needed;
  }
  const peak = flowFor(perSecond * peakFactor, fleet);
  return {
    ...fleet,
    mean: flowFor(perSecond, fleet),
    peak,
    loads: loadsOf(peak, bytes),
    outageBytes,
    sentBytes,
    logBytes: bytes * logFactor,
    providerLimit: peak.emailsPerSecond / assumptions.batchMax / assumptions.limitShare,
  };
}

function loadsOf(peak: Flow, bytes: number): Loads {
  const { coreShare, answerMs, concurrency, requestsPerSecond, batchMax, limitShare, primaryBytes } =
    assumptions;
  const inFlight = (peak.requestsPerSecond * answerMs) / 1000;
  return {
    provider: peak.emailsPerSecond / (requestsPerSecond * batchMax * limitShare),
    server: peak.serverCores / coreShare,
    worker: Math.max(peak.workerCores / coreShare, inFlight / concurrency),
    redisCpu: peak.redisCores / coreShare,
    redisMemory: bytes / primaryBytes,
  };
}

/** One server and one worker more than needed, for the loss of one and for restarts; never fewer than there were. */
function fleetFor(loads: Loads, before: Fleet): Fleet {
  const { partitionsMax } = assumptions;
  const needed = Math.max(before.primaries, Math.ceil(Math.max(loads.redisCpu, loads.redisMemory)));
  const queues = Math.max(before.queues, Math.ceil(needed / partitionsMax));
  // A power of two, so that each primary has as many partitions as the others.
  const each = 2 ** Math.ceil(Math.log2(needed / queues));
  return {
    servers: Math.max(before.servers, Math.ceil(loads.server) + 1),
    workers: Math.max(before.workers, Math.ceil(loads.worker) + 1),
    primaries: each * queues,
    partitions: Math.max(before.partitions, each === 1 ? 1 : each <= 4 ? 4 : partitionsMax),
    queues,
  };
}

/** The most emails a day for which one of it is enough, next to no more servers and partitions than the smallest fleet. */
export function mostPerDay(costs: Costs, of: keyof Loads, queue = "redis"): number {
  const isEnough = (emailsPerDay: number) => {
    const { outageBytes, sentBytes } = plan(costs, emailsPerDay, queue);
    const perSecond = (emailsPerDay / secondsPerDay) * assumptions.peakFactor;
    return loadsOf(flowOf(costs, queue, perSecond, smallest.servers), outageBytes + sentBytes)[of] <= 1;
  };
  let [low, high] = [1, 1e12];
  while (high / low > 1.001) {
    const middle = Math.sqrt(low * high);
    if (isEnough(middle)) low = middle;
    else high = middle;
  }
  return low;
}
