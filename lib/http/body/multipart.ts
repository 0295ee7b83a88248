// multipart/form-data (RFC 7578) as browsers, curl and the common libraries write it, and its header values. Nothing is
// guessed, repaired or left out, since a part of an email could be lost that way. @remix-run/multipart-parser drops what
// follows the closing boundary, the second of two parameters, and malformed lines.

import type { Given, SubmittedFields } from "../submitted_fields.ts";
import { addFile, addText, fieldsMax, formField, tooManyFields } from "./form_fields.ts";
import { isUtf8, parseHeader, type HeaderValue } from "./header_value.ts";
import { decodeUtf8 } from "./utf8.ts";

/** Most bytes of a part's headers. */
const headMax = 8192;
const lineEnd = "\r\n";
const [tab, space, hyphen] = [0x09, 0x20, 0x2d];

const misplacedBoundary = "the form has a misplaced boundary";
const notUtf8 = "the form is not valid UTF-8";

/** A `BodyReader`, given the boundary of the content type. */
export function readMultipart(bytes: Buffer, boundary: string, fields: SubmittedFields): string | undefined {
  const opening = `--${boundary}`;
  const delimiter = Buffer.from(lineEnd + opening, "latin1");
  if (bytes.toString("latin1", 0, opening.length) !== opening)
    return "the form does not begin with its boundary";

  let position = opening.length;
  for (let count = 1; bytes[position] !== hyphen || bytes[position + 1] !== hyphen; count++) {
    if (count > fieldsMax) return tooManyFields;
    while (bytes[position] === space || bytes[position] === tab) position++;
    if (bytes.toString("latin1", position, position + 2) !== lineEnd) return misplacedBoundary;
    const start = position + lineEnd.length;
    // The line end behind a boundary may be the one before the next.
    const end = bytes.indexOf(delimiter, position);
    if (end === -1) return "the form is cut off before its closing boundary";
    const fault = readPart(bytes.subarray(start, Math.max(start, end)), fields);
    if (fault !== undefined) return fault;
    position = end + delimiter.length;
  }
  return /[^ \t\r\n]/.test(bytes.toString("latin1", position + 2)) ? misplacedBoundary : undefined;
}

function readPart(part: Buffer, fields: SubmittedFields): string | undefined {
  const headEnd = part.indexOf(lineEnd + lineEnd);
  if (headEnd === -1 || headEnd > headMax) return "the form has a part without headers";
  const head = decodeUtf8(part.subarray(0, headEnd));
  if (head === undefined) return notUtf8;
  const headers = parseHead(head);
  if (headers === undefined) return "the form has a part with malformed headers";

  const disposition = parseHeader(headers.get("content-disposition") ?? "");
  const name = disposition?.parameters.get("name");
  if (disposition?.value !== "form-data" || name === undefined) return "the form has a part without a name";
  const encoding = headers.get("content-transfer-encoding") ?? "";
  if (!/^(?:7bit|8bit|binary)?$/i.test(encoding.trim()))
    return "the form has a part with a transfer encoding";
  const content = part.subarray(headEnd + 2 * lineEnd.length);
  const filename = filenameOf(disposition);
  if (filename !== undefined) {
    addFile(fields, { name, filename, content, contentType: headers.get("content-type") });
    return undefined;
  }

  const field = formField(name);
  if (field?.kind === "file") {
    // Its bytes may not be text. Only whether there are any matters.
    addText(fields, field, content.toString("latin1", 0, 1));
    return undefined;
  }
  const type = parseHeader(headers.get("content-type") ?? "text/plain");
  if (type === undefined || !isUtf8(type))
    return "the form has a part that declares a charset other than UTF-8";
  const value = decodeUtf8(content);
  if (value === undefined) return notUtf8;
  if (field !== undefined) addText(fields, field, value);
  return undefined;
}

/** `filename*` (RFC 8187) takes precedence: some libraries write an encoded word next to it. */
function filenameOf({ parameters }: HeaderValue): Given<string> | undefined {
  const extended = parameters.get("filename*");
  if (extended === undefined) return parameters.get("filename");
  const [, encoded] = /^utf-8'[^']*'(.*)$/i.exec(extended) ?? [];
  try {
    if (encoded !== undefined) return decodeURIComponent(encoded);
  } catch {
    // It is not valid UTF-8, or has a percent sign without two digits.
  }
  return { fault: "is not valid UTF-8" };
}

/** The headers of a part by name in lower case. Undefined if one is malformed or given twice. */
function parseHead(head: string): ReadonlyMap<string, string> | undefined {
  const headers = new Map<string, string>();
  for (const line of head.split(lineEnd)) {
    const [, name = "", value] = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([^\r\n\0]*)$/.exec(line) ?? [];
    if (value === undefined || headers.has(name.toLowerCase())) return undefined;
    headers.set(name.toLowerCase(), value);
  }
  return headers;
}
