// application/json: one object, its fields texts or null. JSON.parse keeps the last of two members with one name;
// here a known field given twice is noticed, whatever escapes its name is written with.

import {
  type BodyResult,
  faultField,
  type FieldName,
  type Fields,
  giveField,
  knownField,
  noFields,
} from "./fields.ts";
import { decodeUtf8 } from "./utf8.ts";

/** Deepest nesting of what an unknown field may hold. */
const depthMax = 256;

const unreadable = { ok: false, message: "the body is not valid JSON" } as const;

export function parseJson(bytes: Uint8Array): BodyResult {
  const text = decodeUtf8(bytes);
  if (text === undefined) return { ok: false, message: "the body is not valid UTF-8" };
  // RFC 8259, 8.1: a byte order mark is no part of the JSON, and may be ignored.
  const json = text.startsWith("\ufeff") ? text.slice(1) : text;
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    return unreadable;
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    return { ok: false, message: "the body is not a JSON object" };
  }

  const keys = topLevelKeys(json);
  if (keys === undefined) return { ok: false, message: "the body is nested too deeply" };
  const fields = noFields();
  for (const key of keys) {
    const name = knownField(key);
    if (name !== undefined) giveMember(fields, name, (parsed as Record<string, unknown>)[key]);
  }
  return { ok: true, fields };
}

function giveMember(fields: Fields, name: FieldName, value: unknown): void {
  if (typeof value === "string") giveField(fields, name, value);
  else if (value === null) giveField(fields, name, "");
  else faultField(fields, name, "is not a text");
}

/**
 * The names of the members of a valid JSON object in their order, repeats included; undefined when something in
 * it is nested deeper than {@link depthMax}.
 */
function topLevelKeys(json: string): string[] | undefined {
  const keys: string[] = [];
  let depth = 0;
  let keyIsNext = false;
  for (let i = 0; i < json.length; i++) {
    switch (json.charCodeAt(i)) {
      case 0x7b: // {
      case 0x5b: // [
        if (++depth > depthMax) return undefined;
        keyIsNext = depth === 1;
        break;
      case 0x7d: // }
      case 0x5d: // ]
        depth--;
        break;
      case 0x2c: // ,
        keyIsNext = depth === 1;
        break;
      case 0x22: {
        const end = closingQuote(json, i);
        if (keyIsNext) keys.push(JSON.parse(json.slice(i, end + 1)));
        keyIsNext = false;
        i = end;
        break;
      }
    }
  }
  return keys;
}

/** Where the text that opens at `start` ends: the first quote behind an even number of backslashes. */
function closingQuote(json: string, start: number): number {
  for (let end = json.indexOf('"', start + 1); ; end = json.indexOf('"', end + 1)) {
    let slashes = 0;
    while (json.charCodeAt(end - 1 - slashes) === 0x5c) slashes++;
    if (slashes % 2 === 0) return end;
  }
}
