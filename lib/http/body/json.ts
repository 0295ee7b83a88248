// application/json: one object whose known members are strings, lists or null. JSON.parse keeps the last of two members
// of one name; here a known field given twice is noticed, however its name is escaped.

import { isListName, isTextName } from "../../email/fields.ts";
import { addField, type SubmittedFields } from "../submitted_fields.ts";
import { addList } from "./json_lists.ts";
import { closingQuote } from "./json_members.ts";
import { decodeUtf8 } from "./utf8.ts";

/** Deepest nesting of an unknown field. */
const depthMax = 256;
/** Most values in a body: parsed, each takes up to fifty times the memory of its text. */
export const valuesMax = 65_536;

/** A `BodyReader`. */
export function readJson(bytes: Uint8Array, fields: SubmittedFields): string | undefined {
  const json = decodeUtf8(bytes);
  if (json === undefined) return "the body is not valid UTF-8";
  const { depth, values, quotedKeys } = scan(json);
  if (depth > depthMax) return "the body is nested too deeply";
  if (values > valuesMax) return `the body has over ${valuesMax} values`;

  let parsed: unknown;
  let keys: readonly string[];
  try {
    parsed = JSON.parse(json);
    keys = quotedKeys.map((key) => JSON.parse(key));
  } catch {
    return "the body is not valid JSON";
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    return "the body is not a JSON object";
  }
  for (const key of keys) {
    const value = (parsed as Record<string, unknown>)[key];
    if (isTextName(key)) {
      if (typeof value === "string" || value === null) addField(fields, key, value ?? "");
      else addField(fields, key, "", "is not a string");
    } else if (isListName(key)) addList(fields, key, value, json);
    else if (isFormNameOfFiles(key) && value !== null && value !== "")
      fields.faults.attachments = `must be named attachments in JSON, not ${key}`;
  }
  return undefined;
}

/** A file under one of these names must not be ignored like an unknown field. */
function isFormNameOfFiles(key: string): boolean {
  return key === "attachment" || key === "inline";
}

/**
 * The depth of a JSON text and the most values that it can have, up to one over the limits, and the names of the
 * outermost object's members as written, repeats included. Means nothing for other text, which JSON.parse refuses.
 */
function scan(json: string): { depth: number; values: number; quotedKeys: readonly string[] } {
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
