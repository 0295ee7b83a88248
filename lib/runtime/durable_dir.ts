// Folders that only this user may enter, and that survive a loss of power.

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

/** Makes a folder and its missing parents. */
export function makeDir(folder: string): void {
  const first = mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  // The name of each new folder is stored in its parent.
  for (let made = folder; made.length >= first.length; made = dirname(made)) syncDir(dirname(made));
}

/** Makes the names in a folder survive a loss of power. */
export function syncDir(folder: string): void {
  const descriptor = openSync(folder, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * Why this user cannot create files in a folder, or cannot create the folder: a code such as EACCES, or undefined. It
 * only looks, so it does not notice a full or broken disk.
 */
export function obstacleIn(folder: string): string | undefined {
  try {
    if (!statSync(folder).isDirectory()) return "ENOTDIR";
    accessSync(folder, constants.W_OK | constants.X_OK);
    return undefined;
  } catch (error) {
    const code = errorCode(error) ?? "unknown error";
    // A dangling link would be in the way.
    if (code !== "ENOENT" || lstatSync(folder, { throwIfNoEntry: false }) !== undefined) return code;
    return obstacleIn(dirname(folder));
  }
}
