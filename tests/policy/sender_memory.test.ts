import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { isInDoubt } from "../../lib/policy/batch.ts";
import { noHistory } from "../../lib/policy/history.ts";
import { presend } from "../../lib/policy/presend.ts";
import { domainOf, type KnownSenders, noSenders, remember } from "../../lib/policy/sender_memory.ts";
import {
  anyBatch,
  batch,
  email,
  historyOf,
  inDoubt,
  inputOf,
  policy,
  searchPolicy,
  describeDecision,
} from "./fixtures.ts";

const bad = { from: "bad@example.com" };
const refusing = remember(noSenders, { refused: [bad.from], accepted: ["shop@example.com"] }, 0);
const byPostmark = { history: { ...noHistory, refusedBy: ["postmark"] } };
const byResend = { history: { ...noHistory, refusedBy: ["resend"] } };
const byAll = { history: { ...noHistory, refusedBy: ["postmark", "resend"] } };

const isRefused = ({ refused }: KnownSenders, from: string, atMs: number) => refused.get(from)! > atMs;
const isKnown = ({ accepted }: KnownSenders, from: string, atMs: number) =>
  accepted.get(domainOf(from))! > atMs;

function outcomeOf(given: ReturnType<typeof batch>, senders = refusing, atMs = 1): string {
  return inWords(presend(inputOf(given), senders, atMs, true));
}

/** Describes in words which emails leave the batch, and which are sent. */
function inWords({ emails, decision }: ReturnType<typeof presend>): string {
  const words = decision === undefined ? [] : [describeDecision(decision)];
  return [...words, ...(emails.length > 0 ? [`send ${emails.map(({ id }) => id).join(" ")}`] : [])].join(
    "; ",
  );
}

