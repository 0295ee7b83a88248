// From the bytes of a request to the fields in them, by the request's content type. Nothing is repaired: a body that
// can be read in more than one way is refused.

import { textNames } from "../../email/fields.ts";
import type { SubmittedFields } from "../submitted_fields.ts";
import { addText, fieldsMax, type FormField, formField, tooManyFields } from "./form_fields.ts";
import { isUtf8, parseHeader } from "./header_value.ts";
import { readJson } from "./json.ts";
import { readMultipart } from "./multipart.ts";
import { decodeUtf8 } from "./utf8.ts";

/** Adds the fields of a body. May overwrite it. Returns why it cannot be read, as a text for the client. */
export type BodyReader = (bytes: Uint8Array, fields: SubmittedFields) => string | undefined;

const plainReaders: ReadonlyMap<string | null, BodyReader> = new Map([
  ["application/x-www-form-urlencoded", readForm],
  ["application/json", readJson],
]);

/** RFC 2046, 5.1.1: 1 to 70 of these characters, the last not a space. */
const boundaryPattern = /^[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]$/;

/** Returns what reads a body with these headers, or why nothing does. */
export function bodyReader(headers: Headers): BodyReader | string {
  const encoding = headers.get("content-encoding");
  if (encoding !== null && encoding.toLowerCase() !== "identity")
    return "a content encoding is not supported";
  if (headers.has("trailer")) return "a trailer is not supported";
  const contentType = headers.get("content-type");
  const plain = plainReaders.get(contentType);
  if (plain !== undefined) return plain;

  const header = parseHeader(contentType ?? "");
  if (header !== undefined && !isUtf8(header)) return "the charset must be UTF-8";
  if (header?.value === "multipart/form-data") {
    const boundary = header.parameters.get("boundary") ?? "";
    if (!boundaryPattern.test(boundary)) return "the content type has no valid boundary";
    return (bytes, fields) => {
      const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
      return readMultipart(view, boundary, fields);
    };
  }
  const message =
    "the content type must be application/x-www-form-urlencoded, multipart/form-data or application/json";
  return plainReaders.get(header?.value ?? null) ?? message;
}

/** Returns the fields of a body, or why it cannot be read. May overwrite the body. */
export function readBody(read: BodyReader, body: Uint8Array): SubmittedFields | string {
  // A byte order mark says how the text is encoded, and is no part of it (RFC 8259, 8.1, for one).
  const hasMark = body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf;
  const fields: SubmittedFields = { values: {}, faults: {} };
  return read(hasMark ? body.subarray(3) : body, fields) ?? fields;
}

/**
 * Bytes of memory that a body takes while it is read, itself included. JSON counts five times: the body, its text and the strings
 * in it, both in up to two bytes per character, and the files in them.
 */
export function readingBytes(read: BodyReader, body: Uint8Array): number {
  return read === readJson ? 5 * body.length : body.length;
}

/** Most known fields of a form, counting every value of a list: each takes far more memory than its text. */
export const knownMax = 1000;

const [ampersand, equals, plus, percent, space] = [0x26, 0x3d, 0x2b, 0x25, 0x20];

/** The value of each byte as a hexadecimal digit, or -1. */
const digits = Int8Array.from({ length: 256 }, (_, byte) => {
  const digit = Number.parseInt(String.fromCharCode(byte), 16);
  return Number.isNaN(digit) ? -1 : digit;
});

/**
 * Reads application/x-www-form-urlencoded as the URL Standard does (url.spec.whatwg.org, 5.1), but refuses what is not
 * valid UTF-8. `URLSearchParams` replaces it, takes up to twice the CPU time, and far more memory for a million fields.
 */
function readForm(bytes: Uint8Array, fields: SubmittedFields): string | undefined {
  // Decoding makes nothing longer, so it is done in place. The separators stay, so that the whole body is checked as
  // UTF-8 at once, and no character reaches over one of them.
  const spans: { field: FormField; start: number; end: number }[] = [];
  let length = 0;
  let count = 0;
  for (let i = 0; i <= bytes.length; i++) {
    count += 1;
    if (count > fieldsMax) return tooManyFields;
    const nameStart = length;
    let nameEnd = -1;
    for (; i < bytes.length; i++) {
      let byte = bytes[i]!;
      // Letters, which are most of a form, come after all four.
      if (byte <= equals) {
        if (byte === ampersand) break;
        if (byte === plus) byte = space;
        else if (byte === equals && nameEnd === -1) nameEnd = length;
        else if (byte === percent) {
          const code = (digits[bytes[i + 1] ?? 0]! << 4) | digits[bytes[i + 2] ?? 0]!;
          // Without two digits behind it, a percent sign stands for itself.
          if (code >= 0) {
            byte = code;
            i += 2;
          }
        }
      }
      bytes[length++] = byte;
    }
    if (nameEnd === -1) nameEnd = length;
    const field = fieldAt(bytes, nameStart, nameEnd);
    if (field !== undefined) {
      spans.push({ field, start: Math.min(nameEnd + 1, length), end: length });
      if (spans.length > knownMax) return `the form has over ${knownMax} known fields`;
    }
    bytes[length++] = ampersand;
  }

  // Not a view of the decoded part, which would cost more than the rest of the form.
  const text = decodeUtf8(bytes.fill(ampersand, length));
  if (text === undefined) return "the form is not valid UTF-8";
  const isAscii = text.length === bytes.length;
  for (const { field, start, end } of spans) {
    addText(fields, field, isAscii ? text.slice(start, end) : decodeUtf8(bytes.subarray(start, end))!);
  }
  return undefined;
}

const encodedNames = textNames.map((name) => ({ field: formField(name)!, bytes: Buffer.from(name) }));
/** First letters of the names that `formField` knows besides those of texts. */
const listInitials: ReadonlySet<number | undefined> = new Set(Buffer.from("abchit"));

/** The field that these bytes name. Creates no string for most names. */
function fieldAt(bytes: Uint8Array, start: number, end: number): FormField | undefined {
  for (const { field, bytes: expected } of encodedNames) {
    if (expected.length !== end - start) continue;
    let i = 0;
    while (i < expected.length && bytes[start + i] === expected[i]) i++;
    if (i === expected.length) return field;
  }
  return listInitials.has(bytes[start]) ? formField(decodeUtf8(bytes.subarray(start, end)) ?? "") : undefined;
}
