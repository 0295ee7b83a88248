// The simulated fleet: real dispatchers and policies on virtual time, so that every number is the same in each run.

import { expect, test } from "bun:test";
import { drawOutage } from "../../docs/images/outage_chart.ts";
import { type FleetResult, simulateFleet } from "../../bench/fleet/fleet.ts";
import { requestsOf } from "../../bench/fleet/report.ts";
import { createScenario, type ScenarioOptions } from "../../bench/fleet/scenario.ts";
import "../support/preload.ts";

const options: ScenarioOptions = {
  seed: 1,
  workers: 10,
  emailsPerSecond: 200,
  emailsEach: 25,
  steadyMinutes: 5,
  outageMinutes: 15,
  limitedMinutes: 2,
  calmMinutes: 3,
};
const { steadyMinutes } = options;
const outageEnds = steadyMinutes + options.outageMinutes;
const limitedEnds = outageEnds + options.limitedMinutes;

const scenario = createScenario(options);
const result = simulateFleet(scenario);
const { minutes } = result;

function acceptedBy(name: string, from: number, until: number): number {
  return minutes.slice(from, until).reduce((sum, { traffic }) => sum + traffic[name]!.accepted, 0);
}

test("fleet: a run with the same seed is the same, and one with another seed is not", () => {
  const run = (seed: number): FleetResult =>
    simulateFleet(createScenario({ ...options, seed, workers: 3, steadyMinutes: 1, outageMinutes: 1 }));
  const first = run(7);
  expect(run(7)).toEqual(first);
  expect(run(8)).not.toEqual(first);
});

test("fleet: every email is sent, none is dead, and the backlog drains", () => {
  const submitted = minutes.reduce((sum, minute) => sum + minute.submitted, 0);
  const accepted = acceptedBy("resend", 0, minutes.length) + acceptedBy("postmark", 0, minutes.length);
  expect(submitted - accepted).toBeLessThanOrEqual(minutes.at(-1)!.backlog + options.emailsPerSecond);
  expect(accepted).toBeLessThanOrEqual(submitted);
  expect(result.dead).toBe(0);
  expect(minutes[outageEnds - 1]!.backlog).toBe(options.outageMinutes * 60 * options.emailsPerSecond);
  expect(minutes.at(-1)!.oldestSeconds).toBeLessThanOrEqual(60);
});

test("fleet: emails are shared by weight while the providers keep up", () => {
  const resend = acceptedBy("resend", 0, steadyMinutes);
  const share = resend / (resend + acceptedBy("postmark", 0, steadyMinutes));
  expect(share).toBeGreaterThan(0.74);
  expect(share).toBeLessThan(0.76);
});

test("fleet: in an outage, a worker makes at most two requests a minute to each provider, once it knows", () => {
  const outage = minutes.slice(steadyMinutes + 5, outageEnds);
  expect(requestsOf(outage)).toBeGreaterThan(0);
  expect(requestsOf(outage) / outage.length).toBeLessThanOrEqual(2 * 2 * options.workers);
});

test("fleet: when the providers are back, they are used within two minutes", () => {
  const back = minutes[outageEnds + 1]!;
  for (const { accepted } of Object.values(back.traffic)) expect(accepted).toBeGreaterThan(0);
  expect(minutes.length).toBeGreaterThan(limitedEnds);
});

test("fleet: the chart has a line for each provider, and only numbers as coordinates", () => {
  const chart = drawOutage(scenario, result);
  for (const kind of ["resend", "postmark", "dashed"]) expect(chart).toContain(`class="line ${kind}"`);
  expect(chart).not.toMatch(/NaN|Infinity|undefined/);
});
