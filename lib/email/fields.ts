// The fields of an email, one row each. Checks, defaults, storage, fingerprints and what the commands print start from
// these rows, so that a new text field takes a row here and a line in each provider's adapter.

import { addressFault, hasControlCharacter, isAddress } from "./address.ts";
import { parseInstant } from "./instant.ts";

/** Longest subject, UTF-16 units (Postmark's limit). */
export const subjectMax = 2000;
/** Longest `body` and longest `html`, bytes of UTF-8 (Postmark's limit). It also bounds what one email takes of the store. */
export const textBytesMax = 5_000_000;

/** The kinds of fields, each with the type of its values in an email. */
export interface FieldKinds {
  readonly text: string;
  /** In the given order. */
  readonly addresses: readonly string[];
  /** In the given order. */
  readonly pairs: readonly Pair[];
  /** In the given order. */
  readonly files: readonly Attachment[];
}

/** A mail header or a tag. Not the member of an object, since its name may be `__proto__`. */
export type Pair = readonly [name: string, value: string];

/** A file of an email. Its content is stored apart from the email. */
export interface Attachment {
  readonly filename: string;
  /**
   * The type of its extension, with the given parameters; or the given type if the extension is unknown. See
   * `typeByExtension`.
   */
  readonly content_type: string;
  /**
   * The extension alone does not say the type, so that Resend is told it. Decided at submission: the bytes of a request must
   * not depend on the table of a later release.
   */
  readonly declares_type?: true;
  /** Bytes. */
  readonly size: number;
  /** SHA-256 of the content, in hexadecimal. */
  readonly sha256: string;
  /** `html` refers to the file by `cid:` and this id. */
  readonly content_id?: string;
}

interface AnyField {
  readonly kind: keyof FieldKinds;
  /** Its name for people. Absent for a display name, which is shown with its address. */
  readonly label?: string;
  /** Every email has one. A submission without `from` is given the default. */
  readonly isRequired: boolean;
  /** The envelope is kept in the record of a sent email, the content is dropped. */
  readonly storedIn: "envelope" | "content";
  /** The previous release does not know it: an email that has it is hidden, see `lib/queue/contract.ts`. */
  readonly hidesEmail?: true;
}

/** A field with one value. */
export interface Field extends AnyField {
  readonly kind: "text";
  /** Whitespace at both ends is removed before the checks. */
  readonly isTrimmed: boolean;
  /** The fault of a value that is not empty, as a text for the client. */
  readonly faultOf: (value: string) => string | undefined;
  /** The field with the address that this one is the display name of. */
  readonly nameOf?: "to" | "from";
}

const line = {
  kind: "text",
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
  kind: "text",
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

const added = {
  isRequired: false,
  storedIn: "envelope",
  hidesEmail: true,
} as const satisfies Partial<AnyField>;

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
  cc: { ...added, kind: "addresses", label: "Cc" },
  bcc: { ...added, kind: "addresses", label: "Bcc" },
  headers: { ...added, kind: "pairs", label: "Headers" },
  tags: { ...added, kind: "pairs", label: "Tags" },
  attachments: { ...added, kind: "files", label: "Attachments" },
  send_at: {
    ...line,
    ...added,
    label: "Send at",
    faultOf: (value: string) => (parseInstant(value) === undefined ? instantFault(value) : undefined),
  },
} as const satisfies Record<string, Field | AnyField>;

function instantFault(value: string): string {
  // In a form, a plus sign means a space.
  const isUnescaped =
    / \d\d:\d\d$/.test(value) && parseInstant(value.replace(/ (?=\d\d:\d\d$)/, "+")) !== undefined;
  return isUnescaped
    ? "is not a time: its + must be written as %2B in a form"
    : "is not a date and time with seconds and offset such as 2027-01-31T09:00:00+01:00";
}

export type FieldName = keyof typeof fields;
/** The fields with one value. */
export type TextName = NamesWhere<{ kind: "text" }>;

/** The fields with a list of values. */
export type ListName = Exclude<FieldName, TextName>;

/** The names of those rows that have a property. */
export type NamesWhere<Property> = {
  [name in FieldName]: (typeof fields)[name] extends Property ? name : never;
}[FieldName];

/** The value of a field in an email. */
export type ValueOf<Name extends FieldName> = FieldKinds[(typeof fields)[Name]["kind"]];

/** Fields that may be absent. */
export type FieldValues = { [name in FieldName]?: ValueOf<name> };

export const fieldNames = Object.keys(fields) as FieldName[];
export const textNames = fieldNames.filter((name): name is TextName => fields[name].kind === "text");

/** The name of a field for people. */
export function labelOf(name: FieldName): string | undefined {
  const { label }: AnyField = fields[name];
  return label;
}

export function isTextName(name: string): name is TextName {
  return Object.hasOwn(fields, name) && fields[name as FieldName].kind === "text";
}

export function isListName(name: string): name is ListName {
  return Object.hasOwn(fields, name) && !isTextName(name);
}

/** The fields of these names that there are, in the order of the names. */
export function pickFields(values: Readonly<FieldValues>, names: readonly FieldName[]): FieldValues {
  const picked: Record<string, unknown> = {};
  for (const name of names) {
    const value = values[name];
    if (value !== undefined) picked[name] = value;
  }
  return picked;
}
