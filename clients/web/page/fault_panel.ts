// The faults of one sandbox, as switches. A change takes effect with the sandbox's next request.

import type { SandboxFaults } from "../protocol.ts";
import { button, element, on } from "./dom.ts";

type FaultName = keyof SandboxFaults["chances"];
type Row = readonly [name: FaultName, effect: string];

/** The sandbox draws at most one fault of each group: one for a request, one for each email. */
const groups: readonly (readonly Row[])[] = [
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

export class FaultPanel {
  readonly element: HTMLElement;
  readonly #name: string;
  readonly #change: (faults: SandboxFaults) => Promise<void>;
  readonly #state = element("span", { class: "word" });
  readonly #toggle = button("", () => void this.#set(isBroken(this.#faults) ? noFaults : brokenFaults));
  readonly #controls: ReadonlyMap<FaultName, Control>;
  readonly #latency: Control;
  #faults: SandboxFaults;
  /** Sends one change after the other. */
  #changes = Promise.resolve();
  #pending = 0;

  /** @param change stores other faults */
  constructor(name: string, faults: SandboxFaults, change: (faults: SandboxFaults) => Promise<void>) {
    this.#name = name;
    this.#faults = faults;
    this.#change = change;
    const controls = groups.flatMap((group) => group.map((row) => this.#controlOf(row, group)));
    this.#controls = new Map(controls);
    this.#latency = controlFor(`${name}-latency`, "latency", "Every request takes this long", "ms", {
      value: 500,
      max: 60_000,
    });
    onChange(this.#latency, (ms) => this.#set({ ...this.#faults, latency: { minMs: ms, maxMs: ms } }));
    this.element = element(
      "fieldset",
      { class: "panel", "data-sandbox": name },
      element("legend", {}, name, " ", this.#state),
      this.#toggle,
      ...controls.map(([, { root }]) => root),
      this.#latency.root,
    );
    this.#show();
  }

  /** Shows the current faults, unless a change is under way. */
  update(now: SandboxFaults): void {
    // Without a difference, leave alone the number that somebody may be typing.
    if (this.#pending > 0 || JSON.stringify(now) === JSON.stringify(this.#faults)) return;
    this.#faults = now;
    this.#show();
  }

  #controlOf([fault, effect]: Row, group: readonly Row[]): readonly [FaultName, Control] {
    const control = controlFor(`${this.#name}-${fault}`, fault, effect, "%");
    onChange(control, (percent) => this.#set(withChance(this.#faults, fault, group, percent / 100)));
    return [fault, control];
  }

  /** Shows the new faults before they are stored, so that the next change starts from them. */
  async #set(wanted: SandboxFaults): Promise<void> {
    this.#faults = wanted;
    this.#show();
    this.#pending += 1;
    this.#changes = this.#changes.then(() => this.#change(wanted));
    await this.#changes;
    this.#pending -= 1;
  }

  #show(): void {
    const { chances, latency } = this.#faults;
    const broken = isBroken(this.#faults);
    this.#state.textContent = broken ? "fails" : "works";
    this.#state.dataset["state"] = broken ? "dead" : "sent";
    this.#toggle.textContent = `${broken ? "Fix" : "Break"} ${this.#name}`;
    this.#toggle.className = broken ? "primary" : "";
    for (const [fault, control] of this.#controls) {
      showAmount(control, Math.round((chances[fault] ?? 0) * 1e4) / 100);
    }
    showAmount(this.#latency, latency.maxMs);
  }
}

/** Sets one fault, and clears the others of its group if the group would exceed 100%. */
function withChance(
  faults: SandboxFaults,
  fault: FaultName,
  group: readonly Row[],
  chance: number,
): SandboxFaults {
  const chances = { ...faults.chances, [fault]: chance };
  const total = group.reduce((sum, [one]) => sum + (chances[one] ?? 0), 0);
  const givesWay = (one: string) => total > 1 && one !== fault && group.some(([other]) => other === one);
  const kept = Object.entries(chances).filter(([one, value]) => value > 0 && !givesWay(one));
  return { ...faults, chances: Object.fromEntries(kept) };
}

function isBroken({ chances, latency }: SandboxFaults): boolean {
  return latency.maxMs > 0 || Object.values(chances).some((chance) => chance > 0);
}

type Control = ReturnType<typeof controlFor>;

/** Calls back with the amount, 0 while the fault is switched off. */
function onChange({ checkbox, amount }: Control, set: (amount: number) => Promise<void>): void {
  const limit = (value: number) => Math.min(Number(amount.max), Math.max(0, value || 0));
  const change = () => void set(checkbox.checked ? limit(amount.valueAsNumber) : 0);
  on(checkbox, { change });
  on(amount, { change: () => checkbox.checked && change() });
}

/** A fault that is switched off keeps its amount for the next time. */
function showAmount({ checkbox, amount }: Control, value: number): void {
  checkbox.checked = value > 0;
  if (value > 0) amount.value = String(value);
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
