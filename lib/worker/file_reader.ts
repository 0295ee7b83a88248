// Reads the files of a batch from the store, and checks their digests.

import type { Attachment } from "../email/fields.ts";
import type { DecodedEmail } from "../policy/batch.ts";
import type { OutgoingEmail } from "../providers/provider.ts";
import type { Consumer } from "../queue/contract.ts";

/**
 * Rejects with `StoreUnavailable` if the store did not answer.
 * @returns the emails with their files; `lost`: ids of emails whose files are missing or damaged
 */
export async function readFiles(
  consumer: Pick<Consumer, "readFiles">,
  emails: readonly DecodedEmail[],
): Promise<{ readonly emails: readonly OutgoingEmail[]; readonly lost: ReadonlySet<string> }> {
  const lost = new Set<string>();
  const read = async (one: DecodedEmail): Promise<OutgoingEmail> => {
    const { attachments = [] } = one.email;
    if (attachments.length === 0) return one;
    const bytes = await consumer.readFiles(one.id);
    const files = bytes && cut(bytes, attachments);
    if (files !== undefined) return { ...one, files };
    lost.add(one.id);
    return one;
  };
  const whole = await Promise.all(emails.map(read));
  return { emails: whole, lost };
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
