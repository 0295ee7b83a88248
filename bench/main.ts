// The benchmarks: `npm run bench [-- submit|deliver|wake|backlog] [--json] [--seconds N] [--rounds N]
// [--emails N] [--backlog N]`.
//
// A machine is noisy, so that only ratios count, measured side by side in one run: the rounds of the contestants
// are interleaved, and medians are told.

import { parseArgs } from "node:util";
import { benchBacklog } from "./backlog.ts";
import { benchDeliver } from "./deliver.ts";
import { benchSubmit } from "./submit.ts";
import { type Table, toText } from "./table.ts";
import { benchWake } from "./wake.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "boolean", default: false },
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "4" },
    emails: { type: "string", default: "100000" },
    backlog: { type: "string", default: "1000000" },
  },
});

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
};
const names = positionals.length > 0 ? positionals : Object.keys(benches);
const tables: Table[] = [];
for (const name of names) {
  const bench = benches[name];
  if (bench === undefined) {
    console.error(`Unknown benchmark: ${name} (there are ${Object.keys(benches).join(", ")})`);
    process.exit(2);
  }
  const table = await bench();
  tables.push(table);
  if (!values.json) console.log(`${toText(table)}\n`);
}
if (values.json) console.log(JSON.stringify(tables, undefined, 2));
process.exit(0);
