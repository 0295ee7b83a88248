// The command `config`: every setting in effect, where it comes from, and whether store and providers work with it.

import { type Config, readConfig } from "../../config/config.ts";
import {
  defaultOf,
  settingKind,
  masked,
  secretNames,
  type SettingName,
  settingNames,
} from "../../config/settings.ts";
import { defineCommand, flag } from "../command.ts";
import { visible } from "../format.ts";
import { complain, Failure, print, printJson } from "../output.ts";
import { type Column, tableOf } from "../table.ts";
import { terminalOf } from "../terminal.ts";
import type { Check } from "./checks.ts";

export const configCommand = defineCommand({
  name: "config",
  summary: "prints the settings; --check tries the store and the providers",
  about:
    "Prints every setting in effect, without secrets, and its source: a default, the environment, or the file that NAME_FILE names. Warns about names in the environment that are probably misspelled settings.",
  options: {
    check: flag(
      "contacts the store, and checks whether it keeps what it acknowledges; asks each provider whether it accepts the credential; looks at the sandbox's folder. Sends, creates and changes nothing. Exits with 1 if a check fails",
    ),
    json: flag("prints one object: `settings`, `warnings`, and with --check `ok` and the list `checks`"),
  },
  async run({ check, json }) {
    const read = readConfig(process.env, "server");
    if (!read.ok) throw new Failure(read.message, 2);
    const { warnings } = read;
    const settings = effectiveSettings(process.env, read);
    const terminal = terminalOf(process.env);
    for (const { setting, reason } of warnings) complain(`Warning: ${visible(setting)} ${reason}`);
    // The settings can be read while the checks take their time.
    if (!json) print(tableOf(columns, settings, terminal).join("\n"));
    // Loaded only when needed: the stores come with it.
    const checks = check ? await (await import("./checks.ts")).checkAll(process.env, read.config) : [];
    const ok = checks.every((one) => one.ok);
    if (json) {
      const document = Object.fromEntries(settings.map(({ name, ...rest }) => [name, rest]));
      printJson({ settings: document, warnings, ...(check && { ok, checks }) });
    } else if (check) print(["", ...tableOf(checkColumns, checks, terminal)].join("\n"));
    return ok ? 0 : 1;
  },
});

interface EffectiveSetting {
  readonly name: SettingName;
  /** As text, masked; undefined if there is none. */
  readonly value: string | undefined;
  readonly source: "default" | "environment" | "file";
  readonly file: string | undefined;
}

type Environment = Readonly<Record<string, string | undefined>>;

function effectiveSettings(
  env: Environment,
  { config, given }: { readonly config: Config; readonly given: Readonly<Record<string, string>> },
): EffectiveSetting[] {
  /** Values that differ from the text, or have a default that depends on other settings. */
  const computed: { readonly [name in SettingName]?: string | undefined } = {
    DATA_DIR: config.dataDir,
    REDIS_PARTITIONS: config.queue.kind === "redis" ? String(config.queue.partitions) : undefined,
    PROVIDERS: config.providers.map(({ name, weight }) => `${name}:${weight}`).join(",") || undefined,
  };
  return settingNames.map((name) => {
    const file = secretNames.includes(name) ? env[`${name}_FILE`] || undefined : undefined;
    const text = given[name];
    const value = computed[name] ?? text ?? defaultOf(name);
    return {
      name,
      value: value === undefined ? undefined : masked(settingKind(name), value),
      source: file !== undefined ? "file" : text !== undefined ? "environment" : "default",
      file,
    };
  });
}

const columns: readonly Column<EffectiveSetting>[] = [
  ["SETTING", ({ name }) => name],
  ["VALUE", ({ value }) => (value === "" ? "off" : (value ?? "–"))],
  ["FROM", ({ source, file }) => file ?? source],
];

const checkColumns: readonly Column<Check>[] = [
  ["", ({ ok }) => (ok ? "ok" : "failed"), ({ ok }) => (ok ? undefined : "red")],
  ["CHECK", ({ name }) => name],
  ["", ({ detail }) => detail],
];
