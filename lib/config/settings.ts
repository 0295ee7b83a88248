// The settings, one row each: kind and default. Parsing, the types and names in `Config`, the command `config`, masking
// and the checks of docs/configuration.md derive from these rows. Then the rules that concern several settings.

import type * as v from "valibot";
import { formatMailbox, isAmong, mailboxMax } from "../email/address.ts";
import { filesBytesMax } from "../email/size.ts";
import { logLevels } from "../runtime/log.ts";
import { providerNames, registry } from "../providers/registry.ts";
import * as kinds from "./setting_kinds.ts";

/** The process that uses the settings: only a worker needs a provider. */
export type Role = "server" | "worker";

interface Setting {
  readonly kind: kinds.Kind;
  /** As text, and for each role if that matters. */
  readonly default?: string | Readonly<Record<Role, string>>;
}

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const tenYearsMs = 3650 * dayMs;
// Resend forgets an idempotency key after 24 h; an hour less leaves time for requests in flight.
const doubtMaxMs = 23 * hourMs;

const { duration, integer } = kinds;
const streamPattern = /^[\w.-]{1,100}$/;
// Braces would move the hash tag that holds a queue's keys together.
const prefixPattern = /^[\w.:/-]{1,100}$/;
const prefixError = "is not 1 to 100 of letters, digits and _ . : / -";

export const settings = {
  HOST: { kind: kinds.host, default: "127.0.0.1" },
  PORT: { kind: integer(0, 65_535), default: "3000" },
  ADMIN_HOST: { kind: kinds.orOff(kinds.host), default: "127.0.0.1" },
  ADMIN_PORT: { kind: kinds.orOff(integer(0, 65_535)), default: { server: "3001", worker: "3002" } },
  // The web client, for development: clients/web.
  WEB_PORT: { kind: kinds.orOff(integer(0, 65_535)), default: "3003" },
  ALLOW_ANONYMOUS: { kind: kinds.choice("0", "1"), default: "0" },
  API_TOKENS: { kind: kinds.tokens },
  ALLOWED_FROM: { kind: kinds.addressesAndDomains },
  DEFAULT_FROM: { kind: kinds.address },
  DEFAULT_FROM_NAME: { kind: kinds.displayName },
  // Providers accept 10 MB. The form or JSON of such an email may be longer.
  MAX_BODY_BYTES: { kind: integer(1, 33_554_432), default: "16777216" },
  MAX_ATTACHMENT_BACKLOG: { kind: kinds.size, default: "1GiB" },
  SUBMIT_TIMEOUT: { kind: duration(120_000), default: "10s" },
  REDIS_URL: { kind: kinds.redisUrl },
  REDIS_PREFIX: { kind: kinds.textLike(prefixPattern, prefixError), default: "reliable-email" },
  // The default depends on REDIS_URL.
  REDIS_PARTITIONS: { kind: integer(1, 64) },
  REDIS_MIN_REPLICAS: { kind: integer(0, 100), default: "0" },
  REDIS_DURABILITY: { kind: kinds.choice("verify", "trust"), default: "verify" },
  DATA_DIR: { kind: kinds.folder, default: "./data" },
  PROVIDERS: { kind: kinds.providerWeights },
  RESEND_API_KEY: { kind: kinds.credential },
  RESEND_BASE_URL: { kind: kinds.baseUrl },
  POSTMARK_SERVER_TOKEN: { kind: kinds.credential },
  POSTMARK_BASE_URL: { kind: kinds.baseUrl },
  POSTMARK_MESSAGE_STREAM: {
    kind: kinds.textLike(streamPattern, "is not a message stream's id"),
    default: "outbound",
  },
  POSTMARK_SEARCH_WAIT: { kind: duration(), default: "60s" },
  SANDBOX_FAULTS: { kind: kinds.sandboxFaults },
  PROVIDER_TIMEOUT: { kind: duration(), default: "15s" },
  DOUBT_TIMEOUT: { kind: duration(doubtMaxMs), default: "23h" },
  DOUBT_SPLIT_AFTER: { kind: duration(doubtMaxMs), default: "2m" },
  CONCURRENCY: { kind: integer(1, 1000), default: "8" },
  RETRY_BASE: { kind: duration(), default: "1s" },
  RETRY_MAX: { kind: duration(dayMs), default: "1h" },
  GIVE_UP_AFTER: { kind: duration(tenYearsMs), default: "72h" },
  // A dead worker's batches are claimed when their lease has expired, which must be long before their doubt ends.
  LEASE: { kind: duration(hourMs), default: "60s" },
  RETAIN: { kind: duration(tenYearsMs), default: "24h" },
  SHUTDOWN_TIMEOUT: { kind: duration(), default: "25s" },
  LOG_LEVEL: { kind: kinds.choice(...logLevels), default: "info" },
} as const satisfies Record<string, Setting>;

