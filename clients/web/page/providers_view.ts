// The providers and the failover between them: what each sends, how its breaker stands, and the faults of the sandboxes.

import type { ProviderRow, SandboxFaults, Snapshot } from "../protocol.ts";
import { Chart } from "./chart.ts";
import { Refused, request, submit } from "./client.ts";
import { button, element, Keyed, reconcile } from "./dom.ts";
import { createFaultPanel, type FaultPanel } from "./fault_panel.ts";
import { number, time } from "./format.ts";
import type { Live } from "./live.ts";
import type { View } from "./view.ts";

const breakerWords = {
  closed: ["closed", "sent"],
  half_open: ["half-open", "retrying"],
  open: ["open", "dead"],
} as const;

const testCount = 10;

export function createProviders(live: Live): View {
  const chart = new Chart();
  const body = element("tbody");
  const rows = new Keyed<ProviderRow>(body, rowOf);
  const hint = element(
    "p",
    { class: "remark", hidden: true },
    "The breakers are unknown: the worker's admin port does not answer.",
  );
  const panels = new Map<string, FaultPanel>();
  const panelArea = element("div", { class: "panels" });
  const message = element("p", { class: "message", role: "status" });

  function update(): void {
    const { snapshot } = live;
    if (snapshot === undefined) return;
    rows.show(snapshot.providers, ({ name }) => name);
    hint.hidden = snapshot.providers.some(({ breaker }) => breaker !== undefined);
    chart.show(live.samples);
    showFaults(snapshot.faults);
  }

  function showFaults(faults: Snapshot["faults"]): void {
    for (const [name, now] of Object.entries(faults)) {
      const known = panels.get(name);
      if (known !== undefined) known.update(now);
      else
        panels.set(
          name,
          createFaultPanel(name, now, (changed) => setFaults(name, changed)),
        );
    }
    reconcile(
      panelArea,
      [...panels.values()].map((panel) => panel.element),
    );
  }

  async function setFaults(name: string, faults: SandboxFaults): Promise<void> {
    await attempt(() => request("PUT", `/api/faults/${name}`, faults));
  }

  async function sendTests(): Promise<void> {
    const subjects = Array.from({ length: testCount }, (_, i) => `Test ${i + 1} of ${testCount}`);
    const sent = await attempt(() =>
      Promise.all(
        subjects.map((subject) =>
          submit({ to: "jane@example.org", subject, body: "Sent by the web client." }),
        ),
      ),
    );
    if (sent !== undefined) message.textContent = `${testCount} test emails are stored.`;
  }

  async function attempt<Answer>(ask: () => Promise<Answer>): Promise<Answer | undefined> {
    message.classList.remove("wrong");
    message.textContent = "";
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      message.textContent = error.message;
      message.classList.add("wrong");
      return undefined;
    }
  }

  return {
    title: "Providers",
    update,
    leave: () => chart.destroy(),
    element: element(
      "section",
      { class: "providers" },
      element(
        "div",
        { class: "heading" },
        element("h1", {}, "Providers"),
        button(`Send ${testCount} test emails`, () => void sendTests()),
      ),
      message,
      chart.element,
      element("table", {}, element("caption", { class: "hidden" }, "Providers"), headOf(), body),
      hint,
      element("h2", {}, "Faults"),
      element(
        "p",
        { class: "remark" },
        "The sandboxes fail on request. Break one, and emails go to the other; break both, and they wait.",
      ),
      panelArea,
    ),
  };
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
