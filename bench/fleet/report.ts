// The table of a simulated fleet: a row for each phase.

import { round, type Table } from "../table.ts";
import { type FleetResult, type Minute, simulateFleet } from "./fleet.ts";
import type { Traffic } from "./provider.ts";
import { createScenario, type FleetScenario, phaseAt, type ScenarioOptions } from "./scenario.ts";

export function benchFleet(options: ScenarioOptions): Table {
  const scenario = createScenario(options);
  return reportFleet(scenario, simulateFleet(scenario));
}

export function reportFleet({ phases, ...scenario }: FleetScenario, result: FleetResult): Table {
  const { minutes } = result;
  const drainedAt = minutes.findLastIndex(({ oldestSeconds }) => oldestSeconds > 60) + 1;
  const outageAt = phases[0]!.minutes;
  const backAt = outageAt + phases[1]!.minutes;
  const phaseOf = (minute: number) => {
    const { name } = phases[phaseAt(phases, minute)]!;
    return name === "recovery" && minute >= drainedAt ? "drained" : name;
  };
  const byPhase = Map.groupBy(minutes.keys(), phaseOf);
  const rows = [...byPhase].map(([name, some]) =>
    rowOf(
      name,
      [...some].map((minute) => minutes[minute]!),
    ),
  );
  const late = minutes.slice((outageAt + backAt) / 2, backAt);
  return {
    name: "fleet",
    notes: [
      `${scenario.workers} workers, ${scenario.emailsPerSecond} emails a second, on virtual time with seed ${scenario.seed}`,
    ],
    rows,
    ratios: {
      "requests in the first minute of the outage": requestsOf(minutes.slice(outageAt, outageAt + 1)),
      "requests a minute in the second half of the outage": requestsOf(late) / late.length,
      "emails waiting, most": Math.max(...minutes.map(({ backlog }) => backlog)),
      "age of the oldest email, most, hours": Math.max(...minutes.map((one) => one.oldestSeconds)) / 3600,
      "hours from the end of the outage until nothing waited longer than a minute": (drainedAt - backAt) / 60,
      "requests that carried an email, mean": result.carriedMean,
      "requests that carried an email, most": result.carriedMost,
      "possible duplicates": result.possibleDuplicates,
      "dead letters": result.dead,
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
