// The commands that run the service: from its sources or, if `npm test` has built it, as the executable, which takes a
// third of the CPU time to start.

import { statSync } from "node:fs";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dir, "../..");

/** The program under test: a folder of sources, or an executable. */
export const product = process.env["TESTED_EXECUTABLE"] ?? root;

/** The entry points that the executable has too, with its arguments for them. */
const entries: Readonly<Record<string, readonly string[]>> = {
  "server.ts": ["server"],
  "worker.ts": ["worker"],
  "lib/cli/main.ts": [],
};

/** @param from a folder of sources, or an executable */
export function serviceCommand(file: string, from = product): string[] {
  const entry = entries[file];
  if (entry !== undefined && statSync(from).isFile()) return [from, ...entry];
  return [process.execPath, "--no-install", join(statSync(from).isFile() ? root : from, file)];
}
