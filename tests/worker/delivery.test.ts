// Delivery end to end, except for the server: what reaches the providers, and the state of the queue, when things go
// wrong.

import { expect } from "bun:test";
import { answerInstead, faults } from "../../fakes/faults.ts";
import { endDoubtNow } from "../../lib/policy/operator_retry.ts";
import { asRetried, decodeHistory, decodeRecord, encodeMemory } from "../../lib/policy/history.ts";
import { decodeEmail } from "../../lib/email/email.ts";
import { StoreUnavailable } from "../../lib/queue/contract.ts";
import { eventually } from "../support/eventually.ts";
import { recordingLog } from "../support/log.ts";
import { sharedRedis, times, worldTests } from "../support/worlds.ts";

const inWorld = worldTests("delivery", sharedRedis());
const onlyResend = { weights: { resend: 1 } };
const onlyPostmark = { weights: { postmark: 1 } };

inWorld("an email reaches a provider once, and leaves its record", {}, async (world) => {
  await world.startWorker(onlyResend);
  const id = await world.submit({ to: "jane@example.org", subject: "Grüße", html: "<p>Hi</p>" });
  await world.drained();
  expect(world.resend.acceptances).toMatchObject([
    { emailId: id, to: "jane@example.org", subject: "Grüße", html: "<p>Hi</p>" },
  ]);
  expect((await world.show(id)).state).toBe("sent");
  expect((await world.stats()).counters).toEqual({ "accepted:resend": 1 });
});

inWorld("a backlog leaves in full batches, by weight", {}, async (world) => {
  await times(800, () => world.submit());
  await world.startWorker({ weights: { resend: 3, postmark: 1 } });
  await world.drained();
  expect(world.duplicates().size).toBe(0);
  expect(world.acceptances()).toHaveLength(800);
  const resend = world.resend.acceptances.length;
  expect(resend).toBeWithin(500, 701);
  expect(world.resend.requests.length).toBeLessThanOrEqual(8);
});

inWorld("single emails follow the weights", {}, async (world) => {
  const worker = await world.startWorker({ weights: { resend: 3, postmark: 1 } });
  for (let i = 0; i < 40; i += 1) {
    await world.submit();
    // Waits until the worker is idle: an email that arrives between its claims would go to the provider that claims
    // last.
    await eventually("it is accepted", () => world.acceptances().length === i + 1 && worker.isIdle());
  }
  expect(world.resend.acceptances).toHaveLength(30);
});

inWorld("an invalid address in a batch does not affect the other emails", {}, async (world) => {
  const good = await times(60, () => world.submit());
  const ill = await world.submit({ to: "jane@exa mple" });
  await world.startWorker(onlyResend);
  await world.drained();
  expect(world.resend.requests).toHaveLength(1);
  expect(new Set(world.resend.acceptances.map(({ emailId }) => emailId))).toEqual(new Set(good));
  const dead = await world.show(ill);
  expect(dead.state).toBe("dead");
  expect(decodeEmail(dead.text!).to).toBe("jane@exa mple");
  expect(decodeHistory(dead.history)).toMatchObject({
    attempts: { total: 1 },
    deadReason: expect.stringContaining("to"),
  });
});

inWorld("a batch refused for an unnamed email continues in pieces, then one by one", {}, async (world) => {
  world.resend.faults.add({
    fault: answerInstead(422, { statusCode: 422, name: "validation_error", message: "Something is wrong." }),
    when: (request) => Number(request.headers["content-length"]) > 0,
    times: 3,
  });
  const ids = await times(64, () => world.submit());
  await world.startWorker(onlyResend);
  await world.drained();
  expect(world.acceptances()).toHaveLength(64);
  expect(world.duplicates().size).toBe(0);
  expect(world.resend.requests.length).toBe(1 + 8 + 2 * 8);
  expect((await world.show(ids[0]!)).state).toBe("sent");
});

