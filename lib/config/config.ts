// The configuration, read once at startup from the environment; every error is reported in one message. Nothing else
// reads the environment. No message shows a value that may be secret.

import { readFileSync } from "node:fs";
import * as v from "valibot";
import { type ProviderName, providerNames, registry } from "../providers/registry.ts";
import type { QueueSettings } from "../queue/open.ts";
import { errorCode } from "../runtime/errors.ts";
import { withoutSecrets } from "../runtime/log.ts";
import type { ProviderWeight } from "./setting_kinds.ts";
import { defaultOf, masked, nameInCode, partitionsOf, type Role, rules } from "./settings.ts";
import { secretNames, secretPartsOf, settingKind, type SettingName, settingNames } from "./settings.ts";
import type { Values } from "./settings.ts";

export { credentialNames, type Role } from "./settings.ts";

/** The value of every setting, and what follows from several of them. */
export interface Config extends Omit<Values, "providers"> {
  /** Absent if the admin port is off. */
  readonly admin?: { readonly host: string; readonly port: number };
  readonly queue: QueueSettings;
  /** Every provider that can be used, in the order of `PROVIDERS`. */
  readonly providers: readonly ProviderWeight[];
  /** A second signal within this time after the first counts as the same. */
  readonly signalRepeatMs: number;
  /** Texts that must never be printed: tokens, credentials, and the password in `REDIS_URL`. */
  readonly secrets: readonly string[];
}

/** A setting that is valid, but probably not what was intended. */
export interface ConfigWarning {
  /** The name of a setting, or a name that looks like one. */
  readonly setting: string;
  readonly reason: string;
}

export type ConfigResult =
  | {
      readonly ok: true;
      readonly config: Config;
      /** The values as text, also those from files, with secrets. */
      readonly given: Readonly<Record<string, string>>;
      readonly warnings: readonly ConfigWarning[];
    }
  /** Every configuration error, one a line. The process should exit with 2. */
  | { readonly ok: false; readonly message: string };

type Environment = Readonly<Record<string, string | undefined>>;

const shownMax = 100;

/** Reads the settings from an environment, and from the files that `NAME_FILE` names. Never throws. */
export function readConfig(env: Environment, role: Role): ConfigResult {
  const reader = new ConfigReader(env, role);
  const values = reader.read();
  if (reader.errors.length > 0) {
    return { ok: false, message: reader.errors.map((error) => `Cannot start: ${error}`).join("\n") };
  }
  const { given } = reader;
  const config: Config = {
    ...values,
    ...adminOf(values),
    queue: queueOf(values),
    providers: weigh(values.providers, given),
    // npm forwards a signal that the terminal has sent already, and a busy machine may delay it.
    signalRepeatMs: given["npm_lifecycle_event"] === undefined ? 200 : 1000,
    secrets: secretPartsOf(given),
  };
  return { ok: true, config, given, warnings: warningsAbout(env, given) };
}

class ConfigReader {
  readonly errors: string[] = [];
  /** The variables of the environment that count. */
  readonly given: Record<string, string> = {};
  readonly #role: Role;
  /** Settings without a known value. */
  readonly #unreadable = new Set<SettingName>();

  constructor(env: Environment, role: Role) {
    this.#role = role;
    for (const [name, text] of Object.entries(env)) {
      const isSet = text !== "" || settingNames.some((one) => one === name && settingKind(one).emptyIsOff);
      if (text !== undefined && isSet) this.given[name] = text;
    }
  }

