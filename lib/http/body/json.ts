// application/json: one object whose known members are strings, lists or null. JSON.parse keeps the last of two members
// of one name; here a known field given twice is noticed, however its name is escaped.

import { isListName, isTextName } from "../../email/fields.ts";
import { addField, type SubmittedFields } from "../submitted_fields.ts";
import { addList } from "./json_lists.ts";
import { depthMax, scan, valuesMax } from "./json_members.ts";
import { decodeUtf8 } from "./utf8.ts";

/** A `BodyReader`. */
export function readJson(bytes: Uint8Array, fields: SubmittedFields): string | undefined {
  const json = decodeUtf8(bytes);
  if (json === undefined) return "the body is not valid UTF-8";
  const { depth, values, parts } = scan(json);
  if (depth > depthMax) return "the body is nested too deeply";
  if (values > valuesMax) return `the body has over ${valuesMax} values`;

  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    return "the body is not valid JSON";
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    return "the body is not a JSON object";
  }
  for (const { quotedName, start } of parts) {
    const key: string = JSON.parse(quotedName);
    const value = (parsed as Record<string, unknown>)[key];
    if (isTextName(key)) {
      if (typeof value === "string" || value === null) addField(fields, key, value ?? "");
      else addField(fields, key, "", "is not a string");
    } else if (isListName(key)) addList(fields, key, value, { json, start });
    else if (isFormNameOfFiles(key) && value !== null && value !== "")
      fields.faults.attachments = `must be named attachments in JSON, not ${key}`;
  }
  return undefined;
}

/** A file under one of these names must not be ignored like an unknown field. */
function isFormNameOfFiles(key: string): boolean {
  return key === "attachment" || key === "inline";
}
