// An email, and how it is stored. The stored text is part of the store's format: two adjacent releases read each
// other's emails, so a change here is a change of format.

import {
  type Attachment,
  type FieldKinds,
  type FieldName,
  fieldNames,
  fields,
  type NamesWhere,
  pickFields,
  type ValueOf,
} from "./fields.ts";
import { parseInstant } from "./instant.ts";

type RequiredName = NamesWhere<{ isRequired: true }>;

/** An email as it will be sent: every default resolved, every field checked. */
export type Email = { readonly [name in RequiredName]: string } & {
  readonly [name in Exclude<FieldName, RequiredName>]?: ValueOf<name>;
};

/** All of an email but its content: what the record of a sent email keeps. */
export type Envelope = Pick<Email, NamesWhere<{ storedIn: "envelope" }>>;

const namesStoredIn = <Line extends "envelope" | "content">(line: Line) =>
  fieldNames.filter((name): name is NamesWhere<{ storedIn: Line }> => fields[name].storedIn === line);

/** In stored order: the subject has always been the last of the envelope. */
export const envelopeNames: readonly FieldName[] = [
  ...namesStoredIn("envelope").filter((name) => name !== "subject"),
  "subject",
];
export const contentNames: readonly NamesWhere<{ storedIn: "content" }>[] = namesStoredIn("content");

const hidingNames = fieldNames.filter((name) => "hidesEmail" in fields[name]);

/** Whether an email has a field that the previous release does not know, and is hidden from it. */
export function isHidden(email: Email): boolean {
  return hidingNames.some((name) => email[name] !== undefined);
}

/** Whether its files are stored apart from it, and have to be read before it is sent. */
export function hasFiles({ attachments = [] }: Email): boolean {
  return attachments.length > 0;
}

/** The contents of files, as views of all of them concatenated. */
export function cutFiles<Memory extends ArrayBufferLike>(
  contents: Uint8Array<Memory>,
  attachments: readonly Attachment[],
): readonly Uint8Array<Memory>[] {
  let end = 0;
  return attachments.map(({ size }) => contents.subarray(end, (end += size)));
}

/**
 * The stored text: two lines of JSON, the envelope and the content. A store can drop the content, or measure an email,
 * without parsing it; JSON never holds a raw line feed.
 */
export function encodeEmail(email: Email): string {
  const envelope = JSON.stringify(pickFields(email, envelopeNames));
  return `${envelope}\n${JSON.stringify(pickFields(email, contentNames))}`;
}

/** Most bytes of memory that the stored text of an email takes: JSON makes six characters of a control character. */
export function storedBytesMax(email: Email): number {
  const values = Object.values(email).map((value) =>
    typeof value === "string" ? value : JSON.stringify(value),
  );
  const length = values.reduce((sum, value) => sum + jsonLengthMax(value), namesLength);
  return values.every((value) => storedBytes(value) === value.length) ? length : 2 * length;
}

/** Up to this length a text is taken for the worst case: to look at it costs more than its memory is worth. */
const unscannedMax = 65_536;

/** The worst case of a large text would reserve memory for six emails, and refuse others. */
function jsonLengthMax(text: string): number {
  if (text.length <= unscannedMax) return 6 * text.length;
  let length = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x20) length += 5;
    else if (unit === 0x22 || unit === 0x5c) length += 1;
  }
  return length;
}

/** Length of a stored text without its values: `"name":"",` for each field, two pairs of braces, a line feed. */
const namesLength = fieldNames.reduce((sum, name) => sum + name.length + 6, 5);

/** Bytes of memory that a stored text takes: two a character, unless all of it is ASCII. */
export function storedBytes(text: string): number {
  return Buffer.byteLength(text) === text.length ? text.length : 2 * text.length;
}

/** The inverse of {@link encodeEmail}. Throws on text that it did not write; keeps fields that a later release added. */
export function decodeEmail(text: string): Email {
  const lineEnd = text.indexOf("\n");
  const email: Email = Object.assign(JSON.parse(text.slice(0, lineEnd)), JSON.parse(text.slice(lineEnd + 1)));
  if (!hasFields(email, fieldNames)) throw notAnEmail();
  return email;
}

/** The first line of a stored text: the envelope, still encoded. */
export function envelopeLine(text: string): string {
  const lineEnd = text.indexOf("\n");
  return lineEnd === -1 ? text : text.slice(0, lineEnd);
}

/** Decodes the envelope of a whole stored text or of its first line. Throws like {@link decodeEmail}. */
export function decodeEnvelope(text: string): Envelope {
  const envelope: Envelope = JSON.parse(envelopeLine(text));
  if (!hasFields(envelope, envelopeNames)) throw notAnEmail();
  return envelope;
}

/** The `send_at` of a whole stored text or of its first line, Unix ms. Throws like {@link decodeEmail}. */
export function sendAtMsOf(text: string): number | undefined {
  const { send_at } = decodeEnvelope(text);
  return send_at === undefined ? undefined : parseInstant(send_at);
}

/** Whether a decoded value has the required fields among these, and as text whichever of them it has. */
function hasFields(value: unknown, names: readonly FieldName[]): boolean {
  if (typeof value !== "object" || value === null) return false;
  const given = value as Readonly<Record<string, unknown>>;
  for (const name of names) {
    const field = given[name];
    const isAbsent = field === undefined && !fields[name].isRequired;
    if (!isAbsent && !isOfKind[fields[name].kind](field)) return false;
  }
  return true;
}

const isText = (value: unknown) => typeof value === "string";
const isListOf = (isOne: (value: unknown) => boolean) => (value: unknown) =>
  Array.isArray(value) && value.every(isOne);

const isOfKind: Readonly<Record<keyof FieldKinds, (value: unknown) => boolean>> = {
  text: isText,
  addresses: isListOf(isText),
  pairs: isListOf(isListOf(isText)),
  files: isListOf((value) => {
    const { filename, content_type, size, sha256 } = (value ?? {}) as Readonly<Record<string, unknown>>;
    return [filename, content_type, sha256].every(isText) && Number.isSafeInteger(size);
  }),
};

/** Quotes nothing of the text, since errors may be logged. */
function notAnEmail(): Error {
  return new TypeError("the stored text is no email");
}
