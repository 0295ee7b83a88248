// Output of commands to stdout and stderr: synchronously and whole, so that nothing is lost when the process ends.

import { writeSync } from "node:fs";
import { getSystemErrorMessage } from "node:util";
import { errorCode } from "../runtime/errors.ts";
import { jsonOf } from "./format.ts";

/** Pause before writing again to a pipe that is full, ms. */
const fullPauseMs = 5;

/** Ends a command: main.ts prints the message on stderr and exits with the code. */
export class Failure extends Error {
  readonly exitCode: 1 | 2;

  constructor(message: string, exitCode: 1 | 2 = 1) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** Whether anything was printed, or would have been if stdout had taken it. */
let isAnswered = false;

/**
 * Writes `text` and a line end to stdout. Throws {@link Failure} if that fails.
 * @returns false if the reader has gone: then nothing more needs to be written
 */
export function print(text: string): boolean {
  return printBytes(Buffer.from(`${text}\n`));
}

/** As {@link print}, without a line end. */
export function printBytes(bytes: Uint8Array): boolean {
  isAnswered = true;
  return write(1, bytes);
}

export function printJson(value: unknown): boolean {
  return print(jsonOf(value));
}

/** Prints a document about the failure of a command that was to print one, and has not begun to. */
export function printFailure(error: string): void {
  if (!isAnswered) printJson({ error });
}

/** Writes an error or a warning to stderr, in a line of its own. */
export function complain(text: string): void {
  hint(`${text}\n`);
}

/** Writes questions, progress and advice to stderr. Adds no line end. */
export function hint(text: string): void {
  write(2, Buffer.from(text));
}

function write(descriptor: 1 | 2, bytes: Uint8Array): boolean {
  let rest = bytes;
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(descriptor, rest));
    } catch (error) {
      const code = errorCode(error);
      // Another process that shares the pipe or terminal may have made it non-blocking.
      if (code === "EAGAIN") Bun.sleepSync(fullPauseMs);
      // A closed pipe, or a terminal that has hung up; and if stderr fails, nowhere is left to report that.
      else if (code === "EPIPE" || code === "EIO" || descriptor === 2) return false;
      else throw new Failure(`Cannot write the answer: ${describeWriteError(error)}`);
    }
  }
  return true;
}

function describeWriteError(error: unknown): string {
  const { errno } = error as NodeJS.ErrnoException;
  return errno === undefined ? "unknown error" : getSystemErrorMessage(errno);
}
