// The fields of an email, one row each. Checks, defaults, storage, fingerprints and what the commands print start from
// these rows, so that a new text field takes a row here and a line in each provider's adapter.

import { addressFault, hasControlCharacter, isAddress } from "./address.ts";

/** Longest subject, UTF-16 units (Postmark's limit). */
export const subjectMax = 2000;
/** Longest `body` and longest `html`, bytes of UTF-8 (Postmark's limit). It also bounds what one email takes of the store. */
export const textBytesMax = 5_000_000;

export interface Field {
  /** Its name for people. Absent for a display name, which is shown with its address. */
  readonly label?: string;
  /** Every email has one. A submission without `from` is given the default. */
  readonly isRequired: boolean;
  /** Whitespace at both ends is removed before the checks. */
  readonly isTrimmed: boolean;
  /** The envelope is kept in the record of a sent email, the content is dropped. */
  readonly storedIn: "envelope" | "content";
  /** The fault of a value that is not empty, as a text for the client. */
  readonly faultOf: (value: string) => string | undefined;
  /** The field with the address that this one is the display name of. */
  readonly nameOf?: "to" | "from";
}

const line = {
  isRequired: false,
  isTrimmed: true,
  storedIn: "envelope",
  faultOf(value) {
    if (!value.isWellFormed()) return "has a lone surrogate";
    return hasControlCharacter(value) ? "has a control character" : undefined;
  },
} as const satisfies Partial<Field>;

const address = {
  ...line,
  faultOf: (value: string) => (isAddress(value) ? undefined : addressFault(value)),
} as const;

const text = {
  isRequired: false,
  isTrimmed: false,
  storedIn: "content",
  faultOf(value) {
    if (!value.isWellFormed()) return "has a lone surrogate";
    if (value.includes("\0")) return "has a NUL character";
    // No UTF-16 unit takes more than three bytes.
    const mayBeLarge = 3 * value.length > textBytesMax;
    return mayBeLarge && Buffer.byteLength(value) > textBytesMax
      ? `is over ${textBytesMax} bytes`
      : undefined;
  },
} as const satisfies Partial<Field>;

/** In the order in which errors name them. Fingerprints depend on the order too: a new field goes to the end. */
export const fields = {
  subject: {
    ...line,
    label: "Subject",
    isRequired: true,
    faultOf: (value: string) =>
      line.faultOf(value) ?? (value.length > subjectMax ? `is over ${subjectMax} characters` : undefined),
  },
  body: {
    ...text,
    label: "Body",
    isRequired: true,
    faultOf: (value: string) => text.faultOf(value) ?? (/\S/.test(value) ? undefined : "is blank"),
  },
  to: { ...address, label: "To", isRequired: true },
  to_name: { ...line, nameOf: "to" },
  from: { ...address, label: "From", isRequired: true },
  from_name: { ...line, nameOf: "from" },
  html: { ...text, label: "HTML" },
  reply_to: { ...address, label: "Reply to" },
} as const satisfies Record<string, Field>;

export type FieldName = keyof typeof fields;

/** The names of those rows that have a property. */
export type NamesWhere<Property> = {
  [name in FieldName]: (typeof fields)[name] extends Property ? name : never;
}[FieldName];

/** Fields that may be absent, as text. */
export type FieldValues = { [name in FieldName]?: string };

export const fieldNames = Object.keys(fields) as FieldName[];

/** The name of a field for people. */
export function labelOf(name: FieldName): string | undefined {
  const { label }: Field = fields[name];
  return label;
}

export function isFieldName(name: string): name is FieldName {
  return Object.hasOwn(fields, name);
}

/** The fields of these names that there are, in the order of the names. */
export function pickFields(values: Readonly<FieldValues>, names: readonly FieldName[]): FieldValues {
  const picked: FieldValues = {};
  for (const name of names) {
    const value = values[name];
    if (value !== undefined) picked[name] = value;
  }
  return picked;
}