for (const unverifiedRefuses of ["email", "request"] as const) {
  inWorld(
    `an email of an unverified sender goes to the other provider, and delays no other (refused by ${unverifiedRefuses})`,
    { resend: { unverifiedDomains: ["unverified.example"], unverifiedRefuses } },
    async (world) => {
      await times(99, (i) => world.submit(i % 3 === 0 ? { from: "a@unverified.example" } : {}));
      await world.startWorker({ weights: { resend: 1000, postmark: 1 } });
      await world.drained();
      const elsewhere = world.postmark.acceptances.filter(({ from }) => from.includes("unverified"));
      expect(elsewhere).toHaveLength(33);
      expect(world.acceptances()).toHaveLength(99);
      const before = world.resend.requests.length;
      expect(before).toBeLessThanOrEqual(4);
      await world.submit({ from: "a@unverified.example" });
      await world.drained();
      expect(world.resend.requests).toHaveLength(before);
      expect((await world.stats()).states.dead).toBe(0);
    },
  );
}

inWorld(
  "an email whose sender every provider refuses becomes a dead letter with its content",
  {
    resend: { unverifiedDomains: ["unverified.example"] },
    postmark: { unverifiedDomains: ["unverified.example"] },
  },
  async (world) => {
    await world.startWorker();
    const id = await world.submit({ from: "a@unverified.example", body: "keep me" });
    await world.drained();
    const dead = await world.show(id);
    expect(dead.state).toBe("dead");
    expect(decodeEmail(dead.text!).body).toBe("keep me");
    expect(decodeHistory(dead.history).deadReason).toStartWith("refused by every provider");
    expect(world.acceptances()).toHaveLength(0);
  },
);

for (const name of [
  "resetAfterAccepting",
  "closeInBody",
  "htmlSuccess",
  "emptySuccessAfterAccepting",
  "oneShort",
  "nonsense",
  "serverErrorAfterAccepting",
  "badGatewayAfterAccepting",
  "resetBeforeAccepting",
  "badGateway",
] as const) {
  inWorld(`Resend never accepts twice: ${name}`, {}, async (world) => {
    world.resend.faults.next(faults[name], 3);
    await times(20, () => world.submit());
    await world.startWorker({ ...onlyResend, concurrency: 1 });
    await world.drained();
    expect(world.resend.acceptances).toHaveLength(20);
    expect(world.duplicates().size).toBe(0);
    const { counters, states } = await world.stats();
    expect(counters["possible_duplicates"]).toBeUndefined();
    expect(counters["duplicates"]).toBeUndefined();
    expect(states.sent).toBe(20);
  });
}

for (const limitBeforeKey of [true, false]) {
  for (const rememberRefusals of [true, false]) {
    inWorld(
      `a batch in doubt that is throttled and then refused stays whole (limit before key: ${limitBeforeKey}, refusals remembered: ${rememberRefusals})`,
      { resend: { limitBeforeKey, rememberRefusals, rateLimit: 50 } },
      async (world) => {
        world.resend.faults.next(faults.resetAfterAccepting);
        world.resend.faults.next(
          answerInstead(
            429,
            { statusCode: 429, name: "rate_limit_exceeded", message: "slow" },
            { "retry-after": "0" },
          ),
        );
        world.resend.faults.next(
          answerInstead(503, { statusCode: 503, name: "service_unavailable", message: "down" }),
        );
        world.resend.faults.next(
          answerInstead(403, {
            statusCode: 403,
            name: "validation_error",
            message: "The x domain is not verified.",
          }),
        );
        await times(5, () => world.submit());
        // Another provider is available, but failing over now would send twice.
        await world.startWorker({ weights: { resend: 1000, postmark: 1 }, concurrency: 1 });
        await world.drained();
        expect(world.resend.acceptances).toHaveLength(5);
        expect(world.postmark.acceptances).toHaveLength(0);
      },
    );
  }
}

inWorld(
  "an email whose key was used with other bytes becomes a dead letter with an unknown outcome",
  {},
  async (world) => {
    world.resend.faults.next(
      answerInstead(409, { statusCode: 409, name: "invalid_idempotent_request", message: "used" }),
    );
    await world.startWorker(onlyResend);
    const id = await world.submit();
    await world.drained();
    const dead = await world.show(id);
    expect(dead.state).toBe("dead");
    expect(decodeHistory(dead.history)).toMatchObject({
      doubted: true,
      deadReason: expect.stringMatching(/^outcome unknown/),
    });
  },
);

