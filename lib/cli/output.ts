// What commands write to stdout: at once and whole, so that nothing is lost when the process ends.

import { writeSync } from "node:fs";

/** Throws if it cannot be written, but for a reader that has gone: that one wants no more. */
export function print(text: string): void {
  const bytes = Buffer.from(`${text}\n`);
  try {
    for (let start = 0; start < bytes.length;) start += writeSync(1, bytes, start);
  } catch (error) {
    // A closed pipe, a terminal that has hung up.
    if (error instanceof Error && "code" in error && (error.code === "EPIPE" || error.code === "EIO")) return;
    throw error;
  }
}
