// The contract of a queue whose clock is wrong for a while, and of expiry. `advance` lets time pass; `step` sets only
// the store's clock.

import { describe, expect, test } from "bun:test";
import { toleranceMs } from "../../lib/queue/clock_watch.ts";
import type { ClaimRequest, EmailFate } from "../../lib/queue/contract.ts";
import {
  endedRequest,
  hourMs,
  leaseMs,
  type QueueUnderTest,
  serving,
  soon,
  submission,
  toolsFor,
} from "./conformance_tools.ts";

const minuteMs = 60_000;
const yearMs = 365 * 24 * hourMs;
/** A step is measured between two sweeps, so times are only as exact as their distance. */
const roughlyMs = 10_000;

export function conformanceClock(
  name: string,
  open: () => Promise<QueueUnderTest>,
  isPartitioned = false,
): void {
  describe(`${name}, its clock`, () => {
    const {
      queue,
      testUndivided,
      submit,
      submitMany,
      request,
      claim,
      claimed,
      ids,
      settle,
      sent,
      due,
      dead,
      state,
    } = toolsFor(open, isPartitioned);
    const sweep = (q: QueueUnderTest, ...providers: string[]) =>
      q.consumer.sweep(serving("resend", "postmark", ...providers));
    const keyed = (fingerprint: string) =>
      submission({ idempotency: { key: "order-17", fingerprint, token: "" } });
    const restamped = async (q: QueueUnderTest) => (await q.admin.stats()).counters["restamped"] ?? 0;
    const clockStep = async (q: QueueUnderTest) => (await q.admin.stats()).clockStep;
    /** Runs `body` while the clock is ahead. */
    async function ahead<T>(q: QueueUnderTest, ms: number, body: () => Promise<T>): Promise<T> {
      await sweep(q);
      q.step(ms);
      await sweep(q);
      const result = await body();
      q.step(-ms);
      return result;
    }

    describe("expiry", () => {
      test("happens only in sweeps: whatever is present is valid", async () => {
        const q = await queue();
        await sweep(q);
        const first = keyed("a");
        await submit(q, first);
        await settle(q, await claim(q), [sent(first.id)]);
        q.advance(100 * hourMs);
        await submitMany(q, 1);
        await settle(
          q,
          await claim(q),
          (await q.admin.list("sending", 10)).emails.map(({ id }) => sent(id)),
        );
        expect(await submit(q, keyed("a"))).toEqual([first.id]);
        expect(await state(q, first.id)).toBe("sent");
        await sweep(q);
        expect(await state(q, first.id)).toBeUndefined();
        const later = keyed("b");
        expect(await submit(q, later)).toEqual([later.id]);
      });

      for (const [what, ms] of [
        ["ahead", 25 * hourMs],
        ["ahead, by a year", yearMs],
      ] as const) {
        test(`waits for an hour after the clock has stepped ${what}`, async () => {
          const q = await queue();
          const first = keyed("a");
          await submit(q, first);
          await settle(q, await claim(q), [sent(first.id)]);
          await sweep(q);
          q.step(ms);
          await sweep(q);
          q.advance(hourMs - minuteMs);
          await sweep(q);
          expect(await submit(q, keyed("a"))).toEqual([first.id]);
          expect(await q.producer.submit(keyed("b"), soon())).toEqual({ kind: "conflict" });
          expect(await state(q, first.id)).toBe("sent");
          // By then the clock is trusted.
          q.advance(2 * minuteMs);
          await sweep(q);
          expect(await state(q, first.id)).toBeUndefined();
        });
      }

      test("waits for an hour after the very first sweep: the clock may have been ahead before", async () => {
        const q = await queue();
        const first = keyed("a");
        await submit(q, first);
        q.step(yearMs);
        await sweep(q);
        q.step(-yearMs);
        await sweep(q);
        expect(await submit(q, keyed("a"))).toEqual([first.id]);
      });

      test("waits for an hour after the clock has come back", async () => {
        const q = await queue();
        const first = keyed("a");
        await submit(q, first);
        await ahead(q, 25 * hourMs, async () => {});
        await sweep(q);
        expect(await submit(q, keyed("a"))).toEqual([first.id]);
        q.advance(2 * hourMs);
        await sweep(q);
        // Two of its 24 hours have passed.
        expect(await submit(q, keyed("a"))).toEqual([first.id]);
        q.advance(23 * hourMs);
        await sweep(q);
        const later = keyed("b");
        expect(await submit(q, later)).toEqual([later.id]);
      });

      test("does not wait for a clock that is off by less than a minute", async () => {
        const q = await queue();
        await submit(q, keyed("a"));
        await sweep(q);
        q.advance(24 * hourMs);
        q.step(30_000);
        await sweep(q);
        const later = keyed("b");
        expect(await submit(q, later)).toEqual([later.id]);
      });
    });

    describe("a clock that was a year ahead strands", () => {
      test("no email submitted then", async () => {
        const q = await queue();
        const [id] = await ahead(q, yearMs, () => submitMany(q, 1));
        expect(await claimed(q)).toBe("empty");
        await sweep(q);
        expect(await state(q, id!)).toBe("waiting");
        expect(await restamped(q)).toBe(1);
        expect(ids(await claim(q))).toEqual([id!]);
        await sweep(q);
        expect(await restamped(q)).toBe(1);
      });

      for (const [what, over] of [
        ["any provider", {}],
        ["one provider", { only: "postmark" }],
        ["pieces", { pieceMax: 8 }],
        ["pieces of one provider", { pieceMax: 1, only: "postmark" }],
      ] as const) {
        test(`no email delayed then, for ${what}`, async () => {
          const q = await queue();
          const [id] = await submitMany(q, 1);
          await ahead(q, yearMs, async () => {
            await settle(q, await claim(q), [{ ...due(id!, 5000), ...over } as EmailFate]);
          });
          await sweep(q);
          expect(ids(await claim(q, { provider: "postmark" }))).toEqual([id!]);
          expect(await restamped(q)).toBe(1);
        });
      }

      test("no batch in doubt", async () => {
        const q = await queue();
        const [id] = await submitMany(q, 1);
        await ahead(q, yearMs, async () => {
          await settle(q, await claim(q), [], { delayMs: 5000, notes: "n" });
        });
        expect(await claimed(q)).toBe("empty");
        await sweep(q);
        const batch = await claim(q);
        expect(ids(batch)).toEqual([id!]);
        expect(batch.notes).toBe("n");
        // Doubt cannot begin later than now, or no search would ever count.
        expect(batch.doubtSinceMs).toBeLessThanOrEqual(batch.nowMs);
        expect(batch.doubtEndsAtMs).toBeLessThanOrEqual(batch.nowMs + 23 * hourMs + toleranceMs);
      });

      test("no lease: it ends after its own length", async () => {
        const q = await queue();
        const [id] = await submitMany(q, 1);
        const old = await ahead(q, yearMs, () => claim(q));
        await sweep(q);
        expect(await restamped(q)).toBe(1);
        q.advance(leaseMs - 5000);
        expect(await claimed(q)).toBe("empty");
        q.advance(5001);
        const again = await claim(q);
        expect(again).toMatchObject({ id: old.id, lease: 2, leaseExpired: true });
        expect(ids(again)).toEqual([id!]);
      });

      test("no emails, of which each sweep corrects a thousand", async () => {
        const q = await queue();
        await ahead(q, yearMs, () => submitMany(q, 1500));
        await sweep(q);
        expect((await q.admin.stats()).states).toMatchObject({ waiting: 1000, retrying: 500 });
        await sweep(q);
        expect((await q.admin.stats()).states).toMatchObject({ waiting: 1500, retrying: 0 });
        expect(await restamped(q)).toBe(1500);
      });

      test("no claim: its number shows that it is new", async () => {
        const q = await queue();
        const claimant = Bun.randomUUIDv7();
        const numbered = (number: number, over: Partial<ClaimRequest> = {}) =>
          request({ claimant, number, ...over });
        await ahead(q, yearMs, async () => {
          await submitMany(q, 1);
          await q.consumer.claim(numbered(1));
        });
        await sweep(q);
        const [id] = await submitMany(q, 1);
        const result = await q.consumer.claim(numbered(2));
        expect(result.kind === "batch" && ids(result.batch)).toEqual([id!]);
      });
    });

    test("sweeps do not change due times that a worker may have chosen", async () => {
      const q = await queue();
      const [retried, searched] = await submitMany(q, 2);
      await settle(q, await claim(q, { countMax: 1 }), [due(retried!, hourMs)]);
      await settle(q, await claim(q, { countMax: 1 }), [], { delayMs: hourMs, notes: "" });
      await submitMany(q, 1);
      const held = await claim(q);
      await sweep(q);
      q.step(-1000);
      await sweep(q);
      expect(await restamped(q)).toBe(0);
      expect(await state(q, retried!)).toBe("retrying");
      expect(await state(q, searched!)).toBe("in-doubt");
      expect((await q.admin.show(held.emails[0]!.id))!.batch!.dueAtMs).toBe(held.leaseEndsAtMs);
    });

    testUndivided(
      "a claim repeated after the clock has stepped ahead takes nothing under the old id",
      async () => {
        const q = await queue();
        const [id] = await submitMany(q, 1);
        const asked = request();
        const first = await q.consumer.claim(asked);
        if (first.kind !== "batch") throw new Error("no batch");
        await settle(q, first.batch, [sent(id!)]);
        await sweep(q);
        for (const ms of [11 * minuteMs, 25 * hourMs]) {
          q.step(ms);
          await sweep(q);
          await submitMany(q, 1);
          expect(await q.consumer.claim(asked)).toEqual({ kind: "spent" });
        }
      },
    );

    describe("doubt", () => {
      test("does not end for an hour after the clock has stepped ahead", async () => {
        const q = await queue();
        const [id] = await submitMany(q, 1);
        await settle(q, await claim(q), [], { delayMs: hourMs, notes: "" });
        await sweep(q);
        q.step(24 * hourMs);
        await sweep(q);
        expect((await q.consumer.claimEnded(endedRequest())).kind).toBe("empty");
        q.advance(hourMs - minuteMs);
        await sweep(q);
        expect((await q.consumer.claimEnded(endedRequest())).kind).toBe("empty");
        q.advance(2 * minuteMs);
        await sweep(q);
        const ended = await q.consumer.claimEnded(endedRequest());
        expect(ended.kind === "batch" && ids(ended.batch)).toEqual([id!]);
      });

      /** Time until the doubt of a batch ends. */
      async function leftMs(q: QueueUnderTest): Promise<number> {
        q.advance(leaseMs + 1);
        await sweep(q);
        const { doubtEndsAtMs, nowMs } = await claim(q, { sources: ["batches"] });
        return doubtEndsAtMs - nowMs + leaseMs;
      }
      const isRoughly = (actual: number, expected: number) =>
        expect(actual).toBeWithin(expected - roughlyMs, expected + roughlyMs);

      test("of a batch that began while the clock was ahead ends that much sooner once it is right", async () => {
        const q = await queue();
        await submitMany(q, 1);
        await ahead(q, 10 * hourMs, () => claim(q));
        await sweep(q);
        isRoughly(await leftMs(q), 23 * hourMs);
      });

      test("of a batch that began before the clock went ahead and back ends as planned", async () => {
        const q = await queue();
        await submitMany(q, 1);
        await claim(q);
        await ahead(q, 10 * hourMs, async () => {});
        await sweep(q);
        isRoughly(await leftMs(q), 23 * hourMs);
        // Also if the clock comes back in two steps.
        await sweep(q);
        q.step(10 * hourMs);
        await sweep(q);
        q.step(-4 * hourMs);
        await sweep(q);
        q.step(-6 * hourMs);
        await sweep(q);
        isRoughly(await leftMs(q), 23 * hourMs - leaseMs);
      });

      test("of a batch that began before the clock went back and caught up ends as planned", async () => {
        const q = await queue();
        await submitMany(q, 1);
        const { doubtEndsAtMs } = await claim(q);
        await sweep(q);
        q.step(-yearMs);
        await sweep(q);
        q.step(yearMs);
        await sweep(q);
        q.advance(leaseMs + 1);
        await sweep(q);
        isRoughly((await claim(q, { sources: ["batches"] })).doubtEndsAtMs, doubtEndsAtMs);
      });

      test("ends as much sooner as the clock stepped back, so that no key is used too long", async () => {
        const q = await queue();
        await submitMany(q, 1);
        await claim(q);
        await sweep(q);
        q.advance(5 * hourMs);
        await sweep(q);
        q.step(-2 * hourMs);
        await sweep(q);
        isRoughly(await leftMs(q), 18 * hourMs);
      });
    });

    describe("a step of the clock", () => {
      for (const [way, ms] of [
        ["ahead", 5000],
        ["back", -5000],
        ["ahead, by a year", yearMs],
        ["back, by a year", -yearMs],
      ] as const) {
        test(`${way} is reported for an hour`, async () => {
          const q = await queue();
          await sweep(q);
          expect(await clockStep(q)).toBeUndefined();
          q.step(ms);
          await sweep(q);
          const { nowMs } = await q.admin.stats();
          const step = (await clockStep(q))!;
          expect(step.byMs).toBeWithin(ms - 2000, ms + 2000);
          expect(step.atMs).toBeWithin(nowMs - roughlyMs, nowMs + 1);
          await submitMany(q, 1);
          // Each partition is swept at a moment of its own.
          expect((await claim(q)).clockSteppedAtMs).toBeWithin(step.atMs - roughlyMs, step.atMs + roughlyMs);
          q.advance(hourMs - minuteMs);
          await sweep(q);
          expect(await clockStep(q)).toEqual(step);
          q.advance(2 * minuteMs);
          await sweep(q);
          expect(await clockStep(q)).toBeUndefined();
          await submitMany(q, 1);
          expect((await claim(q, { sources: ["emails"] })).clockSteppedAtMs).toBeUndefined();
        });
      }

      test("is not found for a second, or for time that passes", async () => {
        const q = await queue();
        await sweep(q);
        q.step(1000);
        await sweep(q);
        q.step(-1000);
        await sweep(q);
        q.advance(yearMs);
        await sweep(q);
        expect(await clockStep(q)).toBeUndefined();
      });
    });

    describe("an email for one provider", () => {
      const reserve = async (q: QueueUnderTest, over: { pieceMax?: number } = {}) => {
        const [id] = await submitMany(q, 1);
        await settle(q, await claim(q), [{ ...due(id!), only: "away", ...over } as EmailFate]);
        return id!;
      };

      for (const over of [{}, { pieceMax: 8 }]) {
        test(`waits for a day after the provider was last served (${JSON.stringify(over)})`, async () => {
          const q = await queue();
          await sweep(q, "away");
          const id = await reserve(q, over);
          q.advance(23 * hourMs);
          await sweep(q);
          expect(await claimed(q)).toBe("empty");
          const batch = await claim(q, { provider: "away" });
          expect(ids(batch)).toEqual([id]);
          await settle(q, batch, [{ ...due(id), only: "away", ...over } as EmailFate]);
          q.advance(2 * hourMs);
          await sweep(q);
          expect(ids(await claim(q))).toEqual([id]);
        });
      }

      test("is given to all by the first sweep if the provider was never served", async () => {
        const q = await queue();
        const id = await reserve(q);
        await sweep(q);
        expect(ids(await claim(q))).toEqual([id]);
      });

      test("keeps waiting if only the clock went a day ahead", async () => {
        const q = await queue();
        await sweep(q, "away");
        await reserve(q);
        await sweep(q);
        q.step(25 * hourMs);
        await sweep(q);
        expect(await claimed(q)).toBe("empty");
        q.step(-25 * hourMs);
        await sweep(q);
        expect(await claimed(q)).toBe("empty");
      });
    });

    test("clear deletes nothing submitted after a step back of the clock", async () => {
      const q = await queue();
      await submitMany(q, 1);
      const { nowMs } = await q.admin.stats();
      q.step(-hourMs);
      const [later] = await submitMany(q, 1);
      await expect(q.admin.clear(100, nowMs)).rejects.toThrow("stepped back");
      expect(await state(q, later!)).toBe("waiting");
    });

    test("dead letters are kept whatever the clock does", async () => {
      const q = await queue();
      const [id] = await submitMany(q, 1);
      await settle(q, await claim(q), [dead(id!)]);
      await ahead(q, yearMs, () => sweep(q));
      await sweep(q);
      expect(await state(q, id!)).toBe("dead");
    });
  });
}
