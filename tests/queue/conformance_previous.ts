// The contract of a queue that two adjacent releases use side by side: the previous one is never given a hidden email,
// and everything else passes through both.

import { describe, expect, test } from "bun:test";
import type { Admin, Consumer, EmailFate, Producer } from "../../lib/queue/contract.ts";
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

export interface QueueOfBoth extends QueueUnderTest {
  /** The same queue, as the previous release opens it. */
  readonly previous: { readonly producer: Producer; readonly consumer: Consumer; readonly admin: Admin };
}

const minuteMs = 60_000;
const providers = ["resend", "postmark"];

export function besidePrevious(name: string, open: () => Promise<QueueOfBoth>): void {
  describe(`${name}, beside the previous release`, () => {
    const { queue, submit, claim, request, ids, settle, sent, due, dead, doubt, state } = toolsFor(open);
    const hidden = (over: Parameters<typeof submission>[0] = {}) => submission({ isHidden: true, ...over });
    const ofPrevious = (q: QueueOfBoth): QueueOfBoth => ({ ...q, ...q.previous });

    /** Everything that the worker of the previous release can claim now, after several of its sweeps. */
    async function claimedByPrevious(q: QueueOfBoth): Promise<string[]> {
      const { consumer } = q.previous;
      const found: string[] = [];
      for (let i = 0; i < 3; i += 1) {
        await consumer.sweep(serving("resend"));
        for (const provider of providers) {
          for (const source of ["emails", "split", "batches"] as const) {
            const result = await consumer.claim(request({ provider, sources: [source], dueCountMax: 100 }));
            if (result.kind === "batch") found.push(...ids(result.batch));
          }
        }
        const ended = await consumer.claimEnded(endedRequest());
        if (ended.kind === "batch") found.push(...ids(ended.batch));
        q.advance(1000);
      }
      return found;
    }

    /** Everything that the worker of this release can claim now. */
    async function claimedByThis(q: QueueOfBoth): Promise<string[]> {
      const found: string[] = [];
      const results = providers.map((provider) => () => q.consumer.claim(request({ provider })));
      for (const ask of [...results, () => q.consumer.claimEnded(endedRequest())]) {
        const result = await ask();
        if (result.kind === "batch") found.push(...ids(result.batch));
      }
      return found;
    }

    async function die(q: QueueOfBoth, id: string): Promise<void> {
      await settle(q, await claim(q), [dead(id)]);
      expect(await state(q, id)).toBe("dead");
    }

    const batchOf = async (admin: Admin, id: string) => (await admin.show(id))?.batch;

    /** Ways in which an email may become due. */
    const ways: Record<string, (q: QueueOfBoth, id: string) => Promise<unknown>> = {
      "that was just submitted": async () => {},
      "that failed before": async (q, id) => {
        await settle(q, await claim(q), [due(id, minuteMs)]);
        q.advance(minuteMs);
      },
      "for one provider": async (q, id) =>
        settle(q, await claim(q), [{ ...due(id), only: "resend" } as EmailFate]),
      "for a provider that nobody serves": async (q, id) => {
        await settle(q, await claim(q), [{ ...due(id), only: "away" } as EmailFate]);
        await claimedByPrevious(q);
        await q.consumer.sweep(serving("resend"));
      },
      "in pieces": async (q, id) => settle(q, await claim(q), [{ ...due(id), pieceMax: 8 } as EmailFate]),
      "in pieces for one provider": async (q, id) =>
        settle(q, await claim(q), [{ ...due(id), pieceMax: 1, only: "resend" } as EmailFate]),
      "whose worker died": async (q) => {
        await claim(q);
        q.advance(leaseMs + 1);
      },
      "in doubt": async (q) => settle(q, await claim(q), [], doubt),
      "whose doubt has ended": async (q) => {
        await settle(q, await claim(q, { provider: "away" }), [], doubt);
        await q.consumer.sweep(serving("resend"));
        for (let hour = 0; hour < 24; hour += 1) {
          q.advance(hourMs);
          await q.previous.consumer.sweep(serving("resend"));
        }
      },
      "that an operator retried": async (q, id) => {
        await die(q, id);
        expect(await q.admin.retry([{ id, seenHistory: "died", history: "" }], {})).toEqual([id]);
      },
      "that an operator retried by the previous release": async (q, id) => {
        await die(q, id);
        await q.previous.admin.retry([{ id, seenHistory: "died", history: "" }], {});
        expect(await claimedByPrevious(q)).toEqual([]);
        // The command may have refused.
        await q.admin.retry([{ id, seenHistory: "died", history: "" }], {});
      },
      "whose doubt an operator ended": async (q, id) => {
        await settle(q, await claim(q), [], doubt);
        const batch = (await batchOf(q.admin, id))!;
        expect(await q.admin.release(batch, { fates: [due(id)], counts: {} })).toBe(true);
      },
      "whose doubt an operator ended by the previous release, if that finds the batch": async (q, id) => {
        await settle(q, await claim(q), [], doubt);
        const batch = await batchOf(q.previous.admin, id);
        if (batch !== undefined)
          await q.previous.admin.release(batch, { fates: [due(id)], counts: {} }).catch(() => {});
      },
    };
    for (const [which, bring] of Object.entries(ways)) {
      test(`a hidden email, ${which}, is given to this release only`, async () => {
        const q = await queue();
        const one = hidden();
        await submit(q, one);
        await bring(q, one.id);
        // The queue goes on working for others.
        const [plain] = await submit(ofPrevious(q), submission());
        expect(await claimedByPrevious(q)).toEqual([plain!]);
        expect(await claimedByThis(q)).toEqual([one.id]);
      });
    }

    test("a scheduled email is given to this release only, once its time has come", async () => {
      const q = await queue();
      const { nowMs } = await q.admin.stats();
      const one = hidden({ sendAtMs: nowMs + 9 * hourMs });
      await submit(q, one);
      for (let hour = 0; hour < 8; hour += 1) {
        expect(await claimedByPrevious(q)).toEqual([]);
        q.advance(hourMs);
      }
      expect(await state(q, one.id)).toBe("scheduled");
      q.advance(hourMs);
      expect(await claimedByPrevious(q)).toEqual([]);
      expect(ids(await claim(q))).toEqual([one.id]);
    });

    test("sweeps of the previous release change nothing about hidden emails", async () => {
      const q = await queue();
      const all = await submit(q, ...Array.from({ length: 8 }, () => hidden()));
      const [retrying, only, piece, died, , doubtful] = all;
      await settle(q, await claim(q, { countMax: 4 }), [
        due(retrying!, 20 * hourMs),
        { ...due(only!, 2 * hourMs), only: "away" } as EmailFate,
        { ...due(piece!, 0), pieceMax: 8, only: "away" } as EmailFate,
        dead(died!),
      ]);
      await claim(q, { countMax: 1, leaseMs: 40 * 60 * minuteMs });
      const batch = await claim(q, { countMax: 1 });
      expect(ids(batch)).toEqual([doubtful!]);
      await settle(q, batch, [], { delayMs: 30 * hourMs, notes: "n" });
      const { nowMs } = await q.admin.stats();
      await submit(q, hidden({ sendAtMs: nowMs + 30 * 24 * hourMs }));
      const shown = async () => Promise.all(all.map((id) => q.admin.show(id)));
      const before = await shown();
      for (let hour = 0; hour < 30; hour += 1) {
        await q.previous.consumer.sweep(serving("resend"));
        q.advance(minuteMs);
      }
      expect(await shown()).toEqual(before);
      expect((await q.admin.stats()).states).toMatchObject({ scheduled: 1, dead: 1 });
    });

    test("a batch with one such email is given to this release only, and the others return to both", async () => {
      const q = await queue();
      const [plain, one] = [submission(), hidden()];
      await submit(q, plain, one);
      await settle(q, await claim(q), [], doubt);
      expect(await claimedByPrevious(q)).toEqual([]);
      const batch = await claim(q, { sources: ["batches"] });
      expect(ids(batch).toSorted()).toEqual([plain.id, one.id].toSorted());
      await settle(q, batch, [due(plain.id), due(one.id)]);
      expect(await claimedByPrevious(q)).toEqual([plain.id]);
      expect(await claimedByThis(q)).toEqual([one.id]);
    });

    test("plain emails pass through both, whichever release has them first", async () => {
      const q = await queue();
      const old = ofPrevious(q);
      for (const [from, to] of [
        [q, old],
        [old, q],
      ] as const) {
        await submit(from, ...Array.from({ length: 5 }, () => submission()));
        const first = await claim(to, { countMax: 4 });
        const [accepted, retried, split, deleted] = ids(first);
        await settle(to, first, [
          sent(accepted!),
          due(retried!),
          { ...due(split!), pieceMax: 8 } as EmailFate,
          dead(deleted!),
        ]);
        const second = await claim(to, { sources: ["emails"] });
        await settle(
          to,
          second,
          ids(second).map((id) => (id === retried ? dead(id) : sent(id))),
        );
        await settle(from, await claim(from, { sources: ["split"] }), [], doubt);
        await settle(to, await claim(to, { sources: ["batches"] }), [sent(split!)]);
        const again = [{ id: retried!, seenHistory: "died", history: "again" }];
        expect(await from.admin.retry(again, {})).toEqual([retried!]);
        await settle(to, await claim(to), [sent(retried!)]);
        expect(await from.admin.delete([deleted!])).toEqual(["deleted"]);
        await from.consumer.sweep(serving("resend"));
        await to.consumer.sweep(serving("resend"));
      }
      for (const { admin } of [q, old]) {
        const { states } = await admin.stats();
        expect(states).toMatchObject({
          waiting: 0,
          retrying: 0,
          sending: 0,
          "in-doubt": 0,
          dead: 0,
          sent: 8,
        });
      }
    });

    test("a submission that one release knows is answered by the other", async () => {
      const q = await queue();
      const idempotency = { key: "k", fingerprint: "f", token: "" };
      const one = hidden({ idempotency });
      await submit(q, one);
      const { producer } = q.previous;
      const known = { kind: "stored", id: one.id, repeated: true } as const;
      expect(await producer.submit({ id: one.id, text: one.text }, soon())).toEqual(known);
      expect(await producer.submit(submission({ idempotency }), soon())).toEqual(known);
      const other = { ...idempotency, fingerprint: "g" };
      expect(await producer.submit(submission({ idempotency: other }), soon())).toEqual({ kind: "conflict" });
    });

    test("commands of the previous release work, and keep what they do not know", async () => {
      const q = await queue();
      const { nowMs } = await q.admin.stats();
      const [one, later] = [hidden(), hidden({ sendAtMs: nowMs + hourMs })];
      await submit(q, one, later);
      await settle(q, await claim(q), [], doubt);
      const [plain] = await submit(q, submission());
      const { admin } = q.previous;
      await admin.stats();
      for (const listed of ["waiting", "retrying", "sending", "in-doubt", "dead", "sent"] as const)
        await admin.list(listed, 10);
      await admin.show(one.id);
      await admin.show(later.id);
      const { nowMs: tillMs } = await admin.stats();
      await admin.clear(100, tillMs);
      expect(await state(q, plain!)).toBe("deleted");
      expect(await claimedByThis(q)).toEqual([one.id]);
    });
  });
}