inWorld(
  "Postmark is searched before anything is sent again, and a found email is sent",
  { postmark: { indexDelayMs: 100 } },
  async (world) => {
    world.postmark.faults.add({ fault: faults.resetAfterAccepting, times: 1, path: "/email/batch" });
    await times(20, () => world.submit());
    await world.startWorker(onlyPostmark);
    await world.drained();
    expect(world.postmark.acceptances).toHaveLength(20);
    expect(world.duplicates().size).toBe(0);
    expect((await world.stats()).counters["possible_duplicates"]).toBeUndefined();
  },
);

inWorld(
  "Postmark is searched twice before an email that it did not accept is sent again and counted",
  {},
  async (world) => {
    world.postmark.faults.add({ fault: faults.resetBeforeAccepting, times: 1, path: "/email/batch" });
    await times(20, () => world.submit());
    await world.startWorker(onlyPostmark);
    await world.drained();
    expect(world.postmark.acceptances).toHaveLength(20);
    expect(world.duplicates().size).toBe(0);
    expect((await world.stats()).counters["possible_duplicates"]).toBe(20);
    const searches = world.postmark.requests.filter(({ method }) => method === "GET");
    expect(searches.length).toBeGreaterThanOrEqual(2);
  },
);

inWorld(
  "an index slower than the search wait causes duplicates, each one counted",
  { postmark: { indexDelayMs: 60_000 } },
  async (world) => {
    world.postmark.faults.add({ fault: faults.resetAfterAccepting, times: 1, path: "/email/batch" });
    const ids = await times(20, () => world.submit());
    await world.startWorker(onlyPostmark);
    await world.drained();
    expect(world.duplicates().size).toBe(20);
    expect((await world.stats()).counters["possible_duplicates"]).toBe(ids.length);
  },
);

inWorld("a failed search does not count", {}, async (world) => {
  world.postmark.faults.add({ fault: faults.resetAfterAccepting, times: 1, path: "/email/batch" });
  world.postmark.faults.add({ fault: faults.badGateway, times: 4, when: ({ method }) => method === "GET" });
  await world.submit();
  await world.startWorker(onlyPostmark);
  await world.drained();
  expect(world.postmark.acceptances).toHaveLength(1);
});

inWorld("a provider that is down is replaced by the other, and used again afterwards", {}, async (world) => {
  world.resend.goDown();
  await world.startWorker({ giveUpAfterMs: 60_000 });
  await times(200, () => world.submit());
  await world.drained();
  expect(world.postmark.acceptances).toHaveLength(200);
  world.resend.comeUp();
  await eventually("Resend gets mail again", async () => {
    await world.submit();
    return world.resend.acceptances.length > 0;
  });
  await world.drained();
  expect(world.duplicates().size).toBe(0);
});

inWorld("an outage of every provider loses nothing and uses few attempts", {}, async (world) => {
  world.resend.goDown();
  world.postmark.goDown();
  await world.startWorker();
  const ids = await times(50, () => world.submit());
  await eventually(
    "both are found to be down",
    async () =>
      (await world.stats()).counters["retried:postmark"]! > 0 &&
      (await world.stats()).counters["retried:resend"]! > 0,
  );
  world.resend.comeUp();
  world.postmark.comeUp();
  await world.drained();
  expect(new Set(world.acceptances().map(({ emailId }) => emailId))).toEqual(new Set(ids));
  expect(world.duplicates().size).toBe(0);
  // Five failed requests open each provider's breaker; after that only probes are made.
  for (const id of ids) {
    const { attempts } = decodeRecord((await world.show(id)).record!).history;
    expect(attempts.total).toBeLessThanOrEqual(20);
  }
});

inWorld(
  "a wrong key opens its provider's breaker immediately, and does not count against the emails",
  { resend: { apiKey: "re_other" } },
  async (world) => {
    await world.startWorker();
    await times(100, () => world.submit());
    await world.drained();
    expect(world.postmark.acceptances).toHaveLength(100);
    expect(world.resend.requests.length).toBeLessThanOrEqual(8);
  },
);

