// The result of a run as text.

import type { StrikeRecord } from "./scenario_run.ts";
import type { RunResult } from "./result.ts";

const columns: readonly {
  readonly title: string;
  readonly value: (result: RunResult) => string | number;
}[] = [
  { title: "acked", value: ({ acknowledged }) => acknowledged },
  { title: "kills", value: ({ kills }) => kills },
  { title: "faults", value: ({ strikes }) => strikes },
  { title: "lost", value: ({ lost }) => lost.length },
  { title: "corrupt", value: ({ corrupt }) => corrupt.length },
  { title: "dead", value: ({ wronglyDead }) => wronglyDead.length },
  { title: "stuck", value: ({ stuck, unanswered }) => stuck + unanswered },
  { title: "twice", value: ({ duplicates }) => duplicates.length },
  { title: "late", value: ({ late }) => late.length },
  { title: "explained", value: ({ explained }) => explained },
  { title: "slowest", value: ({ slowestMs }) => ms(slowestMs) },
  { title: "errors", value: ({ clients }) => Object.values(clients.errors).reduce((sum, n) => sum + n, 0) },
  { title: "p50", value: ({ clients }) => ms(clients.latencyMs.p50) },
  { title: "p99", value: ({ clients }) => ms(clients.latencyMs.p99) },
  { title: "max", value: ({ clients }) => ms(clients.latencyMs.max) },
  { title: "MiB", value: ({ usage }) => Math.round(usage.memoryMiB) },
  { title: "fds", value: ({ usage }) => usage.descriptors },
  { title: "normal again", value: ({ recovery }) => `${ms(recovery.p50Ms)}, ${ms(recovery.maxMs)}` },
];

const nameWidth = 26;

export const tableHead = [
  "scenario".padEnd(nameWidth),
  ...columns.map(({ title }) => title.padStart(widthOf(title))),
].join(" ");

export const legend = [
  "dead: unexpected dead letters. twice: accepted more than once; explained: of those, the ones that the service",
  "itself counts as possible duplicates. errors: tries that clients had to repeat. p50, p99, max: latency of the",
  "200s. slowest: from a 200 until a provider accepted the email; late: emails for which that took too",
  "long. MiB, fds: most resident memory and open descriptors of one server. normal again: from the end of a fault to",
  "three quarters of the offered load, median and longest.",
].join("\n");

export function tableLine(name: string, result: RunResult): string {
  const cells = columns.map(({ title, value }) => String(value(result)).padStart(widthOf(title)));
  return [name.padEnd(nameWidth), ...cells, result.ok ? " ok" : " FAILED"].join(" ");
}

export function strikeLine({ what, startMs, endMs, killed, unclean, note }: StrikeRecord): string {
  const at = new Date(startMs).toISOString().slice(11, 23);
  const names = killed.length > 0 ? ` [${killed.join(" ")}]` : "";
  return `${at} ${what}${names}, ${endMs - startMs} ms${[unclean, note].map((text) => (text === undefined ? "" : `, ${text}`)).join("")}`;
}

function widthOf(title: string): number {
  return Math.max(title.length, 7);
}

function ms(value: number): string {
  return value < 1000 ? `${value} ms` : `${(value / 1000).toFixed(1)} s`;
}