type Rows = typeof settings;
export type SettingName = keyof Rows;

type ValueOf<Name extends SettingName> =
  | v.InferOutput<Rows[Name]["kind"]["schema"]>
  | (Rows[Name] extends { readonly default: unknown } ? never : undefined);

type CamelCase<Name extends string> = Name extends `${infer Word}_${infer Rest}`
  ? `${Lowercase<Word>}${Capitalize<CamelCase<Rest>>}`
  : Lowercase<Name>;
type UnitOf<Name extends SettingName> = Rows[Name]["kind"] extends {
  readonly unit: infer Unit extends string;
}
  ? Unit
  : "";

/** The values by their names in the code: in camel case, with the unit last, as `retryBaseMs` for `RETRY_BASE`. */
export type Values = {
  readonly [Name in SettingName as `${CamelCase<Name>}${UnitOf<Name>}`]: ValueOf<Name>;
};

export const settingNames = Object.keys(settings) as SettingName[];

/** Settings whose value is hidden, and may be in the file that `NAME_FILE` names. */
export const secretNames = settingNames.filter((name) => settingKind(name).isPublic !== true);

export function settingKind(name: SettingName): kinds.Kind {
  return settings[name].kind;
}

/** The default as text, undefined if there is none. Without a role, all that there are. */
export function defaultOf(name: SettingName, role?: Role): string | undefined {
  const { default: value }: Setting = settings[name];
  if (typeof value !== "object") return value;
  return role === undefined ? `${value.server} (server), ${value.worker} (worker)` : value[role];
}

/** The name of a setting's value in the code, see {@link Values}. */
export function nameInCode(name: SettingName): string {
  const camelCase = name.toLowerCase().replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
  return `${camelCase}${settingKind(name).unit ?? ""}`;
}

/** The part of a value that may be shown: nothing, unless its kind says that it is public. */
export function masked({ isPublic, mask }: kinds.Kind, text: string): string {
  return mask?.(text) ?? (isPublic ? text : kinds.hidden);
}

/** Parts of the settings' texts that must not be shown anywhere. */
export function secretPartsOf(texts: Readonly<Record<string, string>>): string[] {
  const parts = secretNames.flatMap((name) => {
    const text = texts[name];
    return text === undefined ? [] : (settingKind(name).secretParts?.(text) ?? [text]);
  });
  return [...new Set(parts)].filter((part) => part !== "");
}

/** A condition on several settings. It is not checked while one of them cannot be read. */
interface Rule {
  /** The error message is about the first. */
  readonly names: readonly [SettingName, ...SettingName[]];
  /** The only process that it applies to. Default: both. */
  readonly role?: Role;
  /** @param given the values as text */
  readonly holds: (values: Values, given: Readonly<Record<string, string>>) => boolean;
  readonly message: string | ((values: Values) => string);
}

/** Into how many partitions the settings divide a queue. */
export function partitionsOf({ redisPartitions, redisUrl = "" }: Values): number {
  return redisPartitions ?? (/^rediss?\+cluster:/.test(redisUrl) ? 4 : 1);
}

/** Most bytes of files in one email that a server accepts. */
function emailFilesMax({ maxBodyBytes }: Values): number {
  return Math.min(filesBytesMax, maxBodyBytes);
}

const loopback = /^(localhost|127(\.\d{1,3}){3}|::1)$/i;

export const credentialNames = providerNames.flatMap((name) => registry[name].credential ?? []);
const [firstCredential, ...otherCredentials] = credentialNames;

