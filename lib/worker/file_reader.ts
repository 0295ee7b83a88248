// Reads the files of a batch from the store, and checks their digests.

import { hasFiles } from "../email/email.ts";
import type { Attachment } from "../email/fields.ts";
import type { DecodedEmail } from "../policy/batch.ts";
import type { Consumer } from "../queue/contract.ts";

export interface BatchFiles {
  /** By id of the email, in the order of its attachments. */
  readonly contents: ReadonlyMap<string, readonly Uint8Array[]>;
  /** Ids of emails whose files are missing or damaged. */
  readonly lost: ReadonlySet<string>;
}

export const noFiles: BatchFiles = { contents: new Map(), lost: new Set() };

/** Rejects with `StoreUnavailable` if the store did not answer. */
export async function readFiles(
  consumer: Pick<Consumer, "readFiles">,
  emails: readonly DecodedEmail[],
): Promise<BatchFiles> {
  const contents = new Map<string, readonly Uint8Array[]>();
  const lost = new Set<string>();
  const read = async ({ id, email }: DecodedEmail) => {
    const bytes = await consumer.readFiles(id);
    const files = bytes && cut(bytes, email.attachments ?? []);
    if (files === undefined) lost.add(id);
    else contents.set(id, files);
  };
  await Promise.all(emails.filter(({ email }) => hasFiles(email)).map(read));
  return { contents, lost };
}

/** Cuts concatenated contents into files; undefined if a size or digest does not match. */
function cut(bytes: Uint8Array, attachments: readonly Attachment[]): readonly Uint8Array[] | undefined {
  let end = 0;
  const files: Uint8Array[] = [];
  for (const { size, sha256 } of attachments) {
    const file = bytes.subarray(end, end + size);
    if (new Bun.CryptoHasher("sha256").update(file).digest("hex") !== sha256) return undefined;
    files.push(file);
    end += size;
  }
  return end === bytes.byteLength ? files : undefined;
}
