// One bad thing does not hold up the rest: emails that break a provider, providers that are down or hidden behind a
// gateway, and everything else meanwhile.

import { expect } from "bun:test";
import { answerInstead, type Fault, faults } from "../../fakes/faults.ts";
import { type Poison, poisonKinds, poisonWord } from "../../fakes/poison.ts";
import { decodeHistory } from "../../lib/policy/history.ts";
import { claimRequest } from "../support/claim_request.ts";
import { eventually } from "../support/eventually.ts";
import type { InProcess } from "../support/in_process.ts";
import { times, worldTests } from "../support/worlds.ts";

/** Longer than anything here takes, even on a busy machine. */
export const limitMs = 120_000;

export const accepted = (world: InProcess) => new Set(world.acceptances().map(({ emailId }) => emailId));

export const allAccepted = (world: InProcess, ids: readonly string[]) =>
  eventually("all of them are accepted", () => new Set(ids).isSubsetOf(accepted(world)), limitMs);

/** Short waits, so that a test does not take minutes. */
export const hasty = {
  providerTimeoutMs: 500,
  searchWaitMs: 300,
  doubtSplitAfterMs: 500,
  giveUpAfterMs: 1_500,
};

/** Submits one email after another until the returned function is called, which returns their ids. */
export function trickle(world: InProcess): () => Promise<string[]> {
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

export const isDead = async (world: InProcess, id: string) => (await world.show(id)).state === "dead";

/** @param urlOf URL of a Redis, once the tests run; undefined for an embedded queue */
export function containment(urlOf: () => string | undefined): void {
  const inWorld = worldTests("containment", urlOf);

  for (const provider of ["resend", "postmark"] as const) {
    for (const kind of poisonKinds) {
      const word = poisonWord({ kind, after: false, at: provider });
      inWorld(
        `${word}: the rest of a backlog leaves, and the bad email becomes a dead letter`,
        {},
        async (world) => {
          const good = await times(150, () => world.submit());
          const bad = await world.submit({ subject: word, from: "me@example.net" });
          good.push(...(await times(150, () => world.submit())));
          await world.startWorker({ weights: { [provider]: 1 }, ...hasty });
          const stop = trickle(world);
          await allAccepted(world, good);
          await eventually("the bad email is dead", () => isDead(world, bad), limitMs);
          await allAccepted(world, await stop());
          await world.drained();
          const { counters } = await world.stats();
          expect(world.duplicates().size).toBeLessThanOrEqual(counters["possible_duplicates"] ?? 0);
          expect(accepted(world).has(bad)).toBe(false);
          const { deadReason } = decodeHistory((await world.show(bad)).history);
          expect(deadReason).toStartWith(
            kind === "sender" || kind === "key" ? "refused by every provider" : "outcome unknown: gave up",
          );
        },
      );
    }

    inWorld(
      `one email in twelve that breaks ${provider} slows the rest, but does not stop it`,
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
        await world.startWorker({ weights: { [provider]: 1 }, ...hasty, doubtSplitAfterMs: 100 });
        // A batch in doubt at Resend is split only if other emails are accepted meanwhile.
        const stop = trickle(world);
        await allAccepted(world, good);
        await eventually(
          "the bad emails are dead",
          async () => (await world.stats()).states.dead === bad.length,
          limitMs,
        );
        await allAccepted(world, await stop());
        const { counters } = await world.stats();
        expect(world.duplicates().size).toBeLessThanOrEqual(counters["possible_duplicates"] ?? 0);
      },
    );

    inWorld(`an email that breaks ${provider} is sent by the other provider`, {}, async (world) => {
      const word = poisonWord({ kind: "error", after: false, at: provider });
      const ids = await times(40, (index) => world.submit(index === 20 ? { subject: word } : {}));
      await world.startWorker({ ...hasty, giveUpAfterMs: 3_600_000, doubtMs: 2_000 });
      await allAccepted(world, ids);
      await world.drained();
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
      const worker = await world.startWorker({ weights: { resend: 1 }, ...hasty, doubtSplitAfterMs: 100 });
      await eventually("it has been tried often", () => world.resend.requests.length > 12, limitMs);
      const { counters, states } = await world.stats();
      expect(counters["possible_duplicates"]).toBeUndefined();
      expect(states["in-doubt"]).toBe(20);
      world.resend.faults.clear();
      await world.drained();
      expect(world.duplicates().size).toBe(0);
      await worker.stop();
    },
  );

  const html = (status: number): Fault => ({
    stage: "read",
    effect: { status, text: "<html>no</html>", headers: { "content-type": "text/html" } },
  });
  const outages: readonly [string, (world: InProcess) => void][] = [
    ["refuses connections", (world) => world.resend.goDown()],
    ["is hidden behind a gateway's 503", (world) => world.resend.faults.add({ fault: html(503) })],
    ["hangs", (world) => world.resend.faults.add({ fault: faults.hangBeforeAccepting })],
    ["is blocked at the edge", (world) => world.resend.faults.add({ fault: html(403) })],
    ["is not what answers at its address", (world) => world.resend.faults.add({ fault: html(404) })],
  ];
  for (const [what, begin] of outages) {
    inWorld(
      `Resend ${what}: only what was in flight is in doubt, and the rest leaves by Postmark`,
      {},
      async (world) => {
        begin(world);
        const concurrency = 2;
        const ids = await times(600, () => world.submit());
        await world.startWorker({ ...hasty, concurrency, giveUpAfterMs: 3_600_000 });
        await eventually(
          "everything that is not in doubt has left",
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
        await world.drained();
        expect(world.duplicates().size).toBe(0);
      },
    );
  }

  inWorld("an outage of every provider ends no email, however long it lasts", {}, async (world) => {
    world.resend.faults.add({ fault: html(503) });
    world.postmark.goDown();
    const ids = await times(30, () => world.submit());
    // A busy machine must not make a request time out after the outage: that may end an email.
    await world.startWorker({ ...hasty, providerTimeoutMs: 10_000, giveUpAfterMs: 1, doubtMs: 1_000 });
    const asked = () => world.resend.requests.filter(({ method }) => method === "GET").length;
    await eventually("it has been asked a few times", () => asked() >= 3, limitMs);
    expect((await world.stats()).states.dead).toBe(0);
    world.resend.faults.clear();
    world.postmark.comeUp();
    await allAccepted(world, ids);
    await world.drained();
    expect((await world.stats()).states.dead).toBe(0);
  });

  inWorld("three hundred sender domains need at most twice the requests of one", {}, async (world) => {
    await times(1500, (index) => world.submit({ from: `me@domain-${index % 300}.example` }));
    await world.startWorker({ weights: { resend: 1 } });
    await world.drained();
    expect(world.acceptances()).toHaveLength(1500);
    expect(world.resend.requests.length).toBeLessThanOrEqual(2 * 15);
  });

  const madeUp = Array.from({ length: 200 }, (_, index) => `made-up-${index}.example`);
  inWorld(
    "a flood of made-up senders delays honest ones by a few requests",
    { resend: { unverifiedDomains: madeUp, unverifiedRefuses: "request" } },
    async (world) => {
      await world.submit();
      await world.startWorker({ weights: { resend: 1 }, rates: { resend: 20 }, concurrency: 2 });
      await eventually("one honest sender is known", () => world.acceptances().length === 1, limitMs);
      await Promise.all(madeUp.map((domain) => world.submit({ from: `me@${domain}` })));
      const waits: number[] = [];
      for (let sent = 0; sent < 15; sent += 1) {
        const before = world.resend.requests.length;
        const id = await world.submit();
        await allAccepted(world, [id]);
        waits.push(world.resend.requests.length - before);
      }
      // The flood is not over: the honest emails did not wait for it.
      expect((await world.stats()).states.dead).toBeLessThan(madeUp.length);
      expect(Math.max(...waits)).toBeLessThanOrEqual(8);
      await world.drained();
      expect((await world.stats()).states.dead).toBe(madeUp.length);
    },
  );

  for (const workers of [1, 3]) {
    inWorld(`weights hold under a rate limit, with ${workers} workers`, {}, async (world) => {
      const options = {
        weights: { resend: 2, postmark: 1 },
        rates: { resend: 20, postmark: 40 },
        batchMax: 10,
      };
      for (let started = 0; started < workers; started += 1) await world.startWorker(options);
      const rounds = 30;
      for (let round = 1; round <= rounds; round += 1) {
        await times(20, () => world.submit());
        await eventually("they are accepted", () => world.acceptances().length === 20 * round, limitMs);
      }
      // Allow two percentage points, and one batch for each worker.
      const total = 20 * rounds;
      const slack = 0.02 * total + workers * 10;
      expect(world.resend.acceptances.length).toBeWithin(
        (total * 2) / 3 - slack,
        (total * 2) / 3 + slack + 1,
      );
    });
  }

  inWorld(
    "an email that this worker's providers refuse waits for a provider that another worker served lately",
    { resend: { unverifiedDomains: ["example.net"] } },
    async (world) => {
      const { consumer } = await world.startWorker({ weights: { resend: 1 } });
      await consumer.compatible;
      await consumer.sweep({
        worker: "the one that has Postmark too",
        retryMaxMs: 100,
        searchWaitMs: 100,
        providers: { postmark: { credential: "token", takesEmails: true } },
      });
      const id = await world.submit({ from: "me@example.net" });
      await eventually("Resend has refused it", () => world.resend.requests.length > 0, limitMs);
      await eventually("it waits", async () => (await world.show(id)).state === "waiting", limitMs);
      await consumer.sweep({ worker: "this one", retryMaxMs: 100, searchWaitMs: 100, providers: {} });
      expect((await world.show(id)).state).toBe("waiting");
      await world.startWorker({ weights: { postmark: 1 } });
      await allAccepted(world, [id]);
    },
  );

  inWorld(
    "an email in doubt that Resend accepts under another key is counted as a possible duplicate",
    {},
    async (world) => {
      const id = await world.submit();
      const worker = await world.startWorker({ weights: { resend: 0 } });
      await worker.consumer.compatible;
      const claimed = await worker.consumer.claim(
        claimRequest({ credential: "the old key", leaseMs: 5_000 }),
      );
      if (claimed.kind !== "batch") throw new Error(claimed.kind);
      await worker.consumer.settle(claimed.batch, { fates: [], rest: { delayMs: 0, notes: "" }, counts: {} });
      await allAccepted(world, [id]);
      await world.drained();
      expect((await world.stats()).counters).toMatchObject({ possible_duplicates: 1, "accepted:resend": 1 });
    },
  );

  inWorld("a provider of weight 0 gets nothing new", {}, async (world) => {
    const worker = await world.startWorker({ weights: { resend: 0, postmark: 1 } });
    const ids = await times(20, () => world.submit());
    await allAccepted(world, ids);
    expect(world.resend.requests).toHaveLength(0);
    await worker.stop();
  });

  inWorld("a decision that fails leaves the provider to be tried again", {}, async (world) => {
    const worker = await world.startWorker({ weights: { resend: 1 }, leaseMs: 500, providerTimeoutMs: 200 });
    const [state] = worker.states;
    const provider = state!.provider;
    // An unreadable answer, as only a bug could produce.
    state!.breaker = {
      kind: "halfOpen",
      generation: 1,
      opened: 2,
      cause: "failed",
      isDown: true,
      probing: false,
    };
    let isBroken = true;
    Object.assign(state!, {
      provider: {
        ...provider,
        async send(...given: Parameters<typeof provider.send>) {
          const sent = await provider.send(...given);
          if (!isBroken) return sent;
          isBroken = false;
          return { ...sent, result: { kind: "each", outcomes: null } };
        },
      },
    });
    const id = await world.submit();
    await eventually("the answer could not be read", () => !isBroken, limitMs);
    await world.drained();
    expect((await world.show(id)).state).toBe("sent");
  });

  inWorld("an email that always fails does not delay a good one", {}, async (world) => {
    const word = poisonWord({ kind: "reset", after: false, at: "resend" });
    const { states } = await world.startWorker({
      weights: { resend: 1 },
      ...hasty,
      giveUpAfterMs: 3_600_000,
    });
    await world.submit({ subject: word });
    await eventually("it has failed often", () => world.resend.requests.length > 20, limitMs);
    const [state] = states;
    // Even though it was often the probe.
    const { breaker } = state!;
    expect(breaker.kind === "closed" ? 0 : breaker.opened).toBeLessThanOrEqual(2);
    await allAccepted(world, [await world.submit()]);
  });

  inWorld("an email that was refused with the account is not the next probe", {}, async (world) => {
    const { states } = await world.startWorker({ weights: { postmark: 1 } });
    const [state] = states;
    const { provider } = state!;
    const asked: number[] = [];
    Object.assign(state!, {
      provider: {
        ...provider,
        async send(...[outgoing, signal]: Parameters<typeof provider.send>) {
          if (!outgoing.emails.some(({ email }) => email.subject === "bad"))
            return provider.send(outgoing, signal);
          asked.push(performance.now());
          const outcomes = outgoing.emails.map(() => ({
            kind: "accountRefused",
            reason: "code 412: pending",
          }));
          return { rate: {}, result: { kind: "each", outcomes } };
        },
      },
    });
    await world.submit({ subject: "bad" });
    const isOpen = () => state!.breaker.kind === "open";
    await eventually("the provider refuses the account", isOpen, limitMs);
    const good = await world.submit();
    // Ends its pause.
    if (state!.breaker.kind === "open") state!.breaker = { ...state!.breaker, untilMs: performance.now() };
    await allAccepted(world, [good]);
    await eventually("the provider works again", () => state!.breaker.kind === "closed", limitMs);
  });

  inWorld(
    "made-up senders do not starve an honest one that the worker does not know yet",
    { resend: { unverifiedDomains: madeUp, unverifiedRefuses: "request" } },
    async (world) => {
      await Promise.all(madeUp.map((domain) => world.submit({ from: `me@${domain}` })));
      const honest = await world.submit();
      await world.startWorker({ weights: { resend: 1 }, rates: { resend: 50 }, concurrency: 1 });
      await allAccepted(world, [honest]);
      expect(world.resend.requests.length).toBeLessThan(madeUp.length / 2);
      await world.drained();
    },
  );

  inWorld(
    "a breaker that opens during another provider's claim gets its question",
    { resend: { unverifiedDomains: ["example.net"] } },
    async (world) => {
      const { consumer, states } = await world.startWorker();
      await consumer.compatible;
      const postmark = states.find(({ provider }) => provider.name === "postmark")!;
      const claim = consumer.claim;
      let opened = 0;
      consumer.claim = async (request) => {
        const result = await claim(request);
        if (request.provider === "resend" && opened < 20 && postmark.breaker.kind === "closed") {
          opened += 1;
          const { generation } = postmark.breaker;
          const cause = "unanswered";
          postmark.breaker = { kind: "open", generation, untilMs: 0, opened: 1, cause, isDown: false };
        }
        return result;
      };
      const ids: string[] = [];
      await eventually(
        "the breaker has opened often",
        async () => {
          // Resend refuses it, so only Postmark can take it, whoever's turn it is.
          ids.push(await world.submit({ from: "me@example.net" }));
          return opened === 20;
        },
        limitMs,
      );
      await allAccepted(world, ids);
    },
  );

  inWorld("a provider that hangs leaves slots for the other one", {}, async (world) => {
    world.postmark.faults.add({ fault: faults.hangBeforeAccepting, path: "/email/batch" });
    await world.startWorker({ concurrency: 2, batchMax: 1, providerTimeoutMs: 60_000, leaseMs: 150_000 });
    const ids: string[] = [];
    for (let sent = 0; sent < 20; sent += 1) {
      ids.push(await world.submit());
      await eventually("all but one are accepted", () => accepted(world).size >= ids.length - 1, limitMs);
    }
    expect(world.postmark.requests.filter(({ method }) => method === "POST").length).toBeLessThanOrEqual(1);
    // Ends the hanging request.
    world.postmark.stop();
  });

  inWorld(
    "a question that hangs leaves time for the request, under the shortest lease",
    {},
    async (world) => {
      world.resend.faults.add({ fault: faults.hangBeforeAccepting, path: "/domains" });
      const id = await world.submit();
      await world.startWorker({
        weights: { resend: 1 },
        providerTimeoutMs: 2_000,
        leaseMs: 4_000,
        giveUpAfterMs: 1,
      });
      await allAccepted(world, [id]);
    },
  );
}
