// `npm run chaos`: injects faults into a running service and judges what became of every email.

import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { readOptions } from "../lib/cli/command.ts";
import { extractPreviousRelease, hasPreviousRelease } from "../tests/support/previous_release.ts";
import { buildClock } from "./clock/clock.ts";
import { buildDisk } from "./disk/disk.ts";
import { legend, strikeLine, tableHead, tableLine } from "./report.ts";
import { type Extent, run, type StrikeRecord } from "./scenario_run.ts";
import { readJournal } from "./journal.ts";
import { type Scenario, type Store, storesOf } from "./scenario.ts";
import { scenarios } from "./scenarios.ts";
import type { RunResult } from "./result.ts";
import { needsClock, needsDisk } from "./deployment.ts";

const usage = `Usage: npm run chaos -- [options]

Starts the service with a store, several servers and workers, and fakes of both providers. Submits emails, injects faults
that a seed draws, ends them, waits until the queue is empty, and judges the result. Exits with 1 if a single email was
lost, altered, stuck, wrongly dead, or accepted twice where that was avoidable.

  --scenario NAME,…   only these scenarios; all of them by default, or with the name all
  --store NAME,…      embedded, redis, sentinel or cluster; all of them by default
  --minutes N         inject faults for this long in each run; 0.5 by default
  --emails N          and until this many emails have been acknowledged
  --kills N           and until this many processes have been killed
  --seed N            seed of the faults and the emails; by default a new one, which is printed
  --rate N            emails offered per second; 300 by default
  --evidence FOLDER   keep the logs, journals and store of every run there; by default only those of failed runs are kept
  --service PATH      the folder of the service's sources, or the executable; these sources by default
  --verbose           print every fault
  --json              print one document with all results, and nothing else, on stdout
  --list              print all scenarios`;

const read = readOptions(process.argv.slice(2), {
  scenario: { type: "string" },
  store: { type: "string" },
  minutes: { type: "string", default: "0.5" },
  emails: { type: "string", default: "0" },
  kills: { type: "string", default: "0" },
  seed: { type: "string" },
  rate: { type: "string" },
  evidence: { type: "string" },
  service: { type: "string", default: join(import.meta.dir, "..") },
  verbose: { type: "boolean", default: false },
  json: { type: "boolean", default: false },
  list: { type: "boolean", default: false },
  help: { type: "boolean", default: false },
});
if (!read.ok) fail(`${read.usageError}\n\n${usage}`);
const { values } = read;

if (values.help) {
  console.log(usage);
  process.exit(0);
}
if (values.list) {
  for (const { name, about } of scenarios) console.log(`${name.padEnd(18)} ${about}`);
  process.exit(0);
}

// A run owns the processes that it started: a signal ends it together with all of them.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(130));

const stores = ["embedded", "redis", "sentinel", "cluster"] as const;
const print = (text: string) => (values.json ? console.error(text) : console.log(text));
const seed =
  values.seed === undefined ? Math.floor(Date.now() / 1000) % 1_000_000 : count("seed", values.seed);
const extent: Extent = {
  forMs: amount("minutes", values.minutes) * 60_000,
  emails: count("emails", values.emails),
  kills: count("kills", values.kills),
};
const chosen = choose(values.scenario).filter((one) => !one.previousWorkers || hasPreviousRelease);
const chosenStores = chooseStores(values.store);
const runs = chosen.flatMap((scenario) =>
  storesOf(scenario)
    .filter((store) => chosenStores.includes(store))
    .map((store) => ({ scenario, store })),
);
if (runs.length === 0) fail(`None of these scenarios runs on ${chosenStores.join(" or ")}`);
for (const program of ["redis-server", "redis-cli", "redis-check-aof"]) {
  if (!runs.some(({ store }) => store !== "embedded") || Bun.which(program) !== null) continue;
  fail(`${program} is missing (Debian: apt-get install redis-server); --store embedded needs none`);
}
const evidence =
  values.evidence === undefined ? mkdtempSync(join(tmpdir(), "chaos-")) : resolve(values.evidence);
