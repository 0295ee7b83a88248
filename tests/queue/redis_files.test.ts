// The files of emails on Redis: their pieces before the email is stored, what an older release leaves of them, and a
// full memory. The conformance suite has the rest.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { pieceBytesMax, piecesKeptMs } from "../../lib/queue/file_pieces.ts";
import { RedisConnection } from "../../lib/queue/redis/connection.ts";
import { scripts } from "../../lib/queue/redis/scripts.ts";
import { claimRequest } from "../support/claim_request.ts";
import { eventually } from "../support/eventually.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { bytesOf, joined, withFiles } from "./conformance_files.ts";
import { serving, soon, submission } from "./conformance_tools.ts";
import { type RedisOptions, useRedisStores } from "./redis_stores.ts";

let shared: RedisServer;
beforeAll(async () => {
  shared = await startRedis();
});
afterAll(() => shared.stop());
const { optionsFor, producerOn, consumerOn, adminOn, closing } = useRedisStores("files");

const keyOf = ({ prefix }: RedisOptions, name: string) => `{${prefix}:0}:${name}`;
const threePieces = () => withFiles([bytesOf(2 * pieceBytesMax + 1)]);

/** Options with which `before` is called before each script of this process, with the number of that script. */
function intercepting(url: string, before: (number: number) => void): RedisOptions {
  let number = 0;
  const clockOffsetMs = () => {
    number += 1;
    before(number);
    return 0;
  };
  return optionsFor(url, { clockOffsetMs });
}

test("redis: pieces expire until their email is stored, and no more after that", async () => {
  const one = threePieces();
  const lives: number[] = [];
  let isSubmitted = false;
  const options: RedisOptions = intercepting(shared.url, () => {
    if (isSubmitted) lives.push(Number(shared.cli("PTTL", keyOf(options, `files:${one.id}`))));
  });
  const producer = await producerOn(options);
  isSubmitted = true;
  expect(await producer.submit(one, soon())).toMatchObject({ kind: "stored", id: one.id });
  isSubmitted = false;
  // Asked whether they are needed; three pieces; the email.
  expect(lives.length).toBe(5);
  expect(lives.slice(0, 2)).toEqual([-2, -2]);
  for (const life of lives.slice(2)) expect(life).toBeWithin(1, piecesKeptMs + 1);
  expect(shared.cli("PTTL", keyOf(options, `files:${one.id}`))).toBe("-1");
});

test("redis: pieces that a failover loses before their email is stored are written again", async () => {
  const one = threePieces();
  let isSubmitted = false;
  let submitted = 0;
  const options: RedisOptions = intercepting(shared.url, () => {
    if (isSubmitted) submitted += 1;
    if (submitted === 4) shared.cli("DEL", keyOf(options, `files:${one.id}`));
  });
  const producer = await producerOn(options);
  isSubmitted = true;
  expect(await producer.submit(one, soon())).toMatchObject({ kind: "stored", repeated: false });
  const admin = await adminOn(optionsFor(shared.url, { prefix: options.prefix }));
  expect(await admin.readFiles(one.id)).toEqual(joined(one.files!));
  expect(submitted).toBeGreaterThan(5);
});

test("redis: a piece that was delayed on its way changes no stored files, and expires after them", async () => {
  const options = optionsFor(shared.url);
  const [producer, consumer] = [await producerOn(options), await consumerOn(options)];
  const one = threePieces();
  await producer.submit(one, soon());
  const connection = new RedisConnection(options, "test");
  closing.push(async () => connection.close());
  await connection.untilReady();
  const delayed = () => connection.run(scripts.putPiece, [one.id, 0, 1000, bytesOf(pieceBytesMax, 1)]);
  const life = () => Number(shared.cli("PTTL", keyOf(options, `files:${one.id}`)));
  await delayed();
  expect(life()).toBe(-1);
  expect(await consumer.readFiles(one.id)).toEqual(joined(one.files!));
  const claimed = await consumer.claim(claimRequest());
  if (claimed.kind !== "batch") throw new Error(claimed.kind);
  const fates = [{ id: one.id, kind: "sent" as const, record: "{}" }];
  await consumer.settle(claimed.batch, { fates, counts: {} });
  expect(life()).toBe(-2);
  await delayed();
  expect(life()).toBeWithin(1, 1001);
  expect(await consumer.readFiles(one.id)).toBeUndefined();
});

