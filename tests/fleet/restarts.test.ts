// Restarts and upgrades of a fleet, one process after the other: no request fails, and nothing is sent twice.

import { afterAll, beforeAll, expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "../support/eventually.ts";
import { extractPreviousRelease, hasPreviousRelease, orWhyNoRelease } from "../support/previous_release.ts";
import { type Fleet, root, type ServerName } from "./fleet.ts";
import { fleetTest, judge } from "./fleet_tests.ts";

let previous = "";
beforeAll(() => {
  previous = mkdtempSync(join(tmpdir(), "reliable-email-previous-"));
  if (hasPreviousRelease) extractPreviousRelease(previous);
});
afterAll(() => rmSync(previous, { recursive: true }));

/** As docs/high-availability.md says: HAProxy sends it nothing new, and it finishes what it has. */
async function restart(fleet: Fleet, server: ServerName): Promise<void> {
  await fleet.ask(`set server ready/${server} state drain`);
  await eventually(`${server} has nothing under way`, async () => (await fleet.load(server)) === 0);
  await fleet.servers[server].restart();
  await fleet.ask(`set server ready/${server} state ready`);
  await fleet.becomes(server, "UP");
}

fleetTest("a restart of everything, one after the other, fails nothing", async (fleet, clients) => {
  await restart(fleet, "a1");
  await restart(fleet, "a2");
  await fleet.worker.restart();
  await restart(fleet, "b1");
  await restart(fleet, "b2");
  await fleet.store.primary.restart();
  fleet.haproxy.signal("SIGUSR2");
  await eventually(
    "HAProxy has reloaded",
    () => fleet.haproxy.output.match(/Loading success/g)?.length === 2,
  );
  await clients.succeed();
  expect(await judge(fleet, clients)).toEqual([]);
});

// Each release's servers feed each release's worker. HAProxy is not prepared, which requests with a key do not need.
fleetTest(
  `an upgrade from the adjacent release, and back, fails nothing that has a key${orWhyNoRelease}`,
  async (fleet, clients) => {
    const restartAll = async (...servers: ServerName[]) => {
      for (const server of servers) {
        await fleet.servers[server].restart();
        await fleet.becomes(server, "UP");
      }
    };
    fleet.sources = root;
    await restartAll("a1", "b1");
    await clients.succeed();
    await fleet.worker.restart();
    await clients.succeed();
    await restartAll("a2", "b2");
    fleet.sources = previous;
    await restartAll("a1");
    await fleet.worker.restart();
    await clients.succeed();
    await judge(fleet, clients);
  },
  { options: () => ({ sources: previous }), isPossible: hasPreviousRelease },
);
