// The names of fields in forms, and the kind of value that each takes. `cc`, `cc[]` and `cc[0]` are the same.

import { type FieldName, isTextName, type TextName, textNames } from "../../email/fields.ts";
import { addField, addItem, type Given, shownName, type SubmittedFields } from "../submitted_fields.ts";

export type FormField =
  | { readonly kind: "text"; readonly name: TextName }
  | { readonly kind: "address"; readonly name: "cc" | "bcc" }
  | { readonly kind: "pair"; readonly name: "headers" | "tags"; readonly key: string }
  | { readonly kind: "file"; readonly name: "attachments"; readonly isInline: boolean }
  /** The name of a list or map with malformed brackets. */
  | { readonly kind: "malformed"; readonly name: FieldName; readonly fault: string };

/** Most fields of a form, unknown ones included: a body full of short ones would stop the event loop for seconds. */
export const fieldsMax = 10_000;
export const tooManyFields = `the form has over ${fieldsMax} fields`;

const textFields: Readonly<Partial<Record<string, FormField>>> = Object.fromEntries(
  textNames.map((name) => [name, { kind: "text", name }]),
);

const listPattern = /^(cc|bcc|headers|tags|attachments?|inline)(\[[^]*)?$/;

/** The known field of this name, undefined if it is unknown. */
export function formField(name: string): FormField | undefined {
  if (isTextName(name)) return textFields[name];
  const [, base, brackets = ""] = listPattern.exec(name) ?? [];
  const isListed = /^(?:\[\d*\])?$/.test(brackets);
  const unlisted = { kind: "malformed", fault: `must be named ${base}, ${base}[] or ${base}[0]` } as const;
  switch (base) {
    case "cc":
    case "bcc":
      return isListed ? { kind: "address", name: base } : { ...unlisted, name: base };
    case "headers":
    case "tags":
      return brackets.endsWith("]")
        ? { kind: "pair", name: base, key: brackets.slice(1, -1) }
        : { kind: "malformed", name: base, fault: `must be named ${base}[NAME]` };
    case "attachment":
    case "attachments":
    case "inline":
      return isListed
        ? { kind: "file", name: "attachments", isInline: base === "inline" }
        : { ...unlisted, name: "attachments" };
    default:
      return undefined;
  }
}

/** Adds a text under the name of a field. */
export function addText(given: SubmittedFields, field: FormField, value: string): void {
  switch (field.kind) {
    case "text":
      return addField(given, field.name, value);
    case "address":
      return addItem(given, field.name, value);
    case "pair":
      return addItem(given, field.name, [field.key, value]);
    case "file":
      if (value !== "") addItem(given, field.name, { fault: "is not a file" });
      return;
    case "malformed":
      if (value.trim() !== "") given.faults[field.name] = field.fault;
  }
}

/** A part of a multipart form with a file name. */
export interface FilePart {
  readonly name: string;
  readonly filename: Given<string>;
  readonly content: Uint8Array;
  readonly contentType: string | undefined;
}

/** Adds a file, or the fault of one under the wrong name. A browser sends an empty file input without name and content. */
export function addFile(given: SubmittedFields, { name, ...file }: FilePart): void {
  const field = formField(name);
  const fault = "is a file";
  if (field?.kind === "text") return addField(given, field.name, "", fault);
  if (field?.kind === "address") return addItem(given, field.name, { fault });
  if (field?.kind === "pair") return addItem(given, field.name, [field.key, { fault }]);
  if (file.filename === "" && file.content.length === 0) return;
  if (field?.kind === "malformed") given.faults[field.name] = field.fault;
  else if (field === undefined) {
    const unknown = JSON.stringify(shownName(name));
    addItem(given, "attachments", {
      fault: `is a file under the unknown name ${unknown}: name it attachment or inline`,
    });
  } else addItem(given, "attachments", { ...file, isPart: true, isInline: field.isInline });
}
