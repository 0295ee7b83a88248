// The faults of one sandbox, as switches. A change counts from its next request on.

import type { SandboxFaults } from "../protocol.ts";
import { button, element, on } from "./dom.ts";

type FaultName = keyof SandboxFaults["chances"];

/** At most one of a group is drawn: those of a request, and those of an email. */
const groups: readonly (readonly (readonly [name: FaultName, effect: string])[])[] = [
  [
    ["unavailable", "Answers that it is down; nothing is sent"],
    ["throttle", "Answers that there are too many requests"],
    ["refuse-account", "Refuses everything, as with a wrong key"],
    ["lose-request", "No answer, and nothing is sent"],
    ["lose-answer", "No answer, though everything is sent"],
    ["hang", "No answer until the timeout; sent or not, at random"],
  ],
  [
    ["reject", "Rejects the email, which becomes a dead letter"],
    ["refuse-sender", "Refuses the sender"],
  ],
];

const brokenFaults: SandboxFaults = { chances: { unavailable: 1 }, latency: { minMs: 0, maxMs: 0 } };
const noFaults: SandboxFaults = { chances: {}, latency: { minMs: 0, maxMs: 0 } };

export interface FaultPanel {
  readonly element: HTMLElement;
  /** Shows the faults that count, unless a change is on its way. */
  update(now: SandboxFaults): void;
}

/** @param change stores other faults */
export function createFaultPanel(
  name: string,
  initial: SandboxFaults,
  change: (faults: SandboxFaults) => Promise<void>,
): FaultPanel {
  let faults = initial;
  /** One after the other. */
  let changes = Promise.resolve();
  let pending = 0;
  const state = element("span", { class: "word" });
  const toggle = button("", () => void set(isBroken(faults) ? noFaults : brokenFaults));
  const controls = groups.flatMap((group) =>
    group.map(([fault, effect]) => {
      const control = controlFor(`${name}-${fault}`, fault, effect, "%");
      on(control.checkbox, {
        change: () => void set(withChance(fault, group, control.checkbox.checked ? percentOf(control) : 0)),
      });
      on(control.amount, {
        change: () => control.checkbox.checked && void set(withChance(fault, group, percentOf(control))),
      });
      return { ...control, fault };
    }),
  );
  const latency = controlFor(`${name}-latency`, "latency", "Every request takes this long", "ms", {
    value: 500,
    max: 60_000,
  });
  const setLatency = () => {
    const ms = latency.checkbox.checked ? Math.max(0, latency.amount.valueAsNumber || 0) : 0;
    void set({ ...faults, latency: { minMs: ms, maxMs: ms } });
  };
  on(latency.checkbox, { change: setLatency });
  on(latency.amount, { change: () => latency.checkbox.checked && setLatency() });

  /** Others of the group give way where it would be more than 100% in all. */
  function withChance(fault: FaultName, group: (typeof groups)[number], percent: number): SandboxFaults {
    const chances = { ...faults.chances, [fault]: percent / 100 };
    const total = group.reduce((sum, [one]) => sum + (chances[one] ?? 0), 0);
    const givesWay = (one: string) => total > 1 && one !== fault && group.some(([other]) => other === one);
    const kept = Object.entries(chances).filter(([one, chance]) => chance > 0 && !givesWay(one));
    return { ...faults, chances: Object.fromEntries(kept) };
  }

  /** Shows them at once, so that the next change is made to these. */
  async function set(wanted: SandboxFaults): Promise<void> {
    faults = wanted;
    show();
    pending += 1;
    changes = changes.then(() => change(wanted));
    await changes;
    pending -= 1;
  }

  function update(now: SandboxFaults): void {
    // Numbers that somebody is typing are left alone while nothing has changed.
    if (pending > 0 || JSON.stringify(now) === JSON.stringify(faults)) return;
    faults = now;
    show();
  }

  function show(): void {
    const broken = isBroken(faults);
    state.textContent = broken ? "fails" : "works";
    state.dataset["state"] = broken ? "dead" : "sent";
    toggle.textContent = broken ? `Fix ${name}` : `Break ${name}`;
    toggle.className = broken ? "primary" : "";
    for (const { fault, checkbox, amount } of controls) {
      const chance = faults.chances[fault] ?? 0;
      checkbox.checked = chance > 0;
      if (chance > 0) amount.value = String(Math.round(chance * 1e4) / 100);
    }
    latency.checkbox.checked = faults.latency.maxMs > 0;
    if (faults.latency.maxMs > 0) latency.amount.value = String(faults.latency.maxMs);
  }

  show();
  const root = element(
    "fieldset",
    { class: "panel", "data-sandbox": name },
    element("legend", {}, name, " ", state),
    toggle,
    ...controls.map((control) => control.root),
    latency.root,
  );
  return { element: root, update };
}

function isBroken({ chances, latency }: SandboxFaults): boolean {
  return latency.maxMs > 0 || Object.values(chances).some((chance) => chance > 0);
}

type Control = ReturnType<typeof controlFor>;

function percentOf({ amount }: Control): number {
  return Math.min(100, Math.max(0, amount.valueAsNumber || 0));
}

function controlFor(id: string, name: string, effect: string, unit: string, { value = 100, max = 100 } = {}) {
  const checkbox = element("input", { type: "checkbox", id, "aria-describedby": `${id}-effect` });
  const amount = element("input", { type: "number", min: 0, max, value, "aria-label": `${name}, ${unit}` });
  const root = element(
    "div",
    { class: "fault" },
    checkbox,
    element("label", { for: id }, name),
    element("span", { class: "amount" }, amount, unit),
    element("small", { id: `${id}-effect` }, effect),
  );
  return { root, checkbox, amount };
}
