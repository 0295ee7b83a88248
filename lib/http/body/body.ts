// From the bytes of a request to the fields in them, by the request's content type. Nothing is repaired: a body that
// can be read in more than one way is refused.

import { type FieldName, isFieldName } from "../../email/fields.ts";
import { addField, type SubmittedFields } from "../submission.ts";
import { readJson } from "./json.ts";
import { decodeUtf8, isUtf8, parseHeader, readMultipart } from "./multipart.ts";

/** Adds the fields of a body. May overwrite it. Returns why it cannot be read, as a text for the client. */
export type BodyReader = (bytes: Buffer, fields: SubmittedFields) => string | undefined;

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
  const contentType = headers.get("content-type");
  const plain = plainReaders.get(contentType);
  if (plain !== undefined) return plain;

  const header = parseHeader(contentType ?? "");
  if (header !== undefined && !isUtf8(header)) return "the charset must be UTF-8";
  if (header?.value === "multipart/form-data") {
    const boundary = header.parameters.get("boundary") ?? "";
    if (!boundaryPattern.test(boundary)) return "the content type has no valid boundary";
    return (bytes, fields) => readMultipart(bytes, boundary, fields);
  }
  const message =
    "the content type must be application/x-www-form-urlencoded, multipart/form-data or application/json";
  return plainReaders.get(header?.value ?? null) ?? message;
}

/** Returns the fields of a body, or why it cannot be read. May overwrite the body. */
export function readBody(read: BodyReader, body: Uint8Array): SubmittedFields | string {
  // A byte order mark says how the text is encoded, and is no part of it (RFC 8259, 8.1, for one).
  const mark = body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf ? 3 : 0;
  const fields: SubmittedFields = { values: {}, faults: {} };
  return read(Buffer.from(body.buffer, body.byteOffset + mark, body.length - mark), fields) ?? fields;
}

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
function readForm(bytes: Buffer, fields: SubmittedFields): string | undefined {
  // Decoding makes nothing longer, so it is done in place. The separators stay, so that the whole body is checked as
  // UTF-8 at once, and no character reaches over one of them.
  const spans = new Map<FieldName, readonly [start: number, end: number]>();
  const end = bytes.length;
  let length = 0;
  let nameStart = 0;
  let nameEnd = -1;
  for (let i = 0; i <= end; i++) {
    let byte = i === end ? ampersand : bytes[i]!;
    // Letters, which are most of a form, come after all four.
    if (byte <= equals) {
      if (byte === plus) byte = space;
      else if (byte === equals && nameEnd === -1) nameEnd = length;
      else if (byte === percent) {
        const code = (digits[bytes[i + 1] ?? 0]! << 4) | digits[bytes[i + 2] ?? 0]!;
        // Without two digits behind it, a percent sign stands for itself.
        if (code >= 0) {
          byte = code;
          i += 2;
        }
      } else if (byte === ampersand) {
        const name = bytes.toString("latin1", nameStart, nameEnd === -1 ? length : nameEnd);
        if (isFieldName(name)) {
          if (spans.has(name)) fields.faults[name] = "is given twice";
          spans.set(name, [nameEnd === -1 ? length : nameEnd + 1, length]);
        }
        nameStart = length + 1;
        nameEnd = -1;
      }
    }
    bytes[length++] = byte;
  }

  const decoded = bytes.subarray(0, length - 1);
  const text = decodeUtf8(decoded);
  if (text === undefined) return "the form is not valid UTF-8";
  const isAscii = text.length === decoded.length;
  for (const [name, [start, end]] of spans) {
    addField(fields, name, isAscii ? text.slice(start, end) : decodeUtf8(decoded.subarray(start, end))!);
  }
  return undefined;
}
