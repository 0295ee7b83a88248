// A small file system for tests of a full disk: it is mounted for one command and disappears with it.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Commands that give a process its own mounts, in order of preference. */
const ways = [
  // A user namespace, which any user can create. The kernel refuses it in a chroot.
  ["unshare", "--map-root-user", "--mount"],
  // For root. In a chroot, `/` is not a mount whose propagation could be changed.
  ["unshare", "--mount", "--propagation", "unchanged"],
];

function mounting(folder: string, options: string): string[] {
  return ["sh", "-c", `mount -t tmpfs -o ${options} tmpfs "$1" && shift && exec "$@"`, "sh", folder];
}

function works(way: readonly string[]): boolean {
  const folder = mkdtempSync(join(tmpdir(), "reliable-email-disk-"));
  const { success } = Bun.spawnSync([...way, ...mounting(folder, "size=1m"), "true"]);
  removeSmallDisk(folder);
  return success;
}

const way = ways.find(works);

export const hasSmallDisk = way !== undefined;

/** Suffix for the names of tests that need a small disk: the reason, if they are skipped. */
export const orWhyNot = hasSmallDisk
  ? ""
  : " (skipped: to mount a small disk, run as root with CAP_SYS_ADMIN or allow user namespaces)";

/**
 * A command that runs another one with a file system mounted at a folder. `options` are those of a tmpfs, such as
 * `size=80m`.
 */
export function onSmallDisk(folder: string, options: string, command: readonly string[]): string[] {
  return [...way!, ...mounting(folder, options), ...command];
}

/** Removes the folder of a disk whose command has exited. */
export function removeSmallDisk(folder: string): void {
  // It is mounted here too if the machine's mounts are shared and could not be made private.
  Bun.spawnSync(["umount", "--lazy", folder], { stderr: "ignore" });
  rmSync(folder, { recursive: true, force: true });
}
