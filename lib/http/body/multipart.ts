// multipart/form-data (RFC 7578) as browsers, curl and the common libraries write it. Anything that would have to
// be guessed, repaired or left out makes the form unreadable, since a part of an email could be lost that way; a
// general parser is more forgiving.

import {
  type BodyResult,
  faultField,
  type Fields,
  giveField,
  knownField,
  noFields,
} from "../../email/fields.ts";
import { isUtf8, parseHeader, trimBlanks } from "./header_parameters.ts";
import { decodeUtf8 } from "./utf8.ts";

/** Longest head of a part, bytes. */
const headMax = 8192;

const lineEnd = "\r\n";

/** Thrown and caught in this file. The message is for the client. */
class Malformed extends Error {}

/** @param boundary of the content type */
export function parseMultipart(bytes: Uint8Array, boundary: string): BodyResult {
  const fields = noFields();
  try {
    for (const part of parts(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), boundary)) {
      readPart(fields, part);
    }
  } catch (error) {
    if (error instanceof Malformed) return { ok: false, message: `the form ${error.message}` };
    throw error;
  }
  return { ok: true, fields };
}

/** The parts between the delimiters. The first delimiter opens the body, and nothing follows the last. */
function* parts(bytes: Buffer, boundary: string): Generator<Buffer> {
  const opening = Buffer.from(`--${boundary}`, "latin1");
  const delimiter = Buffer.from(`${lineEnd}--${boundary}`, "latin1");
  if (!bytes.subarray(0, opening.length).equals(opening)) {
    throw new Malformed("does not begin with its boundary");
  }

  let behind = opening.length;
  while (!isClosing(bytes, behind)) {
    const start = lineAfter(bytes, behind);
    if (start === undefined) throw new Malformed("holds its boundary where none can be");
    // The line end behind a boundary may be the one before the next.
    const end = bytes.indexOf(delimiter, start - lineEnd.length);
    if (end === -1) throw new Malformed("is cut off before its closing boundary");
    yield bytes.subarray(start, Math.max(start, end));
    behind = end + delimiter.length;
  }
}

/** Whether the boundary before `position` is the closing one, with nothing but white space behind it. */
function isClosing(bytes: Buffer, position: number): boolean {
  if (bytes[position] !== 0x2d || bytes[position + 1] !== 0x2d) return false;
  for (let i = position + 2; i < bytes.length; i++) {
    const byte = bytes[i];
    if (byte !== 0x20 && byte !== 0x09 && byte !== 0x0d && byte !== 0x0a) return false;
  }
  return true;
}

/** Where the line behind a boundary begins; undefined when the boundary's own line goes on. */
function lineAfter(bytes: Buffer, position: number): number | undefined {
  let i = position;
  while (bytes[i] === 0x20 || bytes[i] === 0x09) i++;
  return bytes[i] === 0x0d && bytes[i + 1] === 0x0a ? i + 2 : undefined;
}

function readPart(fields: Fields, part: Buffer): void {
  const headEnd = part.indexOf(lineEnd + lineEnd);
  if (headEnd === -1 || headEnd > headMax) throw new Malformed("has a part without a head");
  const headers = readHead(part.subarray(0, headEnd));
  const content = part.subarray(headEnd + 2 * lineEnd.length);

  const disposition = parseHeader(headers.get("content-disposition") ?? "");
  const given = disposition?.parameters.get("name");
  if (disposition?.value !== "form-data" || given === undefined) {
    throw new Malformed("has a part without a name");
  }
  const name = knownField(given);
  if (disposition.parameters.has("filename") || disposition.parameters.has("filename*")) {
    if (name !== undefined) faultField(fields, name, "is a file");
    return;
  }

  const type = headers.get("content-type");
  const parsedType = type === undefined ? undefined : parseHeader(type);
  if (type !== undefined && (parsedType === undefined || !isUtf8(parsedType))) {
    throw new Malformed("has a part that declares another charset than UTF-8");
  }
  if (!/^(?:7bit|8bit|binary)?$/i.test(headers.get("content-transfer-encoding") ?? "")) {
    throw new Malformed("has a part with a transfer encoding");
  }
  const value = decodeUtf8(content);
  if (value === undefined) throw new Malformed("is not valid UTF-8");
  if (name !== undefined) giveField(fields, name, value);
}

/** A part's headers by name in lower case. */
function readHead(bytes: Buffer): Map<string, string> {
  const text = decodeUtf8(bytes);
  if (text === undefined) throw new Malformed("is not valid UTF-8");
  const headers = new Map<string, string>();
  for (const line of text.split(lineEnd)) {
    const [, name, value] = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([^\r\n\0]*)$/.exec(line) ?? [];
    if (name === undefined || value === undefined || headers.has(name.toLowerCase())) {
      throw new Malformed("has a part with a malformed head");
    }
    headers.set(name.toLowerCase(), trimBlanks(value));
  }
  return headers;
}
