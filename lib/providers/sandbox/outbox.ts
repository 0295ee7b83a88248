// A folder of emails, a file each. A file appears whole and on disk or not at all, is never written over, and is
// written once for each batch, whoever else is writing at the same time.

import { errorCode } from "../../runtime/errors.ts";
import { constants } from "node:fs";
import { link, open, unlink } from "node:fs/promises";
import { join } from "node:path";
import { batchOfEml, type EmlIds } from "./eml.ts";

/** Enough for the headers that say whose a file is: they are the first. */
const beginningBytes = 512;

/** Errors of `link` that leave no doubt: a disk or a network that fails in between is not among them. */
const notLinked = new Set([
  "EACCES",
  "EDQUOT",
  "EMLINK",
  "ENOSPC",
  "ENOTSUP",
  "EOPNOTSUPP",
  "EPERM",
  "EROFS",
  "EXDEV",
]);

/** Whether a batch's email has its file, and if not, from which number on there may be room. */
export type OutboxFile =
  { readonly kind: "taken"; readonly name: string } | { readonly kind: "free"; readonly number: number };

/** Looks for the file of an email that was written for this batch. */
export async function findFile(folder: string, ids: EmlIds, from = 1): Promise<OutboxFile> {
  for (let number = from; ; number++) {
    const beginning = await readBeginning(join(folder, fileName(ids, number)));
    if (beginning === undefined) return { kind: "free", number };
    if (batchOfEml(beginning) !== ids.batchId) continue;
    // What a process leaves that was killed between the two.
    await removeIfThere(join(folder, temporaryName(ids)));
    return { kind: "taken", name: nameOf(ids, number) };
  }
}

/**
 * Writes the file at a place that was free, or at the next that is. Its name is on disk after {@link syncFolder}.
 * @param mayBeThere is called once the email may have its file, also if what follows fails
 */
export async function putFile(
  folder: string,
  ids: EmlIds,
  bytes: Uint8Array,
  { from, mayBeThere }: { readonly from: number; readonly mayBeThere: () => void },
): Promise<string> {
  const temporary = join(folder, temporaryName(ids));
  for (let number = from; ;) {
    try {
      await writeWhole(temporary, bytes);
    } catch (error) {
      // On a full disk every byte counts, and perhaps nobody comes back for these.
      await removeIfThere(temporary).catch(() => {});
      throw error;
    }
    try {
      await link(temporary, join(folder, fileName(ids, number)));
    } catch (error) {
      const code = errorCode(error);
      if (code !== "EEXIST" && code !== "ENOENT") {
        if (code === undefined || !notLinked.has(code)) mayBeThere();
        await removeIfThere(temporary).catch(() => {});
        throw error;
      }
      // Another came first: with another batch to this place, or with the same one, which is all that is wanted.
      const place = await findFile(folder, ids, number);
      if (place.kind === "free") {
        number = place.number;
        continue;
      }
      mayBeThere();
      return place.name;
    }
    mayBeThere();
    await removeIfThere(temporary);
    return nameOf(ids, number);
  }
}

/** Rejects if no file can be written there; leaves none behind. */
export async function tryOutbox(folder: string): Promise<void> {
  const path = join(folder, `.try.${process.pid}.tmp`);
  try {
    await writeWhole(path, Buffer.from("x"));
  } finally {
    await removeIfThere(path).catch(() => {});
  }
}

/**
 * Without truncating it first: what is there can be the same file, of a worker that holds the same batch, and by
 * now under its last name as well. The bytes are the same, so that it is whole all the time.
 */
async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  const handle = await open(path, constants.O_WRONLY | constants.O_CREAT, 0o600);
  try {
    for (let done = 0; done < bytes.length;) {
      done += (await handle.write(bytes, done, bytes.length - done, done)).bytesWritten;
    }
    await handle.truncate(bytes.length);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function readBeginning(path: string): Promise<string | undefined> {
  try {
    const handle = await open(path);
    try {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(beginningBytes), 0, beginningBytes, 0);
      return buffer.toString("latin1", 0, bytesRead);
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

async function removeIfThere(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
  }
}

/** The first is named as the email alone; another is a second delivery. */
function nameOf({ emailId }: EmlIds, number: number): string {
  return number === 1 ? emailId : `${emailId}.${number}`;
}

function fileName(ids: EmlIds, number: number): string {
  return `${nameOf(ids, number)}.eml`;
}

function temporaryName({ emailId, batchId }: EmlIds): string {
  return `.${batchId}.${emailId}.tmp`;
}
