// Reads the files of a batch from the store, and checks their digests.

import { cutFiles } from "../email/email.ts";
import type { DecodedEmail } from "../policy/batch.ts";
import { fileBytes } from "../policy/request_budget.ts";
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
    const contents = await consumer.readFiles(one.id);
    const files = contents?.length === fileBytes(one.email) ? cutFiles(contents, attachments) : [];
    const digests = files.map((file) => Bun.SHA256.hash(file, "hex"));
    if (attachments.every(({ sha256 }, i) => sha256 === digests[i])) return { ...one, files };
    lost.add(one.id);
    return one;
  };
  const whole = await Promise.all(emails.map(read));
  return { emails: whole, lost };
}
