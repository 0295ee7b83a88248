// The queue, live: how many emails are in each state, and the newest of them.

import type { EmailRow, State } from "../protocol.ts";
import { button, element, fill, Keyed } from "./dom.ts";
import { number, states, stateWord, time, wordOf } from "./format.ts";
import type { Live } from "./live.ts";
import type { View } from "./view.ts";

type Filter = State | "all";

export function createQueue(live: Live): View {
  let filter: Filter = "all";
  const filters = new Map(
    (["all", ...states] as const).map((name) => {
      const count = element("span", { class: "count" });
      const made = button("", () => choose(name), { "aria-pressed": String(name === filter) });
      made.append(wordOf(name), " ", count);
      return [name, { made, count }] as const;
    }),
  );
  const body = element("tbody");
  const rows = new Keyed<EmailRow>(body, rowOf);
  const table = element(
    "table",
    { class: "emails" },
    element("caption", { class: "hidden" }, "Emails, from the newest"),
    element(
      "thead",
      {},
      element(
        "tr",
        {},
        ...["State", "Email", "Provider", "Attempts", "Submitted"].map((title) =>
          element("th", { scope: "col", class: `column-${title.toLowerCase()}` }, title),
        ),
      ),
    ),
    body,
  );
  const remark = element("p", { class: "remark" });
  const empty = element("div", { class: "empty", hidden: true });

  function choose(name: Filter): void {
    filter = name;
    for (const [one, { made }] of filters) made.setAttribute("aria-pressed", String(one === name));
    update();
  }

  function update(): void {
    const { snapshot } = live;
    if (snapshot === undefined) return;
    const total = states.reduce((sum, state) => sum + snapshot.states[state], 0);
    const countOf = (name: Filter) => (name === "all" ? total : snapshot.states[name]);
    for (const [name, { made, count }] of filters) {
      count.textContent = number(countOf(name));
      made.classList.toggle("zero", countOf(name) === 0);
    }
    const shown = snapshot.emails.filter(({ state }) => filter === "all" || state === filter);
    rows.show(shown, ({ id }) => id);
    table.hidden = shown.length === 0;
    empty.hidden = shown.length > 0;
    fill(empty, ...emptyText(filter));
    const all = countOf(filter);
    remark.textContent =
      all > shown.length && shown.length > 0 ? `The newest ${number(shown.length)} of ${number(all)}` : "";
  }

  return {
    title: "Queue",
    update,
    element: element(
      "section",
      {},
      element("h1", {}, "Queue"),
      element(
        "div",
        { class: "filters", role: "group", "aria-label": "State" },
        ...[...filters.values()].map(({ made }) => made),
      ),
      table,
      empty,
      remark,
    ),
  };
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
  const isHeld = state === "retrying" || state === "in-doubt";
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