export const rules: readonly Rule[] = [
  {
    names: ["HOST", "ALLOW_ANONYMOUS", "API_TOKENS"],
    holds: ({ host, allowAnonymous, apiTokens }) =>
      loopback.test(host) || apiTokens !== undefined || allowAnonymous === "1",
    message:
      "is not a loopback address, and would be open to everyone: set API_TOKENS, or ALLOW_ANONYMOUS=1 if that is intended",
  },
  {
    names: ["ADMIN_PORT", "PORT", "ADMIN_HOST", "HOST"],
    role: "server",
    // On another host it may be the same, and with 0 the system chooses a free one.
    holds: ({ adminPort, port, adminHost, host }) => adminPort !== port || adminHost !== host || port === 0,
    message: "is the same as PORT",
  },
  {
    names: ["DEFAULT_FROM", "ALLOWED_FROM"],
    holds: ({ defaultFrom, allowedFrom }) =>
      defaultFrom === undefined || allowedFrom === undefined || isAmong(defaultFrom, allowedFrom),
    message: "is not among ALLOWED_FROM",
  },
  {
    names: ["DEFAULT_FROM_NAME", "DEFAULT_FROM"],
    holds: ({ defaultFrom, defaultFromName }) =>
      defaultFrom === undefined || formatMailbox(defaultFrom, defaultFromName).length <= mailboxMax,
    message: `with DEFAULT_FROM is over ${mailboxMax} characters`,
  },
  {
    names: ["RETAIN", "SUBMIT_TIMEOUT"],
    holds: ({ retainMs, submitTimeoutMs }) => retainMs >= 2 * submitTimeoutMs,
    message: "is under 2 × SUBMIT_TIMEOUT",
  },
  {
    names: ["REDIS_MIN_REPLICAS", "REDIS_URL"],
    holds: ({ redisMinReplicas, redisUrl }) => redisMinReplicas === 0 || redisUrl !== undefined,
    message: "is given without REDIS_URL: the embedded queue has no replicas",
  },
  {
    names: ["REDIS_PARTITIONS", "REDIS_URL"],
    holds: ({ redisPartitions = 1, redisUrl }) => redisPartitions === 1 || redisUrl !== undefined,
    message: "is given without REDIS_URL: the embedded queue has no partitions",
  },
  {
    names: ["MAX_ATTACHMENT_BACKLOG", "MAX_BODY_BYTES", "REDIS_PARTITIONS", "REDIS_URL"],
    // Each partition has an equal part of the limit. An email that exceeds it would get 500 at each repetition.
    holds: (values) => values.maxAttachmentBacklogBytes >= partitionsOf(values) * emailFilesMax(values),
    message(values) {
      const [count, bytes] = [partitionsOf(values), emailFilesMax(values)];
      const parts = count === 1 ? "" : `, ${bytes} for each of ${count} partitions`;
      return `is too small for the files of the largest email: it must be at least ${count * bytes}${parts}`;
    },
  },
  {
    names: ["LEASE", "PROVIDER_TIMEOUT"],
    holds: ({ leaseMs, providerTimeoutMs }) => leaseMs >= 2 * providerTimeoutMs,
    message: "is under 2 × PROVIDER_TIMEOUT",
  },
  {
    names: ["RETRY_BASE", "RETRY_MAX"],
    holds: ({ retryBaseMs, retryMaxMs }) => retryBaseMs <= retryMaxMs,
    message: "is over RETRY_MAX",
  },
  {
    names: ["PROVIDERS"],
    role: "worker",
    holds: ({ providers }) => providers?.some(({ weight }) => weight > 0) ?? true,
    message: "names no provider with a weight above 0",
  },
  {
    names: [firstCredential!, ...otherCredentials, "PROVIDERS"],
    role: "worker",
    holds: ({ providers }, given) => providers !== undefined || credentialNames.some((name) => name in given),
    message: `${otherCredentials.map((name) => `or ${name} `).join("")}is required: there is no provider; to try the service without one, set PROVIDERS=sandbox`,
  },
  ...providerNames.flatMap((provider): Rule[] => {
    const { credential } = registry[provider];
    if (credential === undefined) return [];
    return [
      {
        names: [credential, "PROVIDERS"],
        role: "worker",
        holds: ({ providers = [] }, given) =>
          credential in given || !providers.some(({ name, weight }) => name === provider && weight > 0),
        message: `is required: PROVIDERS names ${provider}`,
      },
    ];
  }),
];
