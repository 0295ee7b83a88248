// The contract of a queue for an operator: the second part of the conformance suite.

import { describe, expect, test } from "bun:test";
import { envelopeLine } from "../../lib/email/email.ts";
import {
  type Batch,
  type EmailFate,
  type Page,
  type StoredEmail,
  StoreUnavailable,
} from "../../lib/queue/contract.ts";
import {
  batchesFirst,
  emailsFirst,
  noEmails,
  endedRequest,
  hourMs,
  leaseMs,
  type QueueUnderTest,
  serving,
  submission,
  type Tools,
} from "./conformance_tools.ts";
import { hangMs } from "../support/eventually.ts";

type Listable = Parameters<QueueUnderTest["admin"]["list"]>[0];
type Order = NonNullable<Parameters<QueueUnderTest["admin"]["list"]>[3]>;
const orders: readonly Order[] = ["oldest", "newest"];
const states: readonly Listable[] = ["waiting", "retrying", "sending", "in-doubt", "sent", "dead"];

export function operating(tools: Tools): void {
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
  } = tools;
  const all = { countMax: 5000, bytesMax: 64 * 1024 * 1024 } as const;

  /** Submits an email and waits for its wake-up, so that the next wake-up has another cause. */
  async function submitAndWake(q: QueueUnderTest): Promise<string> {
    expect(await claimed(q)).toBe("empty");
    const woken = new Promise<void>((resolve) => q.consumer.onWake(resolve));
    const [id] = await submitMany(q, 1);
    await woken;
    return id!;
  }

  /** Every email in a state, page by page. */
  async function listed(
    q: QueueUnderTest,
    wanted: Listable,
    limit = 1000,
    between: (page: Page) => Promise<void> = async () => {},
    order?: Order,
  ): Promise<StoredEmail[]> {
    const emails: StoredEmail[] = [];
    for (let from: string | undefined; ;) {
      const page = await q.admin.list(wanted, limit, from, order);
      expect(page.emails.length).toBeLessThanOrEqual(limit);
      emails.push(...page.emails);
      if (emails.length > 20_000) throw new Error("list: endless");
      if (page.next === undefined) return emails;
      from = page.next;
      await between(page);
    }
  }
  const idsOf = (emails: readonly StoredEmail[]) => emails.map(({ id }) => id);
  const listedIds = async (q: QueueUnderTest, wanted: Listable, limit?: number, order?: Order) =>
    idsOf(await listed(q, wanted, limit, undefined, order));

  /** One email in each state, by the state's name. */
  async function oneOfEach(q: QueueUnderTest) {
    const [retrying, inDoubt, gone, died] = await submitMany(q, 4);
    const first = await claim(q, { countMax: 1 });
    await settle(q, first, [due(retrying!, hourMs, "tried")]);
    const second = await claim(q, { countMax: 1, sources: emailsFirst });
    await settle(q, second, [], { delayMs: hourMs, notes: "looked" });
    const third = await claim(q, { countMax: 1 });
    await settle(q, third, [sent(gone!, "the record")]);
    const fourth = await claim(q, { countMax: 1 });
    await settle(q, fourth, [dead(died!)]);
    const [sending] = await submitMany(q, 1);
    const fifth = await claim(q);
    const [waiting] = await submitMany(q, 1);
    const idOf = { retrying, "in-doubt": inDoubt, sent: gone, dead: died, sending, waiting };
    return { idOf: idOf as Record<Listable, string>, sending: fifth, doubtful: second };
  }

  describe("show", () => {
    test("returns the state of an email, since when, and its batch", async () => {
      const q = await queue();
      const { idOf, sending, doubtful } = await oneOfEach(q);
      const { nowMs } = await q.admin.stats();
      const shown = async (of: Listable) => (await q.admin.show(idOf[of]))!;
      const waiting = await shown("waiting");
      expect(waiting).toMatchObject({ state: "waiting", history: "" });
      expect([waiting.record, waiting.batch]).toEqual([undefined, undefined]);
      expect(waiting.submittedAtMs).toBeWithin(nowMs - hangMs, nowMs + 1);
      expect(waiting.atMs).toBe(waiting.submittedAtMs!);
      const retrying = await shown("retrying");
      expect(retrying).toMatchObject({ state: "retrying", history: "tried" });
      expect(retrying.batch).toBeUndefined();
      expect(retrying.atMs! - nowMs).toBeWithin(hourMs - hangMs, hourMs + 1);
      const taken = await shown("sending");
      expect([taken.state, taken.atMs]).toEqual(["sending", undefined]);
      expect(taken.batch).toEqual({
        id: sending.id,
        provider: "resend",
        lease: 1,
        emailIds: ids(sending),
        dueAtMs: sending.leaseEndsAtMs,
        leased: true,
        leaseExpired: false,
        doubtSinceMs: undefined,
        notes: "",
      });
      const inDoubt = await shown("in-doubt");
      expect(inDoubt).toMatchObject({
        state: "in-doubt",
        batch: { id: doubtful.id, notes: "looked", leased: false, leaseExpired: false },
      });
      expect(inDoubt.batch!.doubtSinceMs).toBeWithin(doubtful.nowMs, nowMs + 1);
      expect(inDoubt.batch!.dueAtMs).toBe(inDoubt.batch!.doubtSinceMs! + hourMs);
      const died = await shown("dead");
      expect(died).toMatchObject({ state: "dead", history: "died" });
      expect(died.batch).toBeUndefined();
      expect(died.atMs).toBeWithin(died.submittedAtMs!, nowMs + 1);
      await q.admin.delete([idOf.waiting]);
      expect(await q.admin.show(idOf.waiting)).toEqual({
        id: idOf.waiting,
        state: "deleted",
        text: undefined,
        submittedAtMs: undefined,
        atMs: undefined,
        history: "",
        record: undefined,
        batch: undefined,
      });
    });
  });

  describe("show of an email in a batch", () => {
    test("returns whether a worker holds it, and whether one was lost with it", async () => {
      const q = await queue();
      const [id] = await submitMany(q, 1);
      const shown = async () => {
        const { state: where, batch } = (await q.admin.show(id!))!;
        return { where, ...batch };
      };
      const first = await claim(q);
      expect(await shown()).toMatchObject({ where: "sending", leased: true, leaseExpired: false });
      q.advance(leaseMs + 1);
      expect(await shown()).toMatchObject({
        where: "in-doubt",
        leased: false,
        leaseExpired: true,
        dueAtMs: first.leaseEndsAtMs,
      });
      expect((await shown()).doubtSinceMs).toBeUndefined();
      const second = await claim(q);
      const again = { where: "in-doubt", leased: true, leaseExpired: true, dueAtMs: second.leaseEndsAtMs };
      expect(await shown()).toMatchObject(again);
      await settle(q, second, [], { delayMs: 0, notes: "" });
      expect(await shown()).toMatchObject({ where: "in-doubt", leased: false, leaseExpired: false });
      await claim(q);
      expect(await shown()).toMatchObject({ where: "in-doubt", leased: true, leaseExpired: false });
    });
  });

  describe("a list", () => {
    test("contains the emails in one state, as show returns them but without content and the batch's emails", async () => {
      const q = await queue();
      const { idOf } = await oneOfEach(q);
      for (const one of states) {
        const shown = (await q.admin.show(idOf[one]))!;
        expect(shown.state).toBe(one);
        const { emails, next } = await q.admin.list(one, 100);
        const batch = shown.batch && { ...shown.batch, emailIds: undefined };
        expect(emails).toEqual([{ ...shown, batch, text: envelopeLine(shown.text!) }]);
        expect(next).toBeUndefined();
      }
    });

    test("of a state without emails is empty", async () => {
      const q = await queue();
      for (const one of states) expect(await q.admin.list(one, 100)).toEqual({ emails: [], next: undefined });
    });

    test("starts at the oldest or the newest, for any provider and for one", async () => {
      const q = await queue();
      const own = await submitMany(q, 6);
      const batch = await claim(q);
      const only = ["", "postmark", "resend", "", "gone", "postmark"];
      await settle(
        q,
        batch,
        own.map(
          (id, i) => ({ ...due(id, (6 - i) * hourMs), ...(only[i] && { only: only[i] }) }) as EmailFate,
        ),
      );
      for (const limit of [1, 2, 4, 6, 7]) {
        expect(await listedIds(q, "retrying", limit)).toEqual(own.toReversed());
        expect(await listedIds(q, "retrying", limit, "newest")).toEqual(own);
      }
      q.advance(3.5 * hourMs);
      for (const limit of [1, 2, 3]) {
        expect(await listedIds(q, "retrying", limit)).toEqual(own.slice(0, 3).toReversed());
        expect(await listedIds(q, "waiting", limit)).toEqual(own.slice(3).toReversed());
        expect(await listedIds(q, "retrying", limit, "newest")).toEqual(own.slice(0, 3));
        expect(await listedIds(q, "waiting", limit, "newest")).toEqual(own.slice(3));
      }
    });

    testUndivided("of retrying emails does not read all waiting ones, nor vice versa", async () => {
      const q = await queue();
      const some = await submitMany(q, 300);
      const batch = await claim(q, { countMax: 200 });
      await settle(
        q,
        batch,
        ids(batch).map((id) => due(id, hourMs)),
      );
      const later = await q.admin.list("retrying", 150);
      expect(idsOf(later.emails)).toEqual(some.slice(0, 150));
      const now = await q.admin.list("waiting", 150);
      expect(idsOf(now.emails)).toEqual(some.slice(200));
      expect(now.next).toBeUndefined();
      const last = await q.admin.list("retrying", 150, undefined, "newest");
      expect(idsOf(last.emails)).toEqual(some.slice(50, 200).toReversed());
      expect(await listedIds(q, "waiting", 150, "newest")).toEqual(some.slice(200).toReversed());
      q.advance(hourMs + 1);
      expect(await q.admin.list("retrying", 150)).toEqual({ emails: [], next: undefined });
    });

    const together: Partial<Record<Listable, (q: QueueUnderTest) => Promise<unknown>>> = {
      waiting: async (q) => {
        const batch = await claim(q, all);
        await settle(
          q,
          batch,
          ids(batch).map((id, i) => (i % 3 === 0 ? { ...due(id), only: "postmark" } : due(id)) as EmailFate),
        );
      },
      retrying: async (q) => {
        const batch = await claim(q, all);
        await settle(
          q,
          batch,
          ids(batch).map((id, i) => {
            return (i % 3 === 0 ? { ...due(id, hourMs), only: "postmark" } : due(id, hourMs)) as EmailFate;
          }),
        );
      },
      sending: (q) => claim(q, all),
      "in-doubt": async (q) => settle(q, await claim(q, all), [], { delayMs: hourMs, notes: "" }),
      sent: async (q) => {
        const batch = await claim(q, all);
        await settle(
          q,
          batch,
          ids(batch).map((id) => sent(id)),
        );
      },
      dead: async (q) => {
        const batch = await claim(q, all);
        await settle(
          q,
          batch,
          ids(batch).map((id) => dead(id)),
        );
      },
    };
    for (const one of states) {
      test(`lists each of thousands once that are ${one} since the same moment`, async () => {
        const q = await queue();
        const expected = (await submitMany(q, 2500)).toSorted();
        await together[one]?.(q);
        for (const limit of [1000, 97]) {
          const rising = await listedIds(q, one, limit);
          expect(rising.toSorted()).toEqual(expected);
          expect(await listedIds(q, one, limit, "newest")).toEqual(rising.toReversed());
        }
      });
    }

    test("lists each email of many batches once, whether or not the lease has expired", async () => {
      const q = await queue();
      const lapsing = await submitMany(q, 30);
      for (let i = 0; i < 10; i += 1)
        await claim(q, { countMax: 3, sources: emailsFirst, provider: i % 2 ? "postmark" : "resend" });
      q.advance(leaseMs + 1);
      const recorded = await claim(q, { provider: "postmark" });
      const begun = await submitMany(q, 30);
      for (let i = 0; i < 10; i += 1) await claim(q, { countMax: 3, sources: emailsFirst });
      for (const limit of [1, 7, 1000]) {
        for (const order of orders) {
          expect((await listedIds(q, "in-doubt", limit, order)).toSorted()).toEqual(lapsing.toSorted());
          const sending = await listedIds(q, "sending", limit, order);
          expect(sending.toSorted()).toEqual(begun.toSorted());
        }
      }
      expect(recorded.leaseExpired).toBe(true);
      expect((await q.admin.stats()).states).toMatchObject({ sending: 30, "in-doubt": 30 });
    });

    test("lists each email once of a batch that is not ordered by id", async () => {
      const q = await queue();
      const some = await submitMany(q, 9);
      await settle(
        q,
        await claim(q),
        some.map((id, i) => due(id, ((i * 5) % 9) * 100)),
      );
      q.advance(1000);
      const batch = await claim(q);
      expect(ids(batch)).not.toEqual(some);
      for (const limit of [1, 2, 4]) expect((await listedIds(q, "sending", limit)).toSorted()).toEqual(some);
      q.advance(leaseMs + 1);
      for (const limit of [1, 2, 4]) expect((await listedIds(q, "in-doubt", limit)).toSorted()).toEqual(some);
    });

    test.each(orders)(
      "from the %s lists no email twice, and all that stay, while others come and go",
      async (order) => {
        const q = await queue();
        const before = await submitMany(q, 200);
        const moved = new Set<string>();
        const churn = async ({ emails: page }: Page) => {
          // Also removes the email after which the next page begins.
          const [first, last] = [page[0]!.id, page.at(-1)!.id];
          await q.admin.delete([first, last]);
          const batch = await claim(q, { countMax: 5 });
          await settle(
            q,
            batch,
            ids(batch).map((id) => due(id, hourMs)),
          );
          for (const id of [first, last, ...ids(batch)]) moved.add(id);
          await submitMany(q, 3);
        };
        const emails = await listed(q, "waiting", 20, churn, order);
        const named = idsOf(emails);
        expect(new Set(named).size).toBe(named.length);
        for (const id of before) if (!moved.has(id)) expect(named).toContain(id);
      },
    );

    testUndivided.each(orders)(
      "of dead letters from the %s continues after one that was retried meanwhile",
      async (order) => {
        const q = await queue();
        const some = await submitMany(q, 50);
        const batch = await claim(q);
        await settle(
          q,
          batch,
          some.map((id) => dead(id)),
        );
        const replayAll = async ({ emails }: Page) => {
          const retries = emails.map(({ id, history }) => ({ id, seenHistory: history, history: "r" }));
          await q.admin.retry(retries, {});
        };
        const named = await listed(q, "dead", 7, replayAll, order);
        expect(idsOf(named).toSorted()).toEqual(some.toSorted());
        // Nothing changed after the last page.
        expect(await listedIds(q, "dead")).toEqual(idsOf(named).slice(49));
      },
    );

    test("of sent emails omits deleted ones, however many there are", async () => {
      const q = await queue();
      const gone = await submitMany(q, 400);
      await q.admin.delete(gone);
      const some = await submitMany(q, 30);
      const batch = await claim(q);
      await settle(
        q,
        batch,
        some.map((id) => sent(id)),
      );
      const after = await submitMany(q, 200);
      await q.admin.delete(after);
      for (const limit of [10, 1000])
        expect((await listedIds(q, "sent", limit)).toSorted()).toEqual(some.toSorted());
    });

    test("of emails in doubt omits those accepted elsewhere meanwhile", async () => {
      const q = await queue();
      const some = await submitMany(q, 3);
      const old = await claim(q);
      q.advance(leaseMs + 1);
      const current = await claim(q);
      await settle(q, old, [sent(some[1]!)], doubt);
      expect((await listedIds(q, "in-doubt")).toSorted()).toEqual([some[0]!, some[2]!].toSorted());
      await settle(q, current, [], doubt);
      expect((await listedIds(q, "in-doubt", 1)).toSorted()).toEqual([some[0]!, some[2]!].toSorted());
    });

    test("of large emails has short pages and omits none", async () => {
      const q = await queue();
      const large = Array.from({ length: 12 }, () => submission({}, "x".repeat(900_000)));
      for (const one of large) await submit(q, one);
      const page = await q.admin.list("waiting", 1000);
      expect(page.emails.length).toBeWithin(1, 12);
      const emails = await listed(q, "waiting");
      expect(idsOf(emails)).toEqual(large.map(({ id }) => id));
      for (const { text } of emails) expect(text).toBe(envelopeLine(large[0]!.text));
    });
  });

  describe("an operator's retry", () => {
    /** This many dead letters from one batch. */
    async function letters(count: number) {
      const q = await queue();
      const some = await submitMany(q, count);
      await settle(
        q,
        await claim(q),
        some.map((id) => dead(id, `died ${id}`)),
      );
      const retries = some.map((id) => ({ id, seenHistory: `died ${id}`, history: `again ${id}` }));
      return { q, some, retries };
    }

    test("returns dead letters to waiting, for any provider, under a new key, with the given history", async () => {
      const { q, some, retries } = await letters(3);
      expect(await q.admin.retry(retries.slice(0, 2), { replayed: 1, possible_duplicates: 2 })).toEqual(
        some.slice(0, 2),
      );
      expect(await Promise.all(some.map((id) => state(q, id)))).toEqual(["waiting", "waiting", "dead"]);
      const { states: counts, counters } = await q.admin.stats();
      expect(counts).toMatchObject({ waiting: 2, dead: 1 });
      expect(counters).toEqual({ replayed: 2, possible_duplicates: 4 });
      const batch = await claim(q, { provider: "postmark" });
      expect(batch.emails).toMatchObject(
        some.slice(0, 2).map((id) => ({ id, history: `again ${id}`, text: submission().text })),
      );
      expect(batch).toMatchObject({ lease: 1, leaseExpired: false, notes: "" });
      expect(batch.doubtSinceMs).toBeUndefined();
    });

    test("leaves emails alone that are not dead, or have died again since they were read", async () => {
      const q = await queue();
      const { idOf } = await oneOfEach(q);
      const others = states.filter((one) => one !== "dead").map((one) => idOf[one]);
      const retries = [...others, Bun.randomUUIDv7()].flatMap((id) =>
        ["", "died", "tried"].map((seenHistory) => ({ id, seenHistory, history: "x" })),
      );
      retries.push({ id: idOf.dead, seenHistory: "died before", history: "x" });
      retries.push({ id: idOf.dead, seenHistory: "", history: "x" });
      const before = await tools.counted(q);
      expect(await q.admin.retry(retries, { replayed: 1 })).toEqual([]);
      expect(await tools.counted(q)).toEqual(before);
      expect(await q.admin.show(idOf.dead)).toMatchObject({ state: "dead", history: "died" });
    });

    test("retries the valid ones, and each once even if repeated or named twice", async () => {
      const { q, some, retries } = await letters(3);
      const mixed = [
        { ...retries[0]!, seenHistory: "other" },
        retries[1]!,
        retries[1]!,
        { id: Bun.randomUUIDv7(), seenHistory: "", history: "" },
        retries[2]!,
      ];
      expect(await q.admin.retry(mixed, { replayed: 1 })).toEqual([some[1]!, some[2]!]);
      expect(await q.admin.retry(mixed, { replayed: 1 })).toEqual([]);
      expect((await q.admin.stats()).counters).toEqual({ replayed: 2 });
      expect(await q.admin.retry([], { replayed: 1 })).toEqual([]);
    });

    test("works with an empty history before or after", async () => {
      const q = await queue();
      const [id] = await submitMany(q, 1);
      await settle(q, await claim(q), [dead(id!, "")]);
      expect(await q.admin.retry([{ id: id!, seenHistory: "", history: "" }], {})).toEqual([id!]);
      await settle(q, await claim(q), [dead(id!, "died")]);
      expect(await q.admin.retry([{ id: id!, seenHistory: "died", history: "" }], {})).toEqual([id!]);
      expect(await q.admin.show(id!)).toMatchObject({ state: "waiting", history: "" });
    });

    test("of a thousand emails is one step", async () => {
      const q = await queue();
      const some = await submitMany(q, 1000);
      await settle(
        q,
        await claim(q, all),
        some.map((id) => dead(id)),
      );
      const retries = some.map((id) => ({ id, seenHistory: "died", history: "again" }));
      expect(await q.admin.retry(retries, { replayed: 1 })).toEqual(some);
      expect(await tools.counted(q)).toMatchObject({
        states: { waiting: 1000, dead: 0 },
        counters: { replayed: 1000 },
      });
    });

    test("wakes a worker that found nothing", async () => {
      const q = await queue();
      const id = await submitAndWake(q);
      await settle(q, await claim(q), [dead(id)]);
      expect(await claimed(q)).toBe("empty");
      const woken = new Promise<void>((resolve) => q.consumer.onWake(resolve));
      await q.admin.retry([{ id, seenHistory: "died", history: "again" }], {});
      await woken;
    });

    test("is overridden by a late acceptance: the email ends as sent", async () => {
      const q = await queue();
      const [id] = await submitMany(q, 1);
      const old = await claim(q);
      q.advance(leaseMs + 1);
      await settle(q, await claim(q), [dead(id!)]);
      await q.admin.retry([{ id: id!, seenHistory: "died", history: "again" }], {});
      await settle(q, old, [sent(id!, "late")]);
      expect(await q.admin.show(id!)).toMatchObject({ state: "sent", record: "late" });
      expect(await claimed(q)).toBe("empty");
    });
  });

  describe("an operator's end of doubt", () => {
    const shown = async (q: QueueUnderTest, id: string) => (await q.admin.show(id))!.batch!;
    const back = (some: readonly string[]) => ({ fates: some.map((id) => due(id)), counts: {} });

    test("returns all emails of the batch to waiting", async () => {
      const q = await queue();
      const some = await submitMany(q, 3);
      const first = await claim(q, { context: "c" });
      await settle(q, first, [], { delayMs: hourMs, notes: "looked" });
      const batch = await shown(q, some[1]!);
      expect(batch).toMatchObject({
        id: first.id,
        lease: 1,
        emailIds: some,
        provider: "resend",
        notes: "looked",
        leaseExpired: false,
      });
      expect((await q.admin.list("in-doubt", 10)).emails[0]!.batch!.emailIds).toBeUndefined();
      const settlement = { ...back(some), counts: { possible_duplicates: 3 } };
      expect(await q.admin.release(batch, settlement)).toBe(true);
      expect(await tools.counted(q)).toMatchObject({
        states: { waiting: 3, sending: 0, "in-doubt": 0 },
        counters: { possible_duplicates: 3 },
      });
      const again = await claim(q, { provider: "postmark" });
      expect(ids(again)).toEqual(some);
      expect(again.id).not.toBe(first.id);
      // Repeating it changes nothing.
      expect(await q.admin.release(batch, settlement)).toBe(false);
      expect((await q.admin.stats()).counters).toEqual({ possible_duplicates: 3 });
    });

    test("takes a batch whose lease has expired, unless its worker has settled it since", async () => {
      const q = await queue();
      const [id, other] = await submitMany(q, 2);
      const [first, second] = [await claim(q, { countMax: 1 }), await claim(q, { countMax: 1 })];
      q.advance(leaseMs + 1);
      const [batch, late] = [await shown(q, id!), await shown(q, other!)];
      expect(batch).toMatchObject({ id: first.id, lease: 1, leased: false, leaseExpired: true });
      expect(await q.admin.release(batch, back([id!]))).toBe(true);
      expect(await settle(q, first, [due(id!, hourMs)])).toEqual({ leaseHeld: false, duplicates: [] });
      expect(await state(q, id!)).toBe("waiting");
      await settle(q, second, [], doubt);
      expect(await q.admin.release(late, back([other!]))).toBe(false);
      expect(await state(q, other!)).toBe("in-doubt");
    });

    test("is refused while a worker holds the batch, or if one has held it since", async () => {
      const q = await queue();
      const [id] = await submitMany(q, 1);
      await settle(q, await claim(q), [], doubt);
      const before = await shown(q, id!);
      const worker = await claim(q);
      const held = await shown(q, id!);
      expect(held.leased).toBe(true);
      for (const batch of [before, held]) expect(await q.admin.release(batch, back([id!]))).toBe(false);
      await settle(q, worker, [], doubt);
      for (const batch of [before, held])
        expect(await q.admin.release(batch, back([id!]))).toBe(batch === held);
    });

    test("is refused if an email has left the batch since, by its worker before the first request", async () => {
      const q = await queue();
      const some = await submitMany(q, 2);
      const worker = await claim(q);
      q.advance(leaseMs + 1);
      const batch = await shown(q, some[0]!);
      expect(batch.leaseExpired).toBe(true);
      // Its lease has expired, but nobody has claimed it since: the worker still settles it.
      const settlement = { fates: [due(some[0]!, hourMs)], counts: {}, keepsLease: true } as const;
      expect(await q.consumer.settle(worker, settlement)).toEqual({ leaseHeld: true, duplicates: [] });
      expect(await q.admin.release(batch, back(some))).toBe(false);
      expect(await Promise.all(some.map((id) => state(q, id)))).toEqual(["retrying", "in-doubt"]);
    });

    test("works while all claims are stopped", async () => {
      const q = await queue();
      const [id] = await submitMany(q, 1);
      await settle(q, await claim(q), [], doubt);
      await q.admin.setPaused(true);
      expect(await q.admin.release(await shown(q, id!), back([id!]))).toBe(true);
      expect(await state(q, id!)).toBe("waiting");
      expect(await claimed(q)).toBe("paused");
    });

    test("lets emails accepted elsewhere meanwhile end as sent", async () => {
      const q = await queue();
      const some = await submitMany(q, 2);
      const old = await claim(q);
      q.advance(leaseMs + 1);
      await settle(q, await claim(q), [], doubt);
      await settle(q, old, [sent(some[0]!, "late")], doubt);
      const batch = await shown(q, some[1]!);
      expect(batch.emailIds).toEqual(some);
      expect(await q.admin.release(batch, back(some))).toBe(true);
      expect(await Promise.all(some.map((id) => state(q, id)))).toEqual(["sent", "waiting"]);
      expect((await q.admin.stats()).states).toMatchObject({ waiting: 1, sent: 1, "in-doubt": 0 });
    });
  });

  describe("a deletion", () => {
    test("has a result for each id: refused in a batch, elsewhere only the id remains", async () => {
      const q = await queue();
      const { idOf } = await oneOfEach(q);
      const unknown = Bun.randomUUIDv7();
      const { waiting, retrying, sending, "in-doubt": inDoubt, sent: gone, dead: died } = idOf;
      const asked = [unknown, waiting, sending, retrying, inDoubt, died, gone, waiting];
      expect(await q.admin.delete(asked)).toEqual([
        "unknown",
        "deleted",
        "in-batch",
        "deleted",
        "in-batch",
        "deleted",
        "unknown",
        "unknown",
      ]);
      expect(await q.admin.delete(asked)).not.toContain("deleted");
      for (const id of [waiting, retrying, died]) {
        expect(await state(q, id)).toBe("deleted");
        const [again] = await submit(q, submission({ id }));
        expect(again).toBe(id);
        expect(await state(q, id)).toBe("deleted");
      }
      expect((await q.admin.stats()).states).toEqual({ ...noEmails, sending: 1, "in-doubt": 1, sent: 1 });
      q.advance(2 * hourMs);
      expect(ids(await claim(q, { countMax: 5 }))).not.toContain(retrying);
      expect(await q.admin.delete([])).toEqual([]);
    });

    test("of dead letters leaves those that were retried since they were listed", async () => {
      const q = await queue();
      const some = await submitMany(q, 4);
      await settle(
        q,
        await claim(q),
        some.map((id) => dead(id)),
      );
      const { emails } = await q.admin.list("dead", 1000);
      const retries = emails
        .slice(0, 2)
        .map(({ id, history }) => ({ id, seenHistory: history, history: "r" }));
      await q.admin.retry(retries, {});
      const batch = await claim(q, { countMax: 1 });
      const asked = [...idsOf(emails), emails[3]!.id, Bun.randomUUIDv7()];
      const seen = [...emails, emails[3]!].map(({ history }) => history);
      expect(await q.admin.delete(asked, [...seen, ""])).toEqual([
        "changed",
        "changed",
        "deleted",
        "deleted",
        "unknown",
        "unknown",
      ]);
      const states = await Promise.all(idsOf(emails).map((id) => state(q, id)));
      expect(states.toSorted()).toEqual(["deleted", "deleted", "sending", "waiting"]);
      expect(ids(batch)).toEqual([emails[states.indexOf("sending")]!.id]);
    });

    test("of a dead letter that died again since it was read is refused", async () => {
      const q = await queue();
      const [id] = await submitMany(q, 1);
      await settle(q, await claim(q), [dead(id!)]);
      const { history: seenHistory } = (await q.admin.list("dead", 1)).emails[0]!;
      await q.admin.retry([{ id: id!, seenHistory, history: "again" }], {});
      await settle(q, await claim(q), [{ id: id!, kind: "dead", history: "again" }]);
      expect(await q.admin.delete([id!], [seenHistory])).toEqual(["changed"]);
      expect(await q.admin.delete([id!], ["again"])).toEqual(["deleted"]);
    });

    test("of emails for one provider leaves nothing for it", async () => {
      const q = await queue();
      const [id] = await submitMany(q, 1);
      await settle(q, await claim(q), [{ ...due(id!), only: "postmark" } as EmailFate]);
      expect(await q.admin.delete([id!])).toEqual(["deleted"]);
      expect(await claimed(q, { provider: "postmark" })).toBe("empty");
    });

    test("of a thousand emails is one step, and their ids are forgotten after a while", async () => {
      const q = await queue();
      await q.consumer.sweep(serving("resend"));
      const some = await submitMany(q, 1000);
      expect(new Set(await q.admin.delete(some))).toEqual(new Set(["deleted"]));
      expect((await q.admin.stats()).states).toMatchObject({ waiting: 0, sent: 0 });
      q.advance(25 * hourMs);
      await q.consumer.sweep(serving("resend"));
      expect(await q.admin.show(some[0]!)).toBeUndefined();
    });
  });

  describe("clearing", () => {
    /** Returns how many emails each call deleted. */
    async function cleared(q: QueueUnderTest, limit: number, tillMs?: number): Promise<number[]> {
      const submittedTillMs = tillMs ?? (await q.admin.stats()).nowMs;
      const counts: number[] = [];
      for (let from: string | undefined; ;) {
        const { deleted, next } = await q.admin.clear(limit, submittedTillMs, from);
        counts.push(deleted);
        if (counts.length > 1000) throw new Error("clear: endless");
        if (next === undefined) return counts;
        from = next;
      }
    }
    const sumOf = (counts: readonly number[]) => counts.reduce((sum, count) => sum + count, 0);

    for (const limit of [1, 4, 1000]) {
      test(`leaves emails submitted since, in whatever list: ${limit} at a time`, async () => {
        const q = await queue();
        const tried = async (provider: string) => {
          const batch = await claim(q, { sources: emailsFirst, countMax: 5 });
          await settle(
            q,
            batch,
            ids(batch).map(
              (id, i) => ({ ...due(id, hourMs), ...(i % 2 && { only: provider }) }) as EmailFate,
            ),
          );
        };
        // Among older and newer emails, some wait for any provider, some for either one, and some until the same later
        // time.
        await submitMany(q, 5);
        await tried("postmark");
        await submitMany(q, 5);
        await tried("resend");
        await submitMany(q, 3);
        const { nowMs, states: before } = await q.admin.stats();
        expect(before).toMatchObject({ waiting: 3, retrying: 10 });
        q.advance(2);
        const since = await submitMany(q, 5);
        const held = await claim(q, { sources: emailsFirst, countMax: 8 });
        await settle(
          q,
          held,
          ids(held).map((id, i) => ({ ...due(id, hourMs), ...(i % 2 && { only: "postmark" }) }) as EmailFate),
        );
        since.push(...(await submitMany(q, 6)));
        expect(sumOf(await cleared(q, limit, nowMs))).toBe(13);
        expect([...(await listedIds(q, "waiting")), ...(await listedIds(q, "retrying"))].toSorted()).toEqual(
          since.toSorted(),
        );
        expect(sumOf(await cleared(q, limit, nowMs))).toBe(0);
      });
    }

    test("ends and skips no email while others arrive, and leave where it stopped", async () => {
      const q = await queue();
      const before = await submitMany(q, 60);
      const { nowMs } = await q.admin.stats();
      q.advance(2);
      const since = await submitMany(q, 10);
      const taken: string[] = [];
      let from: string | undefined;
      let deleted = 0;
      for (let calls = 0; ; calls += 1) {
        expect(calls).toBeLessThan(50);
        const cleared = await q.admin.clear(7, nowMs, from);
        deleted += cleared.deleted;
        if (cleared.next === undefined) break;
        from = cleared.next;
        if (calls < 4) taken.push(...ids(await claim(q, { sources: emailsFirst, countMax: 2 })));
        since.push(...(await submitMany(q, 3)));
      }
      expect(deleted + taken.length).toBe(before.length);
      expect((await listedIds(q, "waiting")).toSorted()).toEqual(since.toSorted());
    });

    test("is refused and deletes nothing once the store's clock was set back", async () => {
      const q = await queue();
      await submitMany(q, 3);
      const { nowMs } = await q.admin.stats();
      q.step(-10_000);
      const [since] = await submitMany(q, 1);
      await expect(q.admin.clear(10, nowMs)).rejects.toThrow(StoreUnavailable);
      q.advance(11_000);
      expect((await q.admin.stats()).states.waiting).toBe(4);
      expect(await state(q, since!)).toBe("waiting");
    });

    test("reads a limited number of bytes at a time of large emails that stay, and ends", async () => {
      const q = await queue();
      const { nowMs } = await q.admin.stats();
      q.advance(2);
      for (let i = 0; i < 8; i += 1) await submit(q, submission({}, "x".repeat(900_000)));
      expect(sumOf(await cleared(q, 1000, nowMs))).toBe(0);
      expect(sumOf(await cleared(q, 1000))).toBe(8);
    });

    testUndivided(
      "deletes waiting and retrying emails, a limited number at a time, and leaves the rest",
      async () => {
        const q = await queue();
        const { idOf } = await oneOfEach(q);
        const [only] = await submitMany(q, 1);
        const batch = await claim(q, { sources: emailsFirst, countMax: 2 });
        await settle(
          q,
          batch,
          ids(batch).map((id) => ({ ...due(id, hourMs), only: "postmark" }) as EmailFate),
        );
        await submitMany(q, 20);
        const before = (await q.admin.stats()).states;
        expect(before.waiting + before.retrying).toBe(23);
        expect(await cleared(q, 10)).toEqual([10, 10, 3]);
        expect(await cleared(q, 10)).toEqual([0]);
        const { sending, "in-doubt": inDoubt, dead: died, sent: gone } = idOf;
        expect(await Promise.all([sending, inDoubt, died, gone].map((id) => state(q, id)))).toEqual([
          "sending",
          "in-doubt",
          "dead",
          "sent",
        ]);
        expect((await q.admin.stats()).states).toEqual({
          ...noEmails,
          sending: 1,
          "in-doubt": 1,
          sent: 1,
          dead: 1,
        });
        for (const id of [idOf.waiting, idOf.retrying, only!]) {
          expect(await state(q, id)).toBe("deleted");
          await submit(q, submission({ id }));
          expect(await state(q, id)).toBe("deleted");
        }
        q.advance(2 * hourMs);
        expect(await claimed(q, { provider: "postmark" })).toBe("empty");
      },
    );
  });

  test("an admin finds a store healthy on which servers acknowledge submissions", async () => {
    const q = await queue();
    expect(await q.admin.health()).toMatchObject({ ok: true });
  });

  describe("a pause", () => {
    const ended = async (q: QueueUnderTest) => (await q.consumer.claimEnded(endedRequest())).kind;

    test("stops every claim until it ends; repeating either changes nothing", async () => {
      const q = await queue();
      await submitMany(q, 1);
      await settle(q, await claim(q, { doubtMs: 1000 }), [], doubt);
      await submitMany(q, 1);
      q.advance(2000);
      await q.admin.setPaused(false);
      expect((await q.admin.stats()).paused).toBe(false);
      for (let i = 0; i < 2; i += 1) {
        await q.admin.setPaused(true);
        expect((await q.admin.stats()).paused).toBe(true);
        expect(await claimed(q)).toBe("paused");
        expect(await claimed(q, { sources: ["batches"] })).toBe("paused");
        expect(await claimed(q, { provider: "postmark" })).toBe("paused");
        expect(await ended(q)).toBe("paused");
      }
      for (let i = 0; i < 2; i += 1) {
        await q.admin.setPaused(false);
        expect((await q.admin.stats()).paused).toBe(false);
      }
      expect(await ended(q)).toBe("batch");
      expect(await claimed(q)).toBe("batch");
      expect(await claimed(q)).toBe("empty");
    });

    test("works on an empty queue", async () => {
      const q = await queue();
      await q.admin.setPaused(true);
      expect(await claimed(q)).toBe("paused");
      expect(await ended(q)).toBe("paused");
    });

    test("does not affect submissions, settlements and sweeps", async () => {
      const q = await queue();
      const [id] = await submitMany(q, 1);
      const batch = await claim(q);
      await q.admin.setPaused(true);
      const [later] = await submitMany(q, 1);
      expect(await settle(q, batch, [sent(id!)])).toEqual({ leaseHeld: true, duplicates: [] });
      await q.consumer.sweep(serving("resend"));
      expect(await state(q, later!)).toBe("waiting");
      expect(await q.admin.delete([later!])).toEqual(["deleted"]);
    });

    testUndivided("still returns the first answer to a repeated claim", async () => {
      const q = await queue();
      const [id] = await submitMany(q, 1);
      const asked = request();
      const first = await q.consumer.claim(asked);
      await q.admin.setPaused(true);
      const second = await q.consumer.claim(asked);
      if (first.kind !== "batch" || second.kind !== "batch") throw new Error("no batch");
      expect(second.batch).toEqual({ ...first.batch, nowMs: second.batch.nowMs });
      await settle(q, first.batch, [], { delayMs: 0, notes: "" });
      expect(await q.consumer.claim(asked)).toEqual({ kind: "spent" });
      expect(await state(q, id!)).toBe("in-doubt");
    });

    testUndivided("still returns the first answer to a repeated claim of an ended doubt", async () => {
      const q = await queue();
      await submitMany(q, 1);
      await settle(q, await claim(q, { doubtMs: 1000 }), [], doubt);
      q.advance(2000);
      const asked = endedRequest();
      const first = await q.consumer.claimEnded(asked);
      await q.admin.setPaused(true);
      const second = await q.consumer.claimEnded(asked);
      if (first.kind !== "batch" || second.kind !== "batch") throw new Error("no batch");
      expect(second.batch).toEqual({ ...first.batch, nowMs: second.batch.nowMs });
    });

    test("is known to a worker after its next claim, and so is its end", async () => {
      const q = await queue();
      expect(q.consumer.paused()).toBe(false);
      await q.admin.setPaused(true);
      await claimed(q);
      expect(q.consumer.paused()).toBe(true);
      await q.admin.setPaused(false);
      await ended(q);
      expect(q.consumer.paused()).toBe(false);
    });

    test("wakes waiting workers when it ends", async () => {
      const q = await queue();
      await submitAndWake(q);
      await q.admin.setPaused(true);
      expect(await claimed(q)).toBe("paused");
      const woken = new Promise<void>((resolve) => q.consumer.onWake(resolve));
      await q.admin.setPaused(false);
      await woken;
    });
  });

  describe("the statistics", () => {
    test("of an empty queue are zero, without a backlog or a doubt", async () => {
      const q = await queue();
      const { bytesUsed, bytesMax, nowMs, ...rest } = await q.admin.stats();
      const { oldestDueAtMs, oldestDoubtSinceMs, clockStep } = rest;
      expect(rest).toMatchObject({
        states: noEmails,
        counters: {},
        providers: {},
        paused: false,
        moving: false,
      });
      expect([oldestDueAtMs, oldestDoubtSinceMs, clockStep]).toEqual([undefined, undefined, undefined]);
      expect(Math.abs(nowMs - Date.now())).toBeLessThan(hangMs);
      expect(bytesUsed).toBeGreaterThan(0);
      if (bytesMax !== undefined) expect(bytesMax).toBeGreaterThan(bytesUsed);
    });

    test("show when each provider last accepted, and since when and why it fails", async () => {
      const q = await queue();
      const condition = async (provider = "resend") => (await q.admin.stats()).providers[provider];
      await submitMany(q, 8);
      const next = (over = {}) => claim(q, { countMax: 1, sources: emailsFirst, ...over });
      const one = async (batch: Batch, fate: (id: string) => EmailFate, failure?: string) => {
        await q.consumer.settle(batch, {
          fates: [fate(ids(batch)[0]!)],
          counts: {},
          ...(failure !== undefined && { failure: { reason: failure, own: true } }),
        });
        return (await q.admin.stats()).nowMs;
      };
      const later = (id: string) => due(id, hourMs);

      // A fault of one email says nothing about the provider.
      await one(await next(), dead);
      expect(await condition()).toBeUndefined();

      const firstMs = await one(await next(), later, "503 down");
      const first = (await condition())!;
      expect(first.failingSinceMs).toBeWithin(firstMs - hangMs, firstMs + 1);
      expect(first).toEqual({
        failingSinceMs: first.failingSinceMs!,
        lastFailedAtMs: first.failingSinceMs!,
        lastFailure: "503 down",
      });

      q.advance(5000);
      const doubtful = await next();
      await q.consumer.settle(doubtful, {
        fates: [],
        rest: doubt,
        counts: {},
        failure: { reason: "no answer", own: false },
      });
      const second = (await condition())!;
      expect(second).toEqual({
        failingSinceMs: first.failingSinceMs!,
        lastFailedAtMs: expect.any(Number),
        lastFailure: "no answer",
        isUnanswered: true,
      });
      expect(second.lastFailedAtMs! - first.lastFailedAtMs!).toBeGreaterThanOrEqual(5000);

      // An acceptance overrides a failure in the same answer, and ends the failing, but not the memory of it.
      const accepted = await next();
      const acceptedMs = await one(accepted, sent, "some were refused");
      const third = (await condition())!;
      expect(third).toEqual({
        lastAcceptedAtMs: expect.any(Number),
        lastFailedAtMs: second.lastFailedAtMs!,
        lastFailure: "no answer",
      });
      expect(third.lastAcceptedAtMs).toBeWithin(acceptedMs - hangMs, acceptedMs + 1);

      // A repeated settlement says nothing new, nor does one after the lease.
      q.advance(1000);
      const late = await next();
      await one(late, later, "401 no such key");
      const failing = (await condition())!;
      expect(failing).toMatchObject({
        lastFailure: "401 no such key",
        lastAcceptedAtMs: third.lastAcceptedAtMs!,
      });
      expect(failing.failingSinceMs).toBe(failing.lastFailedAtMs!);
      q.advance(1000);
      await one(late, later, "401 no such key");
      await one(accepted, sent);
      const lost = await next();
      q.advance(leaseMs + 1);
      expect(ids(await claim(q))).toEqual(ids(doubtful));
      expect(ids(await claim(q))).toEqual(ids(lost));
      await one(lost, later, "502 too late");
      expect(await condition()).toEqual(failing);

      await one(await next({ provider: "postmark" }), sent);
      expect(await condition("postmark")).toEqual({ lastAcceptedAtMs: expect.any(Number) });
      expect(await condition()).toEqual(failing);
    });

    test("show since when the oldest email or batch is due", async () => {
      const q = await queue();
      const oldest = async () => (await q.admin.stats()).oldestDueAtMs;
      const [id] = await submitMany(q, 1);
      const submittedAtMs = (await q.admin.show(id!))!.submittedAtMs!;
      q.advance(5000);
      const [second] = await submitMany(q, 1);
      expect(await oldest()).toBe(submittedAtMs);
      const batch = await claim(q, { countMax: 1 });
      expect(await oldest()).toBe((await q.admin.show(second!))!.atMs!);
      await settle(q, await claim(q), [{ ...due(second!, leaseMs / 2), only: "postmark" } as EmailFate]);
      expect(await oldest()).toBeUndefined();
      const dueAtMs = (await q.admin.show(second!))!.atMs!;
      q.advance(leaseMs / 2);
      expect(await oldest()).toBe(dueAtMs);
      await q.admin.delete([second!]);
      q.advance(leaseMs);
      expect(await oldest()).toBe(batch.leaseEndsAtMs);
    });

    test("show since when the oldest doubt lasts", async () => {
      const q = await queue();
      const oldest = async () => (await q.admin.stats()).oldestDoubtSinceMs;
      await submitMany(q, 2);
      const first = await claim(q, { countMax: 1 });
      const second = await claim(q, { countMax: 1 });
      expect(await oldest()).toBeUndefined();
      await settle(q, first, [], { delayMs: 2 * hourMs, notes: "" });
      const firstDoubtMs = (await q.admin.show(ids(first)[0]!))!.batch!.doubtSinceMs!;
      expect(await oldest()).toBe(firstDoubtMs);
      q.advance(leaseMs + 1);
      expect(await oldest()).toBe(firstDoubtMs);
      const { batch } = (await q.admin.show(ids(first)[0]!))!;
      await q.admin.release(batch!, { fates: [dead(ids(first)[0]!)], counts: {} });
      // Nobody has claimed the other batch since its lease expired, so its doubt is not recorded yet.
      expect(await oldest()).toBe(second.leaseEndsAtMs);
      await settle(q, await claim(q), [sent(ids(second)[0]!)]);
      expect(await oldest()).toBeUndefined();
    });

    test("count due and later due emails, however many there are", async () => {
      const q = await queue();
      await submitMany(q, 2000);
      const [early, late] = [await claim(q, { ...all, countMax: 700 }), await claim(q, all)];
      await settle(
        q,
        late,
        ids(late).map((id, i) => ({ ...due(id, 2 * hourMs), ...(i % 2 && { only: "x" }) }) as EmailFate),
      );
      await settle(
        q,
        early,
        ids(early).map((id) => due(id, hourMs)),
      );
      const numbers = async () => (await q.admin.stats()).states;
      expect(await numbers()).toMatchObject({ waiting: 0, retrying: 2000 });
      q.advance(hourMs + 1);
      expect(await numbers()).toMatchObject({ waiting: 700, retrying: 1300 });
      q.advance(hourMs + 1);
      expect(await numbers()).toMatchObject({ waiting: 2000, retrying: 0 });
    });

    test("agree with lists and with show, after any operations in any order", async () => {
      const q = await queue();
      const known: string[] = [];
      const held: Awaited<ReturnType<typeof claim>>[] = [];
      let seed = 1;
      // Mulberry32: the same random walk at every run.
      const random = () => {
        seed = (seed + 0x6d2b79f5) | 0;
        let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
        t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
        return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
      };
      const below = (count: number) => Math.floor(random() * count);
      const some = () => known[below(known.length)] ?? "";
      const fateOf = (id: string): EmailFate => {
        const fates: readonly EmailFate[] = [
          sent(id),
          due(id, below(3) * 40_000),
          { ...due(id), only: "postmark" } as EmailFate,
          dead(id),
          { ...due(id, below(2) * 20_000), pieceMax: 1 + below(3) } as EmailFate,
          { ...due(id), only: "postmark", pieceMax: 2 } as EmailFate,
        ];
        return fates[below(fates.length)]!;
      };
      const steps: (() => Promise<unknown>)[] = [
        async () => known.push(...(await submitMany(q, 1 + below(6)))),
        async () => known.push(...(await submitMany(q, 1 + below(6)))),
        async () => {
          const sources = ([batchesFirst, emailsFirst, ["split"], ["batches"]] as const)[below(4)]!;
          const provider = below(2) ? "resend" : "postmark";
          const shared = below(4) > 0;
          const result = await q.consumer.claim(
            request({ countMax: 1 + below(4), sources, provider, shared }),
          );
          if (result.kind === "batch") held.push(result.batch);
        },
        // Also long after the lease.
        async () => {
          const batch = held.splice(below(held.length), 1)[0];
          if (batch === undefined) return;
          const whole = below(2) === 0;
          const fates = ids(batch).flatMap((id) => (whole || below(2) ? [fateOf(id)] : []));
          await settle(q, batch, fates, { delayMs: below(2) * 30_000, notes: "n" });
        },
        async () => {
          const result = await q.consumer.claimEnded(endedRequest());
          if (result.kind === "batch") held.push(result.batch);
        },
        async () => {
          const { batch } = (await q.admin.show(some())) ?? {};
          const fates = (batch?.emailIds ?? []).map((id) => due(id));
          if (batch !== undefined) await q.admin.release(batch, { fates, counts: {} });
        },
        async () => q.admin.delete([some(), some()]),
        async () => q.admin.retry([{ id: some(), seenHistory: "died", history: "r" }], {}),
        async () => (below(20) === 0 ? q.admin.clear(3, (await q.admin.stats()).nowMs) : undefined),
        async () => q.consumer.sweep(below(4) ? serving("resend", "postmark") : serving("resend")),
        async () => q.advance(below(4) === 0 ? leaseMs + 1 : 5000),
      ];
      for (let i = 0; i < 1500; i += 1) {
        await steps[below(steps.length)]!();
        if (i % 100 !== 99) continue;
        const shown = new Map<string, string[]>();
        let markedCount = 0;
        for (const id of known) {
          const one = await q.admin.show(id);
          const where = one?.state ?? "forgotten";
          shown.set(where, [...(shown.get(where) ?? []), id]);
        }
        const { states: counts, oldestDueAtMs, nowMs } = await q.admin.stats();
        const totals: Record<string, number> = {};
        for (const one of states) {
          const names = (await listedIds(q, one, 1 + below(30))).toSorted();
          const inPlace = (shown.get(one) ?? []).toSorted();
          totals[one] = inPlace.length;
          if (one === "sent") {
            // Accepted elsewhere and still in a batch: listed and counted as sent when that ends.
            markedCount = inPlace.length - names.length;
            expect(inPlace).toEqual(expect.arrayContaining(names));
          } else expect(names).toEqual(inPlace);
        }
        const { sending, "in-doubt": inDoubt, sent: left, ...apart } = totals;
        expect(counts).toMatchObject(apart);
        expect(counts.sent).toBe(left! - markedCount);
        expect(counts.sending + counts["in-doubt"]).toBe(sending! + inDoubt! + markedCount);
        if (markedCount === 0) expect(counts.sending).toBe(sending!);
        if (counts.waiting > 0) expect(oldestDueAtMs).toBeLessThanOrEqual(nowMs);
      }
    });
  });
}
