// The kinds of settings: durations, numbers, lists, addresses. A kind says how a value is read from text, whether it is
// secret, and how it is shown. An error message follows the setting's name and, unless it is secret, its value.

import { resolve } from "node:path";
import * as v from "valibot";
import { hasControlCharacter, isAddress } from "../email/address.ts";
import { type ProviderName, providerNames } from "../providers/registry.ts";
import { emailFaults, requestFaults, type SandboxFaults } from "../providers/sandbox/faults.ts";
import { passwordsOf, redisUrlError, withoutPassword } from "../runtime/redis_url.ts";

export interface Kind {
  readonly schema: v.GenericSchema<string, unknown>;
  /**
   * The value may be shown. Without this mark it is a secret: `config`, error messages and the log hide it, and it may
   * be in the file that `NAME_FILE` names.
   */
  readonly isPublic?: true;
  /** What may be shown of a value. Default: all of a public one, nothing of a secret. */
  readonly mask?: (text: string) => string;
  /** Parts of a secret that must not be shown anywhere. Default: all of it. */
  readonly secretParts?: (text: string) => string[];
  /** Unit of the value, which ends its name in `Config`. */
  readonly unit?: "Ms";
  /** An empty value turns the feature off. In other settings it counts as absent. */
  readonly emptyIsOff?: true;
  /** Quotes around the whole value may be intended. */
  readonly mayBeQuoted?: true;
}

export interface ProviderWeight {
  readonly name: ProviderName;
  /** Weight among new emails, 0–1000. With 0, only batches that the provider already has are resolved. */
  readonly weight: number;
}

export const hidden = "[secret]";

const isPublic = true;

/** Longest delay of setTimeout, ms (2^31 − 1, 24.8 days): a longer one fires at once. */
const timerMaxMs = 2_147_483_647;
const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** @param maxMs may be over the limit of a timer where the value is only compared with a clock */
export function duration(maxMs = timerMaxMs) {
  const max = maxMs < unitMs["h"]! ? `${maxMs / 1000}s` : `${Math.floor(maxMs / unitMs["h"]!)}h`;
  const schema = v.pipe(
    v.string(),
    v.regex(/^\d{1,15}(ms|s|m|h)$/, "is not a duration such as 250ms, 10s, 5m or 72h"),
    v.transform((text) => Number.parseInt(text, 10) * unitMs[text.replace(/^\d+/, "")]!),
    v.minValue(1, "is not longer than 0"),
    v.maxValue(maxMs, `is over ${max}`),
  );
  return { schema, isPublic, unit: "Ms" } as const;
}

export function integer(min: number, max: number) {
  const message = `is not a whole number from ${min} to ${max}`;
  const schema = v.pipe(
    v.string(),
    v.regex(/^\d{1,15}$/, message),
    v.transform(Number),
    v.minValue(min, message),
    v.maxValue(max, message),
  );
  return { schema, isPublic } as const;
}

export function choice<const Options extends readonly string[]>(...options: Options) {
  return { schema: v.picklist(options, `is not one of ${options.join(", ")}`), isPublic } as const;
}

/** @param message what is wrong with a text that does not match */
export function textLike(pattern: RegExp, message: string) {
  return { schema: v.pipe(v.string(), v.regex(pattern, message)), isPublic } as const;
}

/** Takes an empty value, too, which turns the feature off: "". */
export function orOff<Value>(kind: Kind & { readonly schema: v.GenericSchema<string, Value> }) {
  const schema = v.lazy((text): v.GenericSchema<string, Value | ""> =>
    text === "" ? v.literal("") : kind.schema,
  );
  return { ...kind, schema, emptyIsOff: true } as const;
}

const hostPattern = textLike(/^[\w.:%[\]-]{1,253}$/, "is not a host name or an IP address");
/** An IPv6 address may be in brackets as in a URL; a socket is opened without them. */
export const host = {
  ...hostPattern,
  schema: v.pipe(
    hostPattern.schema,
    v.transform((text) => text.replace(/^\[(.*)\]$/, "$1")),
  ),
} as const;

export const credential = {
  schema: v.pipe(v.string(), v.regex(/^[\x21-\x7e]+$/, "has a character that no credential has")),
} as const;

/** Lengths of an API token, characters: a shorter one could be guessed, a longer one not be sent. */
export const tokenLengths = { min: 16, max: 1024 } as const;
const token = new RegExp(`^[\\x21-\\x7e]{${tokenLengths.min},${tokenLengths.max}}$`);

export const tokens = {
  schema: v.pipe(
    v.string(),
    v.transform((text) => [...new Set(entriesOf(text))]),
    v.check(
      (all) => all.every((one) => token.test(one)),
      `is not a list of tokens, each of ${tokenLengths.min} to ${tokenLengths.max} visible ASCII characters, separated by commas`,
    ),
  ),
  mask: (text: string) => entriesOf(text).fill(hidden).join(","),
  secretParts: entriesOf,
} as const;

/** Splits a list at its commas. */
function entriesOf(list: string): string[] {
  return list.split(",").map((entry) => entry.trim());
}

export const address = {
  schema: v.pipe(
    v.string(),
    v.trim(),
    v.check(isAddress, "is not an email address that both providers accept"),
  ),
  isPublic,
} as const;

export const addressesAndDomains = {
  schema: v.pipe(
    v.string(),
    v.transform(entriesOf),
    v.check(
      (all) => all.every((one) => isAddress(one.startsWith("@") ? `any${one}` : one)),
      "is not a list such as shop@example.com,@example.org of addresses and @domains",
    ),
  ),
  isPublic,
} as const;

