// What every setting may be: the schema of the settings in themselves, and of those that are wrong only together.
// Messages follow the setting's name, and never hold its value, which may be secret.

import * as v from "valibot";
import { hasControlCharacter, isAddress, isAmong, mailboxMax } from "./address.ts";
import { logLevels } from "./log.ts";
import { formatMailbox } from "./mailbox.ts";
import { providerNames, type ProviderName } from "./providers/provider.ts";
import { emailFaults, requestFaults, type SandboxFaults } from "./providers/sandbox_faults.ts";

export interface ProviderWeight {
  readonly name: ProviderName;
  /** Share of the new emails, 0–1000. 0: only batches that it already has are resolved. */
  readonly weight: number;
}

/** What setTimeout can wait at most, ms (2^31 − 1, 24.8 days); more would fire at once. */
const timerMaxMs = 2_147_483_647;
/** What is only compared with a clock may be longer: ten years. */
const ageMaxMs = 10 * 365 * 86_400_000;

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

function duration(fallback: string, maxMs = timerMaxMs) {
  return v.optional(
    v.pipe(
      v.string(),
      v.regex(/^\d{1,15}(ms|s|m|h)$/, "is not a duration such as 250ms, 10s, 5m or 72h"),
      v.transform((text) => Number.parseInt(text, 10) * unitMs[text.replace(/^\d+/, "")]!),
      v.minValue(1, "is not longer than nothing"),
      v.maxValue(
        maxMs,
        `is over ${maxMs < 3_600_000 ? `${maxMs / 1000}s` : `${Math.floor(maxMs / 3_600_000)}h`}`,
      ),
    ),
    fallback,
  );
}

function integer(fallback: string, min: number, max: number) {
  const message = `is not a whole number from ${min} to ${max}`;
  return v.optional(
    v.pipe(
      v.string(),
      v.regex(/^\d{1,15}$/, message),
      v.transform(Number),
      v.minValue(min, message),
      v.maxValue(max, message),
    ),
    fallback,
  );
}

const credential = v.optional(
  v.pipe(v.string(), v.regex(/^[\x21-\x7e]+$/, "holds a character that no credential has")),
);

/** Lengths of a token, characters: a shorter one could be guessed, a longer one not be sent. */
export const tokenLengths = { min: 16, max: 1024 } as const;
const token = new RegExp(`^[\\x21-\\x7e]{${tokenLengths.min},${tokenLengths.max}}$`);

const tokens = v.optional(
  v.pipe(
    v.string(),
    v.transform((text) => [...new Set(entriesOf(text))]),
    v.check(
      (all) => all.every((one) => token.test(one)),
      `is not a list of tokens, each of ${tokenLengths.min} to ${tokenLengths.max} visible ASCII characters, with commas between them`,
    ),
  ),
);

const senders = v.optional(
  v.pipe(
    v.string(),
    v.transform(entriesOf),
    v.check(
      (all) => all.every((one) => isAddress(one.startsWith("@") ? `any${one}` : one)),
      "is not a list such as shop@example.com,@example.org of addresses and @domains",
    ),
  ),
);

function entriesOf(list: string): string[] {
  return list.split(",").map((entry) => entry.trim());
}

const baseUrl = v.optional(
  v.pipe(
    v.string(),
    v.check((text) => {
      const url = URL.parse(text);
      if (url === null || (url.protocol !== "http:" && url.protocol !== "https:")) return false;
      return url.username === "" && url.password === "" && url.search === "" && url.hash === "";
    }, "is not an http:// or https:// address without password and query"),
    v.transform((text) => text.replace(/\/+$/, "")),
  ),
);

const redisUrl = v.optional(
  v.pipe(
    v.string(),
    v.rawCheck(({ dataset, addIssue }) => {
      const mistake = dataset.typed ? redisUrlMistake(dataset.value) : undefined;
      if (mistake !== undefined) addIssue({ message: mistake });
    }),
  ),
);

function redisUrlMistake(text: string): string | undefined {
  if (/^redis\+(cluster|sentinel):/i.test(text)) {
    return "is of a Redis Cluster or Sentinel, which this version does not support";
  }
  const url = URL.parse(text);
  // To the letter: URL.parse puts right what the driver takes as it stands, and would then connect without TLS.
  if (url === null || !/^rediss?:\/\/[\x21-\x7e]+$/.test(text) || url.hostname === "") {
    return "is not of the form redis://[user:password@]host[:port][/number] or rediss://…";
  }
  if (!/^(\/\d*)?$/.test(url.pathname)) return "names a database that is not a number";
  if (url.search !== "" || url.hash !== "") return "has options behind the address: none are supported";
  try {
    decodeURIComponent(url.username + url.password);
  } catch {
    return "has a user or password that is not percent-encoded UTF-8";
  }
  return undefined;
}

