// An email as the text of a file that mail readers open: RFC 5322 and MIME.

import MailComposer from "nodemailer/lib/mail-composer";
import { encodeWord, foldLines } from "nodemailer/lib/mime-funcs";
import { formatMailbox } from "../../email/address.ts";
import { attachedFiles, type OutgoingEmail } from "../provider.ts";

/** Length to which header lines are folded, and of an encoded word that fits into such a line, octets. */
const foldMax = 76;
const encodedWordMax = 52;

/**
 * The bytes depend on the arguments alone, not on a clock or randomness. Bcc is left out, as in what recipients get.
 * @param one its id is a UUIDv7, whose timestamp becomes the email's date
 */
export async function composeEml(one: OutgoingEmail, batchId: string): Promise<Buffer> {
  const { id, email } = one;
  const composer = new MailComposer({
    messageId: `<${id}@reliable-email.invalid>`,
    // The first 48 bits of a UUIDv7 are Unix ms (RFC 9562, 5.7).
    date: new Date(Number.parseInt(id.replace("-", "").slice(0, 12), 16)),
    text: withCrlf(email.body),
    ...(email.html !== undefined && { html: withCrlf(email.html) }),
    attachments: attachedFiles(one).map(partOf),
    newline: "win",
    // An email's author cannot know its id, so no text contains the boundary.
    baseBoundary: id,
    // No field is a path or URL to load. If one ever looks like it, nodemailer must refuse.
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  const header = headersOf(one, batchId).map((line) => `${line}\r\n`);
  return Buffer.concat([Buffer.from(header.join("")), await composer.compile().build()]);
}

/** The lines of all headers except MIME's, some of which nodemailer would encode or rewrite. */
function headersOf({ email, id }: OutgoingEmail, batchId: string): string[] {
  const { tags = [], cc, reply_to, headers = [] } = email;
  const lines = [
    `X-Reliable-Email-Id: ${id}`,
    `X-Reliable-Email-Batch: ${batchId}`,
    ...tags.map(([name, value]) => `X-Reliable-Email-Tag: ${name}=${value}`),
    `From: ${encodeMailbox(email.from, email.from_name)}`,
    `To: ${encodeMailbox(email.to, email.to_name)}`,
    ...(cc === undefined ? [] : [`Cc: ${cc.join(", ")}`]),
    ...(reply_to === undefined ? [] : [`Reply-To: ${reply_to}`]),
    `Subject: ${encodeText(email.subject)}`,
  ];
  // The given headers are written unchanged, because mail readers treat folded or encoded ones differently.
  return [...lines.map((line) => foldLines(line, foldMax)), ...headers.map((pair) => pair.join(": "))];
}

function partOf({ filename, content_type, content_id, content }: ReturnType<typeof attachedFiles>[number]) {
  return {
    filename,
    content: Buffer.from(content.buffer, content.byteOffset, content.byteLength),
    // nodemailer writes base64, which keeps every byte, except in composite types: MIME forbids it there.
    contentType: /^(message|multipart)\//i.test(content_type) ? "application/octet-stream" : content_type,
    ...(content_id !== undefined && { cid: content_id }),
  };
}

function encodeMailbox(address: string, name = ""): string {
  return name === "" || isPlain(name) ? formatMailbox(address, name) : `${encodeText(name)} <${address}>`;
}

function encodeText(text: string): string {
  return isPlain(text) ? text : encodeWord(text, "Q", encodedWordMax);
}

/** Whether every mail reader shows a text unchanged: ASCII words that fold, one space apart, and no encoded word. */
function isPlain(text: string): boolean {
  const folds = text.split(" ").every(({ length }) => length < foldMax - "Subject: ".length);
  return folds && /^[!-~]+(?: [!-~]+)*$/.test(text) && !text.includes("=?");
}

/** MIME's only line end is CRLF; neither half of it may occur alone. */
function withCrlf(text: string): string {
  return text.replace(/\r\n|\r|\n/g, "\r\n");
}
