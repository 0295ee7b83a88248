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

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const doubtMaxMs = 23 * hourMs;

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
  // Resend forgets an idempotency key after 24 h; an hour less leaves time for requests in flight.
  DOUBT_TIMEOUT: duration("23h", doubtMaxMs),
  DOUBT_SPLIT_AFTER: duration("2m", doubtMaxMs),
  CONCURRENCY: integer("8", 1, 1000),
  RETRY_BASE: duration("1s"),
  RETRY_MAX: duration("1h", dayMs),
  GIVE_UP_AFTER: duration("72h", ageMaxMs),
  // A dead worker's batches are looked at when their lease is over: long before their doubt ends.
  LEASE: duration("60s", hourMs),
  RETAIN: duration("24h", ageMaxMs),
  SHUTDOWN_TIMEOUT: duration("25s"),
  LOG_LEVEL: v.optional(v.picklist(logLevels, `is not one of ${logLevels.join(", ")}`), "info"),
});

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
export function mistakesAcross(
  values: Settings,
  isReadable: (name: keyof Settings) => boolean,
): { readonly name: keyof Settings; readonly message: string }[] {
  return crossChecks
    .filter(({ names, holds }) => names.every(isReadable) && !holds(values))
    .map(({ names: [name], message }) => ({ name, message }));
}
