// The providers and the failover between them: what each sends, how its breaker stands, and the faults of the sandboxes.

import type { ProviderRow, SandboxFaults } from "../protocol.ts";
import { Chart } from "./chart.ts";
import { Refused, request, submit } from "./client.ts";
import { button, element, Keyed, reconcile } from "./dom.ts";
import { FaultPanel } from "./fault_panel.ts";
import { number, time } from "./format.ts";
import type { Live } from "./live.ts";
import type { View } from "./view.ts";

const breakerWords = {
  closed: ["closed", "sent"],
  half_open: ["half-open", "retrying"],
  open: ["open", "dead"],
} as const;

const testCount = 10;
const unknownBreakers = "The breakers are unknown: the worker's admin port does not answer.";
const advice =
  "The sandboxes fail on request. Break one, and emails go to the other; break both, and they wait.";

export class ProvidersView implements View {
  readonly title = "Providers";
  readonly element: HTMLElement;
  readonly #live: Live;
  readonly #chart = new Chart();
  readonly #send = button(`Send ${testCount} test emails`, () => void this.#sendTests());
  readonly #body = element("tbody");
  readonly #rows = new Keyed<ProviderRow>(this.#body, rowOf);
  readonly #hint = element("p", { class: "remark", hidden: true }, unknownBreakers);
  readonly #panels = new Map<string, FaultPanel>();
  readonly #panelArea = element("div", { class: "panels" });
  readonly #message = element("p", { class: "message", role: "status" });

  constructor(live: Live) {
    this.#live = live;
    this.element = element(
      "section",
      { class: "providers" },
      element("div", { class: "heading" }, element("h1", {}, "Providers"), this.#send),
      this.#message,
      this.#chart.element,
      element("table", {}, element("caption", { class: "hidden" }, "Providers"), headOf(), this.#body),
      this.#hint,
      element("h2", {}, "Faults"),
      element("p", { class: "remark" }, advice),
      this.#panelArea,
    );
  }

  update(): void {
    const { snapshot, samples, isLocked } = this.#live;
    this.#send.disabled = isLocked;
    if (snapshot === undefined) return;
    this.#rows.show(snapshot.providers, ({ name }) => name);
    this.#hint.hidden = snapshot.providers.some(({ breaker }) => breaker !== undefined);
    this.#chart.show(samples);
    for (const [name, faults] of Object.entries(snapshot.faults)) this.#showFaults(name, faults);
    reconcile(
      this.#panelArea,
      [...this.#panels.values()].map((panel) => panel.element),
    );
  }

  leave(): void {
    this.#chart.destroy();
  }

  #showFaults(name: string, faults: SandboxFaults): void {
    const known = this.#panels.get(name);
    if (known !== undefined) return known.update(faults);
    const change = (wanted: SandboxFaults) =>
      this.#attempt(async () => void (await request("PUT", `/api/faults/${name}`, wanted)));
    this.#panels.set(name, new FaultPanel(name, faults, change));
  }

  #sendTests(): Promise<void> {
    const subjects = Array.from({ length: testCount }, (_, i) => `Test ${i + 1} of ${testCount}`);
    const body = "Sent by the web client.";
    return this.#attempt(async () => {
      await Promise.all(subjects.map((subject) => submit({ to: "jane@example.org", subject, body })));
      this.#message.textContent = `${testCount} test emails are stored.`;
    });
  }

  async #attempt(action: () => Promise<void>): Promise<void> {
    this.#message.classList.remove("wrong");
    this.#message.textContent = "";
    try {
      await action();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.#message.textContent = error.message;
      this.#message.classList.add("wrong");
    }
  }
}

const headOf = () =>
  element(
    "thead",
    {},
    element(
      "tr",
      {},
      ...["Provider", "Breaker", "Sent", "Retried", "Dead", "Condition"].map((title) =>
        element(
          "th",
          { scope: "col", ...(["Sent", "Retried", "Dead"].includes(title) && { class: "figure" }) },
          title,
        ),
      ),
    ),
  );

function rowOf({
  name,
  breaker,
  accepted,
  retried,
  dead,
  failingSince,
  lastFailure,
  lastAcceptedAt,
}: ProviderRow): Element {
  const [word, state] = breaker === undefined ? ["unknown", "waiting"] : breakerWords[breaker];
  return element(
    "tr",
    { "data-provider": name },
    element("th", { scope: "row" }, name),
    element("td", {}, element("span", { class: "word", "data-state": state }, word)),
    ...[accepted, retried, dead].map((count) => element("td", { class: "figure" }, number(count))),
    failingSince === undefined
      ? element(
          "td",
          {},
          ...(lastAcceptedAt === undefined ? ["not used yet"] : ["sent ", time(lastAcceptedAt)]),
        )
      : element(
          "td",
          {},
          "first failed ",
          time(failingSince),
          element("small", { class: "reason" }, lastFailure ?? ""),
        ),
  );
}
