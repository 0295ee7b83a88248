// Composes and submits an email: all fields of `POST /`, and the service's errors next to their fields.

import type { EmailRow } from "../protocol.ts";
import { Refused, submit } from "./client.ts";
import { createControl, type Input, inputs, moreInputs } from "./compose_inputs.ts";
import { element, Keyed, on } from "./dom.ts";
import { stateWord } from "./format.ts";
import type { Live } from "./live.ts";
import type { View } from "./view.ts";

const allInputs = [...inputs, ...moreInputs].flat();
const names = allInputs.map(({ name }) => name);

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
  readonly #controls = new Map(allInputs.map((input) => [input.name, createControl(input)]));
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
    const rowOf = (row: readonly Input[]) =>
      element("div", { class: "row" }, ...row.map(({ name }) => this.#controls.get(name)!.root));
    const more = element("details", { class: "more" }, element("summary", {}, "More fields"));
    more.append(...moreInputs.map(rowOf));
    const actions = element("div", { class: "actions" }, this.#send);
    const form = element("form", { novalidate: true }, ...inputs.map(rowOf), more, actions, this.#failure);
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
    this.#send.disabled = true;
    this.#showErrors("");
    try {
      const { key, ...email } = await this.#read();
      const { id } = await submit(email, String(key));
      const others = sent.filter((one) => one.id !== id);
      sent = [{ id, subject: String(email["subject"]) }, ...others].slice(0, sentMax);
      this.update();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.#showErrors(error.message);
    } finally {
      this.#send.disabled = false;
    }
  }

  /** The email, and its key. Files that the HTML shows get a content id. */
  async #read(): Promise<Record<string, unknown>> {
    const entries = [...this.#controls].map(async ([name, { read }]) => [name, await read()] as const);
    const values = Object.fromEntries(await Promise.all(entries));
    const files = values["attachments"] as readonly { readonly filename: string }[];
    const isShown = (name: string) => String(values["html"]).includes(`cid:${name}`);
    const attachments = files.map((one) =>
      isShown(one.filename) ? { ...one, content_id: one.filename } : one,
    );
    return { ...values, attachments };
  }

  #showErrors(message: string): void {
    const { byName, rest } = errorsByName(message);
    for (const [name, { field, error }] of this.#controls) {
      const text = byName.get(name);
      error.textContent = text ?? "";
      if (text === undefined) field.removeAttribute("aria-invalid");
      else field.setAttribute("aria-invalid", "true");
      if (text !== undefined) field.closest("details")?.setAttribute("open", "");
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

/** A location in the service's errors: a field, one of its values, or a member of that. */
const place = `(?:${[...names, "Idempotency-Key"].join("|")})(?:\\[.*?\\](?:\\.\\w+)?)?`;

/** The service joins its errors by `; `, each with its location first. */
function errorsByName(message: string): {
  readonly byName: ReadonlyMap<string, string>;
  readonly rest: string;
} {
  const byName = new Map<string, string>();
  const rest: string[] = [];
  for (const part of message.split(new RegExp(`; (?=${place}: )`))) {
    const [, name = "", text = ""] = new RegExp(`^(?=${place}: )([\\w-]+)(?:: )?(.*)$`, "s").exec(part) ?? [];
    const field = name === "Idempotency-Key" ? "key" : name;
    const before = byName.get(field);
    if (name !== "") byName.set(field, before === undefined ? text : `${before}; ${text}`);
    else if (part !== "") rest.push(part);
  }
  return { byName, rest: rest.join("; ") };
}
