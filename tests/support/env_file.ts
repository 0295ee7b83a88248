// Settings as an environment file, which is removed when the tests end.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { atExit } from "./at_exit.ts";

export type Settings = Record<string, string>;

let folder: string | undefined;

/** Returns the path of the file. */
export function fileOf(env: Settings): string {
  if (folder === undefined) {
    const made = (folder = mkdtempSync(join(tmpdir(), "reliable-email-env-")));
    atExit(() => rmSync(made, { recursive: true, force: true }));
  }
  const path = join(folder, `${Bun.randomUUIDv7()}.env`);
  writeFileSync(
    path,
    Object.entries(env)
      .map(([name, value]) => `${name}=${value}\n`)
      .join(""),
  );
  return path;
}