describe("senders", () => {
  test("a batch without refused senders is sent", () => {
    expect(outcomeOf(batch([email("a"), email("b")]))).toBe("send a b");
  });

  test("an email of a refused sender goes to another provider, and the rest is sent", () => {
    expect(outcomeOf(batch([email("a"), email("b", bad)]))).toBe("b due postmark 0; send a");
  });

  test("an email that this provider refused before goes to another", () => {
    expect(outcomeOf(batch([email("a", byResend)]), noSenders)).toBe("a due postmark 0");
  });

  test("an email that every provider refused is dead", () => {
    expect(outcomeOf(batch([email("a", byAll)]), noSenders)).toStartWith("a dead: refused by every provider");
  });

  test("an email without another provider left is sent, apart from the others", () => {
    const last = email("b", { ...bad, ...byPostmark });
    expect(outcomeOf(batch([email("a"), last]))).toBe("b due resend 0 in 100; send a");
    expect(outcomeOf(batch([last]))).toBe("send b");
  });

  test("a batch in doubt keeps its bytes", () => {
    expect(outcomeOf(batch([email("a"), email("b", bad)], inDoubt))).toBe("send a b");
    expect(outcomeOf(batch([email("a"), email("b", bad)], { leaseExpired: true }))).toBe("send a b");
  });

  test("an email accepted meanwhile is not sent again if the batch was not begun", () => {
    const marked = email("b", { marked: true });
    const result = presend(inputOf(batch([email("a"), marked])), noSenders, 1, true);
    expect(result.decision?.settlement.fates.map(({ id, kind }) => [id, kind])).toEqual([["b", "dead"]]);
    expect(result.emails.map(({ id }) => id)).toEqual(["a"]);
    expect(outcomeOf(batch([email("a"), marked], inDoubt))).toBe("send a b");
  });

  test("a sender is remembered for 10 minutes", () => {
    expect(isRefused(refusing, bad.from, 599_999)).toBe(true);
    expect(isRefused(refusing, bad.from, 600_000)).toBe(false);
    expect(outcomeOf(batch([email("a", bad)]), refusing, 600_000)).toBe("send a");
  });

  test("the number of remembered senders is bounded", () => {
    const many = Array.from({ length: 3_000 }, (_, index) => `${index}@example.com`);
    const remembered = many.reduce(
      (senders, from, index) => remember(senders, { refused: [from], accepted: [`a@${index}.org`] }, index),
      noSenders,
    );
    expect([remembered.refused.size, remembered.accepted.size]).toEqual([1_000, 1_000]);
    expect(isRefused(remembered, "2999@example.com", 3_000)).toBe(true);
    expect(isKnown(remembered, "shop@2999.org", 3_000)).toBe(true);
    expect(isKnown(remembered, "shop@1.org", 3_000)).toBe(false);
    const later = remember(remembered, { refused: ["x@y.z"], accepted: ["a@b.c"] }, 700_000);
    expect([later.refused.size, later.accepted.size]).toEqual([1, 1]);
  });

  test("a move to another provider is an attempt in the history, with a counter of its own", () => {
    const result = presend(inputOf(batch([email("a", bad)])), refusing, 1, true);
    if (result.decision === undefined) throw new Error("sent");
    expect(historyOf(result.decision, "a")).toMatchObject({ refusedBy: ["resend"], tries: 0 });
    expect(historyOf(result.decision, "a").attempts.kept[0]?.outcome).toBe("handedOver");
    expect(result.decision.settlement.counts).toEqual({ "handed_over:resend": 1 });
  });

  describe("at a provider that cannot be searched", () => {
    const stranger = { from: "me@example.org" };
    const knowing = remember(noSenders, { refused: [], accepted: ["shop@example.com"] }, 0);
    const outcome = (given: ReturnType<typeof batch>, senders = knowing, settings = policy) =>
      inWords(presend(inputOf(given, settings), senders, 1, true));

    test("senders of a domain that it is not known to accept wait for a separate turn", () => {
      expect(outcome(batch([email("a"), email("b", stranger), email("c")]))).toBe(
        "b due any 0 in 100; send a c",
      );
      expect(outcome(batch([email("a"), email("c", { from: "news@EXAMPLE.com" })]))).toBe("send a c");
    });

    test("they travel together, and in pieces no larger than they did", () => {
      const two = [email("a"), email("b", stranger)];
      expect(outcome(batch(two), noSenders)).toBe("send a b");
      expect(outcome(batch(two, { pieceMax: 8 }))).toBe("b due any 0 in 8; send a");
    });

    test("an email without another provider left is not starved by unknown senders", () => {
      const last = email("l", { ...bad, ...byPostmark });
      const first = [last, email("s", stranger)];
      expect(outcome(batch(first), refusing)).toBe("s due any 0 in 100; send l");
      expect(outcome(batch(first.toReversed()), refusing)).toBe("l due resend 0 in 100; send s");
    });

    test("known domains are those with an accepted email and no refusal in the last ten minutes", () => {
      const accepted = ["shop@Example.com", "me@example.org"];
      const senders = remember(noSenders, { refused: [], accepted }, 0);
      const known = (of: typeof senders, atMs: number) =>
        ["a@example.com", "a@example.org", "a@example.net"].filter((from) => isKnown(of, from, atMs));
      expect(known(senders, 599_999)).toEqual(["a@example.com", "a@example.org"]);
      expect(known(senders, 600_000)).toEqual([]);
      const after = remember(senders, { refused: ["news@example.com"], accepted: [] }, 1);
      expect(known(after, 1)).toEqual(["a@example.org"]);
    });

    test("a provider that can be searched sends all senders together", () => {
      expect(outcome(batch([email("a"), email("b", stranger)]), knowing, searchPolicy)).toBe("send a b");
    });
  });

  test("every email is sent or has one fate, whatever the batch", () => {
    fc.assert(
      fc.property(anyBatch, fc.subarray(["shop@example.com", "news@example.com"]), (given, refused) => {
        const senders = remember(noSenders, { refused, accepted: ["me@example.org"] }, 0);
        const { emails, decision } = presend(inputOf(given), senders, 1, true);
        const fates = decision?.settlement.fates ?? [];
        if (isInDoubt(given)) expect(fates).toEqual([]);
        expect([...fates, ...emails].map(({ id }) => id).sort()).toEqual(
          given.emails.map(({ id }) => id).sort(),
        );
        expect(decision?.settlement.keepsLease ?? false).toBe(decision !== undefined && emails.length > 0);
        // Preparing the same batch again changes nothing.
        const next = { ...given, emails };
        expect(presend(inputOf(next), senders, 1, true)).toEqual({ emails });
      }),
    );
  });
});