  /** Reads every setting. If there are errors, the values are incomplete. */
  read(): Values {
    for (const name of secretNames) this.#readFile(name);
    const entries = settingNames.map((name) => [nameInCode(name), this.#readValue(name)]);
    const values = Object.fromEntries(entries) as Values;
    for (const { names, role, holds, message } of rules) {
      const applies = role === undefined || role === this.#role;
      if (!applies || names.some((name) => this.#unreadable.has(name)) || holds(values, this.given)) continue;
      this.#report(names[0], typeof message === "string" ? message : message(values));
    }
    return values;
  }

  #readFile(name: SettingName): void {
    const path = this.given[`${name}_FILE`];
    if (path === undefined) return;
    const error = this.given[name] === undefined ? undefined : `${name} and ${name}_FILE are both given`;
    try {
      const text = error === undefined ? readFileSync(path, "utf8").trimEnd() : "";
      if (text !== "") this.given[name] = text;
      else this.#fail(name, error ?? `${name}_FILE names an empty file`);
    } catch (cause) {
      const code = errorCode(cause);
      const hint = isQuoted(path) ? ": its name is wrapped in quotes" : "";
      this.#fail(name, `${name}_FILE names a file that cannot be read (${code ?? "unknown error"})${hint}`);
    }
  }

  #readValue(name: SettingName): unknown {
    const text = this.given[name] ?? defaultOf(name, this.#role);
    if (text === undefined || this.#unreadable.has(name)) return undefined;
    const { schema, mayBeQuoted } = settingKind(name);
    if (isQuoted(text) && !mayBeQuoted) {
      this.#report(name, "is wrapped in quotes: remove them");
      this.#unreadable.add(name);
      return undefined;
    }
    const { issues = [], output } = v.safeParse(schema, text);
    for (const { type, message } of issues) {
      this.#report(name, message);
      // A value beyond a limit can still be compared with others.
      if (type !== "min_value" && type !== "max_value") this.#unreadable.add(name);
    }
    return output;
  }

  #fail(name: SettingName, error: string): void {
    this.errors.push(error);
    this.#unreadable.add(name);
  }

  #report(name: SettingName, message: string): void {
    this.errors.push(`${name}${this.#shown(name)} ${message}`);
  }

  /** The value for a message; nothing of a secret. */
  #shown(name: SettingName): string {
    const text = this.given[name] ?? defaultOf(name, this.#role);
    if (text === undefined || secretNames.includes(name)) return "";
    // A secret may have been given to the wrong setting.
    const shown = withoutSecrets(masked(settingKind(name), text), secretPartsOf(this.given));
    return ` ${JSON.stringify(shown.length > shownMax ? `${shown.slice(0, shownMax)}…` : shown)}`;
  }
}

/** Docker's `--env-file` keeps quotes as part of the value. */
function isQuoted(text: string): boolean {
  return /^(["']).*\1$/s.test(text) && text.length > 1;
}

function warningsAbout(env: Environment, given: Readonly<Record<string, string>>): ConfigWarning[] {
  const partitions = Number(given["REDIS_PARTITIONS"] ?? 1);
  const many = "makes batches small and delivery slow: more than 8 partitions are rarely useful";
  const quoted = settingNames.filter((name) => settingKind(name).mayBeQuoted && isQuoted(given[name] ?? ""));
  return [
    ...misspelled(Object.keys(env)),
    ...(partitions > 8 ? [{ setting: "REDIS_PARTITIONS", reason: many }] : []),
    ...quoted.map((name) => ({ setting: name, reason: "is wrapped in quotes, which are part of the value" })),
  ];
}

/** Returns the providers that `PROVIDERS` names, then the others that have a credential: weight 0, or 1 without names. */
function weigh(
  named: readonly ProviderWeight[] | undefined,
  given: Readonly<Record<string, string>>,
): ProviderWeight[] {
  const isNamed = (name: ProviderName) => named?.some((one) => one.name === name) === true;
  const weight = named === undefined ? 1 : 0;
  const others = providerNames.filter((name) => !isNamed(name)).map((name) => ({ name, weight }));
  return [...(named ?? []), ...others].filter(({ name }) => {
    const { credential } = registry[name];
    return credential === undefined ? isNamed(name) : credential in given;
  });
}

function adminOf({ adminHost: host, adminPort: port }: Values): Pick<Config, "admin"> {
  return host === "" || port === "" ? {} : { admin: { host, port } };
}

function queueOf(values: Values): QueueSettings {
  if (values.redisUrl === undefined) return { kind: "sqlite", folder: values.dataDir };
  return {
    kind: "redis",
    url: values.redisUrl,
    prefix: values.redisPrefix,
    partitions: partitionsOf(values),
    minReplicas: values.redisMinReplicas,
    durability: values.redisDurability,
  };
}

/** Finds names that are close to a setting's: an environment is full of other programs' names. */
function misspelled(names: readonly string[]): ConfigWarning[] {
  const known = [...settingNames, ...secretNames.map((name) => `${name}_FILE`)];
  return names.flatMap((name) => {
    if (known.includes(name)) return [];
    const upper = name.toUpperCase();
    const intended = known.find((one) => isClose(upper, one)) ?? findLonger(name, known);
    return intended === undefined
      ? []
      : [{ setting: name, reason: `is not a setting: did you mean ${intended}?` }];
  });
}

function isClose(name: string, known: string): boolean {
  // A name of four letters is one letter away from other words (HOST, POST); twelve letters have room for two errors.
  if (known.length <= 4) return false;
  return isWithin(known.length >= 12 ? 2 : 1, name, known);
}

/** Finds the name that has more words between the first and the last: RESEND_API_KEY for RESEND_KEY. */
function findLonger(name: string, known: readonly string[]): string | undefined {
  const [first, last] = [name.slice(0, name.indexOf("_") + 1), name.slice(name.lastIndexOf("_"))];
  const similar = known.filter((one) => one.startsWith(first) && one.endsWith(last));
  if (similar.length === 0 || !/^[A-Z]+(_[A-Z]+)+$/.test(name.replace(/_FILE$/, ""))) return undefined;
  const pattern = new RegExp(`^${name.replaceAll("_", "_(?:[A-Z]+_)*")}$`);
  return similar.find((one) => pattern.test(one));
}

/**
 * Whether at most `edits` letters must be inserted, deleted, replaced or swapped with their neighbor to turn `a` into
 * `b`: the optimal string alignment distance, after Damerau, "A technique for computer detection and correction of
 * spelling errors" (CACM, 1964).
 */
function isWithin(edits: number, a: string, b: string): boolean {
  if (edits === 0 || a === b) return a === b;
  if (Math.abs(a.length - b.length) > edits) return false;
  // An edit adds at most one letter: most names differ by more, and all edits need not be tried.
  let missing = 0;
  for (let i = 0; i < b.length; i++) if (!a.includes(b[i]!)) missing += 1;
  if (missing > edits) return false;
  let same = 0;
  while (same < a.length && a[same] === b[same]) same++;
  const [x, y] = [a.slice(same), b.slice(same)];
  const [restOfX, restOfY] = [x.slice(1), y.slice(1)];
  return (
    isWithin(edits - 1, restOfX, restOfY) ||
    isWithin(edits - 1, restOfX, y) ||
    isWithin(edits - 1, x, restOfY) ||
    (x[0] === y[1] && x[1] === y[0] && isWithin(edits - 1, x.slice(2), y.slice(2)))
  );
}
