// The scenario of docs/capacity.md: a fleet at full inflow, an outage of all providers, and a recovery in which one of
// them first has a tenth of its limit.

import type { Minute, Scenario } from "./fleet.ts";
import type { Condition, Service } from "./provider.ts";

/** The condition of the providers, from the end of the phase before. */
interface Phase {
  readonly name: string;
  readonly minutes: number;
  readonly resend?: Partial<Condition>;
  readonly postmark?: Partial<Condition>;
}

export interface ScenarioOptions {
  readonly seed: number;
  readonly workers: number;
  readonly emailsPerSecond: number;
  /** Emails of which one simulated email consists. */
  readonly emailsEach: number;
  readonly steadyMinutes: number;
  readonly outageMinutes: number;
  readonly limitedMinutes: number;
  /** How long nothing must have waited for more than a minute, before it ends. */
  readonly calmMinutes: number;
}

export const fullOptions: ScenarioOptions = {
  seed: 1,
  workers: 100,
  emailsPerSecond: 250,
  emailsEach: 25,
  steadyMinutes: 10,
  outageMinutes: 600,
  limitedMinutes: 30,
  calmMinutes: 10,
};

/** Requests per second that each provider takes from the whole fleet. */
const limitPerSecond = 10;

export interface FleetScenario extends Scenario {
  readonly phases: readonly Phase[];
}

export function createScenario(options: ScenarioOptions): FleetScenario {
  const { steadyMinutes, outageMinutes, limitedMinutes, calmMinutes, emailsEach, ...fleet } = options;
  const down = { isDown: true };
  const phases: readonly Phase[] = [
    { name: "steady", minutes: steadyMinutes },
    { name: "outage", minutes: outageMinutes, resend: down, postmark: down },
    { name: "limited", minutes: limitedMinutes, resend: { limitPerSecond: limitPerSecond / 10 } },
    { name: "recovery", minutes: Infinity },
  ];
  const conditionOf = (name: "resend" | "postmark") => (nowMs: number) => {
    const normal: Condition = { isDown: false, limitPerSecond };
    return { ...normal, ...phases[phaseAt(phases, nowMs / 60_000)]?.[name] };
  };
  const resend = { name: "resend", weight: 3, startRate: 2, maxRate: 2, namesLimit: true };
  const postmark = { name: "postmark", weight: 1, startRate: 10, maxRate: 100, namesLimit: false };
  const services: readonly Service[] = [
    { ...resend, batchMax: 100 / emailsEach, condition: conditionOf("resend") },
    { ...postmark, batchMax: 50 / emailsEach, condition: conditionOf("postmark") },
  ];
  const minutesBefore = steadyMinutes + outageMinutes + limitedMinutes;
  const isOver = (minutes: readonly Minute[]) =>
    minutes.length > minutesBefore &&
    minutes.slice(-calmMinutes).every(({ oldestSeconds }) => oldestSeconds <= 60);
  return { ...fleet, emailsEach, services, phases, isOver };
}

/** The index of the phase at a time. */
export function phaseAt(phases: readonly Phase[], minute: number): number {
  let endsAt = 0;
  return phases.findIndex(({ minutes }) => {
    endsAt += minutes;
    return minute < endsAt;
  });
}
