// What commands write to stdout: at once and whole, so that nothing is lost when the process ends.

import { writeStdout } from "../stdout.ts";

/** Throws if it cannot be written, but for a reader that has gone: that one wants no more. */
export function print(text: string): void {
  try {
    writeStdout(`${text}\n`);
  } catch (error) {
    // A closed pipe, a terminal that has hung up.
    if (error instanceof Error && "code" in error && (error.code === "EPIPE" || error.code === "EIO")) return;
    throw error;
  }
}