inWorld(
  "a throttled provider gets a pause, and its emails go to the other immediately",
  {},
  async (world) => {
    const slow = answerInstead(
      429,
      { statusCode: 429, name: "rate_limit_exceeded", message: "slow" },
      { "retry-after": "30" },
    );
    world.resend.faults.add({ fault: slow });
    await world.startWorker();
    await times(100, () => world.submit());
    await world.drained();
    expect(world.postmark.acceptances).toHaveLength(100);
    expect(world.resend.requests.length).toBeLessThanOrEqual(8);
    const history = decodeHistory((await world.show(world.postmark.acceptances[0]!.emailId)).history);
    expect(history.tries).toBe(0);
  },
);

inWorld(
  "an email becomes a dead letter by a definite failure after GIVE_UP_AFTER, but not by throttling",
  {},
  async (world) => {
    const slow = { statusCode: 429, name: "rate_limit_exceeded", message: "slow" };
    const down = { statusCode: 503, name: "service_unavailable", message: "down" };
    for (const fault of [answerInstead(429, slow), answerInstead(503, down)])
      world.resend.faults.add({ fault, times: 1, path: "/emails/batch" });
    await world.startWorker({ ...onlyResend, giveUpAfterMs: 0 });
    const id = await world.submit({ body: "keep me" });
    await world.drained();
    const dead = await world.show(id);
    expect(dead.state).toBe("dead");
    expect(decodeEmail(dead.text!).body).toBe("keep me");
    const { attempts, deadReason } = decodeHistory(dead.history);
    expect(attempts.kept.map(({ outcome }) => outcome)).toEqual(["throttled", "unavailable"]);
    expect(deadReason).toStartWith("gave up: ");
  },
);

inWorld(
  "doubt ends after DOUBT_TIMEOUT, and the email leaves by another provider, counted",
  {},
  async (world) => {
    world.resend.faults.add({ fault: faults.serverErrorAfterAccepting });
    await world.startWorker({ weights: { resend: 1000, postmark: 1 }, doubtMs: 1500 });
    await world.submit();
    await eventually("it is accepted", () => world.resend.acceptances.length === 1);
    world.resend.goDown();
    await world.drained();
    expect(world.postmark.acceptances).toHaveLength(1);
    expect((await world.stats()).counters["possible_duplicates"]).toBe(1);
  },
);

inWorld("doubt ends even if no worker serves the provider any more", {}, async (world) => {
  world.resend.faults.add({ fault: faults.serverErrorAfterAccepting });
  const first = await world.startWorker({ ...onlyResend, doubtMs: 4000 });
  const id = await world.submit();
  await eventually("it is accepted", () => world.resend.acceptances.length === 1);
  await first.stop();
  await world.startWorker(onlyPostmark);
  await world.drained();
  expect(world.postmark.acceptances).toMatchObject([{ emailId: id }]);
});

inWorld("a provider of weight 0 gets nothing new, and its old batches are resolved", {}, async (world) => {
  world.resend.faults.add({ fault: faults.serverErrorAfterAccepting });
  const first = await world.startWorker(onlyResend);
  const old = await world.submit();
  await eventually("it is in doubt", async () => (await world.show(old)).state === "in-doubt");
  await first.stop();
  world.resend.faults.clear();
  await world.startWorker({ weights: { resend: 0, postmark: 1 } });
  const fresh = await times(30, () => world.submit());
  await world.drained();
  expect(world.resend.acceptances.map(({ emailId }) => emailId)).toEqual([old]);
  expect(world.postmark.acceptances).toHaveLength(fresh.length);
});

inWorld(
  "a provider of weight 0 resolves its old batches while the other has a backlog",
  {},
  async (world) => {
    world.resend.faults.next(faults.serverErrorAfterAccepting);
    const first = await world.startWorker(onlyResend);
    const old = await world.submit();
    await eventually("it is accepted", () => world.resend.acceptances.length === 1);
    await first.stop();
    world.postmark.settings.workMs = 200;
    await times(8000, () => world.submit());
    await world.startWorker({ weights: { resend: 0, postmark: 1 }, concurrency: 2 });
    await eventually("it is resolved", async () => (await world.show(old)).state === "sent");
    expect((await world.stats()).states.waiting).toBeGreaterThan(0);
  },
);

