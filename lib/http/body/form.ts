// application/x-www-form-urlencoded, by the parser of the URL Standard (url.spec.whatwg.org, 5.1) but for one
// thing: bytes that are not valid UTF-8 are refused instead of replaced.

import {
  type BodyResult,
  type FieldName,
  fieldNames,
  giveField,
  knownField,
  nameLengths,
  noFields,
} from "../../email/fields.ts";
import { decodeUtf8 } from "./utf8.ts";

const ampersand = 0x26;
const equals = 0x3d;
const plus = 0x2b;
const percent = 0x25;
const space = 0x20;

/** The value of a hexadecimal digit, or -1, by its byte. */
const digits = Int8Array.from({ length: 256 }, (_, byte) => {
  const digit = Number.parseInt(String.fromCharCode(byte), 16);
  return Number.isNaN(digit) ? -1 : digit;
});

/**
 * A `%` without two hexadecimal digits behind it stands for itself. Written by hand since this is the hot path.
 * @param bytes are overwritten: decoding never makes them longer
 */
export function parseForm(bytes: Uint8Array): BodyResult {
  const fields = noFields();
  // The decoded bytes, the separators in their places: one check of the UTF-8 then serves the whole body, and a
  // character cannot reach over a separator.
  const out = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const slices: { name: FieldName; start: number; end: number }[] = [];
  let length = 0;
  let nameStart = 0;
  let nameEnd = -1;

  /** The third of a name says no more than the second, and there may be a million of them. */
  function isTwice(name: FieldName): boolean {
    return slices.length > fieldNames.length && slices.filter((slice) => slice.name === name).length > 1;
  }

  function endPair(): void {
    const end = nameEnd === -1 ? length : nameEnd;
    const nameLength = end - nameStart;
    if (nameLength >= nameLengths.min && nameLength <= nameLengths.max) {
      const name = knownField(out.toString("latin1", nameStart, end));
      if (name === undefined || isTwice(name)) return;
      slices.push({ name, start: nameEnd === -1 ? length : nameEnd + 1, end: length });
    }
  }

  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i]!;
    if (byte === percent && i + 2 < bytes.length) {
      const high = digits[bytes[i + 1]!]!;
      const low = digits[bytes[i + 2]!]!;
      if (high !== -1 && low !== -1) {
        out[length++] = high * 16 + low;
        i += 2;
        continue;
      }
    } else if (byte === plus) {
      out[length++] = space;
      continue;
    } else if (byte === equals && nameEnd === -1) {
      nameEnd = length;
    } else if (byte === ampersand) {
      endPair();
      out[length++] = byte;
      nameStart = length;
      nameEnd = -1;
      continue;
    }
    out[length++] = byte;
  }
  endPair();

  const text = decodeUtf8(out.subarray(0, length));
  if (text === undefined) return { ok: false, message: "the form is not valid UTF-8" };
  const ascii = text.length === length;
  for (const { name, start, end } of slices) {
    giveField(fields, name, ascii ? text.slice(start, end) : decodeUtf8(out.subarray(start, end))!);
  }
  return { ok: true, fields };
}
