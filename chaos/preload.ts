// Builds the libraries that are preloaded into processes.

import { mkdirSync } from "node:fs";
import { basename, join } from "node:path";

/** Compiles `NAME.c` to `NAME.so` in a folder, which is created if missing, and returns the library's path. */
export function buildLibrary(source: string, into: string): string {
  const cc = Bun.which("cc");
  if (cc === null) {
    throw new Error(`Cannot build ${source}: there is no C compiler (on Debian: packages gcc and libc6-dev)`);
  }
  mkdirSync(into, { recursive: true });
  const library = join(into, `${basename(source, ".c")}.so`);
  const flags = ["-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-pthread"];
  const { success, stderr } = Bun.spawnSync([cc, ...flags, "-o", library, source, "-ldl"]);
  if (!success) throw new Error(`Cannot build ${source}: ${cc} printed ${stderr.toString().trim()}`);
  return library;
}
