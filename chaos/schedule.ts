// The schedule of faults, drawn from a scenario by a seed: the same seed gives the same faults in the same order with
// the same pauses. Pure.

import { seededRandom } from "../fakes/faults.ts";
import type { Fault, Range, Scenario } from "./scenario.ts";

/** A fault with every choice drawn that its scenario leaves open. */
export interface Strike {
  readonly fault: Fault;
  /** Pause since the end of the previous strike, ms. */
  readonly afterMs: number;
  /** Duration, ms; 0 if it is instantaneous. */
  readonly forMs: number;
  /** In [0, 1): selects the target, if there are several. */
  readonly target: number;
  /** In [0, 1): decides everything else that has to be drawn. */
  readonly random: number;
}

/**
 * Endless.
 * @param lane index of one of the scenario's lanes: each draws its own numbers
 */
export function* schedule(scenario: Scenario, seed: number, lane: number): Generator<Strike, never> {
  const random = seededRandom(seed * 1009 + lane);
  // The first numbers of neighboring seeds are similar.
  for (let i = 0; i < 8; i += 1) random();
  for (;;) {
    const fault = pick(scenario.faults, random());
    yield {
      fault,
      afterMs: Math.round(between(scenario.pauseMs, random())),
      forMs: "forMs" in fault ? Math.round(between(fault.forMs, random())) : 0,
      target: random(),
      random: random(),
    };
  }
}

/** How many strikes of all lanes begin within so many ms, if nothing is slow. */
export function countStrikes(scenario: Scenario, seed: number, withinMs: number): number {
  if (scenario.faults.length === 0) return 0;
  let count = 0;
  for (let lane = 0; lane < (scenario.lanes ?? 1); lane += 1) {
    let atMs = 0;
    for (const { afterMs, forMs } of schedule(scenario, seed, lane)) {
      atMs += afterMs;
      if (atMs > withinMs) break;
      count += 1;
      atMs += forMs;
    }
  }
  return count;
}

/** @param random in [0, 1) */
export function between([from, to]: Range, random: number): number {
  return from + (to - from) * random;
}

/** @param random in [0, 1) */
export function pick<T>(list: readonly T[], random: number): T {
  return list[Math.floor(random * list.length)] as T;
}

/** Describes a fault in one line. */
export function describeFault(fault: Fault): string {
  switch (fault.do) {
    case "kill":
    case "restart":
    case "freeze":
      return `${fault.do} ${fault.component}`;
    case "failOver":
      return `fail over, old primary ${fault.old}`;
    case "network":
      return `${fault.how} ${fault.link}`;
    case "node":
      return `${fault.how} ${fault.role}${fault.untilReplaced ? " until it is replaced" : ""}`;
    case "promote":
      return "promote a replica";
    case "moveSlot":
      return `move a slot${fault.killSource ? ", and kill its source" : ""}`;
    case "provider":
      return `${fault.name}: ${[fault.fault].flat().map(describeEffect).join(" or ")}`;
    case "providerDown":
      return `${fault.name}: down`;
    case "providerBehaves":
      return `${fault.name}: ${JSON.stringify(fault.as)}`;
    case "freezeBeforeSettlement":
      return `freeze worker before its settlement${fault.fault ? ` of ${describeEffect(fault.fault)}` : ""} (${fault.name})`;
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

function describeEffect({ stage, effect }: { stage: string; effect: unknown }): string {
  const what = typeof effect === "object" && effect !== null ? (effect as { status: number }).status : effect;
  return `${String(what)} at stage "${stage}"`;
}
