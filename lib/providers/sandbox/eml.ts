// One email as the text of a file: RFC 5322 and MIME, composed by nodemailer. The bytes are a function of the email
// and of the two ids alone, without a clock and without chance: two that write the same write the same bytes.

import MailComposer from "nodemailer/lib/mail-composer";
import { encodeWord } from "nodemailer/lib/mime-funcs";
import type { Email } from "../../email/email.ts";

/** Octets of a line that headers are folded to, and of an encoded word so that it fits. */
const foldMax = 76;
const encodedWordMax = 52;

// nodemailer lets nobody else write `From` and `To`: they get their names at the end.
const [encodedFrom, encodedTo] = ["X-Encoded-From", "X-Encoded-To"];
const headerNames: Readonly<Record<string, string>> = {
  [encodedFrom]: "From",
  [encodedTo]: "To",
  // It would write `ID`, as in `Message-ID`.
  "X-Reliable-Email-ID": "X-Reliable-Email-Id",
};

export interface EmlIds {
  /** UUIDv7: the time in it is the email's date. */
  readonly emailId: string;
  readonly batchId: string;
}

/** The header fields come first that {@link batchOfEml} looks for, so that it needs only the beginning. */
export async function composeEml(email: Email, { emailId, batchId }: EmlIds): Promise<Buffer> {
  const { from, from_name, to, to_name } = email;
  const composer = new MailComposer({
    headers: {
      "X-Reliable-Email-Id": emailId,
      "X-Reliable-Email-Batch": batchId,
      ...(looksEncoded(from_name) && { [encodedFrom]: encodedMailbox(from_name, from) }),
      ...(looksEncoded(to_name) && { [encodedTo]: encodedMailbox(to_name, to) }),
      Subject: { prepared: true, foldLines: true, value: encodeSubject(email.subject) },
    },
    ...(!looksEncoded(from_name) && { from: { name: from_name ?? "", address: from } }),
    ...(!looksEncoded(to_name) && { to: { name: to_name ?? "", address: to } }),
    ...(email.reply_to !== undefined && { replyTo: { name: "", address: email.reply_to } }),
    messageId: `<${emailId}@reliable-email.invalid>`,
    date: new Date(timeOf(emailId)),
    text: withCrlf(email.body),
    ...(email.html !== undefined && { html: withCrlf(email.html) }),
    newline: "win",
    normalizeHeaderKey: (key) => headerNames[key] ?? key,
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

/** Whether a reader may decode a name. nodemailer only quotes it then, and most readers decode it even in quotes. */
function looksEncoded(name: string | undefined): name is string {
  return name !== undefined && name.includes("=?");
}

function encodedMailbox(name: string, address: string): string {
  return `${encodeWord(name, "Q", encodedWordMax)} <${address}>`;
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
