// The computed parts of docs/capacity.md, by the name of each.

import type { Table } from "../table.ts";
import {
  assumptions,
  type Column,
  Costs,
  type Flow,
  type Loads,
  mostPerDay,
  type Plan,
  plan,
  type Step,
} from "./plan.ts";

const sizes = { "A million": 1e6, "A hundred million": 1e8, "A billion": 1e9 };

const loadNames: Readonly<Record<keyof Loads, string>> = {
  provider: "the provider's limit",
  server: "a server's core",
  worker: "a worker's requests in flight",
  redisCpu: "a primary's core",
  redisMemory: "a primary's memory",
};

export function createParts(costs: Costs): Readonly<Record<string, string>> {
  const parts: Record<string, string> = {
    "costs-redis": redisCosts(costs),
    "costs-embedded": embeddedCosts(costs),
    "costs-asking": askingCosts(costs),
    limits: limits(costs),
  };
  for (const [name, emailsPerDay] of Object.entries(sizes)) {
    parts[name.toLowerCase().replaceAll(" ", "-")] = size(plan(costs, emailsPerDay));
  }
  return parts;
}

/** The page with these parts between their marks. */
export function fillPage(page: string, parts: Readonly<Record<string, string>>): string {
  return Object.entries(parts).reduce((text, [name, part]) => {
    const [begin, end] = [`<!-- ${name} -->\n`, `\n<!-- end -->`];
    const from = text.indexOf(begin);
    if (from === -1) throw new Error(`docs/capacity.md: no part ${name}`);
    const until = text.indexOf(end, from);
    return `${text.slice(0, from)}${begin}\n${part}\n${text.slice(until)}`;
  }, page);
}

type CostRow = readonly [label: string, step: Step, column: Column];

function costTable(costs: Costs, queue: string, rows: readonly CostRow[], kept: string): string {
  const lines = rows.map(([label, step, column]) => {
    const { fixed, each } = costs.line(queue, step, column);
    return [label, amount(fixed), amount(each)];
  });
  return table(
    ["", "for each write or request", "for each email"],
    [
      ...lines,
      [`bytes of ${kept} while it waits`, "", amount(costs.kept(queue, "submit"))],
      [`bytes of ${kept} of its record, once sent`, "", amount(costs.kept(queue, "deliver"))],
    ],
  );
}

function redisCosts(costs: Costs): string {
  const rows: readonly CostRow[] = [
    ["server, CPU µs", "submit", "CPU µs"],
    ["worker, CPU µs", "deliver", "CPU µs"],
    ["Redis, CPU µs: submission", "submit", "Redis CPU µs"],
    ["Redis, CPU µs: delivery", "deliver", "Redis CPU µs"],
    ["commands in scripts: submission", "submit", "commands"],
    ["commands in scripts: delivery", "deliver", "commands"],
    ["bytes to Redis: submission", "submit", "bytes in"],
    ["bytes to Redis: delivery", "deliver", "bytes in"],
    ["bytes from Redis: delivery", "deliver", "bytes out"],
    ["bytes of append-only file: submission", "submit", "log bytes"],
    ["bytes of append-only file: delivery", "deliver", "log bytes"],
    ["fsyncs: submission", "submit", "fsyncs"],
    ["fsyncs: delivery", "deliver", "fsyncs"],
  ];
  return costTable(costs, "redis", rows, "memory");
}

function embeddedCosts(costs: Costs): string {
  const rows: readonly CostRow[] = [
    ["server, CPU µs", "submit", "CPU µs"],
    ["worker, CPU µs", "deliver", "CPU µs"],
    ["bytes written to disk: submission", "submit", "log bytes"],
    ["bytes written to disk: delivery", "deliver", "log bytes"],
    ["fsyncs: submission", "submit", "fsyncs"],
    ["fsyncs: delivery", "deliver", "fsyncs"],
  ];
  return costTable(costs, "embedded", rows, "file");
}

function askingCosts(costs: Costs): string {
  const row = (label: string, step: Step) => {
    return [
      label,
      amount(costs.each("redis", step, "Redis CPU µs")),
      amount(costs.each("redis", step, "fsyncs")),
    ];
  };
  return table(
    ["a claim in vain", "Redis, CPU µs", "fsyncs"],
    [
      row("the provider's rate permits no request now", "limited"),
      row("nothing is due for the provider", "empty"),
    ],
  );
}

