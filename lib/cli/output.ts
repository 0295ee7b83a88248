// What commands write, to stdout and to stderr: at once and whole, so that nothing is lost when the process ends.

import { errorCode } from "../runtime/errors.ts";
import { writeSync } from "node:fs";

/** Between two tries to write where there is no room at the moment, ms. */
const fullPauseMs = 5;

/** Stdout takes no more, for a reason that somebody should hear of. */
export class CannotWrite extends Error {}

/** Whether stdout was written to, or at least was to be. */
let answered = false;
/** What went wrong, as stderr says. */
const complaints: string[] = [];

/**
 * A line, or several, to stdout. Throws {@link CannotWrite} if it cannot be written, but for a reader that has gone:
 * that one wants no more.
 * @returns whether anybody reads still
 */
export function print(text: string): boolean {
  answered = true;
  return write(1, `${text}\n`);
}

/** One document in JSON, in one line. */
export function printJson(value: unknown): boolean {
  return print(jsonOf(value));
}

/**
 * JSON, with escapes also for those characters that it need not escape and that mean something to a terminal: what
 * an email holds must not drive it. See `visible` in format.ts.
 */
export function jsonOf(value: unknown): string {
  return JSON.stringify(value).replace(
    /[\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/**
 * To stderr: mistakes, so that stdout holds nothing but what was asked for. Not by `console`, which colours them. If
 * that cannot be written there is nowhere left to tell it.
 */
export function complain(text: string): void {
  complaints.push(text);
  write(2, `${text}\n`);
}

/** The documented form of a failure. */
export function failureOf(text: string): { readonly error: string } {
  return { error: text };
}

/** For a command that was to print a document, and failed before it did: what stderr says, as a document. */
export function printFailure(): void {
  if (!answered) printJson(failureOf(complaints.join("\n")));
}

/** To stderr, without an end of line: questions, progress, and advice, which is no part of what went wrong. */
export function hint(text: string): void {
  write(2, text);
}

function write(descriptor: 1 | 2, text: string): boolean {
  const bytes = Buffer.from(text);
  for (let start = 0; start < bytes.length;) {
    try {
      start += writeSync(descriptor, bytes, start);
    } catch (error) {
      const code = errorCode(error);
      // A closed pipe, a terminal that has hung up.
      if (code === "EPIPE" || code === "EIO") return false;
      // Whoever shares the pipe or the terminal may have made it so that writing does not wait.
      if (code === "EAGAIN") {
        Bun.sleepSync(fullPauseMs);
        continue;
      }
      if (descriptor === 2) return false;
      throw new CannotWrite(`Cannot write the answer: ${causes[code ?? ""] ?? code ?? "unknown error"}`);
    }
  }
  return true;
}

const causes: Readonly<Record<string, string>> = {
  ENOSPC: "no space left on device",
  EDQUOT: "the disk quota is used up",
  EFBIG: "the file is as large as it may be",
  EBADF: "stdout is closed",
};
