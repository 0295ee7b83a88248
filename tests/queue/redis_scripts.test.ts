// The scripts on Redis with unexpected keys: a newer format, none, another type; and with a wrong
// clock of Redis itself.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { QueueMissing, type Settlement, StoreUnavailable } from "../../lib/queue/contract.ts";
import { startClock } from "../support/clock.ts";
import { claimRequest } from "../support/claim_request.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { serving, submission } from "./conformance_tools.ts";
import { useRedisStores } from "./redis_stores.ts";

let shared: RedisServer;
beforeAll(async () => {
  shared = await startRedis();
});
afterAll(() => shared.stop());
const { optionsFor, producerOn, consumerOn, adminOn } = useRedisStores("scripts");

const within = (ms: number) => performance.now() + ms;

describe("redis: a store whose format becomes newer under running processes", () => {
  test("is noticed by the next script of each process, which then does nothing", async () => {
    const fatal: string[] = [];
    const options = optionsFor(shared.url, { onFatal: (reason) => fatal.push(reason) });
    const [producer, consumer] = [await producerOn(options), await consumerOn(options)];
    const admin = await adminOn(options);
    await producer.submit(submission(), within(5000));
    shared.cli("SET", `{${options.prefix}:0}:format`, "2");
    const before = shared.cli("DEBUG", "DIGEST");
    expect(await producer.submit(submission(), within(5000))).toMatchObject({
      kind: "failed",
      reason: expect.stringContaining("format 2"),
    });
    await expect(consumer.claim(claimRequest())).rejects.toThrow("format 2");
    await expect(consumer.claimEnded({ claimant: "c", number: 1, leaseMs: 1000 })).rejects.toThrow(
      "format 2",
    );
    await expect(consumer.sweep(serving("resend"))).rejects.toThrow("format 2");
    await expect(admin.setPaused(true)).rejects.toThrow("format 2");
    await expect(admin.stats()).rejects.toThrow("format 2");
    expect(fatal.length).toBeGreaterThan(3);
    expect(shared.cli("DEBUG", "DIGEST")).toBe(before);
  });

  test("or disappears is not written to until a server has found it durable again", async () => {
    const options = optionsFor(shared.url);
    const [producer, consumer] = [await producerOn(options), await consumerOn(options)];
    const admin = await adminOn(options);
    shared.cli("DEL", `{${options.prefix}:0}:format`);
    await expect(consumer.claim(claimRequest())).rejects.toThrow(StoreUnavailable);
    await expect(admin.setPaused(true)).rejects.toThrow(QueueMissing);
    expect(await producer.submit(submission(), within(20_000))).toMatchObject({ kind: "stored" });
    expect((await admin.stats()).states.waiting).toBe(1);
  });
});

/** The keys that a settlement writes, one for each of its effects. */
const settled = ["counters", "acceptances", "condition:resend", "due", "due:postmark", "split:8", "dead"];
for (const name of [...settled, "sent", "sent:expiry", "histories", "splits", "providers"]) {
  test(`redis: a settlement that fails because ${name} has another type loses nothing`, async () => {
    const options = optionsFor(shared.url);
    const [producer, consumer] = [await producerOn(options), await consumerOn(options)];
    const admin = await adminOn(options);
    for (let i = 0; i < 5; i += 1) await producer.submit(submission(), within(5000));
    const claimed = await consumer.claim(claimRequest());
    if (claimed.kind !== "batch") throw new Error("no batch");
    const { batch } = claimed;
    const ids = batch.emails.map(({ id }) => id);
    const settlement: Settlement = {
      fates: [
        { id: ids[0]!, kind: "sent", record: "{}" },
        { id: ids[1]!, kind: "due", delayMs: 0, history: "h" },
        { id: ids[2]!, kind: "due", delayMs: 0, history: "h", only: "postmark" },
        { id: ids[3]!, kind: "due", delayMs: 0, history: "h", pieceMax: 8 },
        { id: ids[4]!, kind: "dead", history: "d" },
      ],
      counts: { x: 1 },
      credential: "c",
    };
    const [key, kept] = [`{${options.prefix}:0}:${name}`, `{${options.prefix}:0}:kept`];
    const isThere = shared.cli("EXISTS", key) === "1";
    if (isThere) shared.cli("RENAME", key, kept);
    shared.cli("SET", key, "of another type");
    const failure = await consumer.settle(batch, settlement).catch((error: unknown) => error);
    expect(String(failure)).toContain("WRONGTYPE");
    expect(failure).not.toBeInstanceOf(StoreUnavailable);
    shared.cli("DEL", key);
    if (isThere) shared.cli("RENAME", kept, key);
    // All are still in the batch, so that its next claim gets all of them.
    for (const id of ids.slice(1)) expect((await admin.show(id))!.batch?.id).toBe(batch.id);
    expect(await consumer.settle(batch, settlement)).toEqual({ leaseHeld: true, duplicates: [] });
    expect(await Promise.all(ids.map(async (id) => (await admin.show(id))!.state))).toEqual([
      "sent",
      "waiting",
      "waiting",
      "waiting",
      "dead",
    ]);
    expect((await admin.stats()).states).toMatchObject({ waiting: 3, sending: 0, dead: 1, sent: 1 });
  });
}

