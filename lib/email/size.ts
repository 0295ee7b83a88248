// The size of an email as the providers count it.

import { type FieldValues, fieldNames } from "./fields.ts";

/** Most bytes of an email: Postmark's 10 MB, the smaller of the two providers' limits. */
export const emailBytesMax = 10_000_000;
/** Most bytes of the files of an email: in base64 they take a third more. */
export const filesBytesMax = (emailBytesMax / 4) * 3;

/**
 * Bytes of an email: every text in UTF-8 (body, HTML, subject, addresses, names, headers, tags), and each file in base64
 * with its name, type and content id. Postmark's limit may be 10 × 1024²: the difference, 485,760 bytes, is more than
 * the line ends in the base64 of the largest files (2.6 %) and what a provider adds.
 */
export function emailBytes(email: Readonly<FieldValues>): number {
  let bytes = 0;
  for (const name of fieldNames) {
    const value = email[name];
    if (typeof value === "string") bytes += Buffer.byteLength(value);
    for (const item of Array.isArray(value) ? value : []) bytes += itemBytes(item);
  }
  return bytes;
}

type Item = Exclude<FieldValues[keyof FieldValues], string | undefined>[number];

function itemBytes(item: Item): number {
  if (typeof item === "string") return Buffer.byteLength(item);
  if (!("filename" in item)) return Buffer.byteLength(item[0]) + Buffer.byteLength(item[1]);
  const { filename, content_type, content_id = "", size } = item;
  return 4 * Math.ceil(size / 3) + Buffer.byteLength(filename + content_type + content_id);
}
