// multipart/form-data (RFC 7578) as browsers, curl and the common libraries write it, and its header values. Nothing is
// guessed, repaired or left out, since a part of an email could be lost that way. `util.MIMEType` and
// @remix-run/multipart-parser drop what follows the closing boundary, the second of two parameters, and malformed lines.

import { isTextName } from "../../email/fields.ts";
import { addField, type SubmittedFields } from "../submission.ts";

/** Most bytes of a part's headers. */
const headMax = 8192;
const lineEnd = "\r\n";
const [tab, space, hyphen] = [0x09, 0x20, 0x2d];

const misplacedBoundary = "the form has a misplaced boundary";
const notUtf8 = "the form is not valid UTF-8";

const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text with any byte order mark, or undefined if the bytes are not valid UTF-8. */
export function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return strictUtf8.decode(bytes);
  } catch {
    return undefined;
  }
}

/** `value; name=parameter; name="parameter"` (RFC 9110, 5.6.6). */
export interface HeaderValue {
  /** The value before the parameters, in lower case. */
  readonly value: string;
  /** By name in lower case. */
  readonly parameters: ReadonlyMap<string, string>;
}

const valuePattern = /^[ \t]*([!#$%&'*+\-.^_`|~0-9A-Za-z/]+)[ \t]*(?=;|$)/;
// A backslash takes the character behind it literally: curl and Python write `\"` in names. No two repetitions stand
// side by side that match the same characters: thousands of blanks would take quadratic time.
const parameterPattern =
  /;[ \t]*(?:([!#$%&'*+\-.^_`|~0-9A-Za-z]+)=(?:([!#$%&'*+\-.^_`|~0-9A-Za-z]+)|"((?:[^"\\]|\\.)*)")[ \t]*)?(?=;|$)/gsy;

/** Undefined if the header is malformed or names a parameter twice. */
export function parseHeader(text: string): HeaderValue | undefined {
  const head = valuePattern.exec(text);
  if (head === null) return undefined;
  const parameters = new Map<string, string>();
  let [{ length }] = head;
  parameterPattern.lastIndex = length;
  for (const [whole, name, token, quoted = ""] of text.matchAll(parameterPattern)) {
    length += whole.length;
    if (name === undefined) continue;
    if (parameters.has(name.toLowerCase())) return undefined;
    parameters.set(name.toLowerCase(), token ?? quoted.replace(/\\(.)/gs, "$1"));
  }
  return length === text.length ? { value: head[1]!.toLowerCase(), parameters } : undefined;
}

/** Whether the `charset`, if there is one, is UTF-8 or a subset of it. */
export function isUtf8({ parameters }: HeaderValue): boolean {
  return /^(?:utf-?8|(?:us-)?ascii)$/i.test(parameters.get("charset") ?? "utf-8");
}

/** A `BodyReader`, given the boundary of the content type. */
export function readMultipart(bytes: Buffer, boundary: string, fields: SubmittedFields): string | undefined {
  const opening = `--${boundary}`;
  const delimiter = Buffer.from(lineEnd + opening, "latin1");
  if (bytes.toString("latin1", 0, opening.length) !== opening)
    return "the form does not begin with its boundary";

  let position = opening.length;
  while (bytes[position] !== hyphen || bytes[position + 1] !== hyphen) {
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
  if (disposition.parameters.has("filename") || disposition.parameters.has("filename*")) {
    if (isTextName(name)) addField(fields, name, "", "is a file");
    return undefined;
  }

  const type = parseHeader(headers.get("content-type") ?? "text/plain");
  if (type === undefined || !isUtf8(type))
    return "the form has a part that declares a charset other than UTF-8";
  const encoding = headers.get("content-transfer-encoding") ?? "";
  if (!/^(?:7bit|8bit|binary)?$/i.test(encoding.trim()))
    return "the form has a part with a transfer encoding";
  const value = decodeUtf8(part.subarray(headEnd + 2 * lineEnd.length));
  if (value === undefined) return notUtf8;
  if (isTextName(name)) addField(fields, name, value);
  return undefined;
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
