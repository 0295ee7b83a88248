// One email as the text of a file: RFC 5322 and MIME, composed by nodemailer. The bytes are a function of the email
// and of the two ids alone, without a clock and without chance: two that write the same write the same bytes.

import MailComposer from "nodemailer/lib/mail-composer";
import { encodeWord } from "nodemailer/lib/mime-funcs";
import type { Email } from "../email.ts";

/** Octets of a line that headers are folded to, and of an encoded word so that it fits. */
const foldMax = 76;
const encodedWordMax = 52;

export interface EmlIds {
  /** UUIDv7: the time in it is the email's date. */
  readonly emailId: string;
  readonly batchId: string;
}

/** The header fields come first that {@link batchOfEml} looks for, so that it needs only the beginning. */
export async function composeEml(email: Email, { emailId, batchId }: EmlIds): Promise<Buffer> {
  const composer = new MailComposer({
    headers: {
      "X-Reliable-Email-Id": emailId,
      "X-Reliable-Email-Batch": batchId,
      Subject: { prepared: true, foldLines: true, value: encodeSubject(email.subject) },
    },
    from: { name: email.from_name ?? "", address: email.from },
    to: { name: email.to_name ?? "", address: email.to },
    ...(email.reply_to !== undefined && { replyTo: { name: "", address: email.reply_to } }),
    messageId: `<${emailId}@reliable-email.invalid>`,
    date: new Date(timeOf(emailId)),
    text: withCrlf(email.body),
    ...(email.html !== undefined && { html: withCrlf(email.html) }),
    newline: "win",
    // It would write `ID`, as in `Message-ID`.
    normalizeHeaderKey: (key) => (key === "X-Reliable-Email-ID" ? "X-Reliable-Email-Id" : key),
    // Nobody who writes an email knows its id before: no text can hold the boundary.
    baseBoundary: emailId,
    // Nothing here names a file or an address to fetch. If something ever does, it is refused.
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  return composer.compile().build();
}

/** The batch that a file was written for, by its first 512 bytes or more; undefined if it is none of ours. */
export function batchOfEml(beginning: string): string | undefined {
  return /^X-Reliable-Email-Batch: (\S+)\r$/m.exec(beginning.split("\r\n\r\n", 1)[0]!)?.[1];
}

/** MIME knows one line end, and neither half of it alone. */
function withCrlf(text: string): string {
  return text.replace(/\r\n|\r|\n/g, "\r\n");
}

/**
 * nodemailer would leave a subject that looks encoded as it is, to be decoded by who reads it, and a long word on a
 * line that is longer than lines may be.
 */
function encodeSubject(subject: string): string {
  const isPlain = /^[!-~]+(?: [!-~]+)*$/.test(subject) && !subject.includes("=?");
  const folds = subject.split(" ").every(({ length }) => length < foldMax - "Subject: ".length);
  return isPlain && folds ? subject : encodeWord(subject, "Q", encodedWordMax);
}

/** Unix ms: the first 48 bits of a UUIDv7 (RFC 9562, 5.7). */
function timeOf(id: string): number {
  return Number.parseInt(id.replace("-", "").slice(0, 12), 16);
}
