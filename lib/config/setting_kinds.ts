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
   * The value may be shown. Otherwise it is a secret: `config`, error messages and the log hide it, and it may come from
   * the file that `NAME_FILE` names.
   */
  readonly isPublic?: true;
  /** The part of a value that may be shown. Default: all of a public one, nothing of a secret. */
  readonly mask?: (text: string) => string;
  /** Parts of a secret that must not be shown anywhere. Default: all of it. */
  readonly secretParts?: (text: string) => string[];
  /** Unit of the value, which ends its name in `Config`. */
  readonly unit?: "Ms" | "Bytes";
  /** An empty value turns the feature off. In settings of other kinds it counts as absent. */
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

const shown = <Schema extends Kind["schema"]>(schema: Schema) => ({ schema, isPublic: true }) as const;

/** Longest delay of setTimeout, ms (2^31 − 1, 24.8 days): a longer one fires at once. */
const timerMaxMs = 2_147_483_647;
const hourMs = 3_600_000;
const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: hourMs };

/** Milliseconds of a text such as `250ms`; NaN if it is no duration. */
function parseDuration(text: string): number {
  const [, count = "", unit = ""] = /^(\d{1,15})(ms|s|m|h)$/.exec(text) ?? [];
  return Number.parseInt(count, 10) * (unitMs[unit] ?? 1);
}

/** @param maxMs may be over the limit of a timer where the value is only compared with a clock */
export function duration(maxMs = timerMaxMs) {
  const schema = v.pipe(
    v.string(),
    v.transform(parseDuration),
    v.number("is not a duration such as 250ms, 10s, 5m or 72h"),
    v.minValue(1, "is not longer than 0"),
    v.maxValue(maxMs, `is over ${maxMs < hourMs ? `${maxMs / 1000}s` : `${Math.floor(maxMs / hourMs)}h`}`),
  );
  return { ...shown(schema), unit: "Ms" } as const;
}

export function integer(min: number, max: number) {
  const message = `is not a whole number from ${min} to ${max}`;
  const whole = v.pipe(v.string(), v.digits(message), v.transform(Number));
  return shown(v.pipe(whole, v.minValue(min, message), v.maxValue(max, message)));
}

const unitBytes: Readonly<Record<string, number>> = {
  "": 1,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  TiB: 1024 ** 4,
};

/** The number of bytes in a text such as `64MiB`, or NaN if it is not a size. */
function parseSize(text: string): number {
  const [, count = "", unit = ""] = /^(\d{1,15})([KMGT]iB)?$/.exec(text) ?? [];
  return Number.parseInt(count, 10) * unitBytes[unit]!;
}

/** A number of bytes, with or without a binary unit. */
export const size = {
  ...shown(
    v.pipe(
      v.string(),
      v.transform(parseSize),
      v.number("is not a size such as 512KiB, 64MiB or 1GiB"),
      v.maxValue(Number.MAX_SAFE_INTEGER, "is too large"),
    ),
  ),
  unit: "Bytes",
} as const;

export function choice<const Options extends readonly string[]>(...options: Options) {
  return shown(v.picklist(options, `is not one of ${options.join(", ")}`));
}

/** @param message what is wrong with a text that does not match */
export function textLike(pattern: RegExp, message: string) {
  return shown(v.pipe(v.string(), v.regex(pattern, message)));
}

/** Also accepts an empty value, which is read as "" and turns the feature off. */
export function orOff<Value>(kind: Kind & { readonly schema: v.GenericSchema<string, Value> }) {
  const schema = v.lazy((text): v.GenericSchema<string, Value | ""> =>
    text === "" ? v.literal("") : kind.schema,
  );
  return { ...kind, schema, emptyIsOff: true } as const;
}

/** An IPv6 address may be in brackets as in a URL; a socket is opened without them. */
export const host = shown(
  v.pipe(
    v.string(),
    v.regex(/^[\w.:%[\]-]{1,253}$/, "is not a host name or an IP address"),
    v.transform((text) => text.replace(/^\[(.*)\]$/, "$1")),
  ),
);

export const credential = {
  schema: v.pipe(v.string(), v.regex(/^[\x21-\x7e]+$/, "has a character that is not visible ASCII")),
} as const;

function entriesOf(list: string): string[] {
  return list.split(",").map((entry) => entry.trim());
}

/** API tokens: a shorter one could be guessed, and a longer one might be too long for a header. */
export const tokens = {
  schema: v.pipe(
    v.string(),
    v.transform((text) => [...new Set(entriesOf(text))]),
    v.check(
      (all) => all.every((token) => /^[\x21-\x7e]{16,1024}$/.test(token)),
      "is not a list of tokens, each of 16 to 1024 visible ASCII characters, separated by commas",
    ),
  ),
  mask: (text: string) => entriesOf(text).fill(hidden).join(","),
  secretParts: entriesOf,
} as const;

export const address = shown(
  v.pipe(v.string(), v.trim(), v.check(isAddress, "is not an email address that both providers accept")),
);

export const addressesAndDomains = shown(
  v.pipe(
    v.string(),
    v.transform(entriesOf),
    v.check(
      (all) => all.every((one) => isAddress(one.startsWith("@") ? `any${one}` : one)),
      "is not a list of addresses and @domains such as shop@example.com,@example.org",
    ),
  ),
);

