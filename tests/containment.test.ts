// One bad thing and the rest: emails that a provider cannot digest, providers that are down or hidden behind a gateway,
// and what becomes of everything else meanwhile.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { answerInstead, type Fault, faults } from "../fakes/faults.ts";
import { type Poison, poisonKinds, poisonWord } from "../fakes/poison.ts";
import { decodeHistory } from "../lib/policy/history.ts";
import { eventually } from "./support/eventually.ts";
import { type RedisServer, startRedis } from "./support/redis.ts";
import { openWorld, type World, type WorldOptions } from "./support/world.ts";

let redis: RedisServer;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());

/** Longer than anything here takes, also on a busy machine. */
const limitMs = 120_000;

function inWorld(name: string, options: Omit<WorldOptions, "url">, body: (world: World) => Promise<void>) {
  test(
    `containment: ${name}`,
    async () => {
      const world = await openWorld({ url: redis.url, ...options });
      try {
        await body(world);
      } finally {
        await world.close();
      }
    },
    limitMs,
  );
}

const times = <T>(count: number, make: (index: number) => Promise<T>) =>
  Promise.all(Array.from({ length: count }, (_, index) => make(index)));

const accepted = (world: World) => new Set(world.acceptances().map(({ emailId }) => emailId));

const allAccepted = (world: World, ids: readonly string[]) =>
  eventually("all of them are accepted", () => new Set(ids).isSubsetOf(accepted(world)), limitMs);

/** Quick decisions, so that a test need not wait for minutes. */
const hasty = { providerTimeoutMs: 500, searchWaitMs: 300, doubtSplitAfterMs: 500, giveUpAfterMs: 1_500 };

/** One email after the other, for as long as the returned function is not called; it gives their ids. */
function trickle(world: World): () => Promise<string[]> {
  const ids: string[] = [];
  let stopping = false;
  const done = (async () => {
    while (!stopping) {
      ids.push(await world.submit());
      await Bun.sleep(50);
    }
  })();
  return async () => {
    stopping = true;
    await done;
    return ids;
  };
}

const isDead = async (world: World, id: string) => (await world.show(id)).state === "dead";

for (const provider of ["resend", "postmark"] as const) {
  for (const kind of poisonKinds) {
    const word = poisonWord({ kind, after: false, at: provider });
    inWorld(`${word}: the rest of a backlog leaves, and it ends as a dead letter`, {}, async (world) => {
      const good = await times(150, () => world.submit());
      const bad = await world.submit({ subject: word, from: "me@example.net" });
      good.push(...(await times(150, () => world.submit())));
      world.startWorker({ weights: { [provider]: 1 }, ...hasty });
      const stop = trickle(world);
      await allAccepted(world, good);
      await eventually("the bad one is dead", () => isDead(world, bad), limitMs);
      await allAccepted(world, await stop());
      await world.drained(limitMs);
      const { counters } = await world.stats();
      expect(world.duplicates().size).toBeLessThanOrEqual(counters["possible_duplicates"] ?? 0);
      expect(accepted(world).has(bad)).toBe(false);
      const { deadReason } = decodeHistory((await world.show(bad)).history);
      expect(deadReason).toStartWith(
        kind === "sender" || kind === "key" ? "refused by every provider" : "outcome unknown: gave up",
      );
    });
  }

  inWorld(
    `one email in twelve that ${provider} fails at slows the rest, and does not stop it`,
    {},
    async (world) => {
      const kinds = poisonKinds.filter((kind) => kind !== "hang");
      const bad: string[] = [];
      const good: string[] = [];
      await times(240, async (index) => {
        const poison: Poison = {
          kind: kinds[(index / 12) % kinds.length] ?? "error",
          after: false,
          at: provider,
        };
        const from = `me@domain-${index}.example`;
        if (index % 12 === 0) bad.push(await world.submit({ subject: poisonWord(poison), from }));
        else good.push(await world.submit());
      });
      world.startWorker({ weights: { [provider]: 1 }, ...hasty, doubtSplitAfterMs: 100 });
      // What is in doubt at Resend is split while others are accepted.
      const stop = trickle(world);
      await allAccepted(world, good);
      await eventually(
        "the bad ones are dead",
        async () => (await world.stats()).states.dead === bad.length,
        limitMs,
      );
      await allAccepted(world, await stop());
      const { counters } = await world.stats();
      expect(world.duplicates().size).toBeLessThanOrEqual(counters["possible_duplicates"] ?? 0);
    },
  );

  inWorld(`what ${provider} fails at, the other provider takes`, {}, async (world) => {
    const word = poisonWord({ kind: "error", after: false, at: provider });
    const ids = await times(40, (index) => world.submit(index === 20 ? { subject: word } : {}));
    world.startWorker({ ...hasty, giveUpAfterMs: 3_600_000, doubtMs: 2_000 });
    await allAccepted(world, ids);
    await world.drained(limitMs);
    expect((await world.stats()).states.dead).toBe(0);
  });
}

