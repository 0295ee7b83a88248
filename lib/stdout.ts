// Writing to stdout: at once, whole and in order. Nothing is left in a buffer when the process ends, or grows when
// nobody reads.

import { writeSync } from "node:fs";

/** Throws if it cannot be written. A reader that stalls holds up the process. */
export function writeStdout(text: string): void {
  const bytes = Buffer.from(text);
  for (let start = 0; start < bytes.length;) {
    try {
      start += writeSync(1, bytes, start);
    } catch (error) {
      // Whoever shares the pipe (2>&1) may have made it one that does not wait.
      if (!(error instanceof Error && "code" in error && error.code === "EAGAIN")) throw error;
      Bun.sleepSync(1);
    }
  }
}