test("redis: an entry of a piece whose email has left is not claimed", async () => {
  const options = optionsFor(shared.url);
  const [producer, consumer] = [await producerOn(options), await consumerOn(options)];
  const [gone, one] = [submission(), submission()];
  await producer.submit(gone, within(5000));
  await producer.submit(one, within(5000));
  const claimed = await consumer.claim(claimRequest());
  if (claimed.kind !== "batch") throw new Error("no batch");
  const piece = ({ id }: { id: string }) =>
    ({ id, kind: "due", delayMs: 0, pieceMax: 2, history: "h" }) as const;
  await consumer.settle(claimed.batch, { fates: claimed.batch.emails.map(piece), counts: {} });
  shared.cli("HDEL", `{${options.prefix}:0}:emails`, gone.id);
  expect(await consumer.claim(claimRequest())).toMatchObject({ batch: { emails: [{ id: one.id }] } });
  expect((await consumer.claim(claimRequest({ sources: ["split"] }))).kind).toBe("empty");
});

test("redis: a Redis whose own clock is ahead for a moment strands nothing, and queues nothing twice", async () => {
  const clock = startClock();
  const redis = await startRedis({}, { clock });
  try {
    const options = optionsFor(redis.url);
    const [producer, consumer] = [await producerOn(options), await consumerOn(options)];
    const admin = await adminOn(options);
    const keyed = () => submission({ idempotency: { key: "k", fingerprint: "f", token: "" } });
    const sweep = () => consumer.sweep(serving("resend"));
    const first = keyed();
    await producer.submit(first, within(5000));
    const before = await consumer.claim(claimRequest());
    if (before.kind !== "batch") throw new Error("no batch");
    const [other, asked] = [submission(), claimRequest()];
    await producer.submit(other, within(5000));
    const spent = await consumer.claim(asked);
    if (spent.kind !== "batch") throw new Error("no batch");
    const fates = [{ id: other.id, kind: "sent" as const, record: "{}" }];
    await consumer.settle(spent.batch, { fates, counts: {} });
    await sweep();
    for (const days of [25 / 24, 365]) {
      clock.setAhead(days * 24 * 3_600_000);
      await sweep();
      const then = submission();
      await producer.submit(then, within(5000));
      expect(await producer.submit(keyed(), within(5000))).toMatchObject({ id: first.id, repeated: true });
      expect((await consumer.claimEnded({ claimant: "c", number: 1, leaseMs: 1000 })).kind).toBe("empty");
      expect(await consumer.claim(asked)).toEqual({ kind: "spent" });
      expect((await admin.stats()).clockStep!.byMs).toBeGreaterThan(24 * 3_600_000);
      clock.setAhead(0);
      await sweep();
      expect(await producer.submit(keyed(), within(5000))).toMatchObject({ id: first.id, repeated: true });
      const claimed = await consumer.claim(claimRequest({ sources: ["emails"] }));
      expect(claimed).toMatchObject({ kind: "batch", batch: { emails: [{ id: then.id }] } });
    }
    expect(
      await consumer.settle(before.batch, { fates: [], rest: { delayMs: 0, notes: "" }, counts: {} }),
    ).toEqual({ leaseHeld: true, duplicates: [] });
    expect(await consumer.claim(claimRequest({ sources: ["batches"] }))).toMatchObject({
      batch: { id: before.batch.id, doubtEndsAtMs: before.batch.doubtEndsAtMs },
    });
  } finally {
    await redis.stop();
    clock.stop();
  }
});
