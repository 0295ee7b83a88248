// The contract of a queue that moves to another store, as its source and as its target: a part of the conformance suite.

import { describe, expect, test } from "bun:test";
import { movingText, type StoredKey } from "../../lib/queue/contract.ts";
import { hourMs, type QueueUnderTest, serving, soon, submission, type Tools } from "./conformance_tools.ts";

export function moving(tools: Tools): void {
  const { queue, submit, submitMany, claim, claimed, ids, settle, sent, dead, state } = tools;
  const minuteMs = 60_000;

  const keyed = (key: string, fingerprint = "f", token = "") =>
    submission({ idempotency: { key, fingerprint, token } });

  /** Every key, page by page, by its name. */
  async function listed(
    q: QueueUnderTest,
    limit = 1000,
    between: () => Promise<void> = async () => {},
    lifeMinMs?: number,
  ): Promise<Map<string, StoredKey["uses"]>> {
    const found = new Map<string, StoredKey["uses"]>();
    for (let from: string | undefined, pages = 0; ; pages += 1) {
      const { keys, next } = await q.admin.listKeys(limit, from, lifeMinMs);
      expect(keys.length).toBeLessThanOrEqual(limit);
      for (const { key, uses } of keys) found.set(key, uses);
      if (pages > 1000) throw new Error("listKeys: endless");
      if (next === undefined) return found;
      from = next;
      await between();
    }
  }

  /** Copies every key of one queue to the other. */
  async function copy(from: QueueUnderTest, to: QueueUnderTest) {
    const keys = [...(await listed(from))].map(([key, uses]) => ({ key, uses }));
    return to.admin.rememberKeys(keys);
  }

  async function die(q: QueueUnderTest, history = "died"): Promise<string> {
    const [id] = await submitMany(q, 1);
    await settle(q, await claim(q), [dead(id!, history)]);
    return id!;
  }

  /** A dead letter as another queue adopts it. */
  async function letterOf(q: QueueUnderTest, id: string) {
    const { text, submittedAtMs, atMs, history } = (await q.admin.show(id))!;
    return { id, text: text!, submittedAtMs: submittedAtMs!, diedAtMs: atMs!, history };
  }

  describe("a queue that is being moved", () => {
    test("says so, refuses new keys, answers those that it knows, and queues emails without a key", async () => {
      const q = await queue();
      const known = keyed("k");
      await submit(q, known);
      await q.admin.setMoving(true);
      await q.admin.setMoving(true);
      expect((await q.admin.stats()).moving).toBe(true);
      const answers = await Promise.all(
        [keyed("new"), keyed("k"), keyed("k", "other"), submission()].map((one) =>
          q.producer.submit(one, soon()),
        ),
      );
      expect(answers).toMatchObject([
        { kind: "failed", reason: movingText },
        { kind: "stored", id: known.id, repeated: true },
        { kind: "conflict" },
        { kind: "stored", repeated: false },
      ]);
      // A key that another token used for another email is new to this one.
      expect(await q.producer.submit(keyed("k", "other", "t"), soon())).toMatchObject({ kind: "failed" });
      expect((await q.admin.stats()).states.waiting).toBe(2);
    });

    test("accepts new keys again once the move is canceled", async () => {
      const q = await queue();
      await q.admin.setMoving(true);
      await q.admin.setMoving(false);
      expect((await q.admin.stats()).moving).toBe(false);
      expect(await q.producer.submit(keyed("new"), soon())).toMatchObject({ kind: "stored" });
    });

    test("retries no dead letter, and deletes those that it is told to", async () => {
      const q = await queue();
      const id = await die(q);
      await q.admin.setMoving(true);
      expect(await q.admin.retry([{ id, seenHistory: "died", history: "again" }], {})).toEqual([]);
      expect(await state(q, id)).toBe("dead");
      expect(await q.admin.delete([id], ["died"])).toEqual(["deleted"]);
    });

    test("goes on delivering", async () => {
      const q = await queue();
      const [id] = await submitMany(q, 1);
      await q.admin.setMoving(true);
      await settle(q, await claim(q), [sent(id!)]);
      expect(await state(q, id!)).toBe("sent");
    });
  });

  /** An email that is scheduled for some time from now. */
  async function schedule(q: QueueUnderTest, delayMs: number) {
    const sendAtMs = (await q.admin.stats()).nowMs + delayMs;
    const one = submission({ isHidden: true, sendAtMs });
    await submit(q, one);
    return { id: one.id, sendAtMs };
  }

  describe("withdraw", () => {
    test("makes a scheduled email a dead letter, which a retry schedules again", async () => {
      const q = await queue();
      const { id, sendAtMs } = await schedule(q, 2 * hourMs);
      const before = await q.admin.show(id);
      await q.admin.setMoving(true);
      const change = { id, seenHistory: "", history: "withdrawn" };
      expect(await q.admin.withdraw([change])).toEqual([id]);
      expect(await q.admin.withdraw([change])).toEqual([]);
      expect(await q.admin.show(id)).toMatchObject({ state: "dead", history: "withdrawn" });
      expect((await q.admin.stats()).states).toMatchObject({ scheduled: 0, dead: 1 });
      expect((await q.admin.list("dead", 10)).emails.map((one) => one.id)).toEqual([id]);
      await q.admin.setMoving(false);
      const restored = { id, seenHistory: "withdrawn", history: "", sendAtMs };
      expect(await q.admin.retry([restored], {})).toEqual([id]);
      expect(await q.admin.show(id)).toEqual(before);
      expect((await q.admin.stats()).states).toMatchObject({ scheduled: 1, dead: 0, waiting: 0 });
      expect(await claimed(q)).toBe("empty");
      q.advance(2 * hourMs);
      expect(ids(await claim(q))).toEqual([id]);
    });

    test("also takes an email that has become due, so that no worker claims it any more", async () => {
      const q = await queue();
      const { id } = await schedule(q, hourMs);
      await q.admin.setMoving(true);
      q.advance(2 * hourMs);
      expect(await q.admin.withdraw([{ id, seenHistory: "", history: "w" }])).toEqual([id]);
      expect(await claimed(q)).toBe("empty");
    });

    test("does nothing unless the queue is being moved", async () => {
      const q = await queue();
      const { id } = await schedule(q, hourMs);
      expect(await q.admin.withdraw([{ id, seenHistory: "", history: "w" }])).toEqual([]);
      expect(await state(q, id)).toBe("scheduled");
    });

    test("leaves alone an email that is not scheduled, or has changed since it was seen", async () => {
      const q = await queue();
      const scheduled = await schedule(q, hourMs);
      const begun = await schedule(q, 0);
      expect(ids(await claim(q))).toEqual([begun.id]);
      const [waiting] = await submitMany(q, 1);
      const deleted = await schedule(q, hourMs);
      await q.admin.delete([deleted.id]);
      await q.admin.setMoving(true);
      const all = [begun.id, waiting!, deleted.id].map((id) => ({ id, seenHistory: "", history: "w" }));
      const other = { id: scheduled.id, seenHistory: "other", history: "w" };
      expect(await q.admin.withdraw([...all, other])).toEqual([]);
      expect(await state(q, scheduled.id)).toBe("scheduled");
    });
  });

  describe("listKeys", () => {
    test("returns each key with its uses and their remaining life, whatever the size of a page", async () => {
      const q = await queue();
      const emails = Array.from({ length: 25 }, (_, i) => keyed(`k${i}`));
      await submit(q, ...emails);
      const other = keyed("k3", "other", "t");
      await submit(q, other);
      for (const limit of [1, 7, 1000]) {
        const found = await listed(q, limit);
        expect([...found.keys()].toSorted()).toEqual(emails.map((_, i) => `k${i}`).toSorted());
        expect(found.get("k3")).toMatchObject([
          { id: emails[3]!.id, fingerprint: "f", token: "" },
          { id: other.id, fingerprint: "other", token: "t" },
        ]);
        for (const { lifeMs } of found.get("k3")!) {
          expect(lifeMs).toBeWithin(23 * hourMs, 24 * hourMs + 1);
        }
      }
    });

    test("leaves out keys that will expire sooner, unless a younger email has them too", async () => {
      const q = await queue();
      await submit(q, keyed("old"), keyed("shared"), keyed("repeated"));
      q.advance(hourMs);
      await submit(q, keyed("shared", "other", "t"), keyed("repeated"), keyed("young"), keyed("young2"));
      for (const limit of [1, 1000]) {
        const found = await listed(q, limit, undefined, 24 * hourMs - 10 * minuteMs);
        expect([...found.keys()].toSorted()).toEqual(["shared", "young", "young2"]);
        expect(found.get("shared")).toHaveLength(2);
      }
    });

    test("misses no key that stays, while others expire and are added", async () => {
      const q = await queue();
      await q.consumer.sweep(serving("resend"));
      await submit(q, ...Array.from({ length: 20 }, (_, i) => keyed(`old${i}`)));
      q.advance(hourMs);
      // One use of this key expires with the others, and one stays.
      await submit(
        q,
        keyed("old7", "other", "t"),
        ...Array.from({ length: 20 }, (_, i) => keyed(`young${i}`)),
      );
      q.advance(23 * hourMs - minuteMs);
      await q.consumer.sweep(serving("resend"));
      let pages = 0;
      const found = await listed(q, 7, async () => {
        pages += 1;
        await submit(q, keyed(`added${pages}`));
        if (pages !== 2) return;
        q.advance(2 * minuteMs);
        await q.consumer.sweep(serving("resend"));
      });
      const stays = [...Array.from({ length: 20 }, (_, i) => `young${i}`), "old7"];
      expect(stays.filter((key) => !found.has(key))).toEqual([]);
      const left = await listed(q);
      expect([left.has("old3"), left.get("old7")?.length]).toEqual([false, 1]);
    });
  });

  describe("rememberKeys", () => {
    test("answers a repeated submission with the first id, for the rest of the key's life", async () => {
      const [from, to] = [await queue(), await queue()];
      // Without a first sweep, nothing would expire for an hour.
      await to.consumer.sweep(serving("resend"));
      const first = keyed("k");
      await submit(from, first);
      from.advance(hourMs);
      expect(await copy(from, to)).toEqual({ added: 1, conflicts: 0 });
      expect(await to.producer.submit(keyed("k"), soon())).toEqual({
        kind: "stored",
        id: first.id,
        repeated: true,
      });
      expect(await to.producer.submit(keyed("k", "other"), soon())).toEqual({ kind: "conflict" });
      expect((await to.admin.stats()).states.waiting).toBe(0);
      to.advance(23 * hourMs - minuteMs);
      await to.consumer.sweep(serving("resend"));
      expect((await listed(to)).size).toBe(1);
      to.advance(2 * minuteMs);
      await to.consumer.sweep(serving("resend"));
      expect((await listed(to)).size).toBe(0);
    });

    test("can be repeated, and never shortens the life of a key", async () => {
      const [from, to] = [await queue(), await queue()];
      await submit(from, keyed("k"));
      await copy(from, to);
      from.advance(5 * hourMs);
      expect(await copy(from, to)).toEqual({ added: 0, conflicts: 0 });
      expect((await listed(to)).get("k")![0]!.lifeMs).toBeGreaterThan(23 * hourMs);
    });

    test("extends the life of a key that the other queue keeps for longer", async () => {
      const q = await queue();
      const use = { id: Bun.randomUUIDv7(), fingerprint: "f", token: "" };
      await q.admin.rememberKeys([{ key: "k", uses: [{ ...use, lifeMs: 2 * hourMs }] }]);
      await q.admin.rememberKeys([{ key: "k", uses: [{ ...use, lifeMs: 5 * hourMs }] }]);
      q.advance(3 * hourMs);
      await q.consumer.sweep(serving("resend"));
      expect((await listed(q)).get("k")![0]!.lifeMs).toBeWithin(hourMs, 2 * hourMs + 1);
    });

    test("keeps a key for an hour that should have expired", async () => {
      const q = await queue();
      const use = { id: Bun.randomUUIDv7(), fingerprint: "f", token: "", lifeMs: -hourMs };
      await q.admin.rememberKeys([{ key: "k", uses: [use] }]);
      expect((await listed(q)).get("k")![0]!.lifeMs).toBeWithin(hourMs - minuteMs, hourMs + 1);
    });

    test("leaves a key as it is that this queue has for another email of the same token", async () => {
      const [from, to] = [await queue(), await queue()];
      const own = [keyed("k1", "own"), keyed("k2")];
      await submit(from, keyed("k1"), keyed("k2"));
      await submit(to, ...own);
      expect(await copy(from, to)).toEqual({ added: 0, conflicts: 2 });
      expect(await submit(to, keyed("k1", "own"), keyed("k2"))).toEqual(own.map(({ id }) => id));
      expect(await to.producer.submit(keyed("k1"), soon())).toEqual({ kind: "conflict" });
    });

    test("adds the uses of other tokens to a key", async () => {
      const [from, to] = [await queue(), await queue()];
      const first = keyed("k", "f", "t1");
      const second = keyed("k", "other", "t2");
      await submit(from, first);
      await submit(from, second);
      await submit(to, keyed("k", "third", "t3"));
      expect(await copy(from, to)).toEqual({ added: 2, conflicts: 0 });
      const repeats = [keyed("k", "f", "t1"), keyed("k", "other", "t2"), keyed("k", "f", "t4")];
      expect(await submit(to, ...repeats)).toEqual([first.id, second.id, first.id]);
      expect(await to.producer.submit(keyed("k", "fifth", "t1"), soon())).toEqual({ kind: "conflict" });
    });
  });

  describe("adopt", () => {
    test("adds a dead letter with its id, text, times and history, which can be retried", async () => {
      const [from, to] = [await queue(), await queue()];
      const letter = await letterOf(from, await die(from, "the history"));
      const { id } = letter;
      expect(await to.admin.adopt([letter])).toEqual(["adopted"]);
      expect(await letterOf(to, id)).toEqual(letter);
      expect((await to.admin.stats()).states).toMatchObject({ dead: 1, waiting: 0 });
      expect((await to.admin.list("dead", 10)).emails.map((one) => one.id)).toEqual([id]);
      await to.admin.retry([{ id, seenHistory: "the history", history: "again" }], {});
      const batch = await claim(to);
      expect(batch.emails).toMatchObject([{ id, text: letter.text, history: "again" }]);
      await settle(to, batch, [sent(id)]);
      expect((await to.admin.stats()).states).toMatchObject({ dead: 0, sent: 1 });
    });

    test("changes nothing about an email that the queue knows", async () => {
      const q = await queue();
      const letter = await letterOf(q, await die(q));
      const { id } = letter;
      const other = { ...letter, history: "other" };
      expect(await q.admin.adopt([other])).toEqual(["known"]);
      expect((await q.admin.show(id))!.history).toBe("died");
      await q.admin.retry([{ id, seenHistory: "died", history: "again" }], {});
      expect(await q.admin.adopt([other])).toEqual(["known"]);
      expect(await state(q, id)).toBe("waiting");
      await settle(q, await claim(q), [sent(id)]);
      expect(await q.admin.adopt([other])).toEqual(["known"]);
      expect(await state(q, id)).toBe("sent");
    });

    test("leaves a letter deleted that was deleted here", async () => {
      const q = await queue();
      const letter = await letterOf(q, await die(q));
      await q.admin.delete([letter.id]);
      expect(await q.admin.adopt([letter])).toEqual(["deleted"]);
      expect(await state(q, letter.id)).toBe("deleted");
    });

    test("takes back a letter that another queue had adopted", async () => {
      const q = await queue();
      const letter = await letterOf(q, await die(q));
      const { id } = letter;
      expect(await q.admin.delete([id], ["other"], true)).toEqual(["changed"]);
      expect(await q.admin.delete([id], ["died"], true)).toEqual(["deleted"]);
      expect(await state(q, id)).toBe("deleted");
      expect(await q.admin.adopt([letter])).toEqual(["adopted"]);
      expect(await letterOf(q, id)).toEqual(letter);
      expect((await q.admin.stats()).states).toMatchObject({ dead: 1, sent: 0 });
      await q.admin.retry([{ id, seenHistory: "died", history: "again" }], {});
      await settle(q, await claim(q), [sent(id)]);
      expect((await q.admin.stats()).states).toMatchObject({ dead: 0, sent: 1 });
      expect((await q.admin.list("sent", 10)).emails).toHaveLength(1);
    });

    test("a letter leaves the other queue once, however often its deletion is repeated", async () => {
      const q = await queue();
      const [moved, deleted] = [await die(q), await die(q)];
      await q.admin.delete([deleted]);
      for (let i = 0; i < 2; i += 1)
        expect(await q.admin.delete([moved], ["died"], true)).toEqual(["deleted"]);
      // By an operator.
      expect(await q.admin.delete([deleted], ["died"], true)).toEqual(["unknown"]);
    });

    test("of a letter from a clock that is ahead gives it the present time of death", async () => {
      const q = await queue();
      const { nowMs } = await q.admin.stats();
      const letter = { ...submission(), submittedAtMs: nowMs, diedAtMs: nowMs + hourMs, history: "h" };
      await q.admin.adopt([letter]);
      expect((await q.admin.show(letter.id))!.atMs! - nowMs).toBeLessThan(hourMs);
    });
  });
}
