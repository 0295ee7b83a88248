// Prints the tables of a run in Markdown: `npx bun bench/report.ts RUN.json`, where RUN.json is the output of
// `npm run bench -- --json`.

import { readFileSync } from "node:fs";
import type { Machine } from "./machine.ts";
import { type Table, toMarkdown } from "./table.ts";
import { targetsTable } from "./targets.ts";

export interface Run {
  readonly machine: Machine;
  readonly options: Readonly<Record<string, string>>;
  readonly tables: readonly Table[];
}

export function readRun(path: string): Run {
  return JSON.parse(readFileSync(path, "utf8"));
}

export function report(run: Run): string {
  const { machine, tables } = run;
  const { date, commit, cores, processor, kernel, bun, node, redis, fdatasyncMs } = machine;
  const about = `Measured on ${date} at commit \`${commit}\`: ${cores} cores (${processor}), Linux ${kernel}, Bun ${bun}, Node ${node}, Redis ${redis}, a disk whose \`fdatasync\` takes ${fdatasyncMs.toFixed(2)} ms; load generator, servers, stores and provider on the same machine.`;
  const sections = [targetsTable(run), ...tables].map((table) => `### ${table.name}\n\n${toMarkdown(table)}`);
  return [about, ...sections].join("\n\n");
}

if (import.meta.main) {
  const [path] = process.argv.slice(2);
  if (path === undefined) {
    console.error("Usage: npx bun bench/report.ts RUN.json");
    process.exit(2);
  }
  console.log(report(readRun(path)));
}
