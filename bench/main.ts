// The benchmarks; see `usage`.
//
// Machines are noisy, so only ratios within one run count: rounds of the contestants are interleaved, and medians are
// reported.

import { readOptions } from "../lib/cli/command.ts";
import { benchBacklog } from "./backlog.ts";
import { benchCosts } from "./costs.ts";
import { benchDeliver } from "./deliver.ts";
import { benchFleet } from "./fleet/report.ts";
import { fullOptions } from "./fleet/scenario.ts";
import { benchSubmit } from "./submit.ts";
import { type Table, toText } from "./table.ts";
import { benchWake } from "./wake.ts";

const usage = `Usage: npm run bench -- [submit] [deliver] [wake] [backlog] [costs] [fleet] [options]

Runs the named benchmarks, or all of them, and prints a table for each.

Options:
  --json       prints one array of all tables
  --rounds N   rounds of submit, deliver and costs, 5 by default
  --seconds N  length of a round of submit and costs, 4 by default
  --emails N   emails sent by deliver, 100000 by default
  --backlog N  emails in the larger backlog, 1000000 by default
  --workers N  simulated workers of fleet, 100 by default`;

const read = readOptions(
  process.argv.slice(2),
  {
    help: { type: "boolean", short: "h", default: false },
    json: { type: "boolean", default: false },
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "4" },
    emails: { type: "string", default: "100000" },
    backlog: { type: "string", default: "1000000" },
    workers: { type: "string", default: "100" },
  },
  Number.POSITIVE_INFINITY,
);
if (!read.ok) {
  console.error(`${read.usageError}\n\n${usage}`);
  process.exit(2);
}
const { values, words } = read;
if (values.help) {
  console.log(usage);
  process.exit(0);
}

const options = {
  rounds: Number(values.rounds),
  seconds: Number(values.seconds),
  emails: Number(values.emails),
  backlog: Number(values.backlog),
};
const benches: Record<string, () => Promise<Table>> = {
  submit: () => benchSubmit(options),
  deliver: () => benchDeliver(options),
  wake: benchWake,
  backlog: () => benchBacklog(options),
  costs: () => benchCosts(options),
  fleet: async () => benchFleet({ ...fullOptions, workers: Number(values.workers) }),
};
const names = words.length > 0 ? words : Object.keys(benches);
const tables: Table[] = [];
for (const name of names) {
  const bench = benches[name];
  if (bench === undefined) {
    console.error(`unknown benchmark ${name}: choose from ${Object.keys(benches).join(", ")}`);
    process.exit(2);
  }
  const table = await bench();
  tables.push(table);
  if (!values.json) console.log(`${toText(table)}\n`);
}
if (values.json) console.log(JSON.stringify(tables, undefined, 2));
process.exit(0);
