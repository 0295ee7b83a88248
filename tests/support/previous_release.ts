// The sources of the adjacent release, out of the repository's history: of the last tag before this commit, or of the
// last commit before an email could have copies, files or a time, until there is a tag.

import { symlinkSync } from "node:fs";
import { join, resolve } from "node:path";

const root = resolve(import.meta.dir, "../..");
const beforeTags = "059e068f3b09d4a0a2f8dc14564a232dbf6edc0d";

function git(...args: string[]): string | undefined {
  const { success, stdout } = Bun.spawnSync(["git", "-C", root, ...args], { stderr: "ignore" });
  return success ? stdout.toString().trim() : undefined;
}

const tag = git("describe", "--tags", "--abbrev=0", "--match=v*", "HEAD^");
const commit = tag ?? (git("cat-file", "-e", beforeTags) === undefined ? undefined : beforeTags);

export const hasPreviousRelease = commit !== undefined;

/** Suffix for the names of tests that need the adjacent release: the reason, if they are skipped. */
export const orWhyNoRelease = hasPreviousRelease
  ? ""
  : " (skipped: it needs git and the repository's history)";

/** Puts its sources into an empty folder. They use the packages of this release. */
export function extractPreviousRelease(folder: string): void {
  const paths = ["lib", "server.ts", "worker.ts", "package.json", "tsconfig.json"];
  const command = 'git -C "$0" archive "$1" "${@:3}" | tar -x -C "$2"';
  const { exitCode, stderr } = Bun.spawnSync([
    "bash",
    "-ceuo",
    "pipefail",
    command,
    root,
    commit!,
    folder,
    ...paths,
  ]);
  if (exitCode !== 0) throw new Error(`${commit}: ${stderr.toString()}`);
  symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
}
