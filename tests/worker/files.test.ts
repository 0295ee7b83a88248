// Emails with files, end to end except for the server, on both queues: what reaches the providers, and whom they delay.

import { expect } from "bun:test";
import { answerInstead, faults } from "../../fakes/faults.ts";
import type { Acceptance } from "../../fakes/ledger.ts";
import { decodeHistory, decodeRecord } from "../../lib/policy/history.ts";
import { type Consumer, StoreUnavailable } from "../../lib/queue/contract.ts";
import { eventually, hangMs } from "../support/eventually.ts";
import { recordingLog } from "../support/log.ts";
import { sharedRedis, times, worldTests } from "../support/worlds.ts";

const onlyResend = { weights: { resend: 1 } };
const onlyPostmark = { weights: { postmark: 1 } };
const redisUrl = sharedRedis();

/** A content of this many bytes, different for each seed. */
function content(size: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length: size }, (_, index) => (index * seed + (index >> 8)) & 0xff);
}

const sha256Of = (bytes: Uint8Array) => new Bun.CryptoHasher("sha256").update(bytes).digest("hex");

function expectWhole(acceptances: readonly Acceptance[], id: string, files: readonly Uint8Array[]): void {
  const [acceptance, ...others] = acceptances.filter(({ emailId }) => emailId === id);
  expect(others).toEqual([]);
  expect(acceptance?.attachments?.map(({ bytes, sha256 }) => [bytes, sha256])).toEqual(
    files.map((bytes) => [bytes.byteLength, sha256Of(bytes)]),
  );
  expect([acceptance?.unsent, acceptance?.droppedAttachments]).toEqual([undefined, undefined]);
}

/** Lets a worker's store answer in another way when it is asked for files. */
function replaceFiles(consumer: Consumer, read: Consumer["readFiles"]): void {
  consumer.readFiles = read;
}

for (const store of ["redis", "embedded"] as const) {
  const inWorld = worldTests(`files (${store})`, () => (store === "redis" ? redisUrl() : undefined));

  for (const weights of [onlyResend, onlyPostmark]) {
    inWorld(
      `every byte reaches ${Object.keys(weights.weights)[0]}, and small emails share batches`,
      {},
      async (world) => {
        const sets = [
          [content(700_000), content(1)],
          [content(3, 7)],
          [content(262_144), content(262_145, 3)],
        ];
        const small = await times(20, () => world.submit());
        const ids = await times(sets.length, (index) => world.submit({}, undefined, sets[index]!));
        await world.startWorker(weights);
        await world.drained();
        const acceptances = world.acceptances();
        for (const [index, id] of ids.entries()) expectWhole(acceptances, id, sets[index]!);
        expect(new Set(acceptances.map(({ emailId }) => emailId))).toEqual(new Set([...small, ...ids]));
        expect(acceptances).toHaveLength(small.length + ids.length);
        const requests = [...world.resend.requests, ...world.postmark.requests];
        expect(requests.length).toBeLessThanOrEqual(1 + ids.length);
        expect([...world.resend.violations(), ...world.postmark.violations()]).toEqual([]);
        const { counters } = await world.stats();
        expect(Object.keys(counters).filter((name) => !name.startsWith("accepted:"))).toEqual([]);
      },
    );
  }

  inWorld("a repeated request has the same bytes", {}, async (world) => {
    for (const fault of [faults.resetAfterAccepting, faults.oneShort])
      world.resend.faults.add({ fault, times: 1, path: "/emails" });
    const files = [content(300_000)];
    const id = await world.submit({}, undefined, files);
    await world.startWorker(onlyResend);
    await world.drained();
    expectWhole(world.acceptances(), id, files);
    const sent = world.resend.requests.filter(({ method }) => method === "POST");
    expect(sent).toHaveLength(3);
    expect(new Set(sent.map(({ body }) => body)).size).toBe(1);
  });

  inWorld("a batch whose worker died before its request is sent on without doubt", {}, async (world) => {
    const files = [content(1000)];
    const ids = [await world.submit(), await world.submit({}, undefined, files)];
    const consumer = await world.openConsumer();
    await consumer.compatible;
    await consumer.claim({
      claimId: Bun.randomUUIDv7(),
      claimant: "dead worker",
      number: 1,
      provider: "resend",
      credential: "",
      sources: ["emails"],
      shared: true,
      countMax: 100,
      bytesMax: 1_000_000,
      leaseMs: 1,
      doubtMs: hangMs,
      context: "",
      dueCountMax: 10,
    });
    await consumer.close();
    await world.startWorker(onlyResend);
    await world.drained();
    expect(world.resend.acceptances.map(({ emailId }) => emailId).toSorted()).toEqual(ids.toSorted());
    expectWhole(world.resend.acceptances, ids[1]!, files);
    expect((await world.stats()).counters).not.toHaveProperty("possible_duplicates");
  });

  inWorld(
    "an email whose files are lost is a dead letter, and is never sent without them",
    {},
    async (world) => {
      const log = recordingLog();
      const worker = await world.startWorker({ ...onlyPostmark, log });
      replaceFiles(worker.consumer, async () => undefined);
      const ids = [await world.submit({}, undefined, [content(10)]), await world.submit()];
      await world.drained();
      expect(world.acceptances().map(({ emailId }) => emailId)).toEqual([ids[1]!]);
      const dead = await world.show(ids[0]!);
      expect(dead.state).toBe("dead");
      expect(decodeHistory(dead.history).deadReason).toBe("its files cannot be read from the store");
      expect(log.events("email-unreadable")).toMatchObject([{ id: ids[0] }]);
    },
  );

  inWorld("a store that does not give the files only delays the email", {}, async (world) => {
    const worker = await world.startWorker(onlyResend);
    const { consumer } = worker;
    const read = consumer.readFiles.bind(consumer);
    let left = 2;
    replaceFiles(consumer, (id) => {
      left -= 1;
      return left >= 0 ? Promise.reject(new StoreUnavailable("no answer")) : read(id);
    });
    const files = [content(5000)];
    const id = await world.submit({}, undefined, files);
    await world.drained();
    expectWhole(world.acceptances(), id, files);
    expect(left).toBeLessThan(0);
    const { history } = decodeRecord((await world.show(id)).record!);
    expect(history).toMatchObject({ tries: 0, attempts: { total: 1 } });
  });

  for (const weights of [onlyResend, onlyPostmark]) {
    const name = Object.keys(weights.weights)[0]!;
    inWorld(`requests with files that hang at ${name} leave a slot to small emails`, {}, async (world) => {
      const { faults: rules } = name === "resend" ? world.resend : world.postmark;
      const hasFiles = (length = "0") => Number(length) > 100_000;
      rules.add({
        fault: { stage: "head", effect: "hang" },
        when: ({ headers }) => hasFiles(headers["content-length"]),
      });
      await times(8, () => world.submit({}, undefined, [content(200_000)]));
      await world.startWorker({ ...weights, concurrency: 3, batchMax: 1 });
      await eventually("some hang", () =>
        [...world.resend.requests, ...world.postmark.requests].some(({ headers }) =>
          hasFiles(headers["content-length"]),
        ),
      );
      const small = await times(30, () => world.submit());
      await eventually("every small email is accepted", () => world.acceptances().length >= small.length);
      expect(new Set(world.acceptances().map(({ emailId }) => emailId))).toEqual(new Set(small));
      // Requests that hang end at once.
      for (const fake of [world.resend, world.postmark]) fake.goDown();
    });
  }

  inWorld(
    "an email with files that one provider refuses goes to the other, with its files",
    {},
    async (world) => {
      const refused = { statusCode: 422, name: "invalid_attachment", message: "No." };
      world.resend.faults.add({ fault: answerInstead(422, refused), path: "/emails" });
      const files = [content(1000)];
      const ids = await times(4, () => world.submit({}, undefined, files));
      await world.startWorker({ weights: { resend: 1000, postmark: 1 } });
      await world.drained();
      for (const id of ids) expectWhole(world.postmark.acceptances, id, files);
      expect((await world.stats()).states.dead).toBe(0);
    },
  );
}

