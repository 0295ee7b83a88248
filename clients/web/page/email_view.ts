// One email in full: its state, its attempts, its content, and what can be done with it.

import type { AttemptDetails, EmailDetails } from "../protocol.ts";
import { Refused, request } from "./client.ts";
import { button, element, fill } from "./dom.ts";
import { stateWord, time, wholeTime } from "./format.ts";
import type { Live } from "./live.ts";
import type { View } from "./view.ts";

export function createEmail(live: Live, id: string): View {
  const path = `/api/emails/${encodeURIComponent(id)}`;
  const root = element("section", { class: "email" });
  const message = element("p", { class: "message", role: "status" });
  const content = element("div");
  root.append(element("p", {}, element("a", { href: "#/queue" }, "← Queue")), content, message);
  /** What is shown, so that it is made anew only when it has changed. */
  let shown = "";
  let isAsking = false;

  async function load(): Promise<void> {
    if (isAsking) return;
    isAsking = true;
    try {
      const details = await request<EmailDetails>("GET", path);
      const text = JSON.stringify(details);
      if (text !== shown) fill(content, ...partsOf(details, act));
      shown = text;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.status === 404)
        fill(content, element("p", { class: "empty" }, "There is no such email any more."));
    } finally {
      isAsking = false;
    }
  }

  async function act(method: string, done: string, body?: object): Promise<void> {
    message.classList.remove("wrong");
    try {
      await request(method, path, body);
      message.textContent = done;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      message.textContent = error.message;
      message.classList.add("wrong");
    }
    shown = "";
    await load();
  }

  const leave = live.watch(() => void load());
  return { title: "Email", element: root, update: () => void load(), leave };
}

type Act = (method: string, done: string, body?: object) => Promise<void>;

function partsOf(details: EmailDetails, act: Act): Node[] {
  const { state, meaning, subject, fields, attempts, contents, deliveredAs } = details;
  const actions = actionsOf(details, act);
  return [
    element("h1", {}, subject || "(no subject)"),
    element(
      "p",
      { class: "lead" },
      stateWord(state),
      " · ",
      meaning.replace(/^./, (first) => first.toUpperCase()),
      ".",
    ),
    ...(actions.length > 0 ? [element("div", { class: "actions" }, ...actions)] : []),
    ...(deliveredAs === undefined
      ? []
      : [element("p", {}, element("a", { href: `#/delivered/${deliveredAs}` }, "Show what was delivered"))]),
    element("h2", {}, "Attempts"),
    attempts.length === 0 ? element("p", { class: "remark" }, "None yet.") : attemptTable(attempts),
    element("h2", {}, "Fields"),
    element(
      "dl",
      {},
      ...fields.flatMap((field) => [
        element("dt", {}, field.label),
        element("dd", {}, "at" in field ? wholeTime(field.at) : field.text),
      ]),
    ),
    ...contents.flatMap(({ label, text }) => [
      element("h2", {}, label),
      element("pre", { tabindex: 0, "aria-label": label }, text),
    ]),
  ];
}

function attemptTable(attempts: readonly AttemptDetails[]): HTMLElement {
  return element(
    "table",
    { class: "attempts" },
    element("caption", { class: "hidden" }, "Attempts, from the first"),
    element(
      "thead",
      {},
      element(
        "tr",
        {},
        ...["When", "Provider", "Outcome", "Reason"].map((title) => element("th", { scope: "col" }, title)),
      ),
    ),
    element(
      "tbody",
      {},
      ...attempts.map(({ at, provider, outcome, isAccepted, reason }) =>
        element(
          "tr",
          {},
          element("td", {}, time(at)),
          element("td", {}, provider),
          element(
            "td",
            {},
            element("span", { class: "word", "data-state": isAccepted ? "sent" : "retrying" }, outcome),
          ),
          element("td", {}, reason),
        ),
      ),
    ),
  );
}

function actionsOf({ state, outcomeUnknown }: EmailDetails, act: Act): HTMLElement[] {
  const retried = "It waits again.";
  const deleting = confirmed("Delete", "Delete permanently", () => act("DELETE", "It is deleted."));
  switch (state) {
    case "dead":
      return outcomeUnknown
        ? [
            confirmed("Retry", "Retry, though it may arrive twice", () =>
              act("POST", retried, { force: true }),
            ),
            deleting,
          ]
        : [button("Retry", () => void act("POST", retried, {}), { class: "primary" }), deleting];
    case "in-doubt":
      return [
        confirmed("Send again", "Send its batch again, though it may arrive twice", () =>
          act("POST", retried, { force: true }),
        ),
      ];
    case "waiting":
    case "retrying":
      return [deleting];
    default:
      return [];
  }
}

/** A button that asks first, in its own place. */
function confirmed(label: string, question: string, action: () => Promise<void>): HTMLElement {
  const root = element("span", { class: "confirm" });
  const ask = () => {
    const yes = button(question, () => void action(), { class: "danger" });
    fill(root, yes, button("Cancel", reset));
    yes.focus();
  };
  function reset(): void {
    fill(root, button(label, ask));
  }
  reset();
  return root;
}