inWorld(
  "a batch in doubt is not split while nothing else is accepted under its credential",
  {},
  async (world) => {
    const json = { statusCode: 500, name: "application_error", message: "An unexpected error occurred." };
    world.resend.faults.add({ fault: answerInstead(500, json), path: "/emails/batch" });
    await times(20, () => world.submit());
    const worker = world.startWorker({ weights: { resend: 1 }, ...hasty, doubtSplitAfterMs: 100 });
    await eventually("it has been tried often", () => world.resend.requests.length > 12, limitMs);
    const { counters, states } = await world.stats();
    expect(counters["possible_duplicates"]).toBeUndefined();
    expect(states["in-doubt"]).toBe(20);
    world.resend.faults.clear();
    await world.drained(limitMs);
    expect(world.duplicates().size).toBe(0);
    await worker.stop();
  },
);

const html = (status: number): Fault => ({
  stage: "read",
  effect: { status, text: "<html>no</html>", headers: { "content-type": "text/html" } },
});
const outages: readonly [string, (world: World) => void][] = [
  ["refuses connections", (world) => world.resend.goDown()],
  ["is hidden behind a gateway's 503", (world) => world.resend.faults.add({ fault: html(503) })],
  ["hangs", (world) => world.resend.faults.add({ fault: faults.hangBeforeAccepting })],
  ["is blocked at the edge", (world) => world.resend.faults.add({ fault: html(403) })],
  ["is not what answers at its address", (world) => world.resend.faults.add({ fault: html(404) })],
];
for (const [what, begin] of outages) {
  inWorld(
    `Resend ${what}: only what was in flight is in doubt, the rest leaves by Postmark`,
    {},
    async (world) => {
      begin(world);
      const concurrency = 2;
      const ids = await times(600, () => world.submit());
      world.startWorker({ ...hasty, concurrency, giveUpAfterMs: 3_600_000 });
      await eventually(
        "what is not in doubt has left",
        async () => {
          const { waiting, retrying, sending } = (await world.stats()).states;
          return waiting + retrying + sending === 0;
        },
        limitMs,
      );
      const inDoubt = (await world.stats()).states["in-doubt"];
      expect(inDoubt).toBeLessThanOrEqual(concurrency * 100);
      expect(world.postmark.acceptances.length).toBe(600 - inDoubt);
      // Probes of a provider that does not answer put nothing more in doubt.
      const more = await times(100, () => world.submit());
      await allAccepted(world, more);
      expect((await world.stats()).states["in-doubt"]).toBe(inDoubt);
      world.resend.comeUp();
      world.resend.faults.clear();
      await allAccepted(world, ids);
      await world.drained(limitMs);
      expect(world.duplicates().size).toBe(0);
    },
  );
}

inWorld("an outage of every provider ends no email, however long it lasts", {}, async (world) => {
  world.resend.faults.add({ fault: html(503) });
  world.postmark.goDown();
  const ids = await times(30, () => world.submit());
  world.startWorker({ ...hasty, giveUpAfterMs: 1, doubtMs: 1_000 });
  const asked = () => world.resend.requests.filter(({ method }) => method === "GET").length;
  await eventually("it has been asked a few times", () => asked() >= 3, limitMs);
  expect((await world.stats()).states.dead).toBe(0);
  world.resend.faults.clear();
  world.postmark.comeUp();
  await allAccepted(world, ids);
  await world.drained(limitMs);
  expect((await world.stats()).states.dead).toBe(0);
});