inWorld("a batch that keeps failing does not hold up new emails of its provider", {}, async (world) => {
  let poisoned = "";
  const refusal = {
    statusCode: 403,
    name: "validation_error",
    message: "The x.example domain is not verified.",
  };
  world.resend.faults.next(faults.serverError);
  world.resend.faults.add({
    // Does not count against the provider: its breaker stays closed.
    fault: answerInstead(403, refusal),
    when: ({ headers }) => {
      // The first request, which the other fault hit, had the same key.
      poisoned ||= world.resend.requests[0]!.headers["idempotency-key"]!;
      return headers["idempotency-key"] === poisoned;
    },
  });
  // No backoff: the batch in doubt is due again immediately, always before new emails.
  await world.startWorker({ ...onlyResend, concurrency: 1, retryBaseMs: 0, retryMaxMs: 0 });
  const stuck = await world.submit();
  await eventually("it is in doubt", async () => (await world.show(stuck)).state === "in-doubt");
  for (let i = 0; i < 10; i += 1) {
    const id = await world.submit();
    await eventually("it is sent", async () => (await world.show(id)).state === "sent");
  }
  expect((await world.show(stuck)).state).toBe("in-doubt");
  world.resend.faults.clear();
  await world.drained();
  expect(world.resend.acceptances).toHaveLength(11);
});

inWorld("several workers share a queue, and nothing is sent twice", {}, async (world) => {
  for (let i = 0; i < 3; i += 1) await world.startWorker();
  const ids = await times(2000, () => world.submit());
  await world.drained();
  expect(world.acceptances()).toHaveLength(ids.length);
  expect(world.duplicates().size).toBe(0);
});

inWorld(
  "a worker that drains settles what is in flight and leaves the rest waiting",
  { resend: { workMs: 300 } },
  async (world) => {
    const worker = await world.startWorker({ ...onlyResend, concurrency: 2 });
    await times(3000, () => world.submit());
    await eventually("requests are in flight", () => world.resend.requests.length >= 2);
    await worker.stop();
    const { states } = await world.stats();
    expect(states.sending + states["in-doubt"]).toBe(0);
    expect(states.sent).toBe(world.resend.acceptances.length);
    expect(states.sent + states.waiting).toBe(3000);
    expect(states.waiting).toBeGreaterThan(0);
  },
);

inWorld(
  "an unreadable email in the store is set aside, and the others of its batch are sent",
  {},
  async (world) => {
    const good = await times(3, () => world.submit());
    const bad: string[] = [];
    for (const text of ["not an email", '{"to":5}\n{}']) {
      const id = Bun.randomUUIDv7();
      await world.producer.submit({ id, text }, performance.now() + 60_000);
      bad.push(id);
    }
    await world.startWorker(onlyResend);
    await world.drained();
    expect(world.resend.acceptances).toHaveLength(good.length);
    for (const id of bad) expect((await world.show(id)).state).toBe("dead");
  },
);

/** A lease too long for its end to help. */
const longLease = { leaseMs: 600_000 };

inWorld("a settlement whose answer is lost is repeated", { resend: { workMs: 1000 } }, async (world) => {
  const proxy = await world.openProxy();
  await world.startWorker({ ...onlyResend, ...longLease, url: proxy.url });
  const id = await world.submit();
  await eventually("the request is in progress", () => world.resend.requests.length === 1);
  // The reply to a settlement whose lease was held, and to nothing else.
  proxy.onlyWith = "*1\r\n:1\r\n";
  proxy.replies = "cut";
  await eventually(
    "the answer to the settlement is lost",
    async () => (await world.show(id)).state === "sent",
  );
  proxy.replies = "pass";
  const next = await world.submit();
  await eventually("the slot is free again", async () => (await world.show(next)).state === "sent");
  await world.drained();
  expect(world.resend.acceptances).toHaveLength(2);
  expect((await world.stats()).counters).toEqual({ "accepted:resend": 2 });
});

