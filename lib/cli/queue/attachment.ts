// `queue show --attachment`: writes one file of an email to stdout. The sender chose its name, so it is not used.

import { cutFiles } from "../../email/email.ts";
import type { StoredEmail } from "../../queue/contract.ts";
import type { ExitCode } from "../command.ts";
import { formatCount } from "../format.ts";
import { complain, Failure, printBytes } from "../output.ts";
import { emailFields } from "./email_fields.ts";
import { type QueueSession, stateOf } from "./session.ts";

/** Throws {@link Failure} if the email does not have this file, or no longer has it. @param number from 1 */
export async function printAttachment(
  { admin }: Pick<QueueSession, "admin">,
  stored: StoredEmail,
  number: number,
): Promise<ExitCode> {
  const { id, state } = stored;
  const fail = (reason: string) => new Failure(`${id} ${reason}`);
  if (isGone(state)) throw fail(goneTexts[state]);
  const attachments = emailFields(stored).attachments.value ?? [];
  const wanted = attachments[number - 1];
  if (wanted === undefined) throw fail(`has ${formatCount(attachments.length, "attachment")}`);
  const contents = await admin.readFiles(id);
  if (contents === undefined) {
    const now = await stateOf(admin, id);
    throw fail(isGone(now) ? goneTexts[now] : "has lost its attachments: they are missing from the store");
  }
  const content = cutFiles(contents, attachments)[number - 1]!;
  printBytes(content);
  if (Bun.SHA256.hash(content, "hex") === wanted.sha256) return 0;
  complain(`Attachment ${number} of ${id} is damaged: its SHA-256 is not that of the submitted file`);
  return 1;
}

const goneTexts = {
  sent: "was sent: its content is no longer kept",
  deleted: "was deleted: nothing of it is kept",
} as const;

const isGone = (state: string): state is keyof typeof goneTexts => Object.hasOwn(goneTexts, state);
