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
} from "../../email/fields.ts";
import { decodeUtf8 } from "./utf8.ts";

/** Deepest nesting of what an unknown field may hold. */
const depthMax = 256;
/** Most values in a body: to be read, each takes up to fifty times the memory of its text. */
export const valuesMax = 65_536;

const unreadable = { ok: false, message: "the body is not valid JSON" } as const;

export function parseJson(bytes: Uint8Array): BodyResult {
  const json = decodeUtf8(bytes);
  if (json === undefined) return { ok: false, message: "the body is not valid UTF-8" };
  let parsed: unknown;
  let keys: readonly string[];
  try {
    // Before the parser sees it, which knows no such limits.
    const { depth, values, quotedKeys } = scan(json);
    if (depth > depthMax) return { ok: false, message: "the body is nested too deeply" };
    if (values > valuesMax) return { ok: false, message: `the body has over ${valuesMax} values` };
    parsed = JSON.parse(json);
    keys = quotedKeys.map((key) => JSON.parse(key));
  } catch {
    return unreadable;
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    return { ok: false, message: "the body is not a JSON object" };
  }

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

interface Scan {
  /** Of the deepest value, at most one over the limit. */
  readonly depth: number;
  /** A bound of their number, at most one over the limit. */
  readonly values: number;
  /** The names of the members of the outermost object in their order, repeats included, as they are written. */
  readonly quotedKeys: readonly string[];
}

/** What is found in valid JSON; of any other text it only ends. Stops where a limit is exceeded. */
function scan(json: string): Scan {
  const quotedKeys: string[] = [];
  let depth = 0;
  let values = 1;
  let keyIsNext = false;
  for (let i = 0; i < json.length && depth <= depthMax && values <= valuesMax; i++) {
    switch (json.charCodeAt(i)) {
      case 0x7b: // {
      case 0x5b: // [
        depth++;
        values++;
        keyIsNext = depth === 1;
        break;
      case 0x7d: // }
      case 0x5d: // ]
        depth--;
        break;
      case 0x2c: // ,
        values++;
        keyIsNext = depth === 1;
        break;
      case 0x22: {
        const end = closingQuote(json, i);
        if (keyIsNext) quotedKeys.push(json.slice(i, end + 1));
        keyIsNext = false;
        i = end;
        break;
      }
    }
  }
  return { depth, values, quotedKeys };
}

/** Where the text that opens at `start` ends: the first quote behind an even number of backslashes, or all of it. */
function closingQuote(json: string, start: number): number {
  let end = json.indexOf('"', start + 1);
  for (; end !== -1; end = json.indexOf('"', end + 1)) {
    let slashes = 0;
    while (json.charCodeAt(end - 1 - slashes) === 0x5c) slashes++;
    if (slashes % 2 === 0) return end;
  }
  return json.length;
}