inWorld(
  "a settlement that Redis could not accept is repeated until it can",
  { resend: { workMs: 1000 } },
  async (world) => {
    const proxy = await world.openProxy();
    await world.startWorker({ ...onlyResend, ...longLease, url: proxy.url });
    const id = await world.submit();
    await eventually("the request is in progress", () => world.resend.requests.length === 1);
    proxy.cutAll();
    proxy.requests = "hold";
    await eventually("it is accepted", () => world.resend.acceptances.length === 1);
    expect((await world.show(id)).state).toBe("sending");
    proxy.cutAll();
    proxy.requests = "pass";
    await eventually("it is settled", async () => (await world.show(id)).state === "sent");
  },
);

inWorld("a claim whose answer is lost is repeated, and its batch is sent", {}, async (world) => {
  const proxy = await world.openProxy();
  await world.startWorker({ ...onlyResend, ...longLease, url: proxy.url });
  // The replies that contain the email: those to claims, but none of a new connection.
  proxy.onlyWith = "once-lost@example.org";
  proxy.replies = "cut";
  const id = await world.submit({ to: proxy.onlyWith });
  await eventually("it is claimed", async () => (await world.show(id)).state === "sending");
  proxy.replies = "pass";
  await eventually("it is sent", async () => (await world.show(id)).state === "sent");
  expect(world.resend.acceptances).toHaveLength(1);
});

inWorld("no request begins under a lease that could expire before the answer", {}, async (world) => {
  const proxy = await world.openProxy();
  const log = recordingLog();
  const slow = { log, leaseMs: 1000, providerTimeoutMs: 500, url: proxy.url };
  const worker = await world.startWorker({ ...onlyResend, ...slow });
  await worker.consumer.compatible;
  proxy.delayMs = 600;
  await world.submit();
  await eventually("it is claimed and given back", () => log.events("batch-settled").length >= 2);
  expect(world.resend.requests).toHaveLength(0);
  proxy.delayMs = 0;
  await world.drained();
  expect(world.resend.acceptances).toHaveLength(1);
});

inWorld("a worker that stops during a claim gives the batch back", {}, async (world) => {
  const proxy = await world.openProxy();
  const worker = await world.startWorker({ ...onlyResend, ...longLease, url: proxy.url });
  await worker.consumer.compatible;
  // The reply that contains the email.
  proxy.onlyWith = "held-up@example.org";
  proxy.replies = "hold";
  const id = await world.submit({ to: proxy.onlyWith });
  await eventually("it is claimed", async () => (await world.show(id)).state === "sending");
  const stopped = worker.stop();
  proxy.release();
  await stopped;
  expect(await world.show(id)).toMatchObject({ state: "waiting", history: "" });
  expect(world.resend.requests).toHaveLength(0);
});

inWorld("a slow answer to a claim is waited for", {}, async (world) => {
  const proxy = await world.openProxy();
  await times(4, () => world.submit({ body: "x".repeat(900_000) }));
  proxy.bytesPerSecond = 2_000_000;
  await world.startWorker({ ...onlyResend, ...longLease, url: proxy.url });
  await world.drained();
  expect(world.resend.requests).toHaveLength(1);
});

inWorld("a batch is limited by bytes too", {}, async (world) => {
  await times(5, () => world.submit({ body: "x".repeat(1_500_000) }));
  await world.startWorker(onlyResend);
  await world.drained();
  expect(world.resend.requests).toHaveLength(3);
  expect(world.resend.acceptances).toHaveLength(5);
});

inWorld(
  "a request that the provider never answers is abandoned at its deadline, and resolved later",
  {},
  async (world) => {
    world.resend.faults.next(faults.hangAfterAccepting);
    await world.startWorker({ ...onlyResend, providerTimeoutMs: 200 });
    const id = await world.submit();
    await world.drained();
    expect(world.resend.acceptances).toMatchObject([{ emailId: id }]);
    const { attempts } = decodeRecord((await world.show(id)).record!).history;
    expect(attempts.kept.map(({ outcome }) => outcome)).toEqual(["unknown", "accepted"]);
  },
);

