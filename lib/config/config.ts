// The configuration: read once at start from the environment, every mistake reported together. Nothing else reads
// the environment. No message ever holds a value that may be secret.

import { errorCode } from "../runtime/errors.ts";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import * as v from "valibot";
import { type Log, type LogLevel, withoutSecrets } from "../runtime/log.ts";
import { misspelledSettings } from "./misspelling.ts";
import { providerNames, type ProviderName } from "../providers/provider.ts";
import { noFaults, type SandboxFaults } from "../providers/sandbox/faults.ts";
import type { QueueSettings } from "../queue/open.ts";
import type { ProviderWeight } from "./parsers.ts";
import {
  defaultOf,
  emptyIsOff,
  masked,
  mayBeQuoted,
  errorsAcross,
  secretNames,
  secretPartsOf,
  settingNames,
  type SettingName,
  settings,
  type Settings,
} from "./settings.ts";

export type { ProviderWeight } from "./parsers.ts";

/** What a process is going to do with its settings: only a worker needs a provider that it can use. */
export type Role = "server" | "worker";

export interface Config {
  readonly host: string;
  /** 0–65535; 0 takes any free port. */
  readonly port: number;
  /** Without it there is no admin port. */
  readonly admin?: { readonly host: string; readonly port: number };
  /** Without them everyone may submit. */
  readonly apiTokens?: readonly string[];
  /** Addresses and `@domains`; without them every sender is allowed. */
  readonly allowedFrom?: readonly string[];
  readonly defaultFrom?: string;
  /** The name of `defaultFrom`, and of no other sender. */
  readonly defaultFromName?: string;
  readonly maxBodyBytes: number;
  readonly submitTimeoutMs: number;
  readonly queue: QueueSettings;
  /** Every provider that can be used, in the order of `PROVIDERS`. */
  readonly providers: readonly ProviderWeight[];
  readonly resend?: { readonly apiKey: string; readonly baseUrl?: string };
  readonly postmark?: {
    readonly serverToken: string;
    readonly baseUrl?: string;
    readonly messageStream: string;
    readonly searchWaitMs: number;
  };
  /** Present exactly when `PROVIDERS` names it. */
  readonly sandbox?: { readonly outbox: string; readonly faults: SandboxFaults };
  readonly providerTimeoutMs: number;
  /** How long a batch is kept for certainty after its first request, before it is sent again: at most 23 h. */
  readonly doubtTimeoutMs: number;
  /** Since a batch's first request; after that, a batch in doubt may be split (at most 23 h, which means never). */
  readonly doubtSplitAfterMs: number;
  /** Provider requests in flight. */
  readonly concurrency: number;
  readonly retryBaseMs: number;
  readonly retryMaxMs: number;
  readonly giveUpAfterMs: number;
  readonly leaseMs: number;
  readonly retainMs: number;
  readonly shutdownTimeoutMs: number;
  /** How long after a first signal to stop a second one is taken for the same. */
  readonly signalRepeatMs: number;
  readonly logLevel: LogLevel;
  /** What must never be printed: tokens, credentials, and the password in `REDIS_URL`. */
  readonly secrets: readonly string[];
}

/** What is allowed, but may be a mistake. */
export interface ConfigWarning {
  /** The name of a setting, or of what may be meant for one. */
  readonly setting: string;
  readonly reason: string;
}

export type ConfigResult =
  | {
      readonly ok: true;
      readonly config: Config;
      /** The values as written, also those out of files: secrets are among them. */
      readonly given: Readonly<Record<string, string>>;
      readonly warnings: readonly ConfigWarning[];
    }
  /** Every mistake, one a line. The process should exit with 2. */
  | { readonly ok: false; readonly message: string };

const credentialOf = {
  resend: "RESEND_API_KEY",
  postmark: "POSTMARK_SERVER_TOKEN",
} as const satisfies Record<Exclude<ProviderName, "sandbox">, keyof Settings>;
/** The settings that let somebody send for real. */
export const credentialNames = Object.values(credentialOf);

/** Of each kind of process, so that one of both can run on a machine without a word. */
export const adminPorts = { server: 3001, worker: 3002 } as const satisfies Record<Role, number>;
const portNames = ["HOST", "PORT", "ADMIN_HOST", "ADMIN_PORT"];

/**
 * Reads the settings out of an environment, and the files that `NAME_FILE` names. An empty value is as good as
 * none, but for those that say by it that something is not wanted. Never throws.
 */
