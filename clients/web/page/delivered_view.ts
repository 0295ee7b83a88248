// The emails that the sandbox delivered: a list with search, and the chosen one as HTML, text or source.

import type { DeliveredEmail, DeliveredList, DeliveredRow } from "../protocol.ts";
import { Refused, request } from "./client.ts";
import { button, element, fill, Keyed, on } from "./dom.ts";
import { fileList } from "./file_list.ts";
import { counted, number, time } from "./format.ts";
import type { Live } from "./live.ts";
import type { View } from "./view.ts";

/** Pause after the last key before a search, ms. */
const typingMs = 150;

/** Survives a change of view. */
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
  readonly #rows = new Keyed<DeliveredRow>(this.#list, entryOf);
  readonly #remark = element("p", { class: "remark", role: "status" });
  readonly #reading = element("article", { class: "mail", "aria-label": "Email" });
  /** The name of its file; empty for none. */
  #chosen = "";
  /** Emails that had been accepted when the list was last requested. */
  #accepted = -1;
  #typing: ReturnType<typeof setTimeout> | undefined;

  constructor(live: Live, chosen: string) {
    this.#live = live;
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
    this.element = element(
      "section",
      { class: "delivered" },
      element("h1", {}, "Delivered"),
      element("div", { class: "panes" }, pane, this.#reading),
    );
    this.choose(chosen);
  }

  /** Shows another email. The list keeps its scroll position and focus. */
  choose(chosen: string): void {
    this.#chosen = chosen;
    this.#mark();
    this.element.classList.toggle("reading", chosen !== "");
    if (chosen === "") fill(this.#reading, element("p", { class: "empty" }, "Choose an email to read it."));
    else void this.#read(chosen);
  }

  /** Requests the list again when a provider has accepted more. */
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
    this.#mark();
    this.#remark.textContent = remarkOn(found, wanted);
  }

  async #read(name: string): Promise<void> {
    const path = `/api/delivered/${encodeURIComponent(name)}`;
    const email = await request<DeliveredEmail>("GET", path).catch(refusedOnly);
    if (name !== this.#chosen) return;
    if (email !== undefined) return fill(this.#reading, ...partsOf(email));
    fill(this.#reading, element("p", { class: "empty" }, "There is no such email any more."));
  }

  /** Marks the chosen email in the list. */
  #mark(): void {
    for (const link of this.#list.querySelectorAll("a")) {
      if (link.hash === hashOf(this.#chosen)) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }
}

/** The address of an email in this view. */
const hashOf = (name: string) => `#/delivered/${name}`;

function refusedOnly(error: unknown): undefined {
  if (!(error instanceof Refused)) throw error;
}

function entryOf({ name, subject, to, preview, deliveredAt }: DeliveredRow): Element {
  return element(
    "li",
    {},
    element(
      "a",
      { href: hashOf(name) },
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

function partsOf(email: DeliveredEmail): Node[] {
  const { name, id, subject, from, to, cc, deliveredAt, attachments } = email;
  const files = fileList(attachments, (number) => `/api/parts/${name}.${number}`);
  const fields: readonly (readonly [label: string, value: Node | string])[] = [
    ["From", from],
    ["To", to],
    ...(cc === "" ? [] : [["Cc", cc] as const]),
    ["Delivered", time(deliveredAt)],
    ...(attachments.length === 0 ? [] : [["Attachments", files] as const]),
  ];
  return [
    element("p", { class: "back" }, element("a", { href: "#/delivered" }, "← Delivered")),
    element("h2", {}, subject || "(no subject)"),
    element(
      "dl",
      {},
      ...fields.flatMap(([label, value]) => [element("dt", {}, label), element("dd", {}, value)]),
    ),
    element("p", {}, element("a", { href: `#/queue/${id}` }, "Show its attempts")),
    ...bodyOf(email),
  ];
}

/** The body in one of its forms, with a button for each. */
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

/** A frame whose policy and sandbox allow no scripts and no requests; links open in a new tab. */
function frameOf(path: string): HTMLElement {
  return element("iframe", {
    src: path,
    title: "The email as HTML",
    sandbox: "allow-popups allow-popups-to-escape-sandbox",
    referrerpolicy: "no-referrer",
  });
}
