// The inputs of an email: one row each, and how the value of each kind is read and sent.

import { Refused } from "./client.ts";
import { element } from "./dom.ts";

export interface Input {
  /** The name of the field in the API. */
  readonly name: string;
  readonly label: string;
  readonly hint?: string;
  readonly kind?: keyof typeof readers;
  readonly rows?: number;
  readonly isOptional?: true;
  readonly value?: string;
}

const several = "Separate several with commas";

/** Inputs in rows of one or two. A test compares them with the fields of an email. */
export const inputs: readonly (readonly Input[])[] = [
  [
    { name: "to", label: "To", kind: "email", value: "jane@example.org" },
    { name: "to_name", label: "Name of the recipient", isOptional: true },
  ],
  [
    { name: "cc", label: "Cc", kind: "emails", isOptional: true, hint: several },
    { name: "bcc", label: "Bcc", kind: "emails", isOptional: true, hint: several },
  ],
  [
    { name: "from", label: "From", kind: "email", isOptional: true, hint: "Default: DEFAULT_FROM" },
    { name: "from_name", label: "Name of the sender", isOptional: true },
  ],
  [{ name: "subject", label: "Subject", value: "Hello" }],
  [{ name: "body", label: "Text", kind: "area", rows: 6, value: "Hello,\n\nThis is a first email.\n" }],
  [
    {
      name: "html",
      label: "HTML",
      kind: "area",
      rows: 4,
      isOptional: true,
      hint: "An alternative to the text",
    },
  ],
  [
    {
      name: "attachments",
      label: "Attachments",
      kind: "files",
      isOptional: true,
      hint: 'Show logo.png in the HTML with <img src="cid:logo.png">',
    },
  ],
];

/** Inputs that few emails need. */
export const moreInputs: readonly (readonly Input[])[] = [
  [
    { name: "reply_to", label: "Reply to", kind: "email", isOptional: true },
    { name: "send_at", label: "Send at", kind: "time", isOptional: true, hint: "At most 30 days ahead" },
  ],
  [
    {
      name: "headers",
      label: "Headers",
      kind: "headers",
      rows: 2,
      isOptional: true,
      hint: "One per line: X-Order: 17",
    },
    {
      name: "tags",
      label: "Tags",
      kind: "tags",
      rows: 2,
      isOptional: true,
      hint: "One per line: campaign=spring",
    },
  ],
  [
    {
      name: "key",
      label: "Idempotency key",
      isOptional: true,
      hint: "A repeat with the same key is not sent again",
    },
  ],
];

type Field = HTMLInputElement | HTMLTextAreaElement;

/** The value of an input of each kind, as it is sent in JSON. Rejects with `Refused`. */
const readers = {
  text: textOf,
  email: textOf,
  area: textOf,
  emails: ({ value }: Field) => value.split(",").filter((one) => one.trim() !== ""),
  headers: (field: Field) => pairsOf(field, ":"),
  tags: (field: Field) => pairsOf(field, "="),
  /** The local time of the browser. */
  time: ({ value }: Field) => (value === "" ? "" : new Date(value).toISOString()),
  files: (field: Field) => Promise.all(Array.from((field as HTMLInputElement).files ?? [], attachmentOf)),
} as const;

export interface Control {
  readonly root: HTMLElement;
  readonly field: Field;
  readonly error: HTMLElement;
  /** The value as it is sent in JSON. Rejects with `Refused`. */
  read(): Promise<unknown>;
}

export function createControl(input: Input): Control {
  const { name, label, hint, kind = "text", rows, isOptional, value = "" } = input;
  const id = `field-${name}`;
  const attributes = { id, name, "aria-describedby": `${id}-hint ${id}-error`, autocomplete: "off" };
  const field =
    rows === undefined
      ? element("input", { ...attributes, ...inputAttributes(kind) })
      : element("textarea", { ...attributes, rows, spellcheck: "false" });
  if (value !== "") field.value = value;
  const error = element("p", { class: "error", id: `${id}-error` });
  const root = element(
    "div",
    { class: "field" },
    element(
      "label",
      { for: id },
      label,
      isOptional === true && element("span", { class: "optional" }, " optional"),
    ),
    field,
    element("p", { class: "hint", id: `${id}-hint` }, hint ?? ""),
    error,
  );
  return { root, field, error, read: async () => readers[kind](field) };
}

function inputAttributes(kind: keyof typeof readers) {
  switch (kind) {
    case "email":
      return { type: "email", inputmode: "email" };
    case "emails":
      return { type: "text", inputmode: "email" };
    case "time":
      return { type: "datetime-local" };
    case "files":
      return { type: "file", multiple: true };
    default:
      return { type: "text" };
  }
}

function textOf({ value }: Field): string {
  return value;
}

/** Names and values, one pair per line. */
function pairsOf({ name, value }: Field, separator: string): Readonly<Record<string, string>> {
  const lines = value.split("\n").filter((line) => line.trim() !== "");
  const pairs = lines.map((line) => {
    const at = line.indexOf(separator);
    if (at === -1) throw new Refused(`${name}: ${line.trim()} has no ${separator}`, 0);
    return [line.slice(0, at).trim(), line.slice(at + 1).trim()] as const;
  });
  // An object would keep the last of them.
  const twice = pairs.find(([one], i) => pairs.findIndex(([other]) => other === one) !== i);
  if (twice !== undefined) throw new Refused(`${name}: ${twice[0]} is given twice`, 0);
  return Object.fromEntries(pairs);
}

async function attachmentOf(file: File) {
  const content = await new Promise<string>((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(String(reader.result)));
    reader.addEventListener("error", () =>
      reject(new Refused(`attachments: ${file.name} cannot be read`, 0)),
    );
    reader.readAsDataURL(file);
  });
  return { filename: file.name, content: content.slice(content.indexOf(",") + 1) };
}
