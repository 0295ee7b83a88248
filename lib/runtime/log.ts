// The log: JSON lines on stdout. It keeps two rules: a line never carries what a client or an operator would
// call private (addresses, subjects, bodies, keys, tokens), and a line that cannot be written is lost without
// harm to the process. Lines are written at once and in order, and how many were lost is told by the next one.

import { openStdout } from "./stdout.ts";

export const logLevels = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof logLevels)[number];

/** A list is of ids, and bounded by who gives it. */
export type LogValue = string | number | boolean | readonly string[] | undefined;

/** Names that would hold private matter: the compiler refuses them, and so does the log at run time. */
const privateNames = [
  "to",
  "to_name",
  "from",
  "from_name",
  "reply_to",
  "subject",
  "body",
  "html",
  "text",
  "email",
  "address",
  "key",
  "token",
  "url",
] as const;
type PrivateName = (typeof privateNames)[number];
const isPrivate = new Set<string>(privateNames);

/** Ids, numbers, names out of short lists, and reasons; never anything that a client wrote. */
export type LogFields = { readonly [name: string]: LogValue } & { readonly [name in PrivateName]?: never };

export interface Log {
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
}

export interface LogOptions {
  readonly level: LogLevel;
  /** Texts that no line may hold, whoever put them into a reason: credentials. Shorter than 6 characters are left. */
  readonly secrets?: readonly string[];
  /** Writes one line, its line feed included. May throw. Default: stdout. */
  readonly write?: (line: string) => void;
  /** Unix ms. */
  readonly now?: () => number;
}

/** What is logged, as a warning, before the first line after some that could not be written. */
export const lostEvent = "log-lines-lost";

/** Longest text in a field, UTF-16 units. */
const textMax = 500;
/** Errors of a driver or of a provider's API may quote an address, or a URL with a password. */
const addressLike = /[^\s<>"'(),;[\]\\]+@[^\s<>"'(),;[\]\\]+/g;

/** A log that drops what is below its level. Lines are `{time, level, event, …fields}`. */
export function createLog(options: LogOptions): Log {
  const { write = openStdout(), now = Date.now } = options;
  const { secrets = [] } = options;
  const lowest = logLevels.indexOf(options.level);

  let lost = 0;

  function log(level: LogLevel, event: string, fields: LogFields): void {
    try {
      if (lost > 0) {
        write(format("warn", lostEvent, { count: lost }));
        lost = 0;
      }
      write(format(level, event, fields));
    } catch {
      // A closed pipe, a full disk, nobody who reads: there is nowhere to tell it, and the emails matter more.
      lost += 1;
    }
  }

  function format(level: LogLevel, event: string, fields: LogFields): string {
    const entry: Record<string, LogValue> = { time: new Date(now()).toISOString(), level, event };
    for (const name in fields) {
      if (name in entry || isPrivate.has(name)) continue;
      const value: LogValue = fields[name];
      entry[name] =
        typeof value === "string"
          ? scrub(value, secrets)
          : typeof value === "object"
            ? value.map((text) => scrub(text, secrets))
            : value;
    }
    return `${JSON.stringify(entry)}\n`;
  }

  function at(level: LogLevel): (event: string, fields?: LogFields) => void {
    if (logLevels.indexOf(level) < lowest) return () => {};
    return (event, fields = {}) => log(level, event, fields);
  }

  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

/** Other people's words, for the log or a terminal: they may quote a credential. Secrets shorter than 6 characters are left. */
export function withoutSecrets(text: string, secrets: readonly string[]): string {
  let rest = text;
  for (const secret of secrets) if (secret.length >= 6) rest = rest.replaceAll(secret, "[secret]");
  return rest;
}

function scrub(text: string, secrets: readonly string[]): string {
  let scrubbed = withoutSecrets(text, secrets);
  if (scrubbed.includes("@")) scrubbed = scrubbed.replace(addressLike, "[address]");
  return scrubbed.length > textMax ? `${scrubbed.slice(0, textMax - 1)}…` : scrubbed;
}
