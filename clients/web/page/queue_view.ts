// The queue, live: how many emails are in each state, and the newest of them.

import type { EmailRow, State } from "../protocol.ts";
import { button, element, fill, Keyed } from "./dom.ts";
import { number, states, stateWord, time, wordOf } from "./format.ts";
import type { Live } from "./live.ts";
import type { View } from "./view.ts";

type Filter = State | "all";

const filters: readonly Filter[] = ["all", ...states];

export class QueueView implements View {
  readonly title = "Queue";
  readonly element: HTMLElement;
  readonly #live: Live;
  readonly #buttons = new Map(filters.map((name) => [name, this.#buttonOf(name)]));
  readonly #body = element("tbody");
  readonly #rows = new Keyed<EmailRow>(this.#body, rowOf);
  readonly #table = tableOf(this.#body);
  readonly #empty = element("div", { class: "empty", hidden: true });
  readonly #remark = element("p", { class: "remark" });
  #filter: Filter = "all";

  constructor(live: Live) {
    this.#live = live;
    const buttons = [...this.#buttons.values()].map((one) => one.root);
    this.element = element(
      "section",
      {},
      element("h1", {}, "Queue"),
      element("div", { class: "filters", role: "group", "aria-label": "State" }, ...buttons),
      this.#table,
      this.#empty,
      this.#remark,
    );
  }

  update(): void {
    const { snapshot } = this.#live;
    if (snapshot === undefined) return;
    const total = states.reduce((sum, state) => sum + snapshot.states[state], 0);
    const countOf = (name: Filter) => (name === "all" ? total : snapshot.states[name]);
    for (const [name, { root, count }] of this.#buttons) {
      count.textContent = number(countOf(name));
      root.setAttribute("aria-pressed", String(name === this.#filter));
    }
    const shown = snapshot.emails.filter(({ state }) => this.#filter === "all" || state === this.#filter);
    this.#rows.show(shown, ({ id }) => id);
    this.#table.hidden = shown.length === 0;
    this.#empty.hidden = shown.length > 0;
    // Before the first email there is a link in it, which may have the focus.
    if (this.#empty.dataset["filter"] !== this.#filter) fill(this.#empty, ...emptyText(this.#filter));
    this.#empty.dataset["filter"] = this.#filter;
    const all = countOf(this.#filter);
    const isPart = all > shown.length && shown.length > 0;
    this.#remark.textContent = isPart ? `The newest ${number(shown.length)} of ${number(all)}` : "";
  }

  #buttonOf(name: Filter) {
    const count = element("span", { class: "count" });
    const choose = () => {
      this.#filter = name;
      this.update();
    };
    const root = button(`${wordOf(name)} `, choose, { "aria-pressed": String(name === "all") });
    root.append(count);
    return { root, count };
  }
}

function tableOf(body: HTMLElement): HTMLTableElement {
  const titles = ["State", "Email", "Provider", "Attempts", "Submitted"];
  const heads = titles.map((title) =>
    element("th", { scope: "col", class: `column-${title.toLowerCase()}` }, title),
  );
  return element(
    "table",
    { class: "emails" },
    element("caption", { class: "hidden" }, "Emails, from the newest"),
    element("thead", {}, element("tr", {}, ...heads)),
    body,
  );
}

function rowOf({
  id,
  state,
  subject,
  to,
  reason,
  submitted_at,
  next_at,
  providers,
  attempts_total,
}: EmailRow): Element {
  const isHeld = state === "scheduled" || state === "retrying" || state === "in-doubt";
  return element(
    "tr",
    {},
    element(
      "td",
      { class: "column-state" },
      stateWord(state),
      next_at !== undefined && isHeld && element("small", {}, "due ", time(next_at)),
    ),
    element(
      "td",
      { class: "column-email" },
      element("a", { href: `#/queue/${id}` }, subject || "(no subject)"),
      element("small", {}, to ?? ""),
      state !== "sent" && reason !== undefined && element("small", { class: "reason" }, reason),
    ),
    element("td", { class: "column-provider" }, providers.join(" → ") || "–"),
    element("td", { class: "column-attempts" }, number(attempts_total)),
    element("td", { class: "column-submitted" }, submitted_at === undefined ? "" : time(submitted_at)),
  );
}

function emptyText(filter: Filter): (Node | string)[] {
  if (filter !== "all") return [element("p", {}, `No email is ${filter.replace("-", " ")}.`)];
  return [
    element("p", {}, "No emails yet."),
    element("p", {}, element("a", { href: "#/compose", class: "button" }, "Compose one")),
  ];
}
