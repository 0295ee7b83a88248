// The contract of a queue, as a suite that each implementation runs on its real store. The suite moves the store's
// clock, so that leases, retries and the end of doubt need no waiting.

import { describe, expect, test } from "bun:test";
import { envelopeLine } from "../../lib/email/email.ts";
import type { EmailFate } from "../../lib/queue/contract.ts";
import { claiming } from "./conformance_claims.ts";
import { sharingRates } from "./conformance_rates.ts";
import { operating } from "./conformance_admin.ts";
import { moving } from "./conformance_move.ts";
import { scheduling } from "./conformance_scheduled.ts";
import { hangMs } from "../support/eventually.ts";
import {
  emailsFirst,
  endedRequest,
  hourMs,
  leaseMs,
  type QueueUnderTest,
  serving,
  soon,
  submission,
  toolsFor,
} from "./conformance_tools.ts";

export function conformance(name: string, open: () => Promise<QueueUnderTest>, isPartitioned = false): void {
  describe(name, () => {
    const tools = toolsFor(open, isPartitioned);
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
      doubt,
      state,
      counted,
    } = tools;

    test("a submission is stored, waits, is claimed with its text, and leaves its record once sent", async () => {
      const q = await queue();
      const one = submission();
      expect(await q.producer.submit(one, soon())).toEqual({ kind: "stored", id: one.id, repeated: false });
      expect(await q.admin.show(one.id)).toMatchObject({ state: "waiting", text: one.text, history: "" });
      const batch = await claim(q, { context: "outbound" });
      expect(batch).toMatchObject({
        provider: "resend",
        lease: 1,
        context: "outbound",
        notes: "",
        leaseExpired: false,
      });
      expect(batch.doubtSinceMs).toBeUndefined();
      expect(batch.leaseEndsAtMs - batch.nowMs).toBe(leaseMs);
      expect(batch.doubtEndsAtMs - batch.nowMs).toBe(23 * hourMs);
      expect(batch.emails).toMatchObject([{ id: one.id, text: one.text, history: "", marked: false }]);
      expect(batch.nowMs - batch.emails[0]!.submittedAtMs).toBeWithin(0, hangMs);
      expect(await state(q, one.id)).toBe("sending");
      expect(await settle(q, batch, [sent(one.id, "the record")])).toEqual({
        leaseHeld: true,
        duplicates: [],
      });
      expect(await q.admin.show(one.id)).toEqual({
        id: one.id,
        state: "sent",
        text: envelopeLine(one.text),
        submittedAtMs: undefined,
        atMs: undefined,
        history: "",
        record: "the record",
        batch: undefined,
      });
    });

    test("show of an unknown id returns undefined", async () => {
      const q = await queue();
      expect(await q.admin.show(Bun.randomUUIDv7())).toBeUndefined();
    });

    test("text of every kind is returned unchanged", async () => {
      const q = await queue();
      const body = 'Grüße 👋\r\n\n\t\u2028\u0001 "quoted" \\ {}[] \n\n';
      const one = submission({}, body);
      await submit(q, one);
      expect((await claim(q)).emails[0]!.text).toBe(one.text);
    });

    describe("a repeated submission changes nothing", () => {
      const cases: Record<string, (q: QueueUnderTest, id: string) => Promise<void>> = {
        waiting: async () => {},
        "in a batch": async (q) => void (await claim(q)),
        "in doubt": async (q) => void (await settle(q, await claim(q), [], { delayMs: hourMs, notes: "" })),
        retrying: async (q, id) => void (await settle(q, await claim(q), [due(id, hourMs)])),
        dead: async (q, id) => void (await settle(q, await claim(q), [dead(id)])),
        sent: async (q, id) => void (await settle(q, await claim(q), [sent(id)])),
        deleted: async (q, id) => void (await q.admin.delete([id])),
      };
      for (const [place, bring] of Object.entries(cases)) {
        test(`when it is ${place}`, async () => {
          const q = await queue();
          const one = submission();
          await submit(q, one);
          await bring(q, one.id);
          const before = await q.admin.show(one.id);
          const countsBefore = await counted(q);
          expect(await q.producer.submit(one, soon())).toEqual({
            kind: "stored",
            id: one.id,
            repeated: true,
          });
          expect(await q.admin.show(one.id)).toEqual(before!);
          expect(await counted(q)).toEqual(countsBefore);
          if (place !== "waiting") expect(await claimed(q)).toBe("empty");
        });
      }

      test("as long as its record is kept", async () => {
        const q = await queue();
        const one = submission();
        await submit(q, one);
        await settle(q, await claim(q), [sent(one.id)]);
        q.advance(23 * hourMs);
        await q.consumer.sweep(serving("resend"));
        expect(await state(q, one.id)).toBe("sent");
        q.advance(2 * hourMs);
        await q.consumer.sweep(serving("resend"));
        expect(await q.admin.show(one.id)).toBeUndefined();
      });
    });

    describe("an idempotency key", () => {
      const keyed = (fingerprint: string, key = "order-17") =>
        submission({ idempotency: { key, fingerprint, token: "" } });

      test("with the same email returns the first id and queues nothing", async () => {
        const q = await queue();
        const first = keyed("a");
        const second = keyed("a");
        await submit(q, first);
        expect(await q.producer.submit(second, soon())).toEqual({
          kind: "stored",
          id: first.id,
          repeated: true,
        });
        expect(ids(await claim(q))).toEqual([first.id]);
        expect(await claimed(q)).toBe("empty");
      });

      test("with another email is a conflict", async () => {
        const q = await queue();
        await submit(q, keyed("a"));
        expect(await q.producer.submit(keyed("b"), soon())).toEqual({ kind: "conflict" });
        expect((await q.admin.stats()).states.waiting).toBe(1);
      });

      test("used twice in one group commit is detected", async () => {
        const q = await queue();
        const both = [keyed("a"), keyed("a")];
        const answers = await Promise.all(both.map((one) => q.producer.submit(one, soon())));
        expect(new Set(answers.map((answer) => answer.kind === "stored" && answer.id)).size).toBe(1);
        expect((await q.admin.stats()).states.waiting).toBe(1);
      });

      test("is free again after 24 hours, but not once its email was sent or deleted", async () => {
        const q = await queue();
        await q.consumer.sweep(serving("resend"));
        const first = keyed("a");
        await submit(q, first);
        await settle(q, await claim(q), [sent(first.id)]);
        q.advance(24 * hourMs - 60_000);
        await q.consumer.sweep(serving("resend"));
        expect(await submit(q, keyed("a"))).toEqual([first.id]);
        q.advance(120_000);
        await q.consumer.sweep(serving("resend"));
        const later = keyed("b");
        expect(await submit(q, later)).toEqual([later.id]);
      });
    });

    test("a group commit answers each of its submissions separately", async () => {
      const q = await queue();
      const many = Array.from({ length: 1000 }, () => submission());
      expect(await submit(q, ...many)).toEqual(many.map(({ id }) => id));
      expect((await q.admin.stats()).states.waiting).toBe(1000);
    });

    test("a submission past its deadline is answered as failed", async () => {
      const q = await queue();
      const result = await q.producer.submit(submission(), performance.now() - 1);
      expect(result.kind).toBe("failed");
      expect((await q.admin.stats()).states.waiting).toBe(0);
    });

    describe("a claim", () => {
      test("takes the oldest first, limited by count", async () => {
        const q = await queue();
        const all: string[] = [];
        for (let i = 0; i < 5; i += 1) all.push(...(await submit(q, submission())));
        expect(ids(await claim(q, { countMax: 3 }))).toEqual(all.slice(0, 3));
        expect(ids(await claim(q, { countMax: 3 }))).toEqual(all.slice(3));
        expect(await claimed(q)).toBe("empty");
      });

      test("is limited by bytes, but takes at least one email", async () => {
        const q = await queue();
        for (let i = 0; i < 3; i += 1) await submit(q, submission({}, "x".repeat(1000)));
        expect((await claim(q, { bytesMax: 2500 })).emails).toHaveLength(2);
        expect((await claim(q, { bytesMax: 10 })).emails).toHaveLength(1);
      });

      testUndivided("takes as many emails as fit, the oldest first", async () => {
        const q = await queue();
        const ids: string[] = [];
        for (let i = 0; i < 25; i += 1) {
          const one = submission({}, "x".repeat(1000));
          await submit(q, one);
          ids.push(one.id);
        }
        for (const [from, to] of [
          [0, 15],
          [15, 25],
        ]) {
          const { emails } = await claim(q, { bytesMax: 16_400 });
          expect(emails.map(({ id }) => id)).toEqual(ids.slice(from, to));
        }
      });

      test("for existing batches takes no new email", async () => {
        const q = await queue();
        await submit(q, submission());
        expect(await claimed(q, { sources: ["batches"] })).toBe("empty");
        await settle(q, await claim(q), [], doubt);
        expect(await claimed(q, { sources: ["batches"] })).toBe("batch");
      });

      testUndivided("whose answer was lost returns the same batch under the same lease", async () => {
        const q = await queue();
        await submit(q, submission(), submission());
        const asked = request();
        const first = await q.consumer.claim(asked);
        q.advance(1000);
        await submit(q, submission());
        const second = await q.consumer.claim(asked);
        if (first.kind !== "batch" || second.kind !== "batch") throw new Error("no batch");
        expect(second.batch).toEqual({ ...first.batch, nowMs: second.batch.nowMs });
        expect(second.batch.leaseExpired).toBe(false);
      });

      testUndivided("of an existing batch whose answer was lost returns the same lease too", async () => {
        const q = await queue();
        await submit(q, submission());
        await settle(q, await claim(q), [], doubt);
        const asked = request();
        const first = await q.consumer.claim(asked);
        const second = await q.consumer.claim(asked);
        if (first.kind !== "batch" || second.kind !== "batch") throw new Error("no batch");
        expect(second.batch.lease).toBe(2);
        expect(second.batch).toEqual({ ...first.batch, nowMs: second.batch.nowMs });
      });

      testUndivided("executed after its repeat was settled takes nothing under the old id", async () => {
        const q = await queue();
        await submit(q, submission());
        const asked = request();
        const first = await q.consumer.claim(asked);
        if (first.kind !== "batch") throw new Error("no batch");
        await settle(q, first.batch, [sent(first.batch.emails[0]!.id)]);
        await submit(q, submission());
        expect(await q.consumer.claim(asked)).toEqual({ kind: "spent" });
        expect((await q.admin.stats()).states.waiting).toBe(1);
      });

      test("for existing batches does not report when new emails are due", async () => {
        const q = await queue();
        await submit(q, submission());
        expect(await q.consumer.claim(request({ sources: ["batches"] }))).toEqual({
          kind: "empty",
          nextDueInMs: undefined,
        });
      });

      test("reports when the next email or batch is due", async () => {
        const q = await queue();
        expect(await q.consumer.claim(request())).toEqual({ kind: "empty", nextDueInMs: undefined });
        const [id] = await submit(q, submission());
        await settle(q, await claim(q), [due(id!, hourMs)]);
        const empty = await q.consumer.claim(request());
        if (empty.kind !== "empty") throw new Error("not empty");
        expect(empty.nextDueInMs).toBeWithin(hourMs - hangMs, hourMs + 1);
      });

      test("that found nothing is followed by a wake-up at the next submission", async () => {
        const q = await queue();
        expect(await claimed(q)).toBe("empty");
        const woken = new Promise<void>((resolve) => q.consumer.onWake(resolve));
        await submit(q, submission());
        await woken;
      });

      test("reads its sources in the order of the request", async () => {
        const q = await queue();
        await submit(q, submission());
        await settle(q, await claim(q), [], doubt);
        await submit(q, submission());
        const fresh = await claim(q, { sources: emailsFirst });
        expect(fresh.lease).toBe(1);
        expect((await claim(q, { sources: emailsFirst })).lease).toBe(2);
      });
    });

    describe("a lease", () => {
      test("reserves the batch for the worker until it expires", async () => {
        const q = await queue();
        await submit(q, submission());
        await claim(q);
        q.advance(leaseMs / 2);
        expect(await claimed(q)).toBe("empty");
      });

      test("that expires leaves the batch whole, with its provider, and in doubt", async () => {
        const q = await queue();
        const all = await submit(q, submission(), submission());
        const first = await claim(q, { context: "c" });
        q.advance(leaseMs + 1);
        expect(await state(q, all[0]!)).toBe("in-doubt");
        expect(await claimed(q, { provider: "postmark" })).toBe("empty");
        await submit(q, submission());
        const second = await claim(q);
        expect(second).toMatchObject({ id: first.id, lease: 2, leaseExpired: true, context: "c" });
        expect(ids(second)).toEqual(ids(first));
        expect(second.doubtSinceMs).toBe(second.nowMs);
        expect(second.doubtEndsAtMs).toBe(first.doubtEndsAtMs);
      });
    });

    test("the beginning and the end of a doubt never move", async () => {
      const q = await queue();
      await submit(q, submission());
      const first = await claim(q);
      q.advance(leaseMs + 1000);
      const second = await claim(q);
      expect(second.doubtSinceMs).toBeWithin(second.nowMs - 1000, second.nowMs + 1);
      q.advance(leaseMs + 1000);
      const third = await claim(q);
      expect(third).toMatchObject({
        doubtSinceMs: second.doubtSinceMs!,
        doubtEndsAtMs: first.doubtEndsAtMs,
      });
      await settle(q, third, [], { delayMs: 0, notes: "" });
      expect((await claim(q)).doubtSinceMs).toBe(second.doubtSinceMs!);
    });

    describe("a settlement", () => {
      test("returns emails to waiting for any provider, after a delay, with their history", async () => {
        const q = await queue();
        const [id] = await submit(q, submission());
        await settle(q, await claim(q), [due(id!, hourMs, "once")]);
        expect(await state(q, id!)).toBe("retrying");
        expect(await claimed(q, { provider: "postmark" })).toBe("empty");
        q.advance(hourMs + 1);
        expect(await state(q, id!)).toBe("waiting");
        const again = await claim(q, { provider: "postmark" });
        expect(again.emails).toMatchObject([{ id, history: "once" }]);
        expect(again.doubtSinceMs).toBeUndefined();
      });

      test("returns emails to waiting for one provider only", async () => {
        const q = await queue();
        const [id] = await submit(q, submission());
        await settle(q, await claim(q), [
          { id: id!, kind: "due", delayMs: 0, only: "postmark", history: "h" },
        ]);
        expect(await state(q, id!)).toBe("waiting");
        expect(await claimed(q)).toBe("empty");
        expect(ids(await claim(q, { provider: "postmark" }))).toEqual([id!]);
      });

      test("keeps dead letters with text and history, out of reach of claims", async () => {
        const q = await queue();
        const one = submission();
        await submit(q, one);
        await settle(q, await claim(q), [dead(one.id)]);
        expect(await q.admin.show(one.id)).toMatchObject({
          state: "dead",
          text: one.text,
          history: "died",
        });
        q.advance(1000 * hourMs);
        await q.consumer.sweep(serving("resend"));
        expect(await claimed(q)).toBe("empty");
        expect((await q.admin.stats()).states.dead).toBe(1);
      });

      test("leaves the rest in the batch, in doubt from then on, with notes", async () => {
        const q = await queue();
        const all = await submit(q, submission(), submission(), submission());
        const first = await claim(q);
        await settle(q, first, [sent(all[1]!)], { delayMs: hourMs, notes: "looked" });
        expect(await Promise.all(all.map((id) => state(q, id)))).toEqual(["in-doubt", "sent", "in-doubt"]);
        expect(await claimed(q)).toBe("empty");
        q.advance(hourMs + 1);
        const second = await claim(q);
        expect(second).toMatchObject({ id: first.id, lease: 2, leaseExpired: false, notes: "looked" });
        expect(ids(second)).toEqual([all[0]!, all[2]!]);
        expect(second.doubtSinceMs).toBeWithin(first.nowMs, first.nowMs + hangMs);
        await settle(q, second, [], doubt);
        expect((await claim(q)).doubtSinceMs).toBe(second.doubtSinceMs!);
      });

      test("without a fate or rest for an email, or with two fates, is refused as a whole", async () => {
        const q = await queue();
        const all = await submit(q, submission(), submission());
        const batch = await claim(q);
        expect(settle(q, batch, [sent(all[0]!)])).rejects.toThrow();
        expect(settle(q, batch, [sent(all[0]!), dead(all[0]!), dead(all[1]!)])).rejects.toThrow();
        expect(settle(q, batch, [sent(all[0]!), sent(all[1]!), sent(Bun.randomUUIDv7())])).rejects.toThrow();
        expect(await state(q, all[0]!)).toBe("sending");
      });

      test("adds to counters", async () => {
        const q = await queue();
        const [id] = await submit(q, submission());
        await q.consumer.settle(await claim(q), {
          fates: [sent(id!)],
          counts: { "accepted:resend": 1, x: 3 },
        });
        expect((await q.admin.stats()).counters).toEqual({ "accepted:resend": 1, x: 3 });
      });

      test("that is repeated changes nothing", async () => {
        const q = await queue();
        const all = await submit(q, submission(), submission());
        const batch = await claim(q);
        const fates = [sent(all[0]!, "first"), due(all[1]!)];
        await settle(q, batch, fates);
        const before = await counted(q);
        expect(await settle(q, batch, fates)).toEqual({ leaseHeld: false, duplicates: [] });
        expect(await counted(q)).toEqual(before);
      });

      test("that left a rest and is repeated changes nothing", async () => {
        const q = await queue();
        const all = await submit(q, submission(), submission());
        const batch = await claim(q);
        await settle(q, batch, [sent(all[0]!)], doubt);
        await settle(q, batch, [sent(all[0]!)], { delayMs: hourMs, notes: "again" });
        expect(await claim(q)).toMatchObject({ lease: 2, notes: "n" });
      });
    });

    describe("a settlement under an old lease", () => {
      /** One email in a batch whose lease has expired. */
      async function stale() {
        const q = await queue();
        const [id] = await submit(q, submission());
        const old = await claim(q);
        q.advance(leaseMs + 1);
        return { q, id: id!, old };
      }

      for (const [what, fate] of [
        ["rejection", dead],
        ["retry", due],
      ] as const) {
        test(`is dropped if it is a ${what}`, async () => {
          const { q, id, old } = await stale();
          const current = await claim(q);
          expect(await settle(q, old, [fate(id)])).toEqual({ leaseHeld: false, duplicates: [] });
          expect(await state(q, id)).toBe("in-doubt");
          expect((await settle(q, current, [sent(id)])).leaseHeld).toBe(true);
        });
      }

      test("is dropped if it leaves a rest", async () => {
        const { q, id, old } = await stale();
        const current = await claim(q);
        await settle(q, old, [], { delayMs: 0, notes: "old" });
        expect(await claimed(q)).toBe("empty");
        expect((await settle(q, current, [sent(id)])).leaseHeld).toBe(true);
      });

      test("is still carried out if nobody else has claimed the batch", async () => {
        const { q, id, old } = await stale();
        expect(await settle(q, old, [sent(id)])).toEqual({ leaseHeld: true, duplicates: [] });
      });

      test("marks emails of the same batch under its new lease, and ends the batch once all are marked", async () => {
        const { q, id, old } = await stale();
        const current = await claim(q);
        expect(await settle(q, old, [sent(id, "old")])).toEqual({ leaseHeld: false, duplicates: [] });
        expect(await q.admin.show(id)).toMatchObject({ state: "sent", record: "old" });
        expect((await q.admin.stats()).states).toMatchObject({ sending: 0, "in-doubt": 0, sent: 1 });
        // The request under the current lease had the same key: no second acceptance.
        expect(await settle(q, current, [sent(id)])).toEqual({ leaseHeld: false, duplicates: [] });
      });

      test("ends a batch whose other emails were marked before", async () => {
        const q = await queue();
        const all = await submit(q, submission(), submission());
        const old = await claim(q);
        q.advance(leaseMs + 1);
        const current = await claim(q);
        await settle(q, old, [sent(all[1]!, "first")], doubt);
        await settle(q, old, [sent(all[0]!, "later"), sent(all[1]!, "later")]);
        expect(await Promise.all(all.map((id) => state(q, id)))).toEqual(["sent", "sent"]);
        expect((await q.admin.show(all[1]!))!.record).toBe("first");
        expect(
          await settle(
            q,
            current,
            all.map((id) => sent(id)),
          ),
        ).toEqual({ leaseHeld: false, duplicates: [] });
        q.advance(30 * hourMs);
        expect((await q.consumer.claimEnded(endedRequest())).kind).toBe("empty");
        expect((await q.admin.stats()).states).toMatchObject({ sending: 0, "in-doubt": 0, sent: 2 });
      });

      test("its marks change no email until the batch ends, and then override retries and deaths", async () => {
        const q = await queue();
        const all = await submit(q, submission(), submission(), submission());
        const old = await claim(q);
        q.advance(leaseMs + 1);
        const current = await claim(q);
        await settle(q, old, [sent(all[0]!, "old")], doubt);
        expect(await state(q, all[0]!)).toBe("sent");
        await settle(q, current, [], doubt);
        const third = await claim(q);
        expect(third.emails.map(({ id, marked }) => [id, marked])).toEqual([
          [all[0]!, true],
          [all[1]!, false],
          [all[2]!, false],
        ]);
        await settle(q, third, [due(all[0]!), due(all[1]!), dead(all[2]!)]);
        expect(await Promise.all(all.map((id) => state(q, id)))).toEqual(["sent", "waiting", "dead"]);
        expect((await q.admin.show(all[0]!))!.record).toBe("old");
      });

      /** The batch has ended, and its email is somewhere else. */
      async function dissolved(fate: (id: string) => EmailFate) {
        const { q, id, old } = await stale();
        await settle(q, await claim(q), [fate(id)]);
        return { q, id, old };
      }

      for (const [place, fate] of [
        ["waiting", (id: string) => due(id)],
        ["retrying", (id: string) => due(id, hourMs)],
        [
          "waiting for one provider",
          (id: string): EmailFate => ({ ...due(id), only: "postmark" }) as EmailFate,
        ],
        ["dead", dead],
      ] as const) {
        test(`marks an email as sent that is ${place}`, async () => {
          const { q, id, old } = await dissolved(fate);
          expect(await settle(q, old, [sent(id, "late")])).toEqual({ leaseHeld: false, duplicates: [] });
          expect(await q.admin.show(id)).toMatchObject({ state: "sent", record: "late" });
          q.advance(2 * hourMs);
          expect(await claimed(q)).toBe("empty");
          expect(await claimed(q, { provider: "postmark" })).toBe("empty");
          expect((await q.admin.stats()).states).toMatchObject({
            waiting: 0,
            retrying: 0,
            dead: 0,
            sent: 1,
          });
        });
      }

      test("counts a second acceptance in another batch as a duplicate, once", async () => {
        const { q, id, old } = await dissolved((one) => due(one));
        const other = await claim(q, { provider: "postmark" });
        await settle(q, other, [sent(id, "other")]);
        expect(await settle(q, old, [sent(id, "late")])).toEqual({ leaseHeld: false, duplicates: [id] });
        expect((await q.admin.show(id))!.record).toBe("other");
        expect((await q.admin.stats()).counters["duplicates"]).toBe(1);
      });

      test("marks an email that is now in another batch, whose own acceptance is a duplicate", async () => {
        const { q, id, old } = await dissolved((one) => due(one));
        const [neighbour] = await submit(q, submission());
        const other = await claim(q, { provider: "postmark" });
        expect(ids(other).toSorted()).toEqual([id, neighbour!].toSorted());
        expect(await settle(q, old, [sent(id, "late")])).toEqual({ leaseHeld: false, duplicates: [] });
        expect(await state(q, id)).toBe("sent");
        expect(await settle(q, other, [sent(id), sent(neighbour!)])).toEqual({
          leaseHeld: true,
          duplicates: [id],
        });
        expect(await state(q, neighbour!)).toBe("sent");
      });

      test("does not change a deleted email", async () => {
        const { q, id, old } = await dissolved((one) => due(one));
        expect(await q.admin.delete([id])).toEqual(["deleted"]);
        expect(await settle(q, old, [sent(id)])).toEqual({ leaseHeld: false, duplicates: [] });
        expect(await state(q, id)).toBe("deleted");
      });
    });

    describe("the end of doubt", () => {
      test("is claimed for any provider, once nobody holds the batch", async () => {
        const q = await queue();
        await submit(q, submission());
        const endless = request({ doubtMs: 2 * leaseMs, provider: "forgotten" });
        const { id: batchId } = await claim(q, endless);
        const ended = () => q.consumer.claimEnded(endedRequest());
        expect((await ended()).kind).toBe("empty");
        q.advance(leaseMs + 1);
        expect((await ended()).kind).toBe("empty");
        q.advance(leaseMs);
        const result = await ended();
        if (result.kind !== "batch") throw new Error("no batch");
        expect(result.batch).toMatchObject({
          id: batchId,
          provider: "forgotten",
          leaseExpired: true,
        });
        expect(result.batch.doubtEndsAtMs).toBeLessThanOrEqual(result.batch.nowMs);
        expect((await ended()).kind).toBe("empty");
        const id = result.batch.emails[0]!.id;
        expect((await settle(q, result.batch, [due(id)])).leaseHeld).toBe(true);
        expect(ids(await claim(q))).toEqual([id]);
        expect((await ended()).kind).toBe("empty");
      });
    });

    test("a sweep gives emails for one provider back to all, once nobody has served it for 24 hours", async () => {
      const q = await queue();
      const [id] = await submit(q, submission());
      await q.consumer.sweep(serving("resend", "gone"));
      await settle(q, await claim(q), [{ id: id!, kind: "due", delayMs: 0, only: "gone", history: "h" }]);
      q.advance(23 * hourMs);
      await q.consumer.sweep(serving("resend"));
      expect(await claimed(q)).toBe("empty");
      q.advance(2 * hourMs);
      await q.consumer.sweep(serving("resend"));
      expect(ids(await claim(q))).toEqual([id!]);
    });

    test("a sweep gives emails for a provider that nobody ever served back to all immediately", async () => {
      const q = await queue();
      const [id] = await submit(q, submission());
      await settle(q, await claim(q), [{ id: id!, kind: "due", delayMs: 0, only: "gone", history: "h" }]);
      await q.consumer.sweep(serving("resend"));
      expect(ids(await claim(q))).toEqual([id!]);
    });

    test("a thousand due batches of one provider do not slow another's claim", async () => {
      const q = await queue();
      await submitMany(q, 1000);
      for (let i = 0; i < 1000; i += 1)
        await claim(q, { provider: "down", countMax: 1, sources: ["emails"] });
      q.advance(leaseMs + 1);
      const [fresh] = await submitMany(q, 1);
      expect(ids(await claim(q))).toEqual([fresh!]);
      expect(await claimed(q)).toBe("empty");
      expect((await q.admin.stats()).states).toMatchObject({ sending: 1, "in-doubt": 1000 });
    });

    test("ten thousand emails for one provider do not slow another's claim", async () => {
      const q = await queue();
      await submit(q, ...Array.from({ length: 10_000 }, () => submission()));
      for (;;) {
        const result = await q.consumer.claim(request({ countMax: 500 }));
        if (result.kind !== "batch") break;
        await settle(
          q,
          result.batch,
          ids(result.batch).map((id) => ({ id, kind: "due", delayMs: 0, only: "down", history: "" })),
        );
      }
      const [fresh] = await submit(q, submission());
      expect(ids(await claim(q))).toEqual([fresh!]);
      expect(await claimed(q)).toBe("empty");
      expect((await q.admin.stats()).states.waiting).toBe(10_000);
    });

    test("twenty thousand waiting emails are claimed each once", async () => {
      const q = await queue();
      const expected = new Set<string>();
      for (let i = 0; i < 20; i += 1) {
        const group = Array.from({ length: 1000 }, () => submission());
        for (const id of await submit(q, ...group)) expected.add(id);
      }
      expect((await q.admin.stats()).states.waiting).toBe(20_000);
      for (;;) {
        const result = await q.consumer.claim(request({ countMax: 1000 }));
        if (result.kind !== "batch") break;
        for (const id of ids(result.batch)) expect(expected.delete(id)).toBe(true);
      }
      expect(expected.size).toBe(0);
    });

    test("concurrent claims of several workers never put an email into two batches", async () => {
      const q = await queue();
      await submit(q, ...Array.from({ length: 200 }, () => submission()));
      const batches = await Promise.all(Array.from({ length: 20 }, () => claim(q, { countMax: 10 })));
      expect(new Set(batches.flatMap(ids)).size).toBe(200);
    });

    operating(tools);
    moving(tools);
    claiming(tools);
    sharingRates(tools);
    scheduling(tools);
  });
}
