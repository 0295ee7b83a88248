// The contract of a queue for the files of emails: a part of the conformance suite.

import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { encodeEmail } from "../../lib/email/email.ts";
import type { Batch, StoreLimits, Submission } from "../../lib/queue/contract.ts";
import { pieceBytesMax } from "../../lib/queue/file_pieces.ts";
import {
  endedRequest,
  hourMs,
  idLike,
  leaseMs,
  type QueueUnderTest,
  serving,
  soon,
  submission,
  toolsFor,
} from "./conformance_tools.ts";
import { eventually } from "../support/eventually.ts";

/** Bytes of all values, which differ from file to file. */
export function bytesOf(size: number, seed = 0): Uint8Array {
  const bytes = new Uint8Array(size);
  let state = size + seed + 1;
  for (let i = 0; i < size; i += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

/** An email with these files. */
export function withFiles(files: readonly Uint8Array[], over: Partial<Submission> = {}): Submission {
  const attachments = files.map((content, i) => ({
    filename: `file-${i}.bin`,
    content_type: "application/octet-stream",
    size: content.length,
    sha256: createHash("sha256").update(content).digest("hex"),
  }));
  const email = { to: "jane@example.org", from: "shop@example.com", subject: "Hi", body: "Hello" };
  const text = encodeEmail({ ...email, attachments });
  return { id: idLike(over.idempotency?.key), text, files, isHidden: true, ...over };
}

export const joined = (files: readonly Uint8Array[]) => new Uint8Array(Buffer.concat(files));

export function conformanceFiles(
  name: string,
  open: (limits?: StoreLimits) => Promise<QueueUnderTest>,
  partitions = 1,
): void {
  describe(`${name}, files`, () => {
    let limits: StoreLimits | undefined;
    const tools = toolsFor(() => open(limits), partitions > 1);
    const { queue, submit, submitMany, claim, claimed, ids, settle, sent, due, dead, doubt, state } = tools;

    /** A queue for files of so many bytes; all emails of a test are in one partition. */
    async function queueFor(filesMaxBytes: number): Promise<QueueUnderTest> {
      limits = { filesMaxBytes: filesMaxBytes * partitions };
      try {
        return await queue();
      } finally {
        limits = undefined;
      }
    }

    const fileBytes = async (q: QueueUnderTest) => (await q.admin.stats()).fileBytes;

    /** How many bytes of files the consumer and the admin read for an email. They must read the same. */
    async function readLength(q: QueueUnderTest, id: string): Promise<number | undefined> {
      const [one, other] = [await q.consumer.readFiles(id), await q.admin.readFiles(id)];
      expect(one).toEqual(other!);
      return one?.length;
    }

    const small = () => withFiles([bytesOf(1000)]);

    const sizes: Record<string, readonly number[]> = {
      "one byte": [1],
      "one piece": [pieceBytesMax],
      "a byte more than a piece": [pieceBytesMax + 1],
      "a byte less than two pieces": [2 * pieceBytesMax - 1],
      "several whose pieces hold parts of two": [100_000, pieceBytesMax, 3, 700_000, 1],
      "fifty small ones": Array.from({ length: 50 }, (_, i) => i + 1),
    };
    for (const [what, lengths] of Object.entries(sizes)) {
      test(`of ${what} are read back byte for byte, one behind the other`, async () => {
        const q = await queue();
        const files = lengths.map((length, i) => bytesOf(length, i));
        const one = withFiles(files);
        expect(await q.producer.submit(one, soon())).toEqual({ kind: "stored", id: one.id, repeated: false });
        const batch = await claim(q);
        expect(batch.emails).toMatchObject([{ id: one.id, text: one.text }]);
        expect(await q.consumer.readFiles(one.id)).toEqual(joined(files));
        expect(await q.admin.readFiles(one.id)).toEqual(joined(files));
        expect(await fileBytes(q)).toBe(joined(files).length);
      });
    }

    test("of an unknown email, and of one without files, are not there", async () => {
      const q = await queue();
      const [plain] = await submitMany(q, 1);
      expect(await readLength(q, plain!)).toBeUndefined();
      expect(await readLength(q, Bun.randomUUIDv7())).toBeUndefined();
      expect(await fileBytes(q)).toBe(0);
    });

    test("of emails that are submitted together are each their own", async () => {
      const q = await queue();
      const all = Array.from({ length: 8 }, (_, i) =>
        withFiles([bytesOf(pieceBytesMax + i, i), bytesOf(10, i)]),
      );
      await submit(q, ...all, submission());
      for (const { id, files } of all) expect(await q.consumer.readFiles(id)).toEqual(joined(files!));
      expect((await claim(q, { bytesMax: 64 * 1024 * 1024 })).emails.length).toBe(9);
    });

    describe("stay while their email is", () => {
      const cases: Record<string, (q: QueueUnderTest, id: string) => Promise<void>> = {
        waiting: async () => {},
        "in a batch": async (q) => void (await claim(q)),
        "in doubt": async (q) => void (await settle(q, await claim(q), [], { delayMs: hourMs, notes: "" })),
        retrying: async (q, id) => void (await settle(q, await claim(q), [due(id, hourMs)])),
        dead: async (q, id) => void (await settle(q, await claim(q), [dead(id)])),
        "retried by an operator": async (q, id) => {
          await settle(q, await claim(q), [dead(id)]);
          expect(await q.admin.retry([{ id, seenHistory: "died", history: "r" }], {})).toEqual([id]);
        },
        scheduled: async () => {},
      };
      for (const [place, bring] of Object.entries(cases)) {
        test(place, async () => {
          const q = await queue();
          const one = small();
          const { nowMs } = await q.admin.stats();
          await submit(q, place === "scheduled" ? { ...one, sendAtMs: nowMs + 48 * hourMs } : one);
          await bring(q, one.id);
          const before = await state(q, one.id);
          // Longer than pieces without an email are kept.
          for (let hours = 0; hours < 2; hours += 1) {
            q.advance(hourMs / 2);
            await q.consumer.sweep(serving("resend"));
          }
          expect(await q.consumer.readFiles(one.id)).toEqual(joined(one.files!));
          expect(await fileBytes(q)).toBe(1000);
          if (place === "dead" || place === "scheduled") expect(await state(q, one.id)).toBe(before!);
        });
      }
    });

    describe("go when their email", () => {
      const cases: Record<string, (q: QueueUnderTest, id: string) => Promise<void>> = {
        "is sent": async (q, id) => void (await settle(q, await claim(q), [sent(id)])),
        "is accepted under an expired lease, while it waits again": async (q, id) => {
          const late = await claim(q);
          q.advance(leaseMs + 1000);
          await settle(q, await claim(q), [due(id)]);
          expect((await settle(q, late, [sent(id)])).leaseHeld).toBe(false);
        },
        "is accepted under an expired lease, while it is in another batch": async (q, id) => {
          const late = await claim(q);
          q.advance(leaseMs + 1000);
          await settle(q, await claim(q), [due(id)]);
          await claim(q);
          expect((await settle(q, late, [sent(id)])).leaseHeld).toBe(false);
        },
        "is sent by the end of its doubt": async (q, id) => {
          await settle(q, await claim(q), [], doubt);
          q.advance(24 * hourMs);
          await q.consumer.sweep(serving("resend"));
          const ended = await q.consumer.claimEnded(endedRequest());
          if (ended.kind !== "batch") throw new Error(ended.kind);
          await settle(q, ended.batch, [sent(id)]);
        },
        "is deleted while it waits": async (q, id) => {
          expect(await q.admin.delete([id])).toEqual(["deleted"]);
        },
        "is deleted while it is dead": async (q, id) => {
          await settle(q, await claim(q), [dead(id)]);
          expect(await q.admin.delete([id], ["died"])).toEqual(["deleted"]);
        },
        "is cleared": async (q) => {
          const { nowMs } = await q.admin.stats();
          expect(await q.admin.clear(100, nowMs)).toMatchObject({ deleted: 1 });
        },
      };
      for (const [how, leave] of Object.entries(cases)) {
        test(how, async () => {
          const q = await queue();
          const one = small();
          await submit(q, one);
          await leave(q, one.id);
          expect(await readLength(q, one.id)).toBeUndefined();
          expect(await fileBytes(q)).toBe(0);
        });
      }

      test("is sent, but not those of others in its batch", async () => {
        const q = await queue();
        const [one, other] = [small(), withFiles([bytesOf(500)])];
        const [plain] = await submit(q, submission(), one, other);
        const batch = await claim(q);
        expect(ids(batch).toSorted()).toEqual([plain!, one.id, other.id].toSorted());
        await settle(q, batch, [sent(plain!), sent(one.id), due(other.id)]);
        expect(await fileBytes(q)).toBe(500);
        expect(await q.consumer.readFiles(other.id)).toEqual(joined(other.files!));
      });
    });

    describe("are stored once when a submission", () => {
      const key = { key: "order-17", fingerprint: "a", token: "" };

      test("is repeated with its id", async () => {
        const q = await queue();
        const one = withFiles([bytesOf(300_000)]);
        await submit(q, one);
        for (let times = 0; times < 2; times += 1) {
          const again = await q.producer.submit(one, soon());
          expect(again).toEqual({ kind: "stored", id: one.id, repeated: true });
        }
        expect(await fileBytes(q)).toBe(300_000);
        expect(await q.consumer.readFiles(one.id)).toEqual(joined(one.files!));
      });

      test("is repeated after its email was sent, or was deleted", async () => {
        const q = await queue();
        for (const isSent of [true, false]) {
          const one = small();
          await submit(q, one);
          if (isSent) await settle(q, await claim(q), [sent(one.id)]);
          else await q.admin.delete([one.id]);
          expect(await q.producer.submit(one, soon())).toMatchObject({ kind: "stored", repeated: true });
          expect(await readLength(q, one.id)).toBeUndefined();
          expect(await fileBytes(q)).toBe(0);
          expect(await claimed(q)).toBe("empty");
        }
      });

      test("is repeated with its key, even at the same moment", async () => {
        const q = await queue();
        const all = [1, 2, 3].map(() => withFiles([bytesOf(300_000)], { idempotency: key }));
        const answers = new Set(await submit(q, ...all));
        expect(answers.size).toBe(1);
        const [first] = answers;
        expect(await submit(q, withFiles([bytesOf(300_000)], { idempotency: key }))).toEqual([first!]);
        expect(await fileBytes(q)).toBe(300_000);
        for (const { id } of all) expect((await readLength(q, id)) !== undefined).toBe(id === first);
      });

      test("uses the key of another email, which refuses it", async () => {
        const q = await queue();
        await submit(q, submission({ idempotency: { ...key, fingerprint: "b" } }));
        const refused = withFiles([bytesOf(300_000)], { idempotency: key });
        expect(await q.producer.submit(refused, soon())).toEqual({ kind: "conflict" });
        expect(await readLength(q, refused.id)).toBeUndefined();
        expect(await fileBytes(q)).toBe(0);
      });
    });

    test("whose submission ends before they are written leave nothing", async () => {
      const q = await queue();
      const late = withFiles([bytesOf(8 * 1024 * 1024)]);
      const { kind } = await q.producer.submit(late, performance.now() + 1);
      expect(["failed", "busy"]).toContain(kind);
      await submitMany(q, 1);
      expect(await state(q, late.id)).toBeUndefined();
      expect(await readLength(q, late.id)).toBeUndefined();
      expect(await fileBytes(q)).toBe(0);
    });

    test("of a large email do not hold up a small submission", async () => {
      const q = await queue();
      const large = q.producer.submit(withFiles([bytesOf(8 * 1024 * 1024)]), soon());
      const others: Promise<unknown>[] = [];
      // Submitted one after the other, so that some arrive while pieces are being written.
      for (let i = 0; i < 3; i += 1) {
        const one = q.producer.submit(submission(), soon());
        others.push(one);
        expect(await Promise.race([large.then(() => "large"), one.then(() => "small")])).toBe("small");
      }
      expect(await Promise.all([large, ...others])).toMatchObject(Array(4).fill({ kind: "stored" }));
    });

    describe("beyond the limit", () => {
      test("are refused and leave nothing, while other emails are stored", async () => {
        const q = await queueFor(10_000);
        const one = withFiles([bytesOf(6000)]);
        const refused = withFiles([bytesOf(5000)]);
        await submit(q, one);
        expect(await q.producer.submit(refused, soon())).toEqual({ kind: "filesFull" });
        expect(await state(q, refused.id)).toBeUndefined();
        expect(await readLength(q, refused.id)).toBeUndefined();
        await submit(q, submission(), withFiles([bytesOf(4000)]));
        expect(await fileBytes(q)).toBe(10_000);
      });

      test("are refused among those that are submitted together", async () => {
        const q = await queueFor(10_000);
        const all = Array.from({ length: 5 }, () => withFiles([bytesOf(4000)]));
        const results = await Promise.all(all.map((one) => q.producer.submit(one, soon())));
        const kinds = results.map(({ kind }) => kind).toSorted();
        expect(kinds).toEqual(["filesFull", "filesFull", "filesFull", "stored", "stored"]);
        expect(await fileBytes(q)).toBe(8000);
      });

      test("are still answered with the first id if their key is known", async () => {
        const q = await queueFor(10_000);
        const idempotency = { key: "order-17", fingerprint: "a", token: "" };
        const one = withFiles([bytesOf(6000)], { idempotency });
        await submit(q, one);
        const again = withFiles([bytesOf(6000)], { idempotency });
        expect(await q.producer.submit(again, soon())).toMatchObject({ id: one.id, repeated: true });
      });

      test("count while their email is dead, and no more once it is sent or deleted", async () => {
        const q = await queueFor(10_000);
        const leaving: ((id: string, batch: Batch) => Promise<unknown>)[] = [
          (id, batch) => settle(q, batch, [sent(id)]),
          async (id, batch) => {
            await settle(q, batch, [dead(id)]);
            expect(await q.producer.submit(withFiles([bytesOf(6000)]), soon())).toEqual({
              kind: "filesFull",
            });
            await q.admin.delete([id]);
          },
        ];
        for (const leave of leaving) {
          const one = withFiles([bytesOf(6000)]);
          await submit(q, one);
          expect(await q.producer.submit(withFiles([bytesOf(6000)]), soon())).toEqual({ kind: "filesFull" });
          await leave(one.id, await claim(q));
        }
        await submit(q, withFiles([bytesOf(6000)]));
      });
    });

    describe("count as bytes of their email", () => {
      test("for what fits into a batch", async () => {
        const q = await queue();
        const all = [1, 2, 3].map(() => withFiles([bytesOf(300_000)]));
        await submit(q, ...all);
        const batch = await claim(q, { bytesMax: 700_000 });
        expect(batch.emails.length).toBe(2);
        const rest = await claim(q, { bytesMax: 10 });
        expect(rest.emails.length).toBe(1);
      });

      test("for the length of the first lease and the next", async () => {
        const q = await queue();
        await submit(q, withFiles([bytesOf(4 * 256 * 1024)]));
        const lengthOf = ({ leaseEndsAtMs, nowMs }: Batch) => leaseEndsAtMs - nowMs;
        const batch = await claim(q);
        expect(lengthOf(batch)).toBe(leaseMs + 4000);
        await settle(q, batch, [], doubt);
        expect(lengthOf(await claim(q))).toBe(leaseMs + 4000);
      });
    });

    describe("of a dead letter", () => {
      async function letter(q: QueueUnderTest, one: Submission) {
        await submit(q, one);
        await settle(q, await claim(q), [dead(one.id)]);
        const { text, submittedAtMs, atMs, history } = (await q.admin.show(one.id))!;
        const contents = (await q.admin.readFiles(one.id))!;
        return {
          id: one.id,
          text: text!,
          submittedAtMs: submittedAtMs!,
          diedAtMs: atMs!,
          history,
          isHidden: true,
          contents,
        };
      }

      test("move to another queue with it", async () => {
        const [from, to] = [await queue(), await queue()];
        const one = withFiles([bytesOf(400_000), bytesOf(5)]);
        const moved = await letter(from, one);
        expect(await to.admin.adopt([moved])).toEqual(["adopted"]);
        expect(await to.admin.adopt([moved])).toEqual(["known"]);
        expect(await fileBytes(to)).toBe(400_005);
        expect(await to.admin.show(one.id)).toMatchObject({ state: "dead", text: one.text });
        expect(await to.admin.retry([{ id: one.id, seenHistory: "died", history: "" }], {})).toEqual([
          one.id,
        ]);
        expect(ids(await claim(to))).toEqual([one.id]);
        expect(await to.consumer.readFiles(one.id)).toEqual(joined(one.files!));
      });

      test("come back with it to a queue that had moved it", async () => {
        const q = await queue();
        const moved = await letter(q, small());
        await q.admin.delete([moved.id], ["died"], true);
        expect(await fileBytes(q)).toBe(0);
        expect(await q.admin.adopt([moved])).toEqual(["adopted"]);
        expect(await q.admin.readFiles(moved.id)).toEqual(moved.contents);
      });
    });

    test("wake a worker that has found nothing", async () => {
      const q = await queue();
      expect(await claimed(q)).toBe("empty");
      let wakes = 0;
      q.consumer.onWake(() => (wakes += 1));
      await submit(q, small());
      await eventually("it is woken", () => wakes > 0);
    });
  });
}
