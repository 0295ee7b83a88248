// The targets of the service, as ratios within one run, and the values that a run has reached.

import type { Run } from "./report.ts";
import type { Cell, Row, Table } from "./table.ts";

type Queue = "Redis" | "embedded";

interface Target {
  readonly what: string;
  /** Whether the value may be at most the bound, or has to be at least that. */
  readonly is: "≤" | "≥";
  readonly bounds: Readonly<Partial<Record<Queue, number>>>;
  /** Undefined if the run has not measured it. */
  value(run: Run, queue: Queue): number | undefined;
}

const formOnly = "limit: a form without I/O";
const bareCommit = (queue: Queue) => `limit: a bare group commit, ${queue}`;
const formAndCommit = (queue: Queue) => `limit: a form and a bare group commit, ${queue}`;
const fastify = "Fastify and BullMQ";
/** Emails that the default CONCURRENCY can deliver in the largest batches to a provider that takes 50 ms. */
const slotsPerSecond = (8 * 100) / 0.05;

export const targets: readonly Target[] = [
  {
    what: "server CPU at 128 connections / a form without I/O",
    is: "≤",
    bounds: { Redis: 1.25, embedded: 1.35 },
    value: (run, queue) => ratio(submit(run, 128, "server CPU µs"), ours(queue), formOnly),
  },
  {
    what: "server CPU at 128 connections / a bare group commit",
    is: "≤",
    bounds: { Redis: 1.15, embedded: 1.2 },
    value: (run, queue) => ratio(submit(run, 128, "server CPU µs"), ours(queue), bareCommit(queue)),
  },
  {
    what: "server CPU at 128 connections / a form and a bare group commit",
    is: "≤",
    bounds: { Redis: 1.15, embedded: 1.2 },
    value: (run, queue) => ratio(submit(run, 128, "server CPU µs"), ours(queue), formAndCommit(queue)),
  },
  {
    what: "requests/s at 128 connections / Fastify and BullMQ",
    is: "≥",
    bounds: { Redis: 3, embedded: 3.5 },
    value: (run, queue) => ratio(submit(run, 128, "requests/s"), ours(queue), fastify),
  },
  {
    what: "requests/s at 128 connections / one XADD per request",
    is: "≥",
    bounds: { Redis: 1.3 },
    value: (run, queue) => ratio(submit(run, 128, "requests/s"), ours(queue), "one XADD per request"),
  },
  {
    what: "p99 at 32 connections / Fastify and BullMQ",
    is: "≤",
    bounds: { Redis: 0.5, embedded: 0.4 },
    value: (run, queue) => ratio(submit(run, 32, "p99 ms"), ours(queue), fastify),
  },
  {
    what: "p50 at one connection / a bare group commit",
    is: "≤",
    bounds: { Redis: 1.2, embedded: 1.1 },
    value: (run, queue) => ratio(submit(run, 1, "p50 ms"), ours(queue), bareCommit(queue)),
  },
  {
    what: "drain into a fast provider / BullMQ on Bun",
    is: "≥",
    bounds: { Redis: 8, embedded: 8 },
    value: (run, queue) => ratio(deliver(run, 0), ours(queue), "BullMQ on Bun"),
  },
  {
    what: "drain into a fast provider / the SDK without a queue",
    is: "≥",
    bounds: { Redis: 0.4, embedded: 0.4 },
    value: (run, queue) => ratio(deliver(run, 0), ours(queue), "limit: the SDK's batches, no queue"),
  },
  {
    what: "drain into a provider that takes 50 ms / slots × batch ÷ 50 ms",
    is: "≥",
    bounds: { Redis: 0.95, embedded: 0.95 },
    value: (run, queue) => over(deliver(run, 50)(ours(queue)), slotsPerSecond),
  },
  {
    what: "idle: p50 from POST to provider / Fastify and BullMQ",
    is: "≤",
    bounds: { Redis: 0.5, embedded: 0.4 },
    value: (run, queue) =>
      ratio((name) => cellOf(run, "idle", { system: name }, "to provider p50 ms"), ours(queue), fastify),
  },
  {
    what: "bytes per waiting email",
    is: "≤",
    bounds: { Redis: 500, embedded: 500 },
    value: (run, queue) => growth(run, queue, 100_000, "bytes/email"),
  },
  {
    what: "submissions/s with a million waiting / with a thousand",
    is: "≥",
    bounds: { Redis: 0.95, embedded: 0.95 },
    value: (run, queue) => grown(run, queue, 1_000_000, "submit emails/s"),
  },
  {
    what: "drain with a million waiting / with a thousand",
    is: "≥",
    bounds: { Redis: 0.95, embedded: 0.95 },
    value: (run, queue) => grown(run, queue, 1_000_000, "drain emails/s"),
  },
  {
    what: "submissions/s with ten million waiting / with a thousand",
    is: "≥",
    bounds: { embedded: 0.9 },
    value: (run, queue) => grown(run, queue, 10_000_000, "submit emails/s"),
  },
  {
    what: "drain with ten million waiting / with a thousand",
    is: "≥",
    bounds: { embedded: 0.9 },
    value: (run, queue) => grown(run, queue, 10_000_000, "drain emails/s"),
  },
  {
    what: "the executable: ms from exec to the first 200",
    is: "≤",
    bounds: { Redis: 25, embedded: 25 },
    value: (run, queue) => startup(run)(`reliable-email server, ${queue}`),
  },
  {
    what: "the same / a compiled server that does nothing",
    is: "≤",
    bounds: { Redis: 3, embedded: 3 },
    value: (run, queue) =>
      ratio(startup(run), `reliable-email server, ${queue}`, "limit: a compiled server that does nothing"),
  },
  {
    what: "memory in the last quarter of a soak / in the second",
    is: "≤",
    bounds: { Redis: 1.02, embedded: 1.02 },
    value: (run, queue) => {
      const growth = ["server", "worker"].map((process) =>
        cellOf(run, "soak", { queue: queue.toLowerCase(), process }, "growth %"),
      );
      const known = growth.filter((percent) => percent !== undefined);
      return known.length === 0 ? undefined : 1 + Math.max(...known) / 100;
    },
  },
];

