// The known fields of a request before any check, whatever the encoding of the body. A malformed value is replaced by its
// fault.

import type { FieldName, ListName, TextName } from "../email/fields.ts";

/** Replaces a value that was given in the wrong form, such as a number instead of a string. */
export interface Malformed {
  readonly fault: string;
}

export type Given<Value> = Value | Malformed;

/** A mail header or a tag. */
export type GivenPair = readonly [name: string, value: Given<string>];

/** A file. Empty members count as absent. */
export interface GivenFile {
  readonly filename?: Given<string>;
  /** May be a view of the body. */
  readonly content: Given<Uint8Array>;
  readonly contentType?: Given<string> | undefined;
  readonly contentId?: Given<string>;
  /** It is a part of a multipart form, where the content type is the client's guess. */
  readonly isPart?: true;
  /** Its name is also its content id. */
  readonly isInline?: boolean;
}

interface GivenItems {
  readonly cc: Given<string>;
  readonly bcc: Given<string>;
  readonly headers: GivenPair;
  readonly tags: GivenPair;
  readonly attachments: Given<GivenFile>;
}

export type GivenLists = { [name in ListName]?: GivenItems[name][] };

export interface SubmittedFields {
  /** As given, not trimmed. */
  readonly values: { [name in TextName]?: string } & GivenLists;
  /** Faults in the form in which a field was given. Its value is then ignored. */
  readonly faults: { [name in FieldName]?: string };
}

/** Most characters of a client's name in a message. */
const shownMax = 100;

export function shownName(name: string): string {
  return name.length > shownMax ? `${name.slice(0, shownMax)}…` : name;
}

/** Most values of one field that are kept: more than any check accepts, so further ones cost no memory. */
const itemsMax = 100;
const tooMany = `has over ${itemsMax} values`;

/**
 * Adds a field of a request; giving a field twice is a fault.
 * @param fault what is wrong with the form in which it was given, if anything
 */
export function addField(given: SubmittedFields, name: TextName, value: string, fault?: string): void {
  const { values, faults } = given;
  if (values[name] !== undefined || faults[name] !== undefined) faults[name] = "is given twice";
  else if (fault !== undefined) faults[name] = fault;
  else values[name] = value;
}

/** Adds a value to a field that may have several. */
export function addItem<Name extends ListName>(
  given: SubmittedFields,
  name: Name,
  item: GivenItems[Name],
): void {
  const lists: { [name in Name]?: GivenItems[Name][] } = given.values;
  const list = (lists[name] ??= []);
  if (list.length < itemsMax) list.push(item);
  else given.faults[name] = tooMany;
}

/** Whether a field with several values, all given at once, has too many; that is then its fault. */
export function hasTooMany(given: SubmittedFields, name: ListName, count: number): boolean {
  if (count <= itemsMax) return false;
  given.faults[name] = tooMany;
  return true;
}