export const displayName = {
  ...shown(
    v.pipe(
      v.string(),
      v.trim(),
      v.check((text) => !hasControlCharacter(text), "has a control character"),
      v.transform((text) => text || undefined),
    ),
  ),
  mayBeQuoted: true,
} as const;

function isBaseUrl(text: string): boolean {
  // URL.parse drops some whitespace, which would stay in the middle once a path follows.
  const url = /^\S+$/.test(text) ? URL.parse(text) : null;
  if (url === null || (url.protocol !== "http:" && url.protocol !== "https:")) return false;
  return url.username === "" && url.password === "" && url.search === "" && url.hash === "";
}

export const baseUrl = {
  ...shown(
    v.pipe(
      v.string(),
      v.check(isBaseUrl, "is not an http:// or https:// address without user, password, query or fragment"),
      v.transform((text) => text.replace(/\/+$/, "")),
    ),
  ),
  // A refused address may have credentials, and its error message shows it.
  mask: (text: string) => text.replace(/^[^]*@/, `${hidden}@`).replace(/[?#][^]*$/, `?${hidden}`),
} as const;

export const redisUrl = {
  schema: v.pipe(
    v.string(),
    v.check(
      (text) => redisUrlError(text) === undefined,
      ({ input }) => redisUrlError(input)!,
    ),
  ),
  mask: withoutPassword,
  secretParts: passwordsOf,
} as const;

const unexpanded = "which only a shell would expand: write the whole path";

/** An absolute path. Text that only a shell would expand must not become the name of a folder. */
export const folder = shown(
  v.pipe(
    v.string(),
    v.check((text) => !text.includes("\0"), "has a NUL character"),
    v.check((text) => !/^~(\/|$)/.test(text), `begins with ~, ${unexpanded}`),
    v.check((text) => !/\$[a-z{]/i.test(text), `contains a variable, ${unexpanded}`),
    v.check((text) => !/\s$/.test(text), "ends in white space, perhaps a line ending from Windows"),
    v.transform((text) => resolve(text)),
  ),
);

/** A value read by a function that returns an error message for a text that it cannot read. */
function readBy<Value extends object>(read: (text: string) => Value | string) {
  const transform = v.rawTransform<string, Value>(({ dataset, addIssue, NEVER }) => {
    const value = read(dataset.value);
    if (typeof value !== "string") return value;
    addIssue({ message: value });
    return NEVER;
  });
  return shown(v.pipe(v.string(), transform));
}

/**
 * Reads a list such as `resend:3,postmark` into a map from names to values, as text.
 * @param fallback the value of an entry that has none; without a fallback, each entry needs a value
 * @returns the map, or an error message
 */
function readEntries<Name extends string>(
  text: string,
  names: readonly Name[],
  example: string,
  fallback?: string,
): Map<Name, string> | string {
  const values = new Map<Name, string>();
  for (const entry of text.split(",")) {
    const [, given, value = fallback] = /^\s*([^\s:]+)(?::(\S+))?\s*$/.exec(entry) ?? [];
    const name = names.find((one) => one === given);
    if (name === undefined || value === undefined)
      return `is not a list such as ${example}; the names are ${names.join(", ")}`;
    if (values.has(name)) return `names ${name} twice`;
    values.set(name, value);
  }
  return values;
}

export const providerWeights = readBy((text): ProviderWeight[] | string => {
  const entries = readEntries(text, providerNames, "resend:3,postmark:1", "1");
  if (typeof entries === "string") return entries;
  const weights = Array.from(entries, ([name, weight]) => ({ name, weight: Number(weight) }));
  const isValid = [...entries.values()].every((weight) => /^\d{1,4}$/.test(weight) && Number(weight) <= 1000);
  return isValid ? weights : "has a weight that is not a whole number from 0 to 1000";
});

export const sandboxFaults = readBy((text): SandboxFaults | string => {
  const names = [...requestFaults, ...emailFaults, "latency"] as const;
  const entries = readEntries(text, names, "unavailable:10%,latency:50ms-2s");
  if (typeof entries === "string") return entries;
  const [minMs = 0, maxMs = minMs, ...more] = entries.get("latency")?.split("-").map(parseDuration) ?? [];
  if (!(minMs + maxMs >= 0) || more.length > 0)
    return "has a latency that is not a duration such as 50ms or a range such as 50ms-2s";
  if (minMs > maxMs) return "has a latency that ends before it begins";
  if (maxMs > hourMs) return "has a latency over 1h";

  const chances: { -readonly [name in keyof SandboxFaults["chances"]]: number } = {};
  for (const [name, value] of entries) {
    if (name === "latency") continue;
    const percent = /^\d{1,3}(\.\d{1,6})?%$/.test(value) ? Number.parseFloat(value) : Number.NaN;
    if (!(percent <= 100)) return `does not give ${name} a probability from 0% to 100%, such as 20%`;
    chances[name] = percent / 100;
  }
  const isOver = (group: readonly (keyof typeof chances)[]) =>
    // Rounded to the precision that can be written: sums of decimals are inexact.
    Math.round(group.reduce((sum, name) => sum + (chances[name] ?? 0), 0) * 1e8) > 1e8;
  if (isOver(requestFaults)) return `adds up to more than 100% for a request: ${requestFaults.join(", ")}`;
  if (isOver(emailFaults)) return `adds up to more than 100% for an email: ${emailFaults.join(", ")}`;
  return { chances, latency: { minMs, maxMs } };
});
