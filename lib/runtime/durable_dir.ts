// A folder of ours: for nobody else, and there after a loss of power.

import {
  accessSync,
  closeSync,
  constants,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  statSync,
} from "node:fs";
import { dirname } from "node:path";
import { errorCode } from "./errors.ts";

/** Makes it, and those above it that are missing. */
export function makeDir(folder: string): void {
  const first = mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  // Each that was made stands in the one above.
  for (let made = folder; made.length >= first.length; made = dirname(made)) syncDir(dirname(made));
}

/** Makes the names in a folder outlast a loss of power. */
export function syncDir(folder: string): void {
  const descriptor = openSync(folder, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * Why this user can make no files in a folder, or cannot make the folder: a code such as EACCES; undefined if nothing
 * is known against it. Looks only, so that a disk that is full or broken goes unnoticed.
 */
export function obstacleIn(folder: string): string | undefined {
  try {
    if (!statSync(folder).isDirectory()) return "ENOTDIR";
    accessSync(folder, constants.W_OK | constants.X_OK);
    return undefined;
  } catch (error) {
    const code = errorCode(error) ?? "unknown error";
    // A link to nowhere is in the way: only what is not there at all can be made.
    if (code !== "ENOENT" || lstatSync(folder, { throwIfNoEntry: false }) !== undefined) return code;
    return obstacleIn(dirname(folder));
  }
}