export function readConfig(env: Readonly<Record<string, string | undefined>>, role: Role): ConfigResult {
  const faults: string[] = [];
  const given = withoutEmpty(env);
  /** Their value is not known. */
  const unreadable = readSecretFiles(given, faults);
  const about = (name: SettingName, message: string) =>
    faults.push(`${name}${shown(name, given)} ${message}`);
  for (const name of settingNames) {
    if (unreadable.has(name) || mayBeQuoted(name) || !isQuoted(given[name])) continue;
    about(name, "is wrapped in quotes: remove them");
    unreadable.add(name);
  }
  const wrong = new Set(unreadable);

  const parsed = v.safeParse(settings, given);
  for (const issue of parsed.issues ?? []) {
    const name = issue.path?.[0]?.key as SettingName;
    if (!unreadable.has(name)) about(name, issue.message);
    // A value beyond a limit can be compared with others all the same.
    if (issue.type !== "min_value" && issue.type !== "max_value") unreadable.add(name);
    wrong.add(name);
  }
  // What is right in itself has been transformed, whatever else is wrong.
  const values = parsed.output as Settings;
  for (const { name, message } of errorsAcross(values, (one) => !unreadable.has(one))) {
    about(name, message);
    wrong.add(name);
  }
  const providers = wrong.has("PROVIDERS") ? [] : weigh(values);
  const looksForProviders = !["PROVIDERS", ...credentialNames].some((name) => wrong.has(name));
  if (role === "worker" && looksForProviders) faults.push(...providerMistakes(values, providers));
  const looksForPorts = !portNames.some((name) => wrong.has(name));
  if (role === "server" && looksForPorts) faults.push(...portMistakes(values));

  if (faults.length === 0) {
    const config = toConfig(values, providers, role, given);
    return { ok: true, config, given, warnings: warningsAbout(env, given) };
  }
  return { ok: false, message: faults.map((fault) => `Cannot start: ${fault}`).join("\n") };
}

function withoutEmpty(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const given: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    if (value === undefined || (value === "" && !emptyIsOff(name))) continue;
    given[name] = value;
  }
  return given;
}

/** Of a value in a message, UTF-16 units. */
const shownMax = 100;

/** The value that a message is about; nothing of a secret. */
function shown(name: SettingName, given: Readonly<Record<string, string>>): string {
  const value = given[name] ?? defaultOf(name);
  if (value === undefined || secretNames.includes(name)) return "";
  // A secret may stand where it does not belong.
  const text = withoutSecrets(masked(name, value), secretPartsOf(given));
  return ` ${JSON.stringify(text.length > shownMax ? `${text.slice(0, shownMax)}…` : text)}`;
}