test("redis: pieces are gone at once after a submission that is refused", async () => {
  const options = optionsFor(shared.url, { filesMaxBytes: 10 * pieceBytesMax });
  const producer = await producerOn(options);
  // All are found to fit, and written; then some are refused.
  const all = Array.from({ length: 6 }, threePieces);
  const results = await Promise.all(all.map((one) => producer.submit(one, soon())));
  const refused = all.filter((_, i) => results[i]!.kind === "filesFull");
  expect(refused.length).toBe(2);
  for (const { id } of refused) {
    const key = keyOf(options, `files:${id}`);
    await eventually(`${key} is gone`, () => shared.cli("EXISTS", key) === "0");
  }
});

test("redis: pieces are gone at once after a submission whose deadline passes while they are written", async () => {
  const late = threePieces();
  let deadlineMs: number | undefined;
  let submitted = 0;
  const options = intercepting(shared.url, () => {
    if (deadlineMs !== undefined) submitted += 1;
    // At the second piece.
    if (submitted === 3) Bun.sleepSync(deadlineMs! + 1 - performance.now());
  });
  const producer = await producerOn(options);
  const key = keyOf(options, `files:${late.id}`);
  deadlineMs = performance.now() + 1000;
  expect(await producer.submit(late, deadlineMs)).toMatchObject({ kind: "failed" });
  await eventually("they are gone", () => shared.cli("EXISTS", key) === "0");
  const other = submission();
  await producer.submit(other, soon());
  expect(shared.cli("HKEYS", keyOf(options, "emails"))).toBe(other.id);
});

test("redis: a small file does not wait for all pieces of a large one", async () => {
  const producer = await producerOn(optionsFor(shared.url));
  const stored: string[] = [];
  const store = async (name: string, bytes: number) => {
    const { kind } = await producer.submit(withFiles([bytesOf(bytes)]), soon());
    expect(kind).toBe("stored");
    stored.push(name);
  };
  const large = [store("large", 8 * 1024 * 1024), store("large", 8 * 1024 * 1024)];
  await Promise.all([...large, store("small", 1)]);
  expect(stored).toEqual(["small", "large", "large"]);
});

test("redis: files that would be written too late are refused at once, smaller ones are not", async () => {
  let isSlow = false;
  // Each piece takes 20 ms at least.
  const options = intercepting(shared.url, () => void (isSlow && Bun.sleepSync(20)));
  const producer = await producerOn(options);
  const sized = (pieces: number) => withFiles([bytesOf(pieces * pieceBytesMax)]);
  isSlow = true;
  expect(await producer.submit(sized(20), soon())).toMatchObject({ kind: "stored" });
  const other = producer.submit(sized(50), soon());
  const key = keyOf(options, "files:*");
  await eventually("its pieces are being written", () => shared.cli("KEYS", key).split("\n").length === 2);
  expect(await producer.submit(sized(39), performance.now() + 3000)).toEqual({ kind: "busy" });
  expect(await producer.submit(sized(1), performance.now() + 3000)).toMatchObject({ kind: "stored" });
  isSlow = false;
  expect(await other).toMatchObject({ kind: "stored" });
});

test("redis: files, and what lists an email, of one that an older release deleted are swept", async () => {
  const options = optionsFor(shared.url);
  const [producer, consumer] = [await producerOn(options), await consumerOn(options)];
  const admin = await adminOn(options);
  const [gone, scheduled, dead, kept] = [1, 2, 3, 4].map((size) => withFiles([bytesOf(size)]));
  await producer.submit(dead!, soon());
  const claimed = await consumer.claim(claimRequest());
  if (claimed.kind !== "batch") throw new Error(claimed.kind);
  await consumer.settle(claimed.batch, { fates: [{ id: dead!.id, kind: "dead", history: "d" }], counts: {} });
  await producer.submit({ ...scheduled!, sendAtMs: Date.now() + 3_600_000 }, soon());
  for (const one of [gone!, kept!]) await producer.submit(one, soon());
  for (const { id } of [gone!, scheduled!, dead!]) shared.cli("HDEL", keyOf(options, "emails"), id);
  shared.cli("ZADD", keyOf(options, "ends:+"), "0", Bun.randomUUIDv7());
  // A counter that is wrong for another reason is set right too.
  shared.cli("INCRBY", keyOf(options, "sizes:total"), "1000");
  await consumer.sweep(serving("resend"));
  expect((await consumer.claimEnded({ claimant: "c", number: 1, leaseMs: 1000 })).kind).toBe("empty");
  const { states, fileBytes } = await admin.stats();
  expect(states).toMatchObject({ scheduled: 0, dead: 0 });
  expect(fileBytes).toBe(4);
  for (const { id } of [gone!, scheduled!, dead!])
    expect(shared.cli("EXISTS", keyOf(options, `files:${id}`))).toBe("0");
  expect(await admin.readFiles(kept!.id)).toEqual(joined(kept!.files!));
});

