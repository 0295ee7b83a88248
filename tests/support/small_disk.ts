// A small file system of a test's own, for what happens when a disk is full: mounted for the command that runs on it,
// and gone with it.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** How a command gets mounts of its own, in order of preference. */
const ways = [
  // A user namespace, for any user. The kernel refuses it in a chroot.
  ["unshare", "--map-root-user", "--mount"],
  // As root. In a chroot, `/` is no mount whose propagation could be changed.
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

/** Ends the name of a test that needs one: where the test is skipped, it says why. */
export const orWhyNot = hasSmallDisk
  ? ""
  : " (skipped: to mount a small disk, run as root with CAP_SYS_ADMIN or allow user namespaces)";

/** The command that runs another with a file system mounted at a folder. `options` are those of a tmpfs, such as `size=80m`. */
export function onSmallDisk(folder: string, options: string, command: readonly string[]): string[] {
  return [...way!, ...mounting(folder, options), ...command];
}

/** Removes the folder of one whose command has ended. */
export function removeSmallDisk(folder: string): void {
  // It is mounted here as well if the mounts of this machine are shared and could not be made private.
  Bun.spawnSync(["umount", "--lazy", folder], { stderr: "ignore" });
  rmSync(folder, { recursive: true, force: true });
}
