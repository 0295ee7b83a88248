// From the bytes of a request to the fields in them, by the request's content type. Nothing is repaired: a body
// that can be read in more than one way is not read at all.

import type { BodyResult } from "../../email/fields.ts";
import { parseForm } from "./form.ts";
import { isUtf8, parseHeader } from "./header_parameters.ts";
import { parseJson } from "./json.ts";
import { parseMultipart } from "./multipart.ts";

export type BodyType =
  | { readonly kind: "form" }
  | { readonly kind: "json" }
  | { readonly kind: "multipart"; readonly boundary: string };

export type BodyTypeResult =
  { readonly ok: true; readonly type: BodyType } | { readonly ok: false; readonly message: string };

const form: BodyTypeResult = { ok: true, type: { kind: "form" } };
const json: BodyTypeResult = { ok: true, type: { kind: "json" } };
const unknownType: BodyTypeResult = {
  ok: false,
  message:
    "the content type must be application/x-www-form-urlencoded, multipart/form-data or application/json",
};

/** RFC 2046, 5.1.1: 1 to 70 of these, the last not a space. */
const boundaryPattern = /^[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]$/;

/** What the headers say about the body; refused whatever cannot be read by them. */
export function bodyType(headers: Headers): BodyTypeResult {
  const encoding = headers.get("content-encoding");
  if (encoding !== null && encoding.toLowerCase() !== "identity") {
    return { ok: false, message: "a content encoding is not supported" };
  }
  const contentType = headers.get("content-type");
  switch (contentType) {
    case "application/x-www-form-urlencoded":
      return form;
    case "application/json":
      return json;
  }

  const header = parseHeader(contentType ?? "");
  if (header === undefined) return unknownType;
  if (!isUtf8(header)) return { ok: false, message: "the charset must be UTF-8" };
  switch (header.value) {
    case "application/x-www-form-urlencoded":
      return form;
    case "application/json":
      return json;
    case "multipart/form-data": {
      const boundary = header.parameters.get("boundary") ?? "";
      if (!boundaryPattern.test(boundary)) {
        return { ok: false, message: "the content type has no valid boundary" };
      }
      return { ok: true, type: { kind: "multipart", boundary } };
    }
    default:
      return unknownType;
  }
}

/**
 * The fields in a body, or why it cannot be read.
 * @param body may be overwritten
 */
export function parseBody(type: BodyType, body: Uint8Array): BodyResult {
  // A byte order mark says how the text is encoded, and is no part of it (RFC 8259, 8.1, for one).
  const bytes = body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf ? body.subarray(3) : body;
  switch (type.kind) {
    case "form":
      return parseForm(bytes);
    case "json":
      return parseJson(bytes);
    case "multipart":
      return parseMultipart(bytes, type.boundary);
  }
}
