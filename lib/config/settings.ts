// The settings: one row each, which says how it is read and whether it is secret; and which are wrong only together.

import * as v from "valibot";
import { hasControlCharacter, isAddress, isAmong, mailboxMax } from "../email/address.ts";
import { logLevels } from "../runtime/log.ts";
import { formatMailbox } from "../email/mailbox.ts";
import { passwordsOf, withoutPassword } from "../runtime/redis_url.ts";
import {
  adminHost,
  adminPort,
  ageMaxMs,
  baseUrl,
  credential,
  dataDir,
  duration,
  entriesOf,
  host,
  integer,
  providerWeights,
  redisUrl,
  sandboxFaults,
  senders,
  tokens,
  withoutCredentials,
} from "./parsers.ts";

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const doubtMaxMs = 23 * hourMs;

/** All that is known of a setting but its name. */
interface Row {
  /** How it is read, and its default. */
  readonly type: v.GenericSchema<string | undefined, unknown>;
  /**
   * Its value may be shown. Without this mark the setting is a secret: `config` and error messages hide its value, no
   * line of the log may hold it, and it may be in the file that `NAME_FILE` names.
   */
  readonly isPublic?: true;
  /** What may be shown of a value; by default all of a public one, and nothing of a secret. */
  readonly mask?: (text: string) => string;
  /** Of a secret, the parts that must not be seen anywhere; by default all of it. */
  readonly secretParts?: (text: string) => string[];
  /** An empty value means that it is not wanted. Elsewhere an empty value is as good as none. */
  readonly emptyIsOff?: true;
  /** Quotes around the whole value may be meant. */
  readonly mayBeQuoted?: true;
}

const hidden = "[secret]";

const rows = {
  HOST: { type: v.optional(host, "127.0.0.1"), isPublic: true },
  PORT: { type: integer("3000", 0, 65_535), isPublic: true },
  ADMIN_HOST: { type: adminHost, isPublic: true, emptyIsOff: true },
  ADMIN_PORT: { type: adminPort, isPublic: true, emptyIsOff: true },
  ALLOW_ANONYMOUS: {
    type: v.optional(v.picklist(["0", "1"], "is neither 0 nor 1"), "0"),
    isPublic: true,
  },
  API_TOKENS: {
    type: tokens,
    mask: (text) =>
      entriesOf(text)
        .map(() => hidden)
        .join(","),
    secretParts: entriesOf,
  },
  ALLOWED_FROM: { type: senders, isPublic: true },
  DEFAULT_FROM: {
    type: v.optional(
      v.pipe(v.string(), v.trim(), v.check(isAddress, "is not an email address that both providers accept")),
    ),
    isPublic: true,
  },
  DEFAULT_FROM_NAME: {
    type: v.optional(
      v.pipe(
        v.string(),
        v.trim(),
        v.check((text) => !hasControlCharacter(text), "has a control character"),
      ),
    ),
    isPublic: true,
    mayBeQuoted: true,
  },
  // Both providers refuse far smaller emails; this bound keeps one request from filling the memory.
  MAX_BODY_BYTES: { type: integer("1048576", 1, 33_554_432), isPublic: true },
  SUBMIT_TIMEOUT: { type: duration("10s", 120_000), isPublic: true },
  REDIS_URL: { type: redisUrl, mask: withoutPassword, secretParts: passwordsOf },
  REDIS_PREFIX: {
    type: v.optional(
      // Braces would move the hash tag that holds a queue's keys together.
      v.pipe(v.string(), v.regex(/^[\w.:/-]{1,100}$/, "is not 1 to 100 of letters, digits and _ . : / -")),
      "reliable-email",
    ),
    isPublic: true,
  },
  REDIS_MIN_REPLICAS: { type: integer("0", 0, 100), isPublic: true },
  REDIS_DURABILITY: {
    type: v.optional(v.picklist(["verify", "trust"], "is neither verify nor trust"), "verify"),
    isPublic: true,
  },
  DATA_DIR: { type: dataDir, isPublic: true },
  PROVIDERS: { type: providerWeights, isPublic: true },
  RESEND_API_KEY: { type: credential },
  RESEND_BASE_URL: { type: baseUrl, isPublic: true, mask: withoutCredentials },
  POSTMARK_SERVER_TOKEN: { type: credential },
  POSTMARK_BASE_URL: { type: baseUrl, isPublic: true, mask: withoutCredentials },
  POSTMARK_MESSAGE_STREAM: {
    type: v.optional(
      v.pipe(v.string(), v.regex(/^[\w.-]{1,100}$/, "is not a message stream's id")),
      "outbound",
    ),
    isPublic: true,
  },
  POSTMARK_SEARCH_WAIT: { type: duration("60s"), isPublic: true },
  SANDBOX_FAULTS: { type: sandboxFaults, isPublic: true },
  PROVIDER_TIMEOUT: { type: duration("15s"), isPublic: true },
  // Resend forgets an idempotency key after 24 h; an hour less leaves time for requests in flight.
  DOUBT_TIMEOUT: { type: duration("23h", doubtMaxMs), isPublic: true },
  DOUBT_SPLIT_AFTER: { type: duration("2m", doubtMaxMs), isPublic: true },
  CONCURRENCY: { type: integer("8", 1, 1000), isPublic: true },
  RETRY_BASE: { type: duration("1s"), isPublic: true },
  RETRY_MAX: { type: duration("1h", dayMs), isPublic: true },
  GIVE_UP_AFTER: { type: duration("72h", ageMaxMs), isPublic: true },
  // A dead worker's batches are looked at when their lease is over: long before their doubt ends.
  LEASE: { type: duration("60s", hourMs), isPublic: true },
  RETAIN: { type: duration("24h", ageMaxMs), isPublic: true },
  SHUTDOWN_TIMEOUT: { type: duration("25s"), isPublic: true },
  LOG_LEVEL: {
    type: v.optional(v.picklist(logLevels, `is not one of ${logLevels.join(", ")}`), "info"),
    isPublic: true,
  },
} as const satisfies Record<string, Row>;

