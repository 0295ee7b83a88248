// Both fakes in one process, for the quick start, the tests that kill processes, and the benchmarks. It is controlled over
// HTTP, under `/_fake/` on either port, and survives whatever its clients do.

import { openSync, writeSync } from "node:fs";
import { readOptions } from "../lib/cli/command.ts";
import type { Acceptance } from "./ledger.ts";
import type { PoisonedRequest } from "./poison.ts";
import { startFakePostmark } from "./postmark.ts";
import { startFakeResend } from "./resend.ts";

const usage = `Usage: bun fakes/main.ts [options]

Fakes of the APIs of Resend and Postmark. Prints their addresses as a line of JSON, then a line for each email.

  --resend-port N     default 0, any free port
  --postmark-port N   default 0, any free port
  --host ADDRESS      default 127.0.0.1
  --seed N            seed of the random numbers for faults with a probability, default 1
  --keep-envelopes    keep no bodies of emails and requests, for runs with millions of emails
  --journal FILE      append each accepted email, as a line of JSON
  --poisoned FILE     append each request that failed because of an email in it (see poison.ts), as a line of JSON
  --quiet             do not print emails

On either port: GET /_fake/acceptances?from=N, /_fake/requests?from=N, /_fake/stats, /_fake/settings;
POST /_fake/faults (a rule or an array of them), /_fake/settings, /_fake/clear, /_fake/down; DELETE /_fake/faults.`;

const read = readOptions(process.argv.slice(2), {
  "resend-port": { type: "string", default: "0" },
  "postmark-port": { type: "string", default: "0" },
  host: { type: "string", default: "127.0.0.1" },
  seed: { type: "string", default: "1" },
  "keep-envelopes": { type: "boolean", default: false },
  journal: { type: "string" },
  poisoned: { type: "string" },
  quiet: { type: "boolean", default: false },
  help: { type: "boolean", default: false },
});
if (!read.ok) {
  console.error(`${read.usageError}\n\n${usage}`);
  process.exit(2);
}
const { values } = read;

if (values.help) {
  console.log(usage);
  process.exit(0);
}

process.on("uncaughtException", (error) => console.error("fakes:", error));
process.on("unhandledRejection", (error) => console.error("fakes:", error));

const journal = values.journal === undefined ? undefined : openSync(values.journal, "a");
const poisoned = values.poisoned === undefined ? undefined : openSync(values.poisoned, "a");
const shared = {
  hostname: values.host,
  seed: Number(values.seed),
  keeping: values["keep-envelopes"] ? ("envelopes" as const) : ("all" as const),
  onAccept(acceptance: Acceptance) {
    if (journal !== undefined) writeSync(journal, `${JSON.stringify(acceptance)}\n`);
    if (!values.quiet) announce(acceptance);
  },
  onPoison(request: PoisonedRequest) {
    if (poisoned !== undefined) writeSync(poisoned, `${JSON.stringify(request)}\n`);
  },
};
const resend = listen("resend-port", (port) => startFakeResend({ ...shared, port }));
const postmark = listen("postmark-port", (port) => startFakePostmark({ ...shared, port }));

console.log(
  JSON.stringify({
    resend: resend.url,
    postmark: postmark.url,
    resendApiKey: resend.settings.apiKey,
    postmarkServerToken: postmark.settings.serverToken,
  }),
);

function listen<T>(option: "resend-port" | "postmark-port", start: (port: number) => T): T {
  try {
    return start(Number(values[option]));
  } catch {
    console.error(`Cannot start: --${option} ${values[option]} is in use or cannot be bound`);
    process.exit(1);
  }
}

function announce({ provider, from, to, subject, emailId }: Acceptance): void {
  console.log(`${provider} accepted ${emailId || "an email"}: ${from} -> ${to}: ${subject}`);
}