/** As by docker's `--env-file`, which takes quotes for part of the value. */
function isQuoted(text = ""): boolean {
  return /^(["']).*\1$/s.test(text) && text.length > 1;
}

/** Puts the files' contents under the secrets' own names. Returns the names that could not be read so. */
function readSecretFiles(given: Record<string, string>, faults: string[]): Set<string> {
  const unreadable = new Set<string>();
  for (const name of secretNames) {
    const path = given[`${name}_FILE`];
    if (path === undefined) continue;
    if (given[name] !== undefined) {
      faults.push(`${name} and ${name}_FILE are both given`);
      unreadable.add(name);
      continue;
    }
    try {
      const value = readFileSync(path, "utf8").trimEnd();
      if (value !== "") {
        given[name] = value;
        continue;
      }
      faults.push(`${name}_FILE names an empty file`);
    } catch (error) {
      const code = errorCode(error);
      const hint = isQuoted(path) ? ": its name is wrapped in quotes" : "";
      faults.push(
        `${name}_FILE names a file that cannot be read${code === undefined ? "" : ` (${code})`}${hint}`,
      );
    }
    unreadable.add(name);
    // No secret may be so: what depends on it is then not taken for wrong as well.
    given[name] = "\0";
  }
  return unreadable;
}

function warningsAbout(
  env: Readonly<Record<string, string | undefined>>,
  given: Readonly<Record<string, string>>,
): ConfigWarning[] {
  const quoted = settingNames.filter((name) => mayBeQuoted(name) && isQuoted(given[name]));
  return [
    ...misspelledSettings(Object.keys(env)).map(({ name, meant }) => ({
      setting: name,
      reason: `is not a setting: is ${meant} meant?`,
    })),
    ...quoted.map((name) => ({ setting: name, reason: "is wrapped in quotes, which are part of the value" })),
  ];
}

/** Says of each process what its settings may not mean. */
export function logWarnings(log: Log, warnings: readonly ConfigWarning[]): void {
  for (const { setting, reason } of warnings) log.warn("setting-suspicious", { setting, reason });
}

/** With its credential. The sandbox has none: it is there for whoever names it, and for nobody else. */
function isUsable(values: Settings, name: ProviderName): boolean {
  if (name === "sandbox") return values.PROVIDERS?.some((named) => named.name === name) ?? false;
  return values[credentialOf[name]] !== undefined;
}

/** Those named, then those that could be: of equal weight when none was named, else of weight 0. */
function weigh(values: Settings): ProviderWeight[] {
  const named = values.PROVIDERS ?? [];
  const others = providerNames.filter(
    (name) => isUsable(values, name) && !named.some((other) => other.name === name),
  );
  const weight = values.PROVIDERS === undefined ? 1 : 0;
  return [...named, ...others.map((name) => ({ name, weight }))];
}

function providerMistakes(values: Settings, providers: readonly ProviderWeight[]): string[] {
  if (!providers.some(({ weight }) => weight > 0)) {
    return values.PROVIDERS === undefined
      ? [
          "RESEND_API_KEY or POSTMARK_SERVER_TOKEN is required: there is no provider to send by; to try it without one, set PROVIDERS=sandbox",
        ]
      : ["PROVIDERS names none with a weight above 0: there is no provider to send by"];
  }
  return providers.flatMap(({ name, weight }) => {
    if (name === "sandbox" || weight === 0 || isUsable(values, name)) return [];
    return [`${credentialOf[name]} is required: PROVIDERS names ${name}`];
  });
}

/** The admin port of a process, if it is wanted: each kind has one of its own. */
function toAdmin(values: Settings, role: Role): Pick<Config, "admin"> {
  const { ADMIN_HOST, ADMIN_PORT = adminPorts[role] } = values;
  if (ADMIN_HOST === "" || ADMIN_PORT === "none") return {};
  return { admin: { host: withoutBrackets(ADMIN_HOST), port: ADMIN_PORT } };
}

/** As an IPv6 address stands in a URL, and not where a socket is opened. */
function withoutBrackets(host: string): string {
  return host.replace(/^\[(.*)\]$/, "$1");
}

/** On another host it may be the same. */
function portMistakes(values: Settings): string[] {
  const { admin } = toAdmin(values, "server");
  const isSame = admin?.port === values.PORT && admin.host === withoutBrackets(values.HOST);
  return isSame && admin.port !== 0 ? [`ADMIN_PORT ${admin.port} is the same as PORT`] : [];
}

function toConfig(
  values: Settings,
  providers: readonly ProviderWeight[],
  role: Role,
  given: Readonly<Record<string, string>>,
): Config {
  const dataDir = resolve(values.DATA_DIR);
  return {
    host: withoutBrackets(values.HOST),
    port: values.PORT,
    ...toAdmin(values, role),
    ...(values.API_TOKENS !== undefined && { apiTokens: values.API_TOKENS }),
    ...(values.ALLOWED_FROM !== undefined && { allowedFrom: values.ALLOWED_FROM }),
    ...(values.DEFAULT_FROM !== undefined && { defaultFrom: values.DEFAULT_FROM }),
    ...(values.DEFAULT_FROM_NAME && { defaultFromName: values.DEFAULT_FROM_NAME }),
    maxBodyBytes: values.MAX_BODY_BYTES,
    submitTimeoutMs: values.SUBMIT_TIMEOUT,
    queue:
      values.REDIS_URL === undefined
        ? { kind: "sqlite", folder: dataDir }
        : {
            kind: "redis",
            url: values.REDIS_URL,
            prefix: values.REDIS_PREFIX,
            minReplicas: values.REDIS_MIN_REPLICAS,
            durability: values.REDIS_DURABILITY,
          },
    providers: providers.filter(({ name }) => isUsable(values, name)),
    ...(values.RESEND_API_KEY !== undefined && {
      resend: {
        apiKey: values.RESEND_API_KEY,
        ...(values.RESEND_BASE_URL !== undefined && { baseUrl: values.RESEND_BASE_URL }),
      },
    }),
    ...(values.POSTMARK_SERVER_TOKEN !== undefined && {
      postmark: {
        serverToken: values.POSTMARK_SERVER_TOKEN,
        ...(values.POSTMARK_BASE_URL !== undefined && { baseUrl: values.POSTMARK_BASE_URL }),
        messageStream: values.POSTMARK_MESSAGE_STREAM,
        searchWaitMs: values.POSTMARK_SEARCH_WAIT,
      },
    }),
    ...(isUsable(values, "sandbox") && {
      sandbox: { outbox: join(dataDir, "outbox"), faults: values.SANDBOX_FAULTS ?? noFaults },
    }),
    providerTimeoutMs: values.PROVIDER_TIMEOUT,
    doubtTimeoutMs: values.DOUBT_TIMEOUT,
    doubtSplitAfterMs: values.DOUBT_SPLIT_AFTER,
    concurrency: values.CONCURRENCY,
    retryBaseMs: values.RETRY_BASE,
    retryMaxMs: values.RETRY_MAX,
    giveUpAfterMs: values.GIVE_UP_AFTER,
    leaseMs: values.LEASE,
    retainMs: values.RETAIN,
    shutdownTimeoutMs: values.SHUTDOWN_TIMEOUT,
    // npm passes on what it got itself, which a busy machine may delay.
    signalRepeatMs: given["npm_lifecycle_event"] === undefined ? 200 : 1000,
    logLevel: values.LOG_LEVEL,
    secrets: secretPartsOf(given),
  };
}