export const displayName = {
  schema: v.pipe(
    v.string(),
    v.trim(),
    v.check((text) => !hasControlCharacter(text), "has a control character"),
    v.transform((text) => text || undefined),
  ),
  isPublic,
  mayBeQuoted: true,
} as const;

export const baseUrl = {
  schema: v.pipe(
    v.string(),
    v.check((text) => {
      // URL.parse drops some whitespace, which would stay in the middle once a path follows.
      const url = /^\S+$/.test(text) ? URL.parse(text) : null;
      if (url === null || (url.protocol !== "http:" && url.protocol !== "https:")) return false;
      return url.username === "" && url.password === "" && url.search === "" && url.hash === "";
    }, "is not an http:// or https:// address without password and query"),
    v.transform((text) => text.replace(/\/+$/, "")),
  ),
  isPublic,
  // A refused address may have credentials, and its error message shows it.
  mask: (text: string) => text.replace(/^[^]*@/, `${hidden}@`).replace(/[?#][^]*$/, `?${hidden}`),
} as const;

export const redisUrl = {
  schema: v.pipe(
    v.string(),
    v.rawCheck(({ dataset, addIssue }) => {
      const message = dataset.typed ? redisUrlError(dataset.value) : undefined;
      if (message !== undefined) addIssue({ message });
    }),
  ),
  mask: withoutPassword,
  secretParts: passwordsOf,
} as const;

const unexpanded = "which only a shell expands: write the whole path";

/** An absolute path. Text that only a shell expands must not become the name of a folder. */
export const folder = {
  schema: v.pipe(
    v.string(),
    v.check((text) => !text.includes("\0"), "has a NUL character"),
    v.check((text) => !/^~(\/|$)/.test(text), `begins with ~, ${unexpanded}`),
    v.check((text) => !/\$[a-z{]/i.test(text), `has a variable in it, ${unexpanded}`),
    v.check((text) => !/\s$/.test(text), "ends in white space, perhaps a line ending from Windows"),
    v.transform((text) => resolve(text)),
  ),
  isPublic,
} as const;

/** A value read by a function that returns an error message for a text that it cannot read. */
function readBy<Value extends object>(read: (text: string) => Value | string) {
  const schema = v.pipe(
    v.string(),
    v.rawTransform<string, Value>(({ dataset, addIssue, NEVER }) => {
      const value = read(dataset.value);
      if (typeof value !== "string") return value;
      addIssue({ message: value });
      return NEVER;
    }),
  );
  return { schema, isPublic } as const;
}

export const providerWeights = readBy((text): ProviderWeight[] | string => {
  const weights: ProviderWeight[] = [];
  for (const entry of text.split(",")) {
    const [, given, weight = "1"] = /^\s*([^\s:]+)(?::(\d{1,4}))?\s*$/.exec(entry) ?? [];
    const name = providerNames.find((one) => one === given);
    if (name === undefined) return `is not a list such as resend:3,postmark:1 of ${providerNames.join(", ")}`;
    if (Number(weight) > 1000) return "has a weight over 1000";
    if (weights.some((other) => other.name === name)) return `names ${name} twice`;
    weights.push({ name, weight: Number(weight) });
  }
  return weights;
});

const faultNames = [...requestFaults, ...emailFaults] as const;
const latencyMaxMs = 3_600_000;

export const sandboxFaults = readBy((text): SandboxFaults | string => {
  const chances: { -readonly [name in keyof SandboxFaults["chances"]]: number } = {};
  let latency: SandboxFaults["latency"] | undefined;
  for (const entry of text.split(",")) {
    const [, given, value = ""] = /^\s*([a-z-]+):(\S+)\s*$/.exec(entry) ?? [];
    if (given === "latency") {
      if (latency !== undefined) return "names latency twice";
      latency = readLatency(value);
      if (latency === undefined) return "has a latency that is not one such as 50ms or 50ms-2s";
      if (latency.minMs > latency.maxMs) return "has a latency that ends before it begins";
      if (latency.maxMs > latencyMaxMs) return "has a latency over 1h";
      continue;
    }
    const name = faultNames.find((one) => one === given);
    if (name === undefined) {
      return `is not a list such as unavailable:10%,latency:50ms-2s of ${faultNames.join(", ")}, latency`;
    }
    if (chances[name] !== undefined) return `names ${name} twice`;
    const percent = /^\d{1,3}(\.\d{1,6})?%$/.test(value) ? Number.parseFloat(value) : Number.NaN;
    if (!(percent <= 100)) return `has for ${name} no probability such as 20%, from 0% to 100%`;
    chances[name] = percent / 100;
  }
  const isOver = (names: readonly (keyof typeof chances)[]) =>
    // Rounded to the precision that can be written: sums of decimals are inexact.
    Math.round(names.reduce((sum, name) => sum + (chances[name] ?? 0), 0) * 1e8) > 1e8;
  if (isOver(requestFaults)) return `has more than 100% in all for a request: ${requestFaults.join(", ")}`;
  if (isOver(emailFaults)) return `has more than 100% in all for an email: ${emailFaults.join(", ")}`;
  return { chances, latency: latency ?? { minMs: 0, maxMs: 0 } };
});

function readLatency(text: string): SandboxFaults["latency"] | undefined {
  const [, min, minUnit, , max = min, maxUnit = minUnit] =
    /^(\d{1,15})(ms|s|m|h)(-(\d{1,15})(ms|s|m|h))?$/.exec(text) ?? [];
  if (min === undefined) return undefined;
  return { minMs: Number(min) * unitMs[minUnit!]!, maxMs: Number(max) * unitMs[maxUnit!]! };
}
