// One email: its state, attempts, fields and content, and buttons to retry or delete it.

import type { AttemptDetails, EmailDetails } from "../protocol.ts";
import { Refused, request } from "./client.ts";
import { button, element, fill } from "./dom.ts";
import { fileList } from "./file_list.ts";
import { stateWord, time, wholeTime } from "./format.ts";
import type { View } from "./view.ts";

export class EmailView implements View {
  readonly title = "Email";
  readonly element = element("section", { class: "email" });
  readonly #path: string;
  readonly #content = element("div");
  readonly #message = element("p", { class: "message", role: "status" });
  /** The JSON of the details that are shown: they are rendered again only after a change. */
  #shown = "";
  /** The state in which the message about the last retry is true. */
  #messageState: string | undefined;
  #isAsking = false;

  constructor(id: string) {
    this.#path = `/api/emails/${encodeURIComponent(id)}`;
    const back = element("p", {}, element("a", { href: "#/queue" }, "← Queue"));
    this.element.append(back, this.#content, this.#message);
  }

  update(): void {
    void this.#load();
  }

  async #load(): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    // Taken before the request, whose answer may otherwise be older than the retry.
    const messageState = this.#messageState;
    try {
      const details = await request<EmailDetails>("GET", this.#path);
      const text = JSON.stringify(details);
      if (text !== this.#shown) fill(this.#content, ...partsOf(details, this.#act));
      this.#shown = text;
      if (messageState !== undefined && details.state !== messageState) this.#message.textContent = "";
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.status === 404) fill(this.#content, element("p", { class: "empty" }, error.message));
    } finally {
      this.#isAsking = false;
    }
  }

  readonly #act: Act = async (method, done, body) => {
    this.#message.classList.remove("wrong");
    this.#messageState = undefined;
    try {
      await request(method, this.#path, body);
      if (method === "POST") this.#messageState = "waiting";
      this.#message.textContent = done;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.#message.textContent = error.message;
      this.#message.classList.add("wrong");
    }
    this.#shown = "";
    await this.#load();
  };
}

type Act = (method: string, done: string, body?: object) => Promise<void>;

function partsOf(details: EmailDetails, act: Act): Node[] {
  const { id, state, meaning, subject, fields, attempts, contents, deliveredAs } = details;
  const { attachments, areFilesKept } = details;
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
    ...(attachments.length === 0
      ? []
      : [
          element("h2", {}, "Attachments"),
          fileList(attachments, areFilesKept ? (number) => `/api/files/${id}.${number}` : undefined),
        ]),
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
  const retried = "Queued again.";
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
    case "scheduled":
    case "waiting":
    case "retrying":
      return [deleting];
    default:
      return [];
  }
}

/** A button that is replaced by a question before it acts. */
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