/** There is no target, or no measurement. */
const notMeasured = "–";

/** One row for each target that the run has measured. */
export function targetsTable(run: Run): Table {
  const rows = targets.flatMap(({ what, is, bounds, value }): Row[] => {
    const cells = (["Redis", "embedded"] as const).map((queue) => {
      const bound = bounds[queue];
      const reached = bound === undefined ? undefined : value(run, queue);
      if (bound === undefined || reached === undefined) return [queue, notMeasured] as const;
      const isMet = is === "≤" ? reached <= bound : reached >= bound;
      return [queue, `${format(reached)} (${is} ${bound}${isMet ? "" : ", **missed**"})`] as const;
    });
    return cells.every(([, cell]) => cell === notMeasured)
      ? []
      : [{ target: what, ...Object.fromEntries(cells) }];
  });
  return { name: "targets", notes: [], columns: [["target"], ["Redis"], ["embedded"]], rows };
}

const ours = (queue: Queue) => `reliable-email, ${queue}`;

type Values = (name: string) => number | undefined;

const submit =
  (run: Run, connections: number, column: string): Values =>
  (server) =>
    cellOf(run, "submit", { server, connections }, column);
const deliver =
  (run: Run, delayMs: number): Values =>
  (worker) =>
    cellOf(run, "deliver", { worker, "provider ms": delayMs }, "emails/s");
const startup =
  (run: Run): Values =>
  (program) =>
    cellOf(run, "startup", { program }, "ms to the first 200");

function growth(run: Run, queue: Queue, waiting: number, column: string): number | undefined {
  return cellOf(run, "growth", { queue: queue.toLowerCase(), waiting }, column);
}

function grown(run: Run, queue: Queue, waiting: number, column: string): number | undefined {
  return over(growth(run, queue, waiting, column), growth(run, queue, 1000, column));
}

function ratio(values: Values, name: string, other: string): number | undefined {
  return over(values(name), values(other));
}

function over(value: number | undefined, other: number | undefined): number | undefined {
  return value === undefined || other === undefined ? undefined : value / other;
}

/** @param where a text matches a name that goes on with a comma, such as a concurrency */
function cellOf({ tables }: Run, table: string, where: Row, column: string): number | undefined {
  const row = tables
    .find(({ name }) => name === table)
    ?.rows.find((one) =>
      Object.entries(where).every(([name, value]) => {
        const cell = one[name];
        return cell === value || String(cell).startsWith(`${String(value)}, concurrency `);
      }),
    );
  return numberOf(row?.[column]);
}

function numberOf(cell: Cell): number | undefined {
  if (typeof cell === "number") return cell;
  return typeof cell === "object" ? cell.median : undefined;
}

function format(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