export type SettingName = keyof typeof rows;
export const settingNames = Object.keys(rows) as SettingName[];

const rowOf = (name: SettingName): Row => rows[name];

/** Those whose value is hidden, and may be in the file that `NAME_FILE` names. */
export const secretNames = settingNames.filter((name) => !rowOf(name).isPublic);

export function emptyIsOff(name: string): boolean {
  return settingNames.some((known) => known === name && rowOf(known).emptyIsOff);
}

export function mayBeQuoted(name: SettingName): boolean {
  return rowOf(name).mayBeQuoted === true;
}

/** What may be shown of a value: nothing of a setting that is not known to be public. */
export function masked(name: SettingName, text: string): string {
  return maskedBy(rowOf(name), text);
}

export function maskedBy({ isPublic, mask }: Row, text: string): string {
  return mask?.(text) ?? (isPublic ? text : hidden);
}

/** What of the values of settings must not be seen anywhere. */
export function secretPartsOf(given: Readonly<Record<string, string>>): string[] {
  const parts = secretNames.flatMap((name) => {
    const text = given[name];
    return text === undefined ? [] : (rowOf(name).secretParts?.(text) ?? [text]);
  });
  return [...new Set(parts)].filter((part) => part !== "");
}

/** As it would be written; undefined if there is none. */
export function defaultOf(name: SettingName): string | undefined {
  const { type } = rowOf(name);
  return "default" in type && typeof type.default === "string" ? type.default : undefined;
}

/** The settings in themselves. */
export const settings = v.object(
  Object.fromEntries(settingNames.map((name) => [name, rows[name].type])) as {
    [Name in SettingName]: (typeof rows)[Name]["type"];
  },
);

export type Settings = v.InferOutput<typeof settings>;

const loopback = /^(localhost|127(\.\d{1,3}){3}|\[?::1\]?)$/i;

/** What is wrong only together. The message belongs to the first name. */
interface CrossCheck {
  readonly names: readonly [keyof Settings, ...(keyof Settings)[]];
  readonly holds: (values: Settings) => boolean;
  readonly message: string;
}

const crossChecks: readonly CrossCheck[] = [
  {
    names: ["HOST", "ALLOW_ANONYMOUS", "API_TOKENS"],
    holds: ({ HOST, ALLOW_ANONYMOUS, API_TOKENS }) =>
      loopback.test(HOST) || API_TOKENS !== undefined || ALLOW_ANONYMOUS === "1",
    message:
      "is not a loopback address, and would be open to everyone: set API_TOKENS, or ALLOW_ANONYMOUS=1 if that is meant",
  },
  {
    names: ["DEFAULT_FROM", "ALLOWED_FROM"],
    holds: ({ DEFAULT_FROM, ALLOWED_FROM }) =>
      DEFAULT_FROM === undefined || ALLOWED_FROM === undefined || isAmong(DEFAULT_FROM, ALLOWED_FROM),
    message: "is not among ALLOWED_FROM",
  },
  {
    names: ["DEFAULT_FROM_NAME", "DEFAULT_FROM"],
    holds: ({ DEFAULT_FROM: address, DEFAULT_FROM_NAME: name }) =>
      address === undefined || formatMailbox(address, name).length <= mailboxMax,
    message: `with DEFAULT_FROM is over ${mailboxMax} characters`,
  },
  {
    names: ["RETAIN", "SUBMIT_TIMEOUT"],
    holds: ({ RETAIN, SUBMIT_TIMEOUT }) => RETAIN >= 2 * SUBMIT_TIMEOUT,
    message: "is under 2 × SUBMIT_TIMEOUT",
  },
  {
    names: ["REDIS_MIN_REPLICAS", "REDIS_URL"],
    holds: ({ REDIS_MIN_REPLICAS, REDIS_URL }) => REDIS_MIN_REPLICAS === 0 || REDIS_URL !== undefined,
    message: "is given without REDIS_URL: the embedded queue has no replicas",
  },
  {
    names: ["LEASE", "PROVIDER_TIMEOUT"],
    holds: ({ LEASE, PROVIDER_TIMEOUT }) => LEASE >= 2 * PROVIDER_TIMEOUT,
    message: "is under 2 × PROVIDER_TIMEOUT",
  },
  {
    names: ["RETRY_BASE", "RETRY_MAX"],
    holds: ({ RETRY_BASE, RETRY_MAX }) => RETRY_BASE <= RETRY_MAX,
    message: "is over RETRY_MAX",
  },
];

/** @param isReadable whether a setting's value is known, even if it is beyond its limits */
export function errorsAcross(
  values: Settings,
  isReadable: (name: keyof Settings) => boolean,
): { readonly name: keyof Settings; readonly message: string }[] {
  return crossChecks
    .filter(({ names, holds }) => names.every(isReadable) && !holds(values))
    .map(({ names: [name], message }) => ({ name, message }));
}