const providerWeights = v.optional(
  v.pipe(
    v.string(),
    v.rawTransform<string, ProviderWeight[]>(({ dataset, addIssue, NEVER }) => {
      const weights: ProviderWeight[] = [];
      for (const entry of dataset.value.split(",")) {
        const [, name, weight = "1"] = /^\s*([^\s:]+)(?::(\d{1,4}))?\s*$/.exec(entry) ?? [];
        const known = providerNames.find((provider) => provider === name);
        if (known === undefined) {
          addIssue({ message: `is not a list such as resend:3,postmark:1 of ${providerNames.join(", ")}` });
        } else if (Number(weight) > 1000) {
          addIssue({ message: "has a weight over 1000" });
        } else if (weights.some((other) => other.name === known)) {
          addIssue({ message: `names ${known} twice` });
        } else {
          weights.push({ name: known, weight: Number(weight) });
          continue;
        }
        return NEVER;
      }
      return weights;
    }),
  ),
);

const faultNames = [...requestFaults, ...emailFaults] as const;
const latencyMaxMs = 3_600_000;

const sandboxFaults = v.optional(
  v.pipe(
    v.string(),
    v.rawTransform<string, SandboxFaults>(({ dataset, addIssue, NEVER }) => {
      const read = readFaults(dataset.value);
      if (typeof read !== "string") return read;
      addIssue({ message: read });
      return NEVER;
    }),
  ),
);

/** The faults, or what is wrong with them. */
function readFaults(text: string): SandboxFaults | string {
  const chances: { -readonly [name in keyof SandboxFaults["chances"]]: number } = {};
  let latency: SandboxFaults["latency"] | undefined;
  for (const entry of text.split(",")) {
    const [, name, value = ""] = /^\s*([a-z-]+):(\S+)\s*$/.exec(entry) ?? [];
    if (name === "latency") {
      if (latency !== undefined) return "names latency twice";
      latency = readLatency(value);
      if (latency === undefined) return "has a latency that is not one such as 50ms or 50ms-2s";
      if (latency.minMs > latency.maxMs) return "has a latency that ends before it begins";
      if (latency.maxMs > latencyMaxMs) return "has a latency over 1h";
      continue;
    }
    const known = faultNames.find((fault) => fault === name);
    if (known === undefined) {
      return `is not a list such as unavailable:10%,latency:50ms-2s of ${faultNames.join(", ")}, latency`;
    }
    if (chances[known] !== undefined) return `names ${known} twice`;
    const percent = /^\d{1,3}(\.\d{1,6})?%$/.test(value) ? Number.parseFloat(value) : Number.NaN;
    if (!(percent <= 100)) return `has for ${known} no probability such as 20%, from 0% to 100%`;
    chances[known] = percent / 100;
  }
  for (const [names, what] of [
    [requestFaults, "a request"],
    [emailFaults, "an email"],
  ] as const) {
    const sum = names.reduce((total, fault) => total + (chances[fault] ?? 0), 0);
    // As exact as what can be written: sums of decimals are not.
    if (Math.round(sum * 1e8) > 1e8) return `has more than 100% in all for ${what}: ${names.join(", ")}`;
  }
  return { chances, latency: latency ?? { minMs: 0, maxMs: 0 } };
}

function readLatency(text: string): SandboxFaults["latency"] | undefined {
  const [, min, minUnit, , max = min, maxUnit = minUnit] =
    /^(\d{1,15})(ms|s|m|h)(-(\d{1,15})(ms|s|m|h))?$/.exec(text) ?? [];
  if (min === undefined) return undefined;
  return { minMs: Number(min) * unitMs[minUnit!]!, maxMs: Number(max) * unitMs[maxUnit!]! };
}

const host = v.pipe(v.string(), v.regex(/^[\w.:%[\]-]{1,253}$/, "is not a host name or an IP address"));
const portMessage = "is not a whole number from 0 to 65535";

/** Either is empty to have none. */
const adminHost = v.optional(
  v.union([v.literal(""), host], "is not a host name or an IP address"),
  "127.0.0.1",
);
const adminPort = v.optional(
  v.pipe(
    v.string(),
    v.regex(/^\d{0,5}$/, portMessage),
    v.check((text) => Number(text) <= 65_535, portMessage),
    v.transform((text) => (text === "" ? ("none" as const) : Number(text))),
  ),
);

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
