// Composes and submits an email: all fields of `POST /`, and the service's errors next to their fields.

import type { EmailRow } from "../protocol.ts";
import { Refused, submit } from "./client.ts";
import { element, Keyed, on } from "./dom.ts";
import { stateWord } from "./format.ts";
import type { Live } from "./live.ts";
import type { View } from "./view.ts";

interface Input {
  /** The name of the field in the API. */
  readonly name: string;
  readonly label: string;
  readonly hint?: string;
  readonly kind?: "email" | "text" | "area";
  readonly rows?: number;
  readonly isOptional?: true;
  readonly value?: string;
}

/** Inputs in rows of one or two. A test compares them with the fields of an email. */
const inputs: readonly (readonly Input[])[] = [
  [
    { name: "to", label: "To", kind: "email", value: "jane@example.org" },
    { name: "to_name", label: "Name of the recipient", isOptional: true },
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
    { name: "reply_to", label: "Reply to", kind: "email", isOptional: true },
    {
      name: "key",
      label: "Idempotency key",
      isOptional: true,
      hint: "A repetition with the same key is not sent again",
    },
  ],
];

const names = inputs.flat().map(({ name }) => name);

interface Sent {
  readonly id: string;
  readonly subject: string;
  /** Its state, once it is known. */
  readonly email?: EmailRow | undefined;
}

/** Most emails in the list of those that were sent from here. */
const sentMax = 10;
/** From the newest. Survives a change of view. */
let sent: readonly Sent[] = [];

export class ComposeView implements View {
  readonly title = "Compose";
  readonly element: HTMLElement;
  readonly #live: Live;
  readonly #controls = new Map(inputs.flat().map((input) => [input.name, controlFor(input)]));
  readonly #send = element("button", { type: "submit", class: "primary" }, "Send");
  readonly #failure = element("p", { class: "message wrong", role: "alert" });
  readonly #list = element("ul", { class: "sent" });
  readonly #rows = new Keyed<Sent>(this.#list, entryOf);
  readonly #outcome = element(
    "aside",
    { "aria-label": "Sent from here", hidden: true },
    element("h2", {}, "Sent from here"),
    this.#list,
  );

  constructor(live: Live) {
    this.#live = live;
    this.element = element(
      "section",
      {},
      element("h1", {}, "Compose"),
      element("div", { class: "compose" }, this.#createForm(), this.#outcome),
    );
  }

  update(): void {
    const known = new Map(this.#live.snapshot?.emails.map((email) => [email.id, email]));
    const shown = sent.map((one) => ({ ...one, email: known.get(one.id) }));
    this.#rows.show(shown, ({ id }) => id);
    this.#outcome.hidden = sent.length === 0;
  }

  #createForm(): HTMLFormElement {
    const rows = inputs.map((row) =>
      element("div", { class: "row" }, ...row.map(({ name }) => this.#controls.get(name)!.root)),
    );
    const actions = element("div", { class: "actions" }, this.#send);
    const form = element("form", { novalidate: true }, ...rows, actions, this.#failure);
    return on(form, {
      submit: (event) => {
        event.preventDefault();
        void this.#submit();
      },
      keydown(event) {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
      },
    });
  }

  async #submit(): Promise<void> {
    const values = [...this.#controls].map(([name, { field }]) => [name, field.value] as const);
    const { key = "", ...fields } = Object.fromEntries(values.filter(([, value]) => value !== ""));
    this.#send.disabled = true;
    this.#showErrors("");
    try {
      const { id } = await submit(fields, key);
      const others = sent.filter((one) => one.id !== id);
      sent = [{ id, subject: fields["subject"] ?? "" }, ...others].slice(0, sentMax);
      this.update();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.#showErrors(error.message);
    } finally {
      this.#send.disabled = false;
    }
  }

  #showErrors(message: string): void {
    const { byName, rest } = errorsByName(message);
    for (const [name, { field, error }] of this.#controls) {
      const text = byName.get(name);
      error.textContent = text ?? "";
      if (text === undefined) field.removeAttribute("aria-invalid");
      else field.setAttribute("aria-invalid", "true");
    }
    this.#failure.textContent = rest;
    this.element.querySelector<HTMLElement>("[aria-invalid]")?.focus();
  }
}

function entryOf({ id, subject, email }: Sent): Element {
  return element(
    "li",
    {},
    element("a", { href: `#/queue/${id}` }, subject || "(no subject)"),
    element(
      "p",
      { role: "status" },
      email === undefined ? "Stored" : stateWord(email.state),
      email !== undefined && email.providers.length > 0 && ` · ${email.providers.join(" → ")}`,
    ),
  );
}

function controlFor({ name, label, hint, kind = "text", rows = 1, isOptional, value = "" }: Input) {
  const id = `field-${name}`;
  const attributes = { id, name, "aria-describedby": `${id}-hint ${id}-error`, autocomplete: "off" };
  const field =
    kind === "area"
      ? element("textarea", { ...attributes, rows, spellcheck: "false" })
      : element("input", { ...attributes, type: kind, ...(kind === "email" && { inputmode: "email" }) });
  field.value = value;
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
  return { root, field, error };
}

/** The service joins its errors by `; `, each after the name of its field. */
function errorsByName(message: string): {
  readonly byName: ReadonlyMap<string, string>;
  readonly rest: string;
} {
  const byName = new Map<string, string>();
  const rest: string[] = [];
  for (const part of message.split(new RegExp(`; (?=(?:${names.join("|")}): )`))) {
    const [, name = "", text = ""] = /^([\w-]+): (.*)$/s.exec(part) ?? [];
    const field = name === "Idempotency-Key" ? "key" : name;
    if (names.includes(field)) byName.set(field, text);
    else if (part !== "") rest.push(part);
  }
  return { byName, rest: rest.join("; ") };
}
