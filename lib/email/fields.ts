// The fields of a submission as they stand in a request, before any of them is checked. Every encoding of a body
// ends here, so that a field given twice is noticed the same way in all of them.

/** The fields known to this version, in the order in which their mistakes are told. */
export const fieldNames = [
  "subject",
  "body",
  "to",
  "to_name",
  "from",
  "from_name",
  "html",
  "reply_to",
] as const;
export type FieldName = (typeof fieldNames)[number];

export interface Fields {
  /** As given, nothing trimmed. */
  readonly values: { [name in FieldName]?: string };
  /** What is wrong with the way in which a field was given. Its value, if any, does not count then. */
  readonly faults: { [name in FieldName]?: string };
}

/** A body that was read, or why it could not be: a text for the client. */
export type BodyResult =
  { readonly ok: true; readonly fields: Fields } | { readonly ok: false; readonly message: string };

const known = new Map<string, FieldName>(fieldNames.map((name) => [name, name]));

/** Shortest and longest name of a known field: what lies outside need not be looked up. */
export const nameLengths = {
  min: Math.min(...fieldNames.map((name) => name.length)),
  max: Math.max(...fieldNames.map((name) => name.length)),
} as const;

export function knownField(name: string): FieldName | undefined {
  return known.get(name);
}

export function noFields(): Fields {
  return { values: {}, faults: {} };
}

/** Adds a field that was given; the second of a name is a fault. */
export function giveField(fields: Fields, name: FieldName, value: string): void {
  if (fields.values[name] !== undefined || fields.faults[name] !== undefined) {
    fields.faults[name] = "is given twice";
  } else {
    fields.values[name] = value;
  }
}

/** Adds a field that was given as something else than text. */
export function faultField(fields: Fields, name: FieldName, fault: string): void {
  const twice = fields.values[name] !== undefined || fields.faults[name] !== undefined;
  fields.faults[name] = twice ? "is given twice" : fault;
}
