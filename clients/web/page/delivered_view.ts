// What the sandbox delivered: a list with search, and the chosen email as HTML, text or source.

import type { DeliveredEmail, DeliveredList, DeliveredRow } from "../protocol.ts";
import { Refused, request } from "./client.ts";
import { button, element, fill, Keyed, on } from "./dom.ts";
import { bytes, counted, number, time } from "./format.ts";
import type { Live } from "./live.ts";
import type { View } from "./view.ts";

/** Pause after the last key before a search, ms. */
const typingMs = 150;

/** Kept while other views are shown. */
let lastSearch = "";

export class DeliveredView implements View {
  readonly title = "Delivered";
  readonly element: HTMLElement;
  readonly #live: Live;
  readonly #search = element("input", {
    type: "search",
    id: "search",
    placeholder: "Search",
    value: lastSearch,
  });
  readonly #list = element("ul", { class: "mails", "aria-label": "Delivered emails" });
  readonly #rows: Keyed<DeliveredRow>;
  readonly #remark = element("p", { class: "remark", role: "status" });
  /** How many emails had been accepted when the list was asked for. */
  #accepted = -1;
  #typing: ReturnType<typeof setTimeout> | undefined;

  /** @param chosen the name of a file; empty for none */
  constructor(live: Live, chosen: string) {
    this.#live = live;
    this.#rows = new Keyed(this.#list, (row) => entryOf(row, row.name === chosen));
    on(this.#search, {
      input: () => {
        clearTimeout(this.#typing);
        this.#typing = setTimeout(() => void this.#load(), typingMs);
      },
    });
    const label = element(
      "label",
      { for: "search", class: "hidden" },
      "Search in addresses, subjects and texts",
    );
    const pane = element("div", { class: "pane" }, label, this.#search, this.#remark, this.#list);
    const reading = element("article", { class: "mail", "aria-label": "Email" });
    if (chosen === "") fill(reading, element("p", { class: "empty" }, "Choose an email to read it."));
    else void read(chosen, reading);
    this.element = element(
      "section",
      { class: chosen === "" ? "delivered" : "delivered reading" },
      element("h1", {}, "Delivered"),
      element("div", { class: "panes" }, pane, reading),
    );
  }

  /** The list is asked for again when something more has been accepted. */
  update(): void {
    const now = this.#live.snapshot?.providers.reduce((sum, one) => sum + one.accepted, 0) ?? 0;
    if (now === this.#accepted) return;
    this.#accepted = now;
    void this.#load();
  }

  leave(): void {
    clearTimeout(this.#typing);
  }

  async #load(): Promise<void> {
    const wanted = this.#search.value;
    lastSearch = wanted;
    const path = `/api/delivered?search=${encodeURIComponent(wanted)}`;
    const found = await request<DeliveredList>("GET", path).catch(refusedOnly);
    // The answer to an earlier search may come later.
    if (found === undefined || wanted !== this.#search.value) return;
    this.#rows.show(found.emails, ({ name }) => name);
    this.#remark.textContent = remarkOn(found, wanted);
  }
}

function refusedOnly(error: unknown): undefined {
  if (!(error instanceof Refused)) throw error;
}

function entryOf({ name, subject, to, preview, deliveredAt }: DeliveredRow, isChosen: boolean): Element {
  return element(
    "li",
    {},
    element(
      "a",
      { href: `#/delivered/${name}`, ...(isChosen && { "aria-current": "true" }) },
      element("span", { class: "subject" }, subject || "(no subject)"),
      time(deliveredAt),
      element("span", { class: "to" }, to),
      element("span", { class: "preview" }, preview),
    ),
  );
}

function remarkOn({ emails, total, searched }: DeliveredList, wanted: string): string {
  if (total === 0) return "Nothing has been delivered by the sandbox yet.";
  if (wanted.trim() === "")
    return total > emails.length
      ? `The newest ${number(emails.length)} of ${number(total)}`
      : counted(total, "email");
  const where = searched < total ? ` among the newest ${number(searched)}` : "";
  return emails.length === 0 ? `Nothing found${where}.` : `${counted(emails.length, "email")} found${where}`;
}

async function read(name: string, into: HTMLElement): Promise<void> {
  const email = await request<DeliveredEmail>("GET", `/api/delivered/${encodeURIComponent(name)}`).catch(
    refusedOnly,
  );
  if (email === undefined)
    return fill(into, element("p", { class: "empty" }, "There is no such email any more."));
  const { id, subject, from, to, deliveredAt, attachments } = email;
  fill(
    into,
    element("p", { class: "back" }, element("a", { href: "#/delivered" }, "← Delivered")),
    element("h2", {}, subject || "(no subject)"),
    element(
      "dl",
      {},
      element("dt", {}, "From"),
      element("dd", {}, from),
      element("dt", {}, "To"),
      element("dd", {}, to),
      element("dt", {}, "Delivered"),
      element("dd", {}, time(deliveredAt)),
      ...(attachments.length === 0
        ? []
        : [
            element("dt", {}, "Attachments"),
            element(
              "dd",
              {},
              attachments.map((one) => `${one.name} (${one.type}, ${bytes(one.bytes)})`).join(", "),
            ),
          ]),
    ),
    element("p", {}, element("a", { href: `#/queue/${id}` }, "Show its attempts")),
    ...bodyOf(email),
  );
}

/** The forms of a body, one at a time. */
function bodyOf({ text, htmlPath, htmlSource, headers, source }: DeliveredEmail): Node[] {
  const shown = element("div", { class: "body" });
  const pre = (label: string, content: string) =>
    element("pre", { tabindex: 0, "aria-label": label }, content);
  const forms: readonly (readonly [label: string, make: () => Node])[] = [
    ...(htmlPath === undefined ? [] : [["HTML", () => frameOf(htmlPath)] as const]),
    ["Text", () => pre("Text", text)],
    ...(htmlSource === undefined ? [] : [["HTML source", () => pre("HTML source", htmlSource)] as const]),
    ["Headers", () => pre("Headers", headers.map(({ name, value }) => `${name}: ${value}`).join("\n"))],
    ["Source", () => pre("Source", source)],
  ];
  const choices = forms.map(([label, make]) =>
    button(label, () => choose(label, make), { "aria-pressed": "false" }),
  );
  function choose(label: string, make: () => Node): void {
    for (const choice of choices) choice.setAttribute("aria-pressed", String(choice.textContent === label));
    fill(shown, make());
  }
  choose(...forms[0]!);
  return [element("div", { class: "filters", role: "group", "aria-label": "Shown as" }, ...choices), shown];
}

/** Its own policy and this sandbox: it runs and loads nothing, and its links open in a new tab. */
function frameOf(path: string): HTMLElement {
  return element("iframe", {
    src: path,
    title: "The email as HTML",
    sandbox: "allow-popups allow-popups-to-escape-sandbox",
    referrerpolicy: "no-referrer",
  });
}
