// Something between a worker and a provider answers in its place, or the provider blames a sender: end to end, except
// for the server.

import { expect } from "bun:test";
import type { Fault } from "../../fakes/faults.ts";
import { eventually } from "../support/eventually.ts";
import type { InProcess } from "../support/in_process.ts";
import { sharedRedis, times, worldTests } from "../support/worlds.ts";

const inWorld = worldTests("gateway", sharedRedis());

/** Expects that every email was accepted once, and that the service counts no duplicate. */
async function expectOnce(world: InProcess, count: number): Promise<void> {
  expect(world.acceptances()).toHaveLength(count);
  expect(world.duplicates().size).toBe(0);
  expect((await world.stats()).counters["possible_duplicates"]).toBeUndefined();
}

const html503 = { status: 503, text: "<html>503 Service Temporarily Unavailable</html>" };

inWorld("its 503 after Postmark accepted does not mean that nothing was sent", {}, async (world) => {
  world.postmark.faults.next({ stage: "accepted", effect: html503 });
  await times(3, () => world.submit());
  await world.startWorker({ weights: { postmark: 1 } });
  await world.drained();
  await expectOnce(world, 3);
});

const refusals: [what: string, effect: Extract<Fault["effect"], object>][] = [
  ["413", { status: 413, text: "<html>413 Request Entity Too Large</html>" }],
  ["400", { status: 400, json: { message: "Bad request" } }],
];
for (const [what, effect] of refusals) {
  inWorld(`its ${what} does not end the doubt of a batch at Resend`, {}, async (world) => {
    for (const fault of [{ stage: "accepted", effect: html503 } as const, { stage: "read", effect } as const])
      world.resend.faults.add({ fault, times: 1, path: "/emails/batch" });
    const [first] = await times(3, () => world.submit());
    await world.startWorker({ weights: { resend: 1 } });
    await eventually("it refused", () => world.resend.requests.length >= 2);
    await eventually("it is sent", async () => (await world.show(first!)).state === "sent");
    await world.drained();
    await expectOnce(world, 3);
    const sent = world.resend.requests.filter(({ method }) => method === "POST");
    const keys = new Set(sent.map(({ headers }) => headers["idempotency-key"]));
    expect(keys.size).toBe(1);
  });
}

inWorld(
  "a Resend key restricted to one domain refuses only emails of other domains",
  { resend: { keyDomain: "example.com" } },
  async (world) => {
    const other = await world.submit({ from: "someone@gmail.com" });
    const good = await times(20, () => world.submit());
    await world.startWorker({ weights: { resend: 1 } });
    await eventually(
      "the refused email is a dead letter",
      async () => (await world.show(other)).state === "dead",
    );
    await world.drained();
    expect(new Set(world.resend.acceptances.map(({ emailId }) => emailId))).toEqual(new Set(good));
  },
);
