// The command `config`: the settings as they hold, and whether what they lead to works.

import { readConfig } from "../../config/config.ts";
import type { SingleCommand } from "../command.ts";
import { readOptions } from "../command.ts";
import { complain, print, printJson } from "../output.ts";
import { type Column, tableOf } from "../table.ts";
import { terminalOf } from "../terminal.ts";
import { visible } from "../format.ts";
import type { Check } from "./checks.ts";
import { type EffectiveSetting, effectiveSettings } from "./effective_settings.ts";

export const configCommand: SingleCommand = {
  name: "config",
  summary: "the settings as they hold; --check tries what they lead to",
  help: [
    "Usage: reliable-email config [--check] [--json]",
    "",
    "Prints every setting as it holds, without secrets, and where it comes from: a",
    "default, the environment, or the file that NAME_FILE names. Warns of names in the",
    "environment that are probably a misspelled setting.",
    "",
    "Options:",
    "  --check  reaches the store, and looks whether it keeps what it acknowledges;",
    "           asks each provider whether the credential holds; looks at the sandbox's",
    "           folder. Sends nothing, creates and changes nothing. Exit code 1 if",
    "           something is not as it should be",
    "  --json   one object: `settings`, `warnings`, and with --check `ok` and the",
    "           list `checks`",
  ].join("\n"),
  async run(args) {
    const read = readOptions(args, {
      check: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    });
    if (!read.ok) return { kind: "wrongUsage", usageError: read.usageError };
    const known = readConfig(process.env, "server");
    if (!known.ok) {
      complain(known.message);
      return { kind: "exit", code: 2 };
    }
    const { check, json } = read.values;
    const effective = effectiveSettings(process.env, known);
    const terminal = terminalOf(process.env);
    for (const { setting, reason } of known.warnings) complain(`Warning: ${visible(setting)} ${reason}`);
    // What is known by now is there to read while others are asked.
    if (!json) print(tableOf(columns, effective, terminal).join("\n"));
    // Not loaded before it is needed: the stores and the SDKs come with it.
    const checks = check
      ? await (await import("./checks.ts")).checkAll(process.env, known.config)
      : ([] satisfies Check[]);
    const ok = checks.every((one) => one.ok);
    if (json) {
      const { warnings } = known;
      printJson({ settings: documentOf(effective), warnings, ...(check && { ok, checks }) });
    } else if (check) print(["", ...tableOf(checkColumns, checks, terminal)].join("\n"));
    return { kind: "exit", code: ok ? 0 : 1 };
  },
};

const columns: readonly Column<EffectiveSetting>[] = [
  { title: "SETTING", text: ({ name }) => name },
  { title: "VALUE", text: ({ value }) => (value === "" ? "off" : (value ?? "–")), elastic: true },
  { title: "FROM", text: ({ source, file }) => file ?? source, elastic: true },
];

const checkColumns: readonly Column<Check>[] = [
  {
    title: "",
    text: ({ ok }) => (ok ? "ok" : "failed"),
    style: ({ ok }) => (ok ? undefined : "red"),
  },
  { title: "CHECK", text: ({ name }) => name },
  { title: "", text: ({ detail }) => detail },
];

/** The documented form. */
function documentOf(effective: readonly EffectiveSetting[]) {
  return Object.fromEntries(effective.map(({ name, ...rest }) => [name, rest]));
}