const diskLibrary = chosen.some(needsDisk) ? build(buildDisk) : undefined;
const clockLibrary = chosen.some(needsClock) ? build(buildClock) : undefined;
const previousRelease = chosen.some(({ previousWorkers }) => previousWorkers) ? extractPrevious() : undefined;

const keeps = values.evidence === undefined ? "the evidence of failed runs" : "the evidence of every run";
print(`seed ${seed}; ${keeps} is in ${evidence}\n`);
print(tableHead);
const results: { scenario: string; store: Store; result: RunResult }[] = [];
for (const { scenario, store } of runs) {
  const folder = join(evidence, `${scenario.name}-${store}-${seed}`);
  if (existsSync(folder)) fail(`${folder} already exists: choose another --evidence or --seed`);
  const result = await run({
    scenario,
    store,
    seed,
    extent,
    rate: values.rate === undefined ? (scenario.rate ?? 300) : amount("rate", values.rate),
    folder,
    product: resolve(values.service),
    previousRelease,
    diskLibrary,
    clockLibrary,
    drainMs: 120_000,
    onProgress: ({ elapsedMs, acknowledged, kills, strikes }) => {
      if (!process.stderr.isTTY) return;
      const seconds = Math.round(elapsedMs / 1000);
      process.stderr.write(
        `\r${seconds} s: ${acknowledged} acknowledged, ${strikes} faults, ${kills} kills   `,
      );
    },
  });
  if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
  results.push({ scenario: scenario.name, store, result });
  if (values.verbose) {
    for await (const one of readJournal<StrikeRecord>(join(folder, "strikes.jsonl")))
      print(`  ${strikeLine(one)}`);
  }
  print(tableLine(`${scenario.name} (${store})`, result));
  for (const failure of result.failures) print(`  ${failure}`);
  if (!result.ok)
    print(`  again: npm run chaos -- --scenario ${scenario.name} --store ${store} --seed ${seed}`);
  if (!result.ok) print(`  evidence: ${folder}`);
  else if (values.evidence === undefined) rmSync(folder, { recursive: true, force: true });
}
print(`\n${legend}`);
const failed = results.filter(({ result }) => !result.ok);
print(
  failed.length === 0
    ? `\n${results.length === 1 ? "The run" : `All ${results.length} runs`} kept every promise.`
    : `\n${failed.length} of ${results.length} runs FAILED.`,
);
if (failed.length === 0 && values.evidence === undefined) rmSync(evidence, { recursive: true, force: true });
if (values.json) console.log(JSON.stringify(results, undefined, 2));
process.exit(failed.length === 0 ? 0 : 1);

function choose(names: string | undefined): readonly Scenario[] {
  if (names === undefined || names === "all") return scenarios;
  return names
    .split(",")
    .map(
      (name) =>
        scenarios.find((scenario) => scenario.name === name) ??
        fail(`unknown scenario ${name}: --list prints all of them`),
    );
}

function chooseStores(names: string | undefined): readonly Store[] {
  if (names === undefined) return stores;
  return names
    .split(",")
    .map(
      (name) => stores.find((store) => store === name) ?? fail(`--store must be one of ${stores.join(", ")}`),
    );
}

function build(library: (into: string) => string): string {
  try {
    return library(join(evidence, "library"));
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
}

function extractPrevious(): string {
  const folder = join(evidence, "previous-release");
  mkdirSync(folder, { recursive: true });
  extractPreviousRelease(folder);
  return folder;
}

function amount(option: string, text: string): number {
  const value = Number(text);
  return text !== "" && value >= 0 && Number.isFinite(value) ? value : fail(`--${option} must be a number`);
}

function count(option: string, text: string): number {
  const value = amount(option, text);
  return Number.isSafeInteger(value) ? value : fail(`--${option} must be a whole number`);
}

function fail(text: string): never {
  console.error(text);
  process.exit(2);
}
