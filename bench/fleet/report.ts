// The table of a simulated fleet: a row for each phase.

import { round, type Table } from "../table.ts";
import { type FleetResult, type Minute, simulateFleet } from "./fleet.ts";
import type { Traffic } from "./provider.ts";
import { createScenario, type FleetScenario, phaseAt, type ScenarioOptions } from "./scenario.ts";

export function benchFleet(options: ScenarioOptions): Table {
  const scenario = createScenario(options);
  return reportFleet(scenario, simulateFleet(scenario));
}

export function reportFleet(scenario: FleetScenario, result: FleetResult): Table {
  const { minutes, possibleDuplicates, dead } = result;
  const byPhase = Map.groupBy(minutes, (one) => phaseAt(scenario.phases, minutes.indexOf(one)));
  const rows = scenario.phases.map(({ name }, index) => rowOf(name, byPhase.get(index) ?? []));
  const outage = byPhase.get(1) ?? [];
  const recoveredAt = minutes.findLastIndex(({ oldestSeconds }) => oldestSeconds > 60) + 1;
  const downUntil = scenario.phases.slice(0, 2).reduce((sum, phase) => sum + phase.minutes, 0);
  return {
    name: "fleet",
    notes: [
      `${scenario.workers} workers, ${scenario.emailsPerSecond} emails a second, on virtual time with seed ${scenario.seed}`,
    ],
    rows,
    ratios: {
      "requests in the first minute of the outage": requestsOf(outage.slice(0, 1)),
      "requests a minute in its second half":
        requestsOf(outage.slice(-outage.length / 2)) / (outage.length / 2),
      "hours from the end of the outage until drained": (recoveredAt - downUntil) / 60,
      "requests that carried an email, mean": result.carriedMean,
      "requests that carried an email, most": result.carriedMost,
      "possible duplicates": possibleDuplicates,
      "dead letters": dead,
    },
  };
}

function rowOf(phase: string, minutes: readonly Minute[]): Table["rows"][number] {
  const total = (name: string, of: keyof Traffic) =>
    minutes.reduce((sum, { traffic }) => sum + traffic[name]![of], 0);
  const names = Object.keys(minutes[0]?.traffic ?? {});
  const all = (of: keyof Traffic) => names.reduce((sum, name) => sum + total(name, of), 0);
  const requests = requestsOf(minutes);
  const last = minutes.at(-1);
  return {
    phase,
    minutes: minutes.length,
    "emails/s": round(all("accepted") / minutes.length / 60, 0),
    "Resend %": round((100 * total("resend", "accepted")) / all("accepted") || 0),
    "requests/min": round(requests / minutes.length, 0),
    "questions/min": round(all("questions") / minutes.length, 0),
    "throttled %": round((100 * all("throttled")) / requests),
    "claims/s": round(minutes.reduce((sum, { claims }) => sum + claims, 0) / minutes.length / 60),
    "backlog at end": last?.backlog ?? 0,
    "oldest at end, min": round((last?.oldestSeconds ?? 0) / 60, 0),
  };
}

/** To all providers, whatever became of them. */
export function requestsOf(minutes: readonly Minute[]): number {
  return minutes
    .flatMap(({ traffic }) => Object.values(traffic))
    .reduce((sum, { sends, searches, questions }) => sum + sends + searches + questions, 0);
}