function limits(costs: Costs): string {
  const keys = Object.keys(loadNames) as (keyof Loads)[];
  const rows = keys.map((key) => ({ name: loadNames[key], most: mostPerDay(costs, key) }));
  rows.push({ name: "a server's core, embedded queue", most: mostPerDay(costs, "server", "embedded") });
  rows.sort((a, b) => a.most - b.most);
  return table(
    ["one is enough up to", "emails a day"],
    rows.map(({ name, most }) => [name, `${amount(most / 1e6)} million`]),
  );
}

function size(planned: Plan): string {
  const { mean, peak, loads, servers, workers, primaries, partitions, queues } = planned;
  const both = (label: string, value: (flow: Flow) => string) => [label, value(mean), value(peak)];
  const flows = table(
    ["", "at the mean", `at ${assumptions.peakFactor} times the mean`],
    [
      both("emails a second", ({ emailsPerSecond }) => amount(emailsPerSecond)),
      both("requests to providers a second; emails in each", (flow) => {
        return `${amount(flow.requestsPerSecond)}; ${amount(flow.emailsPerRequest)}`;
      }),
      both("emails in a write of a server", ({ emailsPerWrite }) => amount(emailsPerWrite)),
      both("cores: servers, workers, Redis", (flow) => {
        return [flow.serverCores, flow.workerCores, flow.redisCores]
          .map((cores) => cores.toFixed(2))
          .join(", ");
      }),
      both("MB/s: to and from Redis, append-only file", (flow) => {
        return [flow.redisBytesPerSecond / 1e6, flow.logBytesPerSecond / 1e6].map(amount).join(", ");
      }),
    ],
  );
  const order = (Object.keys(loads) as (keyof Loads)[]).toSorted((a, b) => loads[b] - loads[a]);
  const redis =
    primaries === 1
      ? "one primary with its replicas"
      : `${primaries} primaries, each with its replicas; ${count(queues, "queue")} of ${partitions} partitions`;
  return [
    flows,
    "",
    `- **Processes:** ${servers} servers and ${workers} workers, one of each to spare.`,
    `- **Redis:** ${redis}.`,
    `- **Memory:** ${bytes(planned.outageBytes)} for the emails of an outage of ${assumptions.outageHours} hours, and ${bytes(planned.sentBytes)} for the records of sent emails, for each hour of \`RETAIN\`.`,
    `- **Disk:** ${bytes(planned.logBytes)} for append-only files, and ${bytes(mean.logBytesPerSecond * 86_400)} written a day.`,
    `- **Providers:** ${amount(planned.providerLimit)} requests a second.`,
    `- **Limits, the first one first, as multiples of what one of these carries:** ${order.map((key) => `${loadNames[key]} ${amount(loads[key])}`).join(", ")}.`,
  ].join("\n");
}

/** The numbers of a simulated fleet. */
export function fleetPart({ rows, ratios }: Table): string {
  const number = (row: Table["rows"][number], column: string) => amount(Number(row[column]));
  const phases = rows.map((row) => [
    `${row["phase"]}, ${number(row, "minutes")} min`,
    `${number(row, "emails/s")}; ${number(row, "Resend %")} %`,
    `${number(row, "requests/min")}; ${number(row, "throttled %")} %; ${number(row, "claims/s")}`,
  ]);
  const head = [
    "phase",
    "emails accepted a second; Resend's share",
    "requests a minute; throttled; claims a second",
  ];
  const others = Object.entries(ratios ?? {}).map(([name, value]) => `- ${name}: ${amount(value)}`);
  return [table(head, phases), "", ...others].join("\n");
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`.replaceAll("|  |", "| |");
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

/** Two significant digits, more only before the point. Less than 0.005 is noise. */
function amount(value: number): string {
  if (value < 0.005) return "0";
  const rounded = value >= 100 ? Math.round(value) : Number(value.toPrecision(2));
  return rounded.toLocaleString("en", { maximumFractionDigits: 3 });
}

function bytes(value: number): string {
  return value >= 1e12 ? `${amount(value / 1e12)} TB` : `${amount(value / 1e9)} GB`;
}

function count(number: number, one: string): string {
  return `${number} ${number === 1 ? one : `${one}s`}`;
}
