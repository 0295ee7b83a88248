// The settings: what each may be, and which are wrong only together.

import * as v from "valibot";
import { hasControlCharacter, isAddress, isAmong, mailboxMax } from "./address.ts";
import { logLevels } from "./log.ts";
import { formatMailbox } from "./mailbox.ts";
import {
  adminHost,
  adminPort,
  ageMaxMs,
  baseUrl,
  credential,
  duration,
  host,
  integer,
  providerWeights,
  redisUrl,
  sandboxFaults,
  senders,
  tokens,
} from "./setting_types.ts";

/** The settings in themselves. */
export const settings = v.object({
  HOST: v.optional(host, "127.0.0.1"),
  PORT: integer("3000", 0, 65_535),
  ADMIN_HOST: adminHost,
  ADMIN_PORT: adminPort,
  ALLOW_ANONYMOUS: v.optional(v.picklist(["0", "1"], "is neither 0 nor 1"), "0"),
  API_TOKENS: tokens,
  ALLOWED_FROM: senders,
  DEFAULT_FROM: v.optional(
    v.pipe(v.string(), v.trim(), v.check(isAddress, "is not an email address that both providers accept")),
  ),
  DEFAULT_FROM_NAME: v.optional(
    v.pipe(
      v.string(),
      v.trim(),
      v.check((text) => !hasControlCharacter(text), "has a control character"),
    ),
  ),
  // Both providers refuse far smaller emails; this bound keeps one request from filling the memory.
  MAX_BODY_BYTES: integer("1048576", 1, 33_554_432),
  SUBMIT_TIMEOUT: duration("10s", 120_000),
  REDIS_URL: redisUrl,
  REDIS_PREFIX: v.optional(
    // Braces would move the hash tag that holds a queue's keys together.
    v.pipe(v.string(), v.regex(/^[\w.:/-]{1,100}$/, "is not 1 to 100 of letters, digits and _ . : / -")),
    "reliable-email",
  ),
  REDIS_MIN_REPLICAS: integer("0", 0, 100),
  REDIS_DURABILITY: v.optional(v.picklist(["verify", "trust"], "is neither verify nor trust"), "verify"),
  DATA_DIR: v.optional(
    v.pipe(
      v.string(),
      v.check((text) => !text.includes("\0"), "has a NUL character"),
    ),
    "./data",
  ),
  PROVIDERS: providerWeights,
  RESEND_API_KEY: credential,
  RESEND_BASE_URL: baseUrl,
  POSTMARK_SERVER_TOKEN: credential,
  POSTMARK_BASE_URL: baseUrl,
  POSTMARK_MESSAGE_STREAM: v.optional(
    v.pipe(v.string(), v.regex(/^[\w.-]{1,100}$/, "is not a message stream's id")),
    "outbound",
  ),
  POSTMARK_SEARCH_WAIT: duration("60s"),
  SANDBOX_FAULTS: sandboxFaults,
  PROVIDER_TIMEOUT: duration("15s"),
  CONCURRENCY: integer("8", 1, 1000),
  RETRY_BASE: duration("1s"),
  RETRY_MAX: duration("1h"),
  GIVE_UP_AFTER: duration("72h", ageMaxMs),
  LEASE: duration("60s"),
  RETAIN: duration("24h", ageMaxMs),
  SHUTDOWN_TIMEOUT: duration("25s"),
  LOG_LEVEL: v.optional(v.picklist(logLevels, `is not one of ${logLevels.join(", ")}`), "info"),
});

export type Settings = v.InferOutput<typeof settings>;

const loopback = /^(localhost|127(\.\d{1,3}){3}|\[?::1\]?)$/i;

/** The settings that are wrong only together. Each is looked at when all that it needs are right in themselves. */
export const checkedSettings = v.pipe(
  settings,
  together(
    ["HOST", "ALLOW_ANONYMOUS", "API_TOKENS"],
    ({ HOST, ALLOW_ANONYMOUS, API_TOKENS }) =>
      loopback.test(HOST) || API_TOKENS !== undefined || ALLOW_ANONYMOUS === "1",
    "is not a loopback address, and would be open to everyone: set API_TOKENS, or ALLOW_ANONYMOUS=1 if that is meant",
  ),
  together(
    ["DEFAULT_FROM", "ALLOWED_FROM"],
    ({ DEFAULT_FROM, ALLOWED_FROM }) =>
      DEFAULT_FROM === undefined || ALLOWED_FROM === undefined || isAmong(DEFAULT_FROM, ALLOWED_FROM),
    "is not among ALLOWED_FROM",
  ),
  together(
    ["DEFAULT_FROM_NAME", "DEFAULT_FROM"],
    ({ DEFAULT_FROM: address, DEFAULT_FROM_NAME: name }) =>
      address === undefined || formatMailbox(address, name).length <= mailboxMax,
    `with DEFAULT_FROM is over ${mailboxMax} characters`,
  ),
  together(
    ["RETAIN", "SUBMIT_TIMEOUT"],
    ({ RETAIN, SUBMIT_TIMEOUT }) => RETAIN >= 2 * SUBMIT_TIMEOUT,
    "is under 2 × SUBMIT_TIMEOUT",
  ),
  together(
    ["REDIS_MIN_REPLICAS", "REDIS_URL"],
    ({ REDIS_MIN_REPLICAS, REDIS_URL }) => REDIS_MIN_REPLICAS === 0 || REDIS_URL !== undefined,
    "is given without REDIS_URL: the embedded queue has no replicas",
  ),
  together(
    ["LEASE", "PROVIDER_TIMEOUT"],
    ({ LEASE, PROVIDER_TIMEOUT }) => LEASE >= 2 * PROVIDER_TIMEOUT,
    "is under 2 × PROVIDER_TIMEOUT",
  ),
);

/** A check that belongs to the first of the names and looks at all of them. */
function together<const Names extends readonly [keyof Settings, ...(keyof Settings)[]]>(
  names: Names,
  holds: (values: Pick<Settings, Names[number]>) => boolean,
  message: string,
) {
  return v.rawCheck<Settings>(({ dataset, addIssue }) => {
    const wrong = new Set(dataset.issues?.map((issue) => issue.path?.[0]?.key));
    if (names.some((name) => wrong.has(name))) return;
    const input = dataset.value as Settings;
    if (holds(input)) return;
    addIssue({
      message,
      path: [{ type: "object", origin: "value", input, key: names[0], value: undefined }],
    });
  });
}