inWorld("a pause stops claims, lets batches in flight settle, and is logged once", {}, async (world) => {
  const log = recordingLog();
  const worker = await world.startWorker({ ...onlyResend, log });
  world.resend.faults.next({ stage: "accepted", delayMs: 2000, effect: "nothing" });
  const first = await world.submit();
  await eventually("the request has arrived", () => world.resend.requests.length === 1);
  await world.admin.setPaused(true);
  const second = await world.submit();
  await eventually("the first is settled", async () => (await world.show(first)).state === "sent");
  await eventually("the worker knows", () => worker.consumer.paused());
  const { claims } = worker.refused;
  await eventually("it asks again, and is refused again", () => worker.refused.claims >= claims + 2);
  expect((await world.show(second)).state).toBe("waiting");
  expect(world.resend.requests).toHaveLength(1);
  expect(log.events("claims-paused")).toHaveLength(1);
  expect(log.events("claims-resumed")).toHaveLength(0);
  await world.admin.setPaused(false);
  await world.drained();
  expect(world.resend.acceptances).toHaveLength(2);
  expect(log.events("claims-paused")).toHaveLength(1);
  expect(log.events("claims-resumed")).toHaveLength(1);
  expect(worker.consumer.paused()).toBe(false);
});

inWorld(
  "a worker that starts during a pause waits, and ends no doubt until it is over",
  {},
  async (world) => {
    const first = await world.startWorker({ ...onlyResend, doubtMs: 4000 });
    world.resend.faults.add({ fault: faults.resetAfterAccepting });
    const doubtful = await world.submit();
    await eventually("it is in doubt", async () => (await world.show(doubtful)).state === "in-doubt");
    await world.admin.setPaused(true);
    await first.stop();
    const waiting = await world.submit();
    world.resend.faults.clear();
    const before = world.resend.requests.length;
    const worker = await world.startWorker(onlyPostmark);
    await eventually("it knows", () => worker.consumer.paused());
    const endsAtMs = (await world.stats()).oldestDoubtSinceMs! + 4000;
    await eventually("its doubt is over", async () => (await world.stats()).nowMs > endsAtMs);
    const { endings } = worker.refused;
    await eventually("it is refused nevertheless", () => worker.refused.endings >= endings + 2);
    expect((await world.show(doubtful)).state).toBe("in-doubt");
    expect((await world.show(waiting)).state).toBe("waiting");
    expect(world.resend.requests).toHaveLength(before);
    expect(world.postmark.requests).toHaveLength(0);
    await world.admin.setPaused(false);
    await world.drained();
    expect(world.postmark.acceptances.map(({ emailId }) => emailId).toSorted()).toEqual(
      [doubtful, waiting].toSorted(),
    );
  },
);

inWorld(
  "a dead letter that is retried is sent under a new key, and keeps its attempts",
  {},
  async (world) => {
    await world.startWorker(onlyResend);
    world.resend.faults.next(
      answerInstead(422, { statusCode: 422, name: "validation_error", message: "Invalid `to`" }),
    );
    const id = await world.submit();
    await eventually("it is dead", async () => (await world.show(id)).state === "dead");
    const { history: seenHistory } = await world.show(id);
    const { nowMs } = await world.stats();
    const history = encodeMemory(asRetried(decodeHistory(seenHistory), nowMs));
    expect(await world.admin.retry([{ id, seenHistory, history }], { replayed: 1 })).toEqual([id]);
    await world.drained();
    const { state, record } = await world.show(id);
    expect(state).toBe("sent");
    const { attempts, replayedAtMs } = decodeRecord(record!).history;
    expect(attempts.kept.map(({ outcome }) => outcome)).toEqual(["rejected", "accepted"]);
    expect(replayedAtMs).toBe(nowMs);
    expect(new Set(world.resend.requests.map(({ headers }) => headers["idempotency-key"])).size).toBe(2);
    expect((await world.stats()).counters["replayed"]).toBe(1);
  },
);

