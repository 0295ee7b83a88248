// Emails that are not sent before a time: a part of the conformance suite.

import { describe, expect, test } from "bun:test";
import { eventually, hangMs } from "../support/eventually.ts";
import { hourMs, type QueueUnderTest, serving, soon, submission, type Tools } from "./conformance_tools.ts";

const minuteMs = 60_000;
const dayMs = 24 * hourMs;
const yearMs = 365 * dayMs;

export function scheduling(tools: Tools): void {
  const { queue, testUndivided, submit, submitMany, claim, claimed, request, ids, settle } = tools;
  const { sent, due, dead, state } = tools;
  const sweep = (q: QueueUnderTest) => q.consumer.sweep(serving("resend", "postmark"));
  const nowMs = async (q: QueueUnderTest) => (await q.admin.stats()).nowMs;
  const states = async (q: QueueUnderTest) => (await q.admin.stats()).states;

  /** An email for a time by the store's clock. */
  const scheduled = (sendAtMs: number, over: Parameters<typeof submission>[0] = {}) =>
    submission({ isHidden: true, sendAtMs, ...over });

  /** Submits one email for each of these times from now on, in this order. */
  async function schedule(q: QueueUnderTest, ...delaysMs: number[]): Promise<string[]> {
    const startMs = await nowMs(q);
    return submit(q, ...delaysMs.map((delayMs) => scheduled(startMs + delayMs)));
  }

  describe("a scheduled email", () => {
    test("is claimed once its time has come, and not before", async () => {
      const q = await queue();
      const sendAtMs = (await nowMs(q)) + 2 * hourMs;
      const one = scheduled(sendAtMs);
      await submit(q, one);
      q.advance(2 * hourMs - minuteMs);
      expect(await claimed(q)).toBe("empty");
      expect(await q.admin.show(one.id)).toMatchObject({
        state: "scheduled",
        atMs: sendAtMs,
        text: one.text,
      });
      const before = await q.admin.stats();
      expect(before.states).toMatchObject({ scheduled: 1, waiting: 0, retrying: 0 });
      expect(before.oldestDueAtMs).toBeUndefined();
      q.advance(minuteMs);
      expect(await q.admin.show(one.id)).toMatchObject({ state: "waiting", atMs: sendAtMs });
      const after = await q.admin.stats();
      expect(after.states).toMatchObject({ scheduled: 0, waiting: 1, retrying: 0 });
      expect(after.oldestDueAtMs).toBe(sendAtMs);
      const batch = await claim(q);
      expect(batch.emails).toMatchObject([{ id: one.id, text: one.text, history: "", marked: false }]);
      expect(batch.nowMs).toBeGreaterThanOrEqual(sendAtMs);
      expect(await states(q)).toMatchObject({ scheduled: 0, waiting: 0, sending: 1 });
      await settle(q, batch, [sent(one.id)]);
      expect(await states(q)).toMatchObject({ scheduled: 0, waiting: 0, sending: 0, sent: 1 });
    });

    test("for a time that is over is due at once", async () => {
      const q = await queue();
      const [past, now] = await schedule(q, -dayMs, 0);
      expect(await states(q)).toMatchObject({ scheduled: 0, waiting: 2 });
      const stats = await q.admin.stats();
      // It is not due since a time before it was submitted.
      expect(stats.nowMs - stats.oldestDueAtMs!).toBeWithin(0, hangMs);
      expect(ids(await claim(q)).toSorted()).toEqual([past!, now!].toSorted());
    });

    test("that has died is scheduled again by a retry if its time is still ahead, and is else due at once", async () => {
      const q = await queue();
      const startMs = await nowMs(q);
      const all = await schedule(q, 0, 0, 0);
      await settle(
        q,
        await claim(q),
        all.map((id) => dead(id, "died")),
      );
      const times = [startMs + hourMs, startMs - hourMs, undefined];
      const retries = all.map((id, i) => {
        return { id, seenHistory: "died", history: "again", sendAtMs: times[i] };
      });
      expect((await q.admin.retry(retries, {})).toSorted()).toEqual(all.toSorted());
      expect(await states(q)).toMatchObject({ scheduled: 1, waiting: 2, dead: 0 });
      expect(await q.admin.show(all[0]!)).toMatchObject({ state: "scheduled", atMs: startMs + hourMs });
      const batch = await claim(q);
      expect(ids(batch).toSorted()).toEqual(all.slice(1).toSorted());
      await settle(
        q,
        batch,
        ids(batch).map((id) => sent(id)),
      );
      q.advance(hourMs);
      expect(ids(await claim(q))).toEqual([all[0]!]);
    });

    test("is among what an idle worker waits for", async () => {
      const q = await queue();
      const next = async () => {
        const result = await q.consumer.claim(request());
        return result.kind === "empty" ? result.nextDueInMs : result.kind;
      };
      expect(await next()).toBeUndefined();
      await schedule(q, 3 * hourMs);
      await schedule(q, 5 * hourMs);
      expect(await next()).toBeWithin(3 * hourMs - hangMs, 3 * hourMs + 1);
      // The worker learns of an earlier time, which was submitted after its last claim.
      let wakes = 0;
      q.consumer.onWake(() => (wakes += 1));
      await schedule(q, 2 * hourMs);
      await eventually("the worker is woken", () => wakes > 0);
      expect(await next()).toBeWithin(2 * hourMs - hangMs, 2 * hourMs + 1);
      const [retried] = await submitMany(q, 1);
      await settle(q, await claim(q), [due(retried!, hourMs)]);
      expect(await next()).toBeWithin(hourMs - hangMs, hourMs + 1);
    });

    test("may be taken by any provider, but is none that only one may take, nor a piece, nor a batch", async () => {
      const q = await queue();
      const [id] = await schedule(q, hourMs);
      q.advance(hourMs);
      expect(await claimed(q, { shared: false })).toBe("empty");
      expect(await claimed(q, { sources: ["split", "batches"] })).toBe("empty");
      expect(ids(await claim(q, { provider: "postmark" }))).toEqual([id!]);
    });

    test("takes its turn among others by its time", async () => {
      const q = await queue();
      const startMs = await nowMs(q);
      const [third, first, fifth] = await submit(
        q,
        ...[50, 10, 90].map((minutes) => scheduled(startMs + minutes * minuteMs)),
      );
      q.advance(30 * minuteMs);
      const [second] = await submitMany(q, 1);
      q.advance(40 * minuteMs);
      const [fourth] = await submitMany(q, 1);
      expect(ids(await claim(q, { countMax: 3 }))).toEqual([first!, second!, third!]);
      expect(ids(await claim(q))).toEqual([fourth!]);
      q.advance(20 * minuteMs);
      expect(ids(await claim(q, { sources: ["emails"] }))).toEqual([fifth!]);
    });

    test("is sent once, with all others of its moment, and they are counted as due", async () => {
      const q = await queue();
      const sendAtMs = (await nowMs(q)) + hourMs;
      const all = await submit(q, ...Array.from({ length: 250 }, () => scheduled(sendAtMs)));
      expect(await states(q)).toMatchObject({ scheduled: 250, waiting: 0 });
      q.advance(hourMs);
      const first = await q.consumer.claim(request({ dueCountMax: 120 }));
      if (first.kind !== "batch") throw new Error(first.kind);
      expect(first.dueLeft).toBe(120);
      const some = [...ids(first.batch), ...ids(await claim(q)), ...ids(await claim(q))];
      expect(some.toSorted()).toEqual(all.toSorted());
      expect(await claimed(q)).toBe("empty");
    });

    test("is an ordinary one from its first attempt on", async () => {
      const q = await queue();
      const [id] = await schedule(q, hourMs);
      q.advance(hourMs);
      await settle(q, await claim(q), [due(id!, hourMs)]);
      expect(await q.admin.show(id!)).toMatchObject({ state: "retrying", history: "h" });
      expect(await states(q)).toMatchObject({ scheduled: 0, waiting: 0, retrying: 1 });
      q.advance(hourMs);
      await settle(q, await claim(q), [
        { ...due(id!), pieceMax: 8, only: "resend" } as ReturnType<typeof due>,
      ]);
      await settle(q, await claim(q, { sources: ["split"] }), [], { delayMs: 0, notes: "n" });
      expect(await state(q, id!)).toBe("in-doubt");
      await settle(q, await claim(q, { sources: ["batches"] }), [dead(id!)]);
      expect(await state(q, id!)).toBe("dead");
      const [letter] = (await q.admin.list("dead", 10)).emails;
      const retried = [{ id: id!, seenHistory: letter!.history, history: "again" }];
      expect(await q.admin.retry(retried, {})).toEqual([id!]);
      expect(await state(q, id!)).toBe("waiting");
      expect(ids(await claim(q))).toEqual([id!]);
    });

    test("submitted again changes nothing", async () => {
      const q = await queue();
      const one = scheduled((await nowMs(q)) + hourMs);
      await submit(q, one);
      expect(await q.producer.submit(one, soon())).toEqual({ kind: "stored", id: one.id, repeated: true });
      expect(await states(q)).toMatchObject({ scheduled: 1, waiting: 0 });
    });

    test("waits through a pause of all claims", async () => {
      const q = await queue();
      const [id] = await schedule(q, hourMs);
      await q.admin.setPaused(true);
      q.advance(2 * hourMs);
      expect(await claimed(q)).toBe("paused");
      expect(await state(q, id!)).toBe("waiting");
      await q.admin.setPaused(false);
      expect(ids(await claim(q))).toEqual([id!]);
    });
  });

  describe("scheduled emails, to an operator:", () => {
    test("a list has them in the order of their times, and no others", async () => {
      const q = await queue();
      const hours = Array.from({ length: 24 }, (_, i) => ((i * 7) % 24) + 1);
      const all = await schedule(q, ...hours.map((hour) => hour * hourMs));
      const inOrder = hours.map((_, i) => all[hours.indexOf(i + 1)]!);
      const [waiting, retrying] = await submitMany(q, 2);
      await settle(q, await claim(q), [due(waiting!), due(retrying!, hourMs)]);
      const listed = async (...[what, ...range]: Parameters<typeof q.admin.list>) => {
        const found: string[] = [];
        let [limit, from, order] = range;
        do {
          const page = await q.admin.list(what, limit, from, order);
          found.push(...page.emails.map(({ id }) => id));
          from = page.next;
        } while (from !== undefined);
        return found;
      };
      expect(await listed("scheduled", 7)).toEqual(inOrder);
      expect(await listed("scheduled", 7, undefined, "newest")).toEqual(inOrder.toReversed());
      expect(await listed("waiting", 7)).toEqual([waiting!]);
      expect(await listed("retrying", 7)).toEqual([retrying!]);
      q.advance(10 * hourMs);
      expect(await listed("scheduled", 100)).toEqual(inOrder.slice(10));
      expect((await listed("waiting", 7)).toSorted()).toEqual(
        [waiting!, retrying!, ...inOrder.slice(0, 10)].toSorted(),
      );
      expect(await listed("retrying", 7)).toEqual([]);
      const { emails } = await q.admin.list("scheduled", 1);
      expect(emails).toMatchObject([{ id: inOrder[10]!, state: "scheduled", history: "" }]);
      expect(await states(q)).toMatchObject({ scheduled: 14, waiting: 12, retrying: 0 });
    });

    test("delete cancels one, whose id stays known", async () => {
      const q = await queue();
      const one = scheduled((await nowMs(q)) + hourMs);
      await submit(q, one);
      expect(await q.admin.delete([one.id], ["died"])).toEqual(["changed"]);
      expect(await q.admin.delete([one.id])).toEqual(["deleted"]);
      expect(await state(q, one.id)).toBe("deleted");
      expect(await q.producer.submit(one, soon())).toMatchObject({ kind: "stored", repeated: true });
      q.advance(2 * hourMs);
      expect(await claimed(q)).toBe("empty");
      expect(await states(q)).toMatchObject({ scheduled: 0, waiting: 0 });
    });

    test("clear deletes them with what waits, and those submitted later stay", async () => {
      const q = await queue();
      await schedule(q, ...Array.from({ length: 30 }, (_, i) => (i + 1) * hourMs));
      const [later] = await submitMany(q, 1);
      await settle(q, await claim(q), [due(later!, hourMs)]);
      await submitMany(q, 5);
      const tillMs = await nowMs(q);
      q.advance(minuteMs);
      const kept = await schedule(q, 1.5 * hourMs, 7 * hourMs);
      let deleted = 0;
      let from: string | undefined;
      do {
        const answer = await q.admin.clear(8, tillMs, from);
        deleted += answer.deleted;
        from = answer.next;
      } while (from !== undefined);
      expect(deleted).toBe(36);
      expect(await states(q)).toMatchObject({ scheduled: 2, waiting: 0, retrying: 0 });
      q.advance(dayMs);
      expect(ids(await claim(q))).toEqual(kept);
    });

    test("none of them is a dead letter that can be retried", async () => {
      const q = await queue();
      const [id] = await schedule(q, hourMs);
      expect(await q.admin.retry([{ id: id!, seenHistory: "", history: "again" }], {})).toEqual([]);
      expect(await state(q, id!)).toBe("scheduled");
    });
  });

  describe("scheduled emails, under a wrong clock:", () => {
    test("a step ahead sends one early by no more than the step, and a step back strands none", async () => {
      const q = await queue();
      await sweep(q);
      const [first, second, third] = await schedule(q, hourMs, 3 * hourMs, dayMs);
      q.step(2 * hourMs);
      await sweep(q);
      expect(ids(await claim(q))).toEqual([first!]);
      expect(await claimed(q)).toBe("empty");
      q.step(-2 * hourMs);
      await sweep(q);
      expect([await state(q, second!), await state(q, third!)]).toEqual(["scheduled", "scheduled"]);
      q.advance(3 * hourMs);
      await sweep(q);
      expect(ids(await claim(q, { sources: ["emails"] }))).toEqual([second!]);
      q.advance(21 * hourMs);
      await sweep(q);
      expect(ids(await claim(q, { sources: ["emails"] }))).toEqual([third!]);
    });

    test("a step back delays one until the clock is right again", async () => {
      const q = await queue();
      await sweep(q);
      const [id] = await schedule(q, hourMs);
      q.step(-yearMs);
      await sweep(q);
      q.advance(hourMs);
      expect(await state(q, id!)).toBe("scheduled");
      q.step(yearMs);
      await sweep(q);
      expect(ids(await claim(q))).toEqual([id!]);
    });

    test("one that was retried while the clock was ahead is not stranded when it steps back", async () => {
      const q = await queue();
      await sweep(q);
      const [id] = await schedule(q, hourMs);
      q.step(yearMs);
      await sweep(q);
      await settle(q, await claim(q), [due(id!, hourMs)]);
      q.step(-yearMs);
      await sweep(q);
      expect(ids(await claim(q))).toEqual([id!]);
    });

    test("sweeps do not make one due, however far ahead its time is", async () => {
      const q = await queue();
      const [id] = await schedule(q, 30 * dayMs);
      await sweep(q);
      for (let day = 0; day < 29; day += 1) {
        q.advance(dayMs);
        await sweep(q);
      }
      expect(await state(q, id!)).toBe("scheduled");
      expect((await q.admin.stats()).counters).toEqual({});
      q.advance(dayMs);
      expect(ids(await claim(q))).toEqual([id!]);
    });
  });

  describe("the idempotency key of a scheduled email", () => {
    const keyed = (sendAtMs: number, fingerprint = "a", token = "") =>
      scheduled(sendAtMs, { idempotency: { key: "order-17", fingerprint, token } });

    test("lives for a day after the time of the email, through sweeps", async () => {
      const q = await queue();
      // The very first sweep does not trust the clock for an hour.
      await sweep(q);
      q.advance(2 * hourMs);
      await sweep(q);
      const sendAtMs = (await nowMs(q)) + 10 * dayMs;
      const first = keyed(sendAtMs);
      await submit(q, first);
      // Another token used the key for the same email.
      expect(await submit(q, keyed(sendAtMs, "a", "t"))).toEqual([first.id]);
      for (let day = 0; day < 10; day += 1) {
        await sweep(q);
        expect(await submit(q, keyed(sendAtMs))).toEqual([first.id]);
        q.advance(dayMs);
      }
      await settle(q, await claim(q), [sent(first.id)]);
      q.advance(23 * hourMs);
      await sweep(q);
      for (const token of ["", "t"]) {
        expect(await submit(q, keyed(sendAtMs, "a", token))).toEqual([first.id]);
        expect(await q.producer.submit(keyed(sendAtMs, "b", token), soon())).toEqual({ kind: "conflict" });
      }
      q.advance(2 * hourMs);
      await sweep(q);
      const later = keyed(sendAtMs, "b");
      expect(await submit(q, later)).toEqual([later.id]);
    });

    test("lives for a day from its use on if the time of the email is over", async () => {
      const q = await queue();
      await sweep(q);
      q.advance(2 * hourMs);
      await sweep(q);
      const sendAtMs = (await nowMs(q)) - 10 * dayMs;
      const first = keyed(sendAtMs);
      await submit(q, first);
      q.advance(23 * hourMs);
      await sweep(q);
      expect(await submit(q, keyed(sendAtMs))).toEqual([first.id]);
      q.advance(2 * hourMs);
      await sweep(q);
      const later = keyed(sendAtMs);
      expect(await submit(q, later)).toEqual([later.id]);
    });

    testUndivided("keeps its life in the queue to which an operator moves it", async () => {
      const [q, target] = [await queue(), await queue()];
      const sendAtMs = (await nowMs(q)) + 10 * dayMs;
      const first = keyed(sendAtMs);
      await submit(q, first);
      const { keys } = await q.admin.listKeys(10);
      expect(keys[0]!.uses[0]!.lifeMs).toBeWithin(11 * dayMs - hangMs, 11 * dayMs + 1);
      expect(await target.admin.rememberKeys(keys)).toEqual({ added: 1, conflicts: 0 });
      await sweep(target);
      target.advance(2 * hourMs);
      await sweep(target);
      target.advance(10 * dayMs);
      await sweep(target);
      expect(await submit(target, keyed(sendAtMs))).toEqual([first.id]);
      target.advance(dayMs);
      await sweep(target);
      const later = keyed(sendAtMs);
      expect(await submit(target, later)).toEqual([later.id]);
    });
  });
}
