// The benchmarks; see `usage`.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readOptions } from "../lib/cli/command.ts";
import { benchCosts } from "./costs.ts";
import { benchDeliver } from "./deliver.ts";
import { benchFailover } from "./failover.ts";
import { benchFiles } from "./files.ts";
import { benchFleet } from "./fleet/report.ts";
import { fullOptions } from "./fleet/scenario.ts";
import { benchGrowth } from "./growth.ts";
import { benchIdle } from "./idle.ts";
import { describeMachine } from "./machine.ts";
import { benchSoak } from "./soak.ts";
import { benchStartup } from "./startup.ts";
import { benchSubmit } from "./submit.ts";
import { type Table, toText } from "./table.ts";

const usage = `Usage: npm run bench -- [name...] [options]

Runs the named benchmarks, or all but soak, and prints a table for each.

  submit     submissions: the service, other designs, and what limits them
  deliver    a backlog drains, into a fast provider and into a slow one
  idle       how soon one email is answered and sent, and what idling costs
  files      the delay of small emails while ten large ones pass
  growth     submissions and deliveries while a backlog grows
  costs      CPU time, commands, bytes and fsyncs of an email over its life
  fleet      a simulated fleet of workers in an outage
  failover   how long submissions wait when the primary of Redis fails
  startup    how soon the compiled executable answers, and its memory
  soak       memory under a steady load; only if named

Options:
  --json             prints one document: the machine, the options, the tables
  --rounds N         rounds of submit, deliver, files, costs, failover and startup, 5 by default
  --seconds N        length of a measurement of submit and files, 4 by default; may be a fraction
  --connections LIST of submit, 1,32,128,512 by default
  --emails N         backlog of deliver, 100000 by default
  --samples N        emails of idle, 200 by default
  --backlogs LIST    of growth, 1000,100000,1000000,10000000 by default; on Redis at most 1000000
  --workers N        simulated workers of fleet, 100 by default
  --minutes N        length of soak, 10 by default; may be a fraction`;

const read = readOptions(
  process.argv.slice(2),
  {
    help: { type: "boolean", short: "h", default: false },
    json: { type: "boolean", default: false },
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "4" },
    connections: { type: "string", default: "1,32,128,512" },
    emails: { type: "string", default: "100000" },
    samples: { type: "string", default: "200" },
    backlogs: { type: "string", default: "1000,100000,1000000,10000000" },
    workers: { type: "string", default: "100" },
    minutes: { type: "string", default: "10" },
  },
  Number.POSITIVE_INFINITY,
);
if (!read.ok) refuse(read.usageError);
const { values, words } = read;
if (values.help) {
  console.log(usage);
  process.exit(0);
}

function refuse(message: string): never {
  console.error(`${message}\n\n${usage}`);
  process.exit(2);
}

/** The numbers of an option, all positive. */
function numbersOf(name: Exclude<keyof typeof values, "help" | "json">, isWhole = true): number[] {
  const numbers = values[name].split(",").map(Number);
  const isNumber = (value: number) => value > 0 && (!isWhole || Number.isSafeInteger(value));
  if (!numbers.every(isNumber)) refuse(`--${name}: "${values[name]}" is not a positive number`);
  return numbers;
}

const [rounds = 0] = numbersOf("rounds");
const [seconds = 0] = numbersOf("seconds", false);
const [emails = 0] = numbersOf("emails");
const [samples = 0] = numbersOf("samples");
const [simulated = 0] = numbersOf("workers");
const [minutes = 0] = numbersOf("minutes", false);
const connections = numbersOf("connections");
const backlogs = numbersOf("backlogs");

const benches: Readonly<Record<string, () => Promise<Table>>> = {
  submit: () => benchSubmit({ rounds, seconds, connections }),
  deliver: () => benchDeliver({ rounds, emails, delaysMs: [0, 50] }),
  idle: () => benchIdle({ samples, seconds: 2 * seconds }),
  files: () => benchFiles({ rounds, seconds }),
  growth: () => benchGrowth({ backlogs, emails: Math.ceil(emails / 5) }),
  costs: () => benchCosts({ rounds, seconds }),
  fleet: async () => benchFleet({ ...fullOptions, workers: simulated }),
  failover: () => benchFailover({ rounds }),
  startup: () => benchStartup({ rounds }),
  soak: () => benchSoak({ minutes }),
};
const names = words.length > 0 ? words : Object.keys(benches).filter((name) => name !== "soak");
const unknown = names.find((name) => benches[name] === undefined);
if (unknown !== undefined) refuse(`Unknown benchmark '${unknown}'`);

// Everything is below this folder, and removed even if the run is interrupted. Importing what starts processes has made
// sure that they are killed before.
const folder = mkdtempSync(join(tmpdir(), "reliable-email-bench-"));
process.env["TMPDIR"] = folder;
process.on("exit", () => rmSync(folder, { recursive: true, force: true, maxRetries: 10 }));
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1));

const tables: Table[] = [];
for (const name of names) {
  // On stderr, since --json prints nothing else before the end.
  if (names.length > 1) console.error(`${name} …`);
  const table = await benches[name]!();
  tables.push(table);
  if (!values.json) console.log(`${toText(table)}\n`);
}
const { help: _, json: __, ...options } = values;
if (values.json) console.log(JSON.stringify({ machine: describeMachine(), options, tables }, undefined, 2));
process.exit(0);
