// The log: JSON lines on stdout. A line never holds private data (addresses, subjects, bodies, keys, tokens). Lines are
// written at once and in order; one that cannot be written is lost without harm, and the next one says so.

import { constants, fstatSync, openSync, writeSync } from "node:fs";
import { errorCode } from "./errors.ts";

export const logLevels = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof logLevels)[number];

/** A list holds a few ids. */
export type LogValue = string | number | boolean | readonly string[] | undefined;

/** Fields of these names would hold private data: the compiler refuses them, and the log drops them. */
const privateNames = [
  ...(["to", "to_name", "from", "from_name", "reply_to", "subject", "body", "html"] as const),
  ...(["text", "email", "address", "key", "token", "url"] as const),
] as const;
const isPrivate = new Set<string>(privateNames);

/** Ids, numbers, names from short lists, and reasons; never anything that a client wrote. */
export type LogFields = { readonly [name: string]: LogValue } & {
  readonly [name in (typeof privateNames)[number]]?: never;
};

export type Log = { readonly [level in LogLevel]: (event: string, fields?: LogFields) => void };

/** The content of a line: `time`, `level`, `event`, then the fields. */
export type LogEntry = Readonly<Record<string, LogValue>>;

export interface LogOptions {
  readonly level: LogLevel;
  /** Credentials, which are removed from every text: see {@link withoutSecrets}. */
  readonly secrets?: readonly string[];
  /** Makes a line, without its line feed. Default: JSON. */
  readonly format?: (entry: LogEntry) => string;
  /** Default: {@link openStdout}. */
  readonly write?: (line: string) => boolean;
}

/** For those who learn of every failure as a value. */
export const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {} };

/** Logged as a warning before the first line that follows lost ones. */
export const lostEvent = "log-lines-lost";

/** Longest text in a field, UTF-16 units. */
const textMax = 500;
/** Errors of a driver or of a provider's API may quote an address, or a URL with a password. */
const addressLike = /[^\s<>"'(),;[\]\\]+@[^\s<>"'(),;[\]\\]+/g;

/** Lines below `level` are dropped. */
export function createLog(options: LogOptions): Log {
  const { write = openStdout(), format = JSON.stringify, secrets = [] } = options;
  let lost = 0;

  function log(level: LogLevel, event: string, fields: LogFields): void {
    if (lost > 0 && write(line("warn", lostEvent, { count: lost }))) lost = 0;
    // While even that cannot be written there is nowhere to report it, and the emails matter more.
    if (lost > 0 || !write(line(level, event, fields))) lost += 1;
  }

  function line(level: LogLevel, event: string, fields: LogFields): string {
    const entry: Record<string, LogValue> = { time: new Date().toISOString(), level, event };
    for (const name in fields) {
      if (name in entry || isPrivate.has(name)) continue;
      const value: LogValue = fields[name];
      if (typeof value === "string") entry[name] = scrub(value, secrets);
      else entry[name] = typeof value === "object" ? value.map((text) => scrub(text, secrets)) : value;
    }
    return `${format(entry)}\n`;
  }

  const lowest = logLevels.indexOf(options.level);
  const at = (level: LogLevel): Log[LogLevel] =>
    logLevels.indexOf(level) < lowest ? () => {} : (event, fields = {}) => log(level, event, fields);
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

/** Removes credentials of at least 6 characters from a text that others wrote. */
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

/** How long lines may wait for a slow reader, ms in each {@link patiencePeriodMs}. */
const patienceMs = 100;
const patiencePeriodMs = 1000;

/**
 * Writes lines to stdout at once, so that none is left in a buffer when the process ends, and nothing grows while
 * nobody reads. Waits for a slow reader, but briefly: a reader that stalls costs lines, not time.
 * @returns writes one line, including its line feed; false if it is lost, as none of it could be written
 */
export function openStdout(): (line: string) => boolean {
  const descriptor = openDescriptor();
  /** The end of a line of which only the beginning could be written. */
  let rest: Uint8Array = new Uint8Array(0);
  let patienceLeftMs = patienceMs;
  let patientSinceMs = 0;

  /** Returns what could not be written. */
  function write(bytes: Uint8Array): Uint8Array {
    let left = bytes;
    while (left.length > 0) {
      const nowMs = performance.now();
      try {
        left = left.subarray(writeSync(descriptor, left));
        if (nowMs - patientSinceMs > patiencePeriodMs) {
          patientSinceMs = nowMs;
          patienceLeftMs = patienceMs;
        }
      } catch (error) {
        if (errorCode(error) !== "EAGAIN" || patienceLeftMs <= 0) return left;
        Bun.sleepSync(1);
        patienceLeftMs -= performance.now() - nowMs;
      }
    }
    return left;
  }

  return (line) => {
    rest = write(rest);
    if (rest.length > 0) return false;
    const bytes = Buffer.from(line);
    const left = write(bytes);
    if (left.length === bytes.length) return false;
    rest = left;
    return true;
  };
}

/**
 * Opens a pipe or a terminal a second time, so that only this descriptor does not block. A file never blocks. Writes to
 * a socket, such as the journal's, or to what belongs to another user do: those cannot be opened like that.
 */
function openDescriptor(): number {
  try {
    const stdout = fstatSync(1);
    if (!stdout.isFIFO() && !stdout.isCharacterDevice()) return 1;
    return openSync("/proc/self/fd/1", constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    return 1;
  }
}
