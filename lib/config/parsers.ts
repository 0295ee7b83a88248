// What kinds of settings there are: durations, numbers, lists, addresses, and how each is read. Messages follow the
// setting's name and, unless it is secret, its value, which they leave to the caller.

import * as v from "valibot";
import { isAddress } from "../email/address.ts";
import { providerNames, type ProviderName } from "../providers/provider.ts";
import { redisUrlError } from "../runtime/redis_url.ts";
import { emailFaults, requestFaults, type SandboxFaults } from "../providers/sandbox/faults.ts";

export interface ProviderWeight {
  readonly name: ProviderName;
  /** Share of the new emails, 0–1000. 0: only batches that it already has are resolved. */
  readonly weight: number;
}

/** What setTimeout can wait at most, ms (2^31 − 1, 24.8 days); more would fire at once. */
const timerMaxMs = 2_147_483_647;
/** What is only compared with a clock may be longer: ten years. */
export const ageMaxMs = 10 * 365 * 86_400_000;

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

export function duration(fallback: string, maxMs = timerMaxMs) {
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

export function integer(fallback: string, min: number, max: number) {
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

export const credential = v.optional(
  v.pipe(v.string(), v.regex(/^[\x21-\x7e]+$/, "holds a character that no credential has")),
);

/** Lengths of a token, characters: a shorter one could be guessed, a longer one not be sent. */
export const tokenLengths = { min: 16, max: 1024 } as const;
const token = new RegExp(`^[\\x21-\\x7e]{${tokenLengths.min},${tokenLengths.max}}$`);

export const tokens = v.optional(
  v.pipe(
    v.string(),
    v.transform((text) => [...new Set(entriesOf(text))]),
    v.check(
      (all) => all.every((one) => token.test(one)),
      `is not a list of tokens, each of ${tokenLengths.min} to ${tokenLengths.max} visible ASCII characters, with commas between them`,
    ),
  ),
);

export const senders = v.optional(
  v.pipe(
    v.string(),
    v.transform(entriesOf),
    v.check(
      (all) => all.every((one) => isAddress(one.startsWith("@") ? `any${one}` : one)),
      "is not a list such as shop@example.com,@example.org of addresses and @domains",
    ),
  ),
);

/** The entries of a list with commas between them. */
export function entriesOf(list: string): string[] {
  return list.split(",").map((entry) => entry.trim());
}

export const baseUrl = v.optional(
  v.pipe(
    v.string(),
    v.check((text) => {
      // URL.parse drops some white space, which would stay in the middle once a path follows.
      const url = /^\S+$/.test(text) ? URL.parse(text) : null;
      if (url === null || (url.protocol !== "http:" && url.protocol !== "https:")) return false;
      return url.username === "" && url.password === "" && url.search === "" && url.hash === "";
    }, "is not an http:// or https:// address without password and query"),
    v.transform((text) => text.replace(/\/+$/, "")),
  ),
);

/** What is shown of an address that should hold no credentials, but may. */
export function withoutCredentials(text: string): string {
  return text.replace(/^[^]*@/, "[secret]@").replace(/[?#][^]*$/, "?[secret]");
}

export const redisUrl = v.optional(
  v.pipe(
    v.string(),
    v.rawCheck(({ dataset, addIssue }) => {
      const fault = dataset.typed ? redisUrlError(dataset.value) : undefined;
      if (fault !== undefined) addIssue({ message: fault });
    }),
  ),
);

/** What only a shell would have understood must not become the name of a folder. */
export const dataDir = v.optional(
  v.pipe(
    v.string(),
    v.check((text) => !text.includes("\0"), "has a NUL character"),
    v.check(
      (text) => !/^~(\/|$)/.test(text),
      "begins with ~, which only a shell expands: write the whole path",
    ),
    v.check(
      (text) => !/\$[a-z{]/i.test(text),
      "has a variable in it, which only a shell expands: write the whole path",
    ),
    v.check((text) => !/\s$/.test(text), "ends in white space, perhaps the end of a line from Windows"),
  ),
  "./data",
);

export const providerWeights = v.optional(
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

export const sandboxFaults = v.optional(
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

export const host = v.pipe(
  v.string(),
  v.regex(/^[\w.:%[\]-]{1,253}$/, "is not a host name or an IP address"),
);
const portMessage = "is not a whole number from 0 to 65535";

/** Either is empty to have none. */
export const adminHost = v.optional(
  v.union([v.literal(""), host], "is not a host name or an IP address"),
  "127.0.0.1",
);
export const adminPort = v.optional(
  v.pipe(
    v.string(),
    v.regex(/^\d{0,5}$/, portMessage),
    v.check((text) => Number(text) <= 65_535, portMessage),
    v.transform((text) => (text === "" ? ("none" as const) : Number(text))),
  ),
);
