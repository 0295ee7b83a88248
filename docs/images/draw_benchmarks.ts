// Draws the main figures of a run of the benchmarks: `npx bun docs/images/draw_benchmarks.ts RUN.json [FILE.svg]`, where
// RUN.json is the output of `npm run bench -- --json`.

import { join } from "node:path";
import { readRun, type Run } from "../../bench/report.ts";
import type { Row } from "../../bench/table.ts";
import { escape, svg } from "./svg.ts";

interface Panel {
  readonly title: string;
  readonly table: string;
  /** Shows the rows in which this column has this value. */
  readonly where: readonly [column: string, value: number];
  readonly name: string;
  readonly rate: string;
}

const panels: readonly Panel[] = [
  {
    title: "Submissions a second, 128 connections",
    table: "submit",
    where: ["connections", 128],
    name: "server",
    rate: "requests/s",
  },
  {
    title: "Deliveries a second, to a provider that takes 50 ms",
    table: "deliver",
    where: ["provider ms", 50],
    name: "worker",
    rate: "emails/s",
  },
];

const width = 880;
const labelWidth = 312;
const valueWidth = 180;
const barHeight = 18;
const rowHeight = 26;
const headingHeight = 34;

/** A bar for each contestant, with a line over the range of its rounds. Limits are fainter, and ours stand out. */
export function drawBenchmarks({ tables }: Run): string {
  const content: string[] = [];
  let y = 10;
  for (const { title, table, where, name, rate } of panels) {
    const rows = tables.find((one) => one.name === table)?.rows ?? [];
    const shown = rows.filter((row) => row[where[0]] === where[1]);
    if (shown.length === 0) continue;
    content.push(`<text class="left bold" x="10" y="${y + headingHeight / 2}">${escape(title)}</text>`);
    y += headingHeight;
    const most = Math.max(...shown.map((row) => rangeOf(row[rate])?.max ?? 0));
    for (const row of shown) {
      content.push(bar(String(row[name]), row[rate], most, y));
      y += rowHeight;
    }
    y += 10;
  }
  return svg(width, y, "Submissions and deliveries a second, next to others and to limits", content);
}

function rangeOf(cell: Row[string]) {
  return typeof cell === "object" ? cell : undefined;
}

function bar(name: string, cell: Row[string], most: number, y: number): string {
  const middle = y + rowHeight / 2;
  const label = `<text class="small left" x="10" y="${middle}">${escape(name)}</text>`;
  const range = rangeOf(cell);
  if (range === undefined)
    return `${label}<text class="left red" x="${labelWidth}" y="${middle}">invalid</text>`;
  const x = (value: number) =>
    Math.round(labelWidth + ((width - labelWidth - valueWidth) * value) / Math.max(1, most));
  const kind = name.startsWith("limit") ? "" : name.startsWith("reliable-email") ? "good" : "doubt";
  const rect = `<rect class="box ${kind}" x="${labelWidth}" y="${middle - barHeight / 2}" width="${x(range.median) - labelWidth}" height="${barHeight}" rx="3"/>`;
  const whisker = `<path class="line" d="M${x(range.min)} ${middle}H${x(range.max)}"/>`;
  const value = Math.round(range.median).toLocaleString("en");
  return `${label}${rect}${whisker}<text class="small left" x="${x(range.max) + 8}" y="${middle}">${value}</text>`;
}

if (import.meta.main) {
  const [run, file = join(import.meta.dir, "benchmarks.svg")] = process.argv.slice(2);
  if (run === undefined) {
    console.error("Usage: npx bun docs/images/draw_benchmarks.ts RUN.json [FILE.svg]");
    process.exit(2);
  }
  await Bun.write(file, drawBenchmarks(readRun(run)));
}
