// The fields of JSON that hold several values: `cc` is a string or an array, `attachments` an array of objects, `headers`
// and `tags` are objects of strings.

import type { ListName } from "../../email/fields.ts";
import {
  addItem,
  type Given,
  type GivenFile,
  hasTooMany,
  type SubmittedFields,
} from "../submitted_fields.ts";
import { decodeBase64 } from "./base64.ts";
import { repeatedNames, scan } from "./json_members.ts";

type Members = Readonly<Record<string, unknown>>;

/** The location of a value in the JSON text, in which repeated members can be found. */
interface Source {
  readonly json: string;
  /** A position before the value. */
  readonly start: number;
}

const notText = { fault: "is not a string" };
const twice = { fault: "is given twice" };

/** Adds a member of the outermost object. */
export function addList(given: SubmittedFields, name: ListName, value: unknown, source: Source): void {
  const { values, faults } = given;
  if (values[name] !== undefined || faults[name] !== undefined) {
    faults[name] = twice.fault;
    return;
  }
  values[name] = [];
  if (value === null || value === "") return;
  switch (name) {
    case "cc":
    case "bcc":
      return addAddresses(given, name, typeof value === "string" ? [value] : value);
    case "headers":
    case "tags":
      return addPairs(given, name, value, source);
    case "attachments":
      return addFiles(given, value, source);
  }
}

function addAddresses(given: SubmittedFields, name: "cc" | "bcc", value: unknown): void {
  if (!Array.isArray(value)) given.faults[name] = "is neither a string nor an array of strings";
  else if (!hasTooMany(given, name, value.length)) {
    for (const one of value) addItem(given, name, textOf(one));
  }
}

function addPairs(
  given: SubmittedFields,
  name: "headers" | "tags",
  value: unknown,
  { json, start }: Source,
): void {
  // PHP writes an empty map as an array.
  if (Array.isArray(value) && value.length === 0) return;
  if (!isObject(value)) {
    given.faults[name] = "is not an object of strings";
    return;
  }
  const entries = Object.entries(value);
  if (hasTooMany(given, name, entries.length)) return;
  for (const [key, one] of entries) addItem(given, name, [key, textOf(one)]);
  for (const key of repeatedNames(json, start)) addItem(given, name, [key, twice]);
}

function addFiles(given: SubmittedFields, value: unknown, { json, start }: Source): void {
  if (!Array.isArray(value)) {
    given.faults.attachments = "is not an array of objects";
    return;
  }
  if (value.length === 0 || hasTooMany(given, "attachments", value.length)) return;
  const { parts } = scan(json, start);
  for (const [i, one] of value.entries()) {
    const part = parts[i];
    const repeated = part === undefined ? [] : repeatedNames(json, part.start);
    addItem(given, "attachments", isObject(one) ? fileOf(one, repeated) : { fault: "is not an object" });
  }
}

function fileOf(members: Members, repeated: readonly string[]): GivenFile {
  const member = (name: string) => (repeated.includes(name) ? twice : textOf(members[name]));
  const content = member("content");
  return {
    filename: member("filename"),
    content: typeof content === "string" ? decodeBase64(content) : content,
    contentType: member("content_type"),
    contentId: member("content_id"),
  };
}

function isObject(value: unknown): value is Members {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Absent and null count as empty. */
function textOf(value: unknown): Given<string> {
  if (value === undefined || value === null) return "";
  return typeof value === "string" ? value : notText;
}