test("redis: once no hidden email is left, sweeps and claims do not look for any", async () => {
  const options = optionsFor(shared.url);
  const [producer, consumer] = [await producerOn(options), await consumerOn(options)];
  const admin = await adminOn(options);
  const hasHidden = async () => {
    await consumer.sweep(serving("resend"));
    return shared.cli("EXISTS", keyOf(options, "hidden")) === "1";
  };
  const one = withFiles([bytesOf(1)]);
  const claim = async () => {
    const claimed = await consumer.claim(claimRequest());
    if (claimed.kind !== "batch") throw new Error(claimed.kind);
    return claimed.batch;
  };
  const again = { id: one.id, kind: "due" as const, delayMs: 0, history: "h" };
  await producer.submit(submission(), soon());
  expect(await hasHidden()).toBe(false);
  await producer.submit(one, soon());
  expect(await hasHidden()).toBe(true);
  await consumer.settle(await claim(), {
    fates: [{ ...again, only: "resend", pieceMax: 2 }],
    rest: { delayMs: 0, notes: "" },
    counts: {},
  });
  expect(await hasHidden()).toBe(true);
  const piece = await consumer.claim(claimRequest({ sources: ["split"] }));
  if (piece.kind !== "batch") throw new Error(piece.kind);
  expect(await hasHidden()).toBe(true);
  await consumer.settle(piece.batch, { fates: [{ id: one.id, kind: "dead", history: "d" }], counts: {} });
  expect(await hasHidden()).toBe(true);
  await admin.delete([one.id]);
  // The other email is still in a batch that once had the hidden one.
  expect(await hasHidden()).toBe(true);
  const rest = await claim();
  const fates = rest.emails.map(({ id }) => ({ id, kind: "sent" as const, record: "{}" }));
  await consumer.settle(rest, { fates, counts: {} });
  expect(await hasHidden()).toBe(false);
});

test("redis: a full memory refuses files as it refuses texts, and others are stored once there is room", async () => {
  const redis = await startRedis();
  try {
    const options = optionsFor(redis.url);
    const producer = await producerOn(options);
    const one = withFiles([bytesOf(8 * 1024 * 1024)]);
    redis.cli("CONFIG", "SET", "maxmemory", "5mb");
    expect(await producer.submit(one, soon())).toMatchObject({
      kind: "failed",
      reason: expect.stringContaining("OOM"),
    });
    await eventually(
      "its pieces are gone",
      () => redis.cli("EXISTS", keyOf(options, `files:${one.id}`)) === "0",
    );
    expect(await producer.submit(submission(), soon())).toMatchObject({ kind: "stored" });
    redis.cli("CONFIG", "SET", "maxmemory", "0");
    expect(await producer.submit(one, soon())).toMatchObject({ kind: "stored", repeated: false });
  } finally {
    await redis.stop();
  }
});

test("redis: a 200 means that as many replicas have the files as have the email", async () => {
  const replica = await startRedis({ replicaof: `127.0.0.1 ${shared.port}` });
  try {
    const options = optionsFor(shared.url, { minReplicas: 1 });
    const producer = await producerOn(options);
    const one = withFiles([bytesOf(2 * 1024 * 1024)]);
    expect(await producer.submit(one, soon())).toMatchObject({ kind: "stored" });
    replica.cli("REPLICAOF", "NO", "ONE");
    const admin = await adminOn(optionsFor(replica.url, { prefix: options.prefix }));
    expect(await admin.readFiles(one.id)).toEqual(joined(one.files!));
  } finally {
    await replica.stop();
  }
});