inWorld(
  "an email whose doubt an operator ends is a possible duplicate, sent by any provider",
  {},
  async (world) => {
    const ids = await times(3, () => world.submit());
    world.resend.faults.add({ fault: faults.resetAfterAccepting });
    const worker = await world.startWorker({ ...onlyResend, retryBaseMs: 60_000, retryMaxMs: 60_000 });
    await eventually("they are in doubt", async () => (await world.stats()).states["in-doubt"] === 3);
    await worker.stop();
    const { batch } = (await world.admin.show(ids[1]!))!;
    const shown = await Promise.all(batch!.emailIds!.map((id) => world.admin.show(id)));
    const emails = shown.map((one) => ({ ...one!, marked: false }));
    const { nowMs } = await world.stats();
    const { settlement, possibleDuplicates } = endDoubtNow({ ...batch!, emails }, nowMs);
    expect(await world.admin.release(batch!, settlement)).toBe(true);
    expect(possibleDuplicates.toSorted()).toEqual(ids.toSorted());
    await world.startWorker(onlyPostmark);
    await world.drained();
    expect(world.postmark.acceptances.map(({ emailId }) => emailId).toSorted()).toEqual(ids.toSorted());
    expect((await world.stats()).counters["possible_duplicates"]).toBe(3);
  },
);

inWorld("emails that die together are logged in few lines, with the kind of failure", {}, async (world) => {
  const log = recordingLog();
  const ids = await times(100, () => world.submit());
  world.resend.faults.add({
    fault: {
      stage: "read",
      effect: {
        status: 200,
        json: {
          data: [],
          errors: ids.map((_, index) => ({ index, message: "Jane is not wanted here" })),
        },
      },
    },
  });
  await world.startWorker({ ...onlyResend, log });
  // The store knows it first, then the log.
  const lines = await eventually("both lines", () => {
    const written = log.events("dead-letter");
    return written.length >= 2 ? written : undefined;
  });
  expect(lines.map(({ count }) => count)).toEqual([50, 50]);
  expect(lines.flatMap((line) => line["ids"]).toSorted()).toEqual(ids.toSorted());
  const { batch } = lines[0]!;
  for (const line of lines)
    expect(line).toMatchObject({ batch, provider: "resend", cause: "refusedByAll", reason: "refused" });
});

inWorld(
  "a settlement that the store does not answer holds up no other delivery, and is carried out in the end",
  {},
  async (world) => {
    const { consumer, stop } = await world.startWorker({ ...onlyResend, concurrency: 1 });
    const first = await world.submit();
    let isAnswering = false;
    const settle = consumer.settle.bind(consumer);
    consumer.settle = async (batch, settlement) => {
      const isFirst = batch.emails.some(({ id }) => id === first);
      if (isFirst && !isAnswering) throw new StoreUnavailable("its partition is down");
      return settle(batch, settlement);
    };
    await eventually("it is accepted", () => world.acceptances().length === 1);
    const others = await times(3, () => world.submit());
    await eventually("the others are sent", async () => {
      const shown = await Promise.all(others.map((id) => world.show(id)));
      return shown.every(({ state }) => state === "sent");
    });
    expect((await world.show(first)).state).toBe("sending");
    const stopped = stop();
    isAnswering = true;
    await stopped;
    expect((await world.show(first)).state).toBe("sent");
    expect(world.acceptances()).toHaveLength(4);
  },
);

inWorld(
  "a backlog is claimed in several batches at a time, an idle queue in one claim at a time",
  { resend: { rateLimit: 1000 } },
  async (world) => {
    await times(1000, () => world.submit());
    const { consumer } = await world.startWorker(onlyResend);
    let underWay = 0;
    let most = 0;
    const claim = consumer.claim.bind(consumer);
    consumer.claim = (request) => {
      underWay += 1;
      most = Math.max(most, underWay);
      return claim(request).finally(() => (underWay -= 1));
    };
    await world.drained();
    expect(most).toBeWithin(2, 9);
    expect(world.resend.requests).toHaveLength(10);
    expect(world.duplicates().size).toBe(0);
    most = 0;
    await world.submit();
    await world.drained();
    expect(most).toBe(1);
  },
);

inWorld("a slot is free as soon as the provider has answered", {}, async (world) => {
  const { consumer } = await world.startWorker({ ...onlyResend, concurrency: 1 });
  const gate = Promise.withResolvers<void>();
  const settle = consumer.settle.bind(consumer);
  consumer.settle = async (batch, settlement) => {
    await gate.promise;
    return settle(batch, settlement);
  };
  for (const accepted of [1, 2]) {
    await world.submit();
    await eventually(`${accepted} accepted`, () => world.acceptances().length === accepted);
  }
  gate.resolve();
  await world.drained();
});
