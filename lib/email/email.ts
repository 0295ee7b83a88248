// What an email is once it has been accepted, and how it is stored. The stored form is part of the store's
// format: two adjacent releases read each other's emails, so a change here is a change of format.

/** An email as it will be sent: every default resolved, every field checked. Names are those of the interface. */
export interface Email {
  readonly to: string;
  readonly to_name?: string;
  readonly from: string;
  readonly from_name?: string;
  readonly reply_to?: string;
  readonly subject: string;
  readonly body: string;
  readonly html?: string;
}

/** All of an email but `body` and `html`: what the record of a sent email keeps. */
export type Envelope = Omit<Email, "body" | "html">;

/**
 * The stored text: two lines of JSON, the envelope and the content. A store can so cut the content off,
 * or measure an email, without parsing it; JSON never holds a raw line feed.
 */
export function encodeEmail(email: Email): string {
  const { body, html, ...envelope } = email;
  return `${JSON.stringify(envelope)}\n${JSON.stringify({ body, html })}`;
}

/**
 * Bytes of memory that the stored text of an email will take at most. JSON makes six characters of a control character,
 * and a text takes two bytes a character unless all of it is ASCII.
 */
export function storedBytesMax(email: Email): number {
  let chars = namesCharsMax;
  let isAscii = true;
  for (const value of Object.values<string>({ ...email })) {
    chars += jsonLengthMax(value);
    isAscii &&= Buffer.byteLength(value) === value.length;
  }
  return isAscii ? chars : 2 * chars;
}

/** Bytes of memory that a stored text takes. */
export function storedBytes(text: string): number {
  return Buffer.byteLength(text) === text.length ? text.length : 2 * text.length;
}

/** The names of all fields, and what stands between them. */
const namesCharsMax = 128;
/** Up to here a text is taken for the worst case, since to look at it costs more than its room is worth. */
const unseenMax = 65_536;

function jsonLengthMax(text: string): number {
  if (text.length <= unseenMax) return 6 * text.length;
  let length = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x20) length += 5;
    else if (unit === 0x22 || unit === 0x5c) length += 1;
  }
  return length;
}

/** The inverse of {@link encodeEmail}. Throws on text that it did not write. */
export function decodeEmail(text: string): Email {
  const lineEnd = text.indexOf("\n");
  const email = { ...JSON.parse(text.slice(0, lineEnd)), ...JSON.parse(text.slice(lineEnd + 1)) };
  if (!isEnvelope(email) || !("body" in email) || typeof email.body !== "string") throw notAnEmail();
  if ("html" in email && typeof email.html !== "string") throw notAnEmail();
  return email as Email;
}

/** The first line of a stored text: the envelope, still encoded. */
export function envelopeLine(text: string): string {
  const lineEnd = text.indexOf("\n");
  return lineEnd === -1 ? text : text.slice(0, lineEnd);
}

/** The envelope alone, of a whole stored text or of its first line. Throws like {@link decodeEmail}. */
export function decodeEnvelope(text: string): Envelope {
  const envelope: unknown = JSON.parse(envelopeLine(text));
  if (!isEnvelope(envelope)) throw notAnEmail();
  return envelope;
}

/** Of any JSON: what is read of it has its type. What a later release adds is let be. */
function isEnvelope(value: unknown): value is Envelope {
  if (typeof value !== "object" || value === null) return false;
  const { to, from, subject, to_name = "", from_name = "", reply_to = "" } = value as Record<string, unknown>;
  return [to, from, subject, to_name, from_name, reply_to].every((text) => typeof text === "string");
}

/** Without a word of it: what is thrown may be logged. */
function notAnEmail(): Error {
  return new TypeError("the stored text is no email");
}
