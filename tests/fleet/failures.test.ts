// Failures in a fleet: clients with an Idempotency-Key see none, and clients without one see an error at worst.

import { expect } from "bun:test";
import { eventually } from "../support/eventually.ts";
import { fleetTest, judge } from "./fleet_tests.ts";
import type { Fleet, ServerName } from "./fleet.ts";

/** Waits until a server has several requests under way. */
async function holdsRequests(fleet: Fleet, server: ServerName): Promise<void> {
  await eventually(`${server} holds requests`, async () => (await fleet.load(server)) >= 6);
}

fleetTest(
  "a server killed with requests in flight fails only those without a key",
  async (fleet, clients) => {
    fleet.store.primary.signal("SIGSTOP");
    await holdsRequests(fleet, "a1");
    await fleet.servers.a1.kill();
    fleet.store.primary.signal("SIGCONT");
    await fleet.becomes("a1", "DOWN");
    await clients.succeed();
    await judge(fleet, clients);
  },
);

fleetTest("a host cut off with requests in flight fails only those without a key", async (fleet, clients) => {
  fleet.store.primary.signal("SIGSTOP");
  await holdsRequests(fleet, "a1");
  await holdsRequests(fleet, "a2");
  fleet.servers.a1.host.cut();
  fleet.store.primary.signal("SIGCONT");
  for (const server of ["a1", "a2"] as const) await fleet.becomes(server, "DOWN");
  await clients.succeed();
  fleet.servers.a1.host.mend();
  for (const server of ["a1", "a2"] as const) await fleet.becomes(server, "UP");
  await judge(fleet, clients);
});

fleetTest(
  "a host cut off with the primary of Redis fails nothing, and a replica takes over",
  async (fleet, clients) => {
    fleet.store.primary.host.cut();
    // By the replica that was promoted.
    await clients.succeed();
    fleet.store.primary.host.mend();
    await clients.succeed();
    expect(await judge(fleet, clients)).toEqual([]);
  },
  { options: () => ({ hasSentinel: true }) },
);