const inWorld = worldTests("recipients", redisUrl);
const several = { cc: ["cc@example.org"], bcc: ["bcc@example.org"] };

inWorld(
  "inactive ones of an accepted email stand in its history",
  { postmark: { inactive: ["bcc@example.org"] } },
  async (world) => {
    await world.startWorker(onlyPostmark);
    const id = await world.submit(several);
    await world.drained();
    const { history } = decodeRecord((await world.show(id)).record!);
    expect(history.attempts.kept).toMatchObject([
      { outcome: "accepted", reason: expect.stringContaining("bcc@example.org") },
    ]);
  },
);

inWorld(
  "an email that Postmark refuses for some of them was sent if a search finds it",
  { postmark: { inactive: ["cc@example.org"], someInactive: "refused" } },
  async (world) => {
    await world.startWorker();
    const id = await world.submit({ ...several, subject: "poison:sender@resend" });
    await world.drained();
    expect((await world.show(id)).state).toBe("sent");
    expect(world.acceptances()).toHaveLength(1);
  },
);

inWorld(
  "an email that Postmark refuses for all of them is a dead letter once two searches have not found it",
  { postmark: { inactive: ["jane@example.org", "cc@example.org", "bcc@example.org"] } },
  async (world) => {
    await world.startWorker(onlyPostmark);
    const id = await world.submit(several);
    await world.drained();
    const dead = await world.show(id);
    expect(dead.state).toBe("dead");
    expect(decodeHistory(dead.history)).toMatchObject({
      doubted: false,
      deadReason: expect.stringMatching(/^code 406/),
    });
    expect(
      world.postmark.requests.filter(({ target }) => target.startsWith("/messages")).length,
    ).toBeGreaterThan(1);
    expect((await world.stats()).counters).toMatchObject({ "rejected:postmark": 1, "dead:postmark": 1 });
    expect((await world.stats()).counters).not.toHaveProperty("possible_duplicates");
  },
);
