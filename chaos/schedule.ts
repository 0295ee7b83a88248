// Which fault strikes when: drawn from a scenario by a seed, so that the same seed gives the same faults in the same
// order with the same pauses. Pure.

import { seededRandom } from "../fakes/faults.ts";
import type { Fault, Range, Scenario } from "./scenario.ts";

/** A fault with everything drawn that its scenario leaves open. */
export interface Strike {
  readonly fault: Fault;
  /** Since the end of the one before, ms. */
  readonly afterMs: number;
  /** How long it lasts, ms; 0 for what is over at once. */
  readonly forMs: number;
  /** In [0, 1): whom it strikes, of several. */
  readonly whom: number;
  /** In [0, 1): what else has to be drawn. */
  readonly dice: number;
}

/** Endless. @param lane which of the scenario's lanes: each has its own dice */
export function* schedule(scenario: Scenario, seed: number, lane: number): Generator<Strike, never> {
  const random = seededRandom(seed * 1009 + lane);
  // The first numbers of neighbouring seeds are alike.
  for (let i = 0; i < 8; i += 1) random();
  for (;;) {
    const fault = pick(scenario.faults, random());
    yield {
      fault,
      afterMs: Math.round(between(scenario.pauseMs, random())),
      forMs: "forMs" in fault ? Math.round(between(fault.forMs, random())) : 0,
      whom: random(),
      dice: random(),
    };
  }
}

/** @param dice in [0, 1) */
export function between([from, to]: Range, dice: number): number {
  return from + (to - from) * dice;
}

/** @param dice in [0, 1) */
export function pick<T>(list: readonly T[], dice: number): T {
  return list[Math.floor(dice * list.length)] as T;
}

/** In a line. */
export function tellFault(fault: Fault): string {
  switch (fault.do) {
    case "kill":
    case "restart":
    case "freeze":
      return `${fault.do} ${fault.component}`;
    case "failOver":
      return `fail over, old primary ${fault.old}`;
    case "network":
      return `${fault.how} ${fault.link}`;
    case "provider":
      return `${fault.name}: ${[fault.fault].flat().map(tellEffect).join(" or ")}`;
    case "providerDown":
      return `${fault.name}: down`;
    case "providerBehaves":
      return `${fault.name}: ${JSON.stringify(fault.as)}`;
    case "freezeBeforeSettlement":
      return `freeze worker before its settlement${fault.fault ? ` of ${tellEffect(fault.fault)}` : ""} (${fault.name})`;
    case "stepClock":
      return `step the clock of ${fault.of}`;
    case "cutPower":
    case "tearLog":
    case "fillMemory":
    case "fillDisk":
    case "slowDisk":
      return fault.do;
  }
}

function tellEffect({ stage, effect }: { stage: string; effect: unknown }): string {
  const what = typeof effect === "object" && effect !== null ? (effect as { status: number }).status : effect;
  return `${String(what)} at stage "${stage}"`;
}
