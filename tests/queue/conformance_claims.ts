// Claims: the third part of the conformance suite. Numbered claims, sources, pieces, the length of a lease,
// credentials, acceptances, kept leases, idempotency keys by token.

import { describe, expect, test } from "bun:test";
import type { Batch, EmailFate, SubmitResult } from "../../lib/queue/contract.ts";
import {
  endedRequest,
  hourMs,
  leaseMs,
  type QueueUnderTest,
  serving,
  soon,
  submission,
  type Tools,
} from "./conformance_tools.ts";

export function claiming(tools: Tools): void {
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

  /** Fates that return all emails of a batch to waiting, in pieces. */
  const inPieces = (batch: Batch, pieceMax: number, over: Partial<EmailFate & { kind: "due" }> = {}) =>
    ids(batch).map((id): EmailFate => ({ id, kind: "due", delayMs: 0, history: "h", pieceMax, ...over }));
  const tenthOfMib = (count: number) =>
    Array.from({ length: count }, () => submission({}, "x".repeat(100 * 1024)));

  describe("numbered claims: a claim", () => {
    const numbered = (number: number, over = {}) =>
      request({ claimant: "worker-1:resend", number, countMax: 1, ...over });

    testUndivided("with the same number returns the same batch, whatever its id", async () => {
      const q = await queue();
      await submitMany(q, 2);
      const first = await claim(q, numbered(1));
      expect(await claim(q, numbered(1))).toEqual({ ...first, nowMs: expect.any(Number) });
      expect((await q.admin.stats()).states).toMatchObject({ waiting: 1, sending: 1 });
    });

    testUndivided("with a higher number is new", async () => {
      const q = await queue();
      const some = await submitMany(q, 3);
      expect(ids(await claim(q, numbered(1)))).toEqual([some[0]!]);
      expect(ids(await claim(q, numbered(2)))).toEqual([some[1]!]);
      expect(ids(await claim(q, numbered(7)))).toEqual([some[2]!]);
    });

    testUndivided("with a lower number is spent, and takes nothing", async () => {
      const q = await queue();
      await submitMany(q, 3);
      await claim(q, numbered(1));
      await claim(q, numbered(5));
      for (const number of [1, 4]) expect(await claimed(q, numbered(number))).toBe("spent");
      expect((await q.admin.stats()).states).toMatchObject({ waiting: 1, sending: 2 });
    });

    testUndivided(
      "with the same number is spent once its batch is settled, or leased to another",
      async () => {
        const q = await queue();
        await submitMany(q, 3);
        const settled = await claim(q, numbered(1));
        await settle(q, settled, [sent(ids(settled)[0]!)]);
        expect(await claimed(q, numbered(1))).toBe("spent");
        await claim(q, numbered(2));
        q.advance(leaseMs + 1);
        await claim(q, { sources: ["batches"] });
        expect(await claimed(q, numbered(2))).toBe("spent");
        expect((await q.admin.stats()).states.waiting).toBe(1);
      },
    );

    testUndivided("that found nothing can be repeated", async () => {
      const q = await queue();
      expect(await claimed(q, numbered(1))).toBe("empty");
      await submitMany(q, 1);
      expect(await claimed(q, numbered(1))).toBe("batch");
    });

    testUndivided("repeated after the clock was set ahead takes nothing under the old id", async () => {
      const q = await queue();
      await submitMany(q, 1);
      const asked = numbered(1);
      const batch = await claim(q, asked);
      await settle(q, batch, [sent(ids(batch)[0]!)]);
      await submitMany(q, 1);
      q.step(11 * 60_000);
      await q.consumer.sweep(serving("resend"));
      expect(await claimed(q, asked)).toBe("spent");
      q.step(400 * 24 * hourMs);
      await q.consumer.sweep(serving("resend"));
      expect(await claimed(q, asked)).toBe("spent");
      expect((await q.admin.stats()).states.waiting).toBe(1);
    });

    testUndivided("is independent of another claimant's", async () => {
      const q = await queue();
      await submitMany(q, 2);
      const first = await claim(q, numbered(3));
      const second = await claim(q, numbered(1, { claimant: "worker-2:resend" }));
      expect(second.id).not.toBe(first.id);
    });

    testUndivided("under the id of a batch that exists is spent, whoever claims", async () => {
      const q = await queue();
      await submitMany(q, 2);
      const asked = numbered(1);
      await claim(q, asked);
      expect(await claimed(q, { ...asked, claimant: "worker-2:resend" })).toBe("spent");
      expect((await q.admin.stats()).states.waiting).toBe(1);
    });

    testUndivided("is forgotten 24 hours after its claimant's last sign of life", async () => {
      const q = await queue();
      await submitMany(q, 2);
      const asked = numbered(5);
      const batch = await claim(q, asked);
      await settle(q, batch, [sent(ids(batch)[0]!)]);
      q.advance(23 * hourMs);
      await q.consumer.sweep(serving("resend"));
      expect(await claimed(q, numbered(4))).toBe("spent");
      q.advance(2 * hourMs);
      await q.consumer.sweep(serving("resend"));
      expect(await claimed(q, numbered(1))).toBe("batch");
    });

    testUndivided("of an ended doubt is numbered too", async () => {
      const q = await queue();
      await submitMany(q, 2);
      for (let i = 0; i < 2; i += 1)
        await settle(q, await claim(q, { countMax: 1, doubtMs: 1000, sources: ["emails"] }), [], doubt);
      q.advance(2000);
      const asked = { ...endedRequest(), number: 2 };
      const first = await q.consumer.claimEnded(asked);
      const again = await q.consumer.claimEnded(asked);
      if (first.kind !== "batch" || again.kind !== "batch") throw new Error("no batch");
      expect(again.batch).toEqual({ ...first.batch, nowMs: again.batch.nowMs });
      expect((await q.consumer.claimEnded({ ...asked, number: 1 })).kind).toBe("spent");
      const next = await q.consumer.claimEnded({ ...asked, number: 3 });
      if (next.kind !== "batch") throw new Error("no batch");
      expect(next.batch.id).not.toBe(first.batch.id);
    });
  });

  describe("sources: a claim", () => {
    /** One email in each source. */
    async function oneInEach(q: QueueUnderTest) {
      const [piece, inDoubt, fresh] = await submitMany(q, 3);
      await settle(q, await claim(q, { countMax: 1 }), [{ ...due(piece!), pieceMax: 8 } as EmailFate]);
      const batch = await claim(q, { countMax: 1, sources: ["emails"] });
      await settle(q, batch, [], doubt);
      return { emails: fresh!, split: piece!, batches: inDoubt! };
    }

    test("reads the named sources in order", async () => {
      const orders = [
        ["emails", "split", "batches"],
        ["batches", "split", "emails"],
        ["split", "batches", "emails"],
      ] as const;
      for (const order of orders) {
        const q = await queue();
        const one = await oneInEach(q);
        for (const source of order) expect(ids(await claim(q, { sources: order }))).toEqual([one[source]]);
        expect(await claimed(q, { sources: order })).toBe("empty");
      }
    });

    test("ignores other sources, also for when something is due", async () => {
      const q = await queue();
      const one = await oneInEach(q);
      for (const source of ["emails", "split", "batches"] as const) {
        expect(ids(await claim(q, { sources: [source] }))).toEqual([one[source]]);
      }
      const [id] = await submitMany(q, 1);
      await settle(q, await claim(q, { sources: ["emails"] }), [due(id!, 5000)]);
      expect(await q.consumer.claim(request({ sources: ["split"] }))).toEqual({
        kind: "empty",
        nextDueInMs: undefined,
      });
      expect(await q.consumer.claim(request({ sources: ["split", "emails"] }))).toMatchObject({
        kind: "empty",
        nextDueInMs: expect.any(Number),
      });
    });

    test("that shares nothing takes only emails for this provider, and ignores others", async () => {
      const q = await queue();
      const [own] = await submitMany(q, 1);
      await settle(q, await claim(q), [{ ...due(own!), only: "resend" } as EmailFate]);
      await submitMany(q, 2);
      expect(ids(await claim(q, { shared: false }))).toEqual([own!]);
      expect(await q.consumer.claim(request({ shared: false, sources: ["emails"] }))).toEqual({
        kind: "empty",
        nextDueInMs: undefined,
      });
      expect((await claim(q)).emails).toHaveLength(2);
    });

    test("counts other due emails for any provider, up to the requested number", async () => {
      const q = await queue();
      const [own, later] = await submitMany(q, 2);
      const batch = await claim(q);
      await settle(q, batch, [{ ...due(own!), only: "postmark" } as EmailFate, due(later!, hourMs)]);
      await submitMany(q, 10);
      const asked = request({ countMax: 3, dueCountMax: 100 });
      expect(await q.consumer.claim(asked)).toMatchObject({ dueLeft: 7 });
      expect(await q.consumer.claim(request({ countMax: 1, dueCountMax: 4 }))).toMatchObject({ dueLeft: 4 });
      expect(await q.consumer.claim(request({ countMax: 1, dueCountMax: 0 }))).toMatchObject({ dueLeft: 0 });
      expect(await q.consumer.claim(request({ countMax: 5, dueCountMax: 100 }))).toMatchObject({
        dueLeft: 0,
      });
    });
  });

  describe("pieces", () => {
    test("travel in batches of at most their size, which have it at every lease", async () => {
      const q = await queue();
      const some = await submitMany(q, 20);
      const whole = await claim(q);
      await settle(q, whole, inPieces(whole, 8));
      expect(await claimed(q, { sources: ["emails"] })).toBe("empty");
      const sizes: number[] = [];
      const taken: string[] = [];
      for (let i = 0; i < 3; i += 1) {
        const batch = await claim(q, { sources: ["split"] });
        expect(batch).toMatchObject({ pieceMax: 8, lease: 1 });
        expect(batch.doubtSinceMs).toBeUndefined();
        sizes.push(batch.emails.length);
        taken.push(...ids(batch));
      }
      expect(sizes).toEqual([8, 8, 4]);
      expect(taken.toSorted()).toEqual(some.toSorted());
      q.advance(leaseMs + 1);
      expect((await claim(q, { sources: ["batches"] })).pieceMax).toBe(8);
      await submitMany(q, 1);
      expect((await claim(q, { sources: ["emails"] })).pieceMax).toBeUndefined();
    });

    test("are limited by the claim's count too", async () => {
      const q = await queue();
      await submit(q, ...tenthOfMib(6));
      const whole = await claim(q);
      await settle(q, whole, inPieces(whole, 8));
      expect((await claim(q, { sources: ["split"], countMax: 2 })).emails).toHaveLength(2);
      expect((await claim(q, { sources: ["split"], bytesMax: 350 * 1024 })).emails).toHaveLength(3);
    });

    test("come from the list that has waited longest, without other sizes", async () => {
      const q = await queue();
      const some = await submitMany(q, 6);
      const batch = await claim(q);
      const piece = (i: number, pieceMax: number, delayMs: number, only?: string): EmailFate => {
        const fate = { id: some[i]!, kind: "due", delayMs, pieceMax, history: "h" } as const;
        return only === undefined ? fate : { ...fate, only };
      };
      await settle(q, batch, [
        piece(0, 1, 3000),
        piece(1, 8, 2000),
        piece(2, 8, 4000, "resend"),
        piece(3, 8, 1000, "postmark"),
        piece(4, 3, 5000, "resend"),
        piece(5, 1, 6000),
      ]);
      expect(await claimed(q, { sources: ["split"] })).toBe("empty");
      q.advance(7000);
      const next = async (provider = "resend") => ids(await claim(q, { sources: ["split"], provider }));
      expect(await next()).toEqual([some[1]!, some[2]!]);
      expect(await next()).toEqual([some[0]!]);
      expect(await next("postmark")).toEqual([some[3]!]);
      expect(await next()).toEqual([some[4]!]);
      expect(await next()).toEqual([some[5]!]);
      expect(await claimed(q, { sources: ["split"] })).toBe("empty");
    });

    test("are included in the time when something is due next", async () => {
      const q = await queue();
      await submitMany(q, 2);
      const batch = await claim(q);
      await settle(q, batch, [
        { ...due(ids(batch)[0]!, 5000), pieceMax: 2 } as EmailFate,
        { ...due(ids(batch)[1]!, 1000), pieceMax: 3, only: "postmark" } as EmailFate,
      ]);
      const next = async (provider: string) => {
        const result = await q.consumer.claim(request({ provider, sources: ["split"] }));
        return result.kind === "empty" ? result.nextDueInMs : result;
      };
      expect(await next("resend")).toBeWithin(1001, 5001);
      expect(await next("postmark")).toBeWithin(1, 1001);
    });

    test("count, are listed, shown, deleted and cleared like other emails", async () => {
      const q = await queue();
      const some = await submitMany(q, 6);
      const batch = await claim(q);
      await settle(
        q,
        batch,
        some.map((id, i) => ({
          ...due(id, i < 3 ? 0 : hourMs),
          pieceMax: 1 + (i % 2),
          ...(i % 3 === 0 && { only: "postmark" }),
        })),
      );
      expect((await q.admin.stats()).states).toMatchObject({ waiting: 3, retrying: 3 });
      expect((await q.admin.stats()).oldestDueAtMs).toBeNumber();
      const listed = async (which: "waiting" | "retrying") =>
        (await q.admin.list(which, 100)).emails.map(({ id }) => id).toSorted();
      expect(await listed("waiting")).toEqual(some.slice(0, 3).toSorted());
      expect(await listed("retrying")).toEqual(some.slice(3).toSorted());
      for (const [i, id] of some.entries()) expect(await state(q, id)).toBe(i < 3 ? "waiting" : "retrying");
      expect(await q.admin.delete([some[0]!, some[4]!])).toEqual(["deleted", "deleted"]);
      const { nowMs } = await q.admin.stats();
      let deleted = 0;
      for (let from: string | undefined; ;) {
        const cleared = await q.admin.clear(1, nowMs, from);
        deleted += cleared.deleted;
        if (cleared.next === undefined) break;
        from = cleared.next;
      }
      expect(deleted).toBe(4);
      q.advance(2 * hourMs);
      for (const provider of ["resend", "postmark"]) expect(await claimed(q, { provider })).toBe("empty");
    });

    test("for a provider that nobody serves go back to all, as pieces of their size", async () => {
      const q = await queue();
      await submitMany(q, 4);
      const batch = await claim(q);
      await settle(q, batch, inPieces(batch, 3, { only: "gone" }));
      expect(await claimed(q)).toBe("empty");
      await q.consumer.sweep(serving("resend"));
      expect(await claim(q, { sources: ["split"] })).toMatchObject({
        pieceMax: 3,
        emails: [{}, {}, {}],
      });
      expect(await claimed(q, { sources: ["emails"] })).toBe("empty");
    });

    test("that a late settlement accepts are sent", async () => {
      const q = await queue();
      const [id] = await submitMany(q, 1);
      const old = await claim(q);
      q.advance(leaseMs + 1);
      const current = await claim(q);
      await settle(q, current, inPieces(current, 1));
      expect(await settle(q, old, [sent(id!, "late")])).toEqual({ leaseHeld: false, duplicates: [] });
      expect(await q.admin.show(id!)).toMatchObject({ state: "sent", record: "late" });
      expect(await claimed(q)).toBe("empty");
    });
  });

  test("a lease is a second longer for each 256 KiB of the batch's emails, at every claim", async () => {
    const q = await queue();
    await submit(q, ...tenthOfMib(6));
    const length = ({ leaseEndsAtMs, nowMs }: Batch) => leaseEndsAtMs - nowMs;
    const batch = await claim(q);
    expect(length(batch)).toBe(leaseMs + 2000);
    const [first, ...others] = ids(batch);
    await settle(
      q,
      batch,
      others.slice(2).map((id) => sent(id)),
      doubt,
    );
    const again = await claim(q, { sources: ["batches"] });
    expect(ids(again)).toEqual([first!, others[0]!, others[1]!]);
    expect(length(again)).toBe(leaseMs + 1000);
    await submitMany(q, 1);
    expect(length(await claim(q))).toBe(leaseMs);
  });

  describe("a credential", () => {
    const under = (credential: string, over = {}) => request({ credential, sources: ["batches"], ...over });
    const live = (...credentials: string[]) =>
      credentials.map((credential, i) => ({
        ...serving("resend"),
        worker: `01234567-0000-7000-8000-00000000000${i}`,
        providers: { resend: { credential, takesEmails: true } },
      }));
    const sweepAll = async (q: QueueUnderTest, ...credentials: string[]) => {
      for (const presence of live(...credentials)) await q.consumer.sweep(presence);
    };

    test("stays with the batch that was created under it", async () => {
      const q = await queue();
      await submitMany(q, 1);
      const first = await claim(q, { credential: "team-1" });
      expect(first.credential).toBe("team-1");
      await settle(q, first, [], doubt);
      expect((await claim(q, under("team-2"))).credential).toBe("team-1");
    });

    test("reserves its batches in doubt while a live worker has it", async () => {
      const q = await queue();
      await submitMany(q, 1);
      await sweepAll(q, "team-1", "team-2");
      await settle(q, await claim(q, { credential: "team-1" }), [], doubt);
      expect(await q.consumer.claim(under("team-2"))).toEqual({ kind: "empty", nextDueInMs: undefined });
      expect(await claimed(q, under("team-1"))).toBe("batch");
      q.advance(leaseMs + 1);
      await sweepAll(q, "team-1", "team-2");
      // Its lease has expired, which nobody has recorded yet.
      expect(await claimed(q, under("team-2"))).toBe("empty");
      q.advance(50_000);
      await q.consumer.sweep(live("", "team-2")[1]!);
      q.advance(20_000);
      await q.consumer.sweep(live("", "team-2")[1]!);
      expect(await claimed(q, under("team-2"))).toBe("batch");
    });

    test("of another worker does not block the next batch", async () => {
      const q = await queue();
      const some = await submitMany(q, 2);
      await sweepAll(q, "team-1", "team-2");
      for (const credential of ["team-1", "team-2"])
        await settle(q, await claim(q, { credential, countMax: 1, sources: ["emails"] }), [], doubt);
      expect(ids(await claim(q, under("team-2")))).toEqual([some[1]!]);
      expect(await claimed(q, under("team-2"))).toBe("empty");
    });

    test("of another worker does not block the next batch, even after hundreds", async () => {
      const q = await queue();
      const some = await submitMany(q, 251);
      await sweepAll(q, "team-1", "team-2");
      for (let i = 0; i < some.length; i += 1) {
        const credential = i < 250 ? "team-1" : "team-2";
        await settle(q, await claim(q, { credential, countMax: 1, sources: ["emails"] }), [], doubt);
      }
      expect(ids(await claim(q, under("team-2")))).toEqual([some.at(-1)!]);
    });

    test("does not matter for the end of doubt", async () => {
      const q = await queue();
      await submitMany(q, 1);
      await sweepAll(q, "team-1", "team-2");
      await settle(q, await claim(q, { credential: "team-1", doubtMs: 1000 }), [], doubt);
      q.advance(2000);
      expect((await q.consumer.claimEnded(endedRequest())).kind).toBe("batch");
    });
  });

  describe("acceptances", () => {
    const of = async (q: QueueUnderTest, credential: string, provider = "resend") => {
      await submitMany(q, 1);
      const batch = await claim(q, { credential, provider, countMax: 1, sources: ["emails"] });
      await settle(q, batch, [dead(ids(batch)[0]!)]);
      return batch.acceptances;
    };
    const settleUnder = (q: QueueUnderTest, batch: Batch, credential: string, fates: EmailFate[]) =>
      q.consumer.settle(batch, { fates, counts: {}, credential });

    test("are counted by provider and credential", async () => {
      const q = await queue();
      expect(await of(q, "a")).toBe(0);
      const some = await submitMany(q, 4);
      const batch = await claim(q, { credential: "a" });
      await settleUnder(q, batch, "a", [
        ...some.slice(0, 2).map((id) => sent(id)),
        ...some.slice(2).map((id) => due(id, hourMs)),
      ]);
      expect(await of(q, "a")).toBe(2);
      expect(await of(q, "b")).toBe(0);
      expect(await of(q, "a", "postmark")).toBe(0);
    });

    test("belong to the credential of the claim, not of the batch", async () => {
      const q = await queue();
      await submitMany(q, 2);
      const first = await claim(q, { credential: "a", countMax: 1 });
      await settleUnder(q, first, "a", [sent(ids(first)[0]!)]);
      await settle(q, await claim(q, { credential: "b" }), [], doubt);
      const again = await claim(q, { credential: "a", sources: ["batches"] });
      expect(again).toMatchObject({ credential: "b", acceptances: 1 });
    });

    // Otherwise an old acceptance, repeated after a failure, would look as if the provider had accepted something
    // since.
    test("count after the lease too, but only once if a settlement is repeated", async () => {
      const q = await queue();
      const [id] = await submitMany(q, 1);
      const old = await claim(q, { credential: "a" });
      q.advance(leaseMs + 1);
      const current = await claim(q, { credential: "a" });
      await settle(q, current, [due(id!, hourMs)]);
      for (let i = 0; i < 2; i += 1) await settleUnder(q, old, "a", [sent(id!)]);
      expect(await of(q, "a")).toBe(1);
      await submitMany(q, 1);
      const batch = await claim(q, { credential: "a", sources: ["emails"] });
      for (let i = 0; i < 2; i += 1) await settleUnder(q, batch, "a", [sent(ids(batch)[0]!)]);
      expect(await of(q, "a")).toBe(2);
    });
  });

  describe("the providers that are served", () => {
    test("are those that a worker gives new emails, for 24 hours after its last report", async () => {
      const q = await queue();
      const served = async () => {
        await submitMany(q, 1);
        const batch = await claim(q, { countMax: 1, sources: ["emails"] });
        await settle(q, batch, [dead(ids(batch)[0]!)]);
        return batch.servedProviders.toSorted();
      };
      expect(await served()).toEqual([]);
      const both = serving("resend", "postmark");
      await q.consumer.sweep(both);
      expect(await served()).toEqual(["postmark", "resend"]);
      const resting = {
        ...both.providers,
        postmark: { credential: "c", takesEmails: false },
      };
      q.advance(60_000);
      await q.consumer.sweep({ ...both, providers: resting });
      q.advance(23 * hourMs);
      await q.consumer.sweep({ ...both, providers: resting });
      expect(await served()).toEqual(["postmark", "resend"]);
      q.advance(2 * hourMs);
      await q.consumer.sweep({ ...both, providers: resting });
      expect(await served()).toEqual(["resend"]);
    });

    test("keep their own emails, even if another worker does not know them", async () => {
      const q = await queue();
      const [id] = await submitMany(q, 1);
      await q.consumer.sweep(serving("resend", "postmark"));
      await settle(q, await claim(q), [{ ...due(id!), only: "postmark" } as EmailFate]);
      const other = { ...serving("resend"), worker: Bun.randomUUIDv7() };
      for (let i = 0; i < 3; i += 1) {
        await q.consumer.sweep(other);
        q.advance(7 * hourMs);
      }
      expect(await claimed(q)).toBe("empty");
      expect(ids(await claim(q, { provider: "postmark" }))).toEqual([id!]);
    });
  });

  describe("a settlement that keeps the lease", () => {
    const keeping = (q: QueueUnderTest, batch: Batch, fates: EmailFate[], counts = {}) =>
      q.consumer.settle(batch, { fates, keepsLease: true, counts });

    test("takes emails out of the batch, which stays leased and is not in doubt", async () => {
      const q = await queue();
      const some = await submitMany(q, 4);
      const batch = await claim(q);
      const fates = [
        { ...due(some[0]!), only: "postmark" } as EmailFate,
        dead(some[1]!),
        { ...due(some[3]!), pieceMax: 1 } as EmailFate,
      ];
      expect(await keeping(q, batch, fates, { x: 1 })).toEqual({ leaseHeld: true, duplicates: [] });
      expect(await Promise.all(some.map((id) => state(q, id)))).toEqual([
        "waiting",
        "dead",
        "sending",
        "waiting",
      ]);
      const held = (await q.admin.show(some[2]!))!.batch!;
      expect(held).toMatchObject({ id: batch.id, leased: true, dueAtMs: batch.leaseEndsAtMs });
      expect(held.doubtSinceMs).toBeUndefined();
      expect(await claimed(q, { sources: ["batches"] })).toBe("empty");
      // Repeating it changes nothing.
      expect(await keeping(q, batch, fates, { x: 1 })).toEqual({ leaseHeld: true, duplicates: [] });
      expect((await q.admin.stats()).counters).toEqual({ x: 1 });
      expect(await settle(q, batch, [sent(some[2]!)])).toEqual({ leaseHeld: true, duplicates: [] });
      expect((await q.admin.stats()).states).toMatchObject({ sending: 0, "in-doubt": 0, sent: 1 });
    });

    testUndivided("makes a repeated claim return what is left", async () => {
      const q = await queue();
      const some = await submitMany(q, 2);
      const asked = request();
      const batch = await claim(q, asked);
      await keeping(q, batch, [dead(some[0]!)]);
      expect(ids(await claim(q, asked))).toEqual([some[1]!]);
    });

    test("for all its emails ends the batch", async () => {
      const q = await queue();
      const some = await submitMany(q, 2);
      const batch = await claim(q);
      await keeping(
        q,
        batch,
        some.map((id) => dead(id)),
      );
      expect((await q.admin.stats()).states).toMatchObject({ sending: 0, dead: 2 });
      q.advance(30 * hourMs);
      expect((await q.consumer.claimEnded(endedRequest())).kind).toBe("empty");
    });

    test("is refused as a whole if it also names an email of another batch", async () => {
      const q = await queue();
      const some = await submitMany(q, 2);
      const batch = await claim(q);
      const fates = [dead(some[0]!), dead(Bun.randomUUIDv7())];
      await expect(keeping(q, batch, fates)).rejects.toThrow();
      await expect(keeping(q, batch, fates.toReversed())).rejects.toThrow();
      expect(await state(q, some[0]!)).toBe("sending");
    });
  });

  describe("an idempotency key of several tokens", () => {
    const keyed = (fingerprint: string, token: string) =>
      submission({ idempotency: { key: "order-17", fingerprint, token } });
    const answer = (q: QueueUnderTest, one: ReturnType<typeof keyed>): Promise<SubmitResult> =>
      q.producer.submit(one, soon());

    test("with the same email is one submission, whatever the token", async () => {
      const q = await queue();
      const first = keyed("a", "t1");
      await submit(q, first);
      for (const token of ["t1", "t2", ""])
        expect(await answer(q, keyed("a", token))).toEqual({ kind: "stored", id: first.id, repeated: true });
      expect((await q.admin.stats()).states.waiting).toBe(1);
    });

    test("with another email is refused to the token that used it, and queued for others", async () => {
      const q = await queue();
      const [first, second, third] = [keyed("a", "t1"), keyed("b", "t2"), keyed("c", "")];
      for (const one of [first, second, third])
        expect(await answer(q, one)).toEqual({ kind: "stored", id: one.id, repeated: false });
      for (const token of ["t1", "t2", ""])
        expect(await answer(q, keyed("d", token))).toEqual({ kind: "conflict" });
      // The same email as another token's counts as that submission, even if this token used the key for another email.
      expect(await answer(q, keyed("b", "t1"))).toEqual({ kind: "stored", id: second.id, repeated: true });
      expect(await answer(q, keyed("c", "t9"))).toEqual({ kind: "stored", id: third.id, repeated: true });
      expect((await q.admin.stats()).states.waiting).toBe(3);
    });

    test("counts as used by a token that was answered with another's email", async () => {
      const q = await queue();
      await submit(q, keyed("a", "t1"));
      expect((await answer(q, keyed("a", "t2"))).kind).toBe("stored");
      expect(await answer(q, keyed("b", "t2"))).toEqual({ kind: "conflict" });
    });

    test("is distinguished within one group commit too", async () => {
      const q = await queue();
      const ones = [keyed("a", "t1"), keyed("b", "t2"), keyed("a", "t3"), keyed("c", "t3"), keyed("c", "t1")];
      const answers = await Promise.all(ones.map((one) => answer(q, one)));
      expect(answers).toEqual([
        { kind: "stored", id: ones[0]!.id, repeated: false },
        { kind: "stored", id: ones[1]!.id, repeated: false },
        { kind: "stored", id: ones[0]!.id, repeated: true },
        { kind: "conflict" },
        { kind: "conflict" },
      ]);
    });

    test("is free for each token 24 hours after that token's email", async () => {
      const q = await queue();
      await q.consumer.sweep(serving("resend"));
      await submit(q, keyed("a", "t1"));
      q.advance(23 * hourMs);
      const second = keyed("b", "t2");
      await submit(q, second);
      q.advance(2 * hourMs);
      await q.consumer.sweep(serving("resend"));
      expect(await answer(q, keyed("c", "t2"))).toEqual({ kind: "conflict" });
      const again = keyed("c", "t1");
      expect(await answer(q, again)).toEqual({ kind: "stored", id: again.id, repeated: false });
      expect(await submit(q, keyed("b", "t3"))).toEqual([second.id]);
    });
  });

  test("the conditions of the providers match the statistics, and say whether a failure was the provider's own answer", async () => {
    const q = await queue();
    expect((await q.consumer.stats()).providers).toEqual({});
    const some = await submitMany(q, 4);
    const fail = async (own: boolean) => {
      const batch = await claim(q, { countMax: 1, sources: ["emails"] });
      const failure = { reason: `own: ${own}`, own };
      await q.consumer.settle(batch, { fates: [due(ids(batch)[0]!, hourMs)], counts: {}, failure });
      const conditions = (await q.consumer.stats()).providers;
      expect(conditions).toEqual((await q.admin.stats()).providers);
      return conditions["resend"]!;
    };
    expect(await fail(false)).toMatchObject({ lastFailure: "own: false", isUnanswered: true });
    expect((await fail(true)).isUnanswered).toBeUndefined();
    expect((await fail(false)).isUnanswered).toBe(true);
    await settle(q, await claim(q), [sent(some[3]!)]);
    const works = (await q.consumer.stats()).providers["resend"]!;
    expect(works).toEqual({
      lastAcceptedAtMs: expect.any(Number),
      lastFailedAtMs: expect.any(Number),
      lastFailure: "own: false",
    });
  });

  test("a settlement that does not fit its batch changes nothing, nor does it affect another made at the same time", async () => {
    const q = await queue();
    const [first, second] = await submitMany(q, 2);
    const wrong = await claim(q, { countMax: 1 });
    const right = await claim(q, { countMax: 1 });
    const misfit = [due(ids(wrong)[0]!, 0), sent(Bun.randomUUIDv7())];
    const settlements = [settle(q, wrong, misfit), settle(q, right, [sent(ids(right)[0]!)])];
    const settled = await Promise.allSettled(settlements);
    expect(settled.map(({ status }) => status)).toEqual(["rejected", "fulfilled"]);
    const states = await Promise.all([first, second].map((id) => state(q, id!)));
    expect(states.toSorted()).toEqual(["sending", "sent"]);
  });
}
