// Tests of a fleet under load, and what each of them must find at its end.

import { expect, test } from "bun:test";
import { hasNetwork, orWhyNot } from "../support/hosts.ts";
import type { Answer } from "./clients.ts";
import { type Clients, type Fleet, type FleetOptions, startFleet } from "./fleet.ts";

interface FleetTestOptions {
  /** Called when the test runs. */
  readonly options?: () => FleetOptions;
  /** Whether what it needs besides a network is there. */
  readonly isPossible?: boolean;
}

/** Declares a test of a new fleet, whose clients submit emails all the time. */
export function fleetTest(
  name: string,
  body: (fleet: Fleet, clients: Clients) => Promise<void>,
  { options, isPossible = true }: FleetTestOptions = {},
): void {
  test.if(hasNetwork && isPossible)(`fleet: ${name}${orWhyNot}`, async () => {
    const fleet = await startFleet(options?.());
    try {
      await body(fleet, await fleet.startClients());
    } finally {
      await fleet.stop();
    }
  });
}

/**
 * Ends the load and returns the failures that clients saw: only those without a key may see any. Everything
 * acknowledged was delivered once, and nothing was delivered twice.
 */
export async function judge(fleet: Fleet, clients: Clients): Promise<readonly Answer[]> {
  const answers = await clients.finish();
  const failures = answers.filter(({ status }) => status !== 200);
  expect(failures.filter(({ hasKey }) => hasKey)).toEqual([]);
  // 0 is a broken connection.
  for (const { status } of failures) expect([0, 500]).toContain(status);
  const acceptances = await fleet.drains();
  const accepted = new Set(acceptances.map(({ emailId }) => emailId));
  expect(answers.filter(({ status, id }) => status === 200 && !accepted.has(id!))).toEqual([]);
  const subjects = acceptances.map(({ subject }) => subject).toSorted();
  expect(subjects.filter((subject, at) => subject === subjects[at + 1])).toEqual([]);
  return failures;
}
