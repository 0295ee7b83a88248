import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { isInDoubt } from "../../lib/policy/batch.ts";
import { noHistory } from "../../lib/policy/history.ts";
import { isRefused, knownDomains, noSenders, remember } from "../../lib/policy/senders.ts";
import { triage } from "../../lib/policy/triage.ts";
import { anyBatch, batch, email, historyOf, inDoubt, nowMs, policy, recallPolicy, told } from "./given.ts";

const bad = { from: "bad@example.com" };
const refusing = remember(noSenders, { refused: [bad.from], accepted: [] }, 0);
const byPostmark = { history: { ...noHistory, refusedBy: ["postmark"] } };
const byResend = { history: { ...noHistory, refusedBy: ["resend"] } };
const byAll = { history: { ...noHistory, refusedBy: ["postmark", "resend"] } };

function outcomeOf(given: ReturnType<typeof batch>, senders = refusing, atMs = 1): string {
  const result = triage(given, senders, atMs, policy, nowMs);
  return result.kind === "send" ? "send" : told(result.decision);
}

describe("triage", () => {
  test("a batch with nothing against it is sent", () => {
    expect(outcomeOf(batch([email("a"), email("b")]))).toBe("send");
  });

  test("an email of a refused sender goes to another provider, the rest to a new batch", () => {
    expect(outcomeOf(batch([email("a"), email("b", bad)]))).toBe("b due postmark 0; a to first");
  });

  test("an email that this provider refused before goes to another", () => {
    expect(outcomeOf(batch([email("a", byResend)]), noSenders)).toBe("a due postmark 0");
  });

  test("an email that every provider refused is dead", () => {
    expect(outcomeOf(batch([email("a", byAll)]), noSenders)).toStartWith("a dead: refused by every provider");
  });

  test("an email that has no other provider left is sent, apart from the others", () => {
    const last = email("b", { ...bad, ...byPostmark });
    expect(outcomeOf(batch([email("a"), last]))).toBe("a to first; b to second");
    expect(outcomeOf(batch([last]))).toBe("send");
  });

  test("a batch in doubt keeps its bytes", () => {
    expect(outcomeOf(batch([email("a"), email("b", bad)], inDoubt))).toBe("send");
    expect(outcomeOf(batch([email("a"), email("b", bad)], { lapsed: true }))).toBe("send");
  });

  test("an email accepted meanwhile is not sent again while the batch is not begun", () => {
    const marked = email("b", { marked: true });
    const result = triage(batch([email("a"), marked]), noSenders, 1, policy, nowMs);
    const fates = result.kind === "settle" ? result.decision.settlement.fates : [];
    expect(fates.map(({ id, kind }) => [id, kind])).toEqual([
      ["b", "dead"],
      ["a", "rebatched"],
    ]);
    expect(outcomeOf(batch([email("a"), marked], inDoubt))).toBe("send");
  });

  test("a sender is remembered for 10 minutes", () => {
    expect(isRefused(refusing, bad.from, 599_999)).toBe(true);
    expect(isRefused(refusing, bad.from, 600_000)).toBe(false);
    expect(outcomeOf(batch([email("a", bad)]), refusing, 600_000)).toBe("send");
  });

  test("senders without end are not remembered without end", () => {
    const many = Array.from({ length: 3_000 }, (_, index) => `${index}@example.com`);
    const remembered = many.reduce(
      (senders, from, index) => remember(senders, { refused: [from], accepted: [`a@${index}.org`] }, index),
      noSenders,
    );
    expect([remembered.refused.size, remembered.accepted.size]).toEqual([1_000, 1_000]);
    expect(isRefused(remembered, "2999@example.com", 3_000)).toBe(true);
    const known = knownDomains(remembered, 3_000);
    expect(known).toStartWith("* 2999.org 2998.org ");
    expect(known.length).toBeLessThanOrEqual(1002);
    const later = remember(remembered, { refused: ["x@y.z"], accepted: ["a@b.c"] }, 700_000);
    expect([later.refused.size, later.accepted.size]).toEqual([1, 1]);
  });

  test("a hand-over is an attempt of its history and counted by itself", () => {
    const result = triage(batch([email("a", bad)]), refusing, 1, policy, nowMs);
    if (result.kind === "send") throw new Error("sent");
    expect(historyOf(result.decision, "a")).toMatchObject({ refusedBy: ["resend"], tries: 0 });
    expect(historyOf(result.decision, "a").attempts.kept[0]?.outcome).toBe("handedOver");
    expect(result.decision.settlement.counts).toEqual({ "handed_over:resend": 1 });
  });

  describe("at a provider that cannot be searched", () => {
    const stranger = { from: "me@example.org" };
    const tell = (given: ReturnType<typeof batch>, settings = policy) => {
      const result = triage(given, noSenders, 1, settings, nowMs);
      return result.kind === "send" ? "send" : told(result.decision);
    };
    const knowing = { context: "* example.net example.com" };

    test("a domain that it is not known to take is kept apart from those that it is", () => {
      expect(tell(batch([email("a"), email("b", stranger), email("c")], knowing))).toBe(
        "a to first; c to first; b to second",
      );
      expect(tell(batch([email("a"), email("c", { from: "news@EXAMPLE.com" })], knowing))).toBe("send");
    });

    test("two that are not known are kept apart from each other, and one alone is sent", () => {
      const none = { context: "" };
      expect(tell(batch([email("a"), email("b", stranger)], none))).toBe("a to first; b to second");
      expect(tell(batch([email("a"), email("b", { from: "news@example.com" })], none))).toBe("send");
    });

    test("known are the domains whose emails it has taken in the last ten minutes, and of which it refuses none", () => {
      const accepted = ["shop@Example.com", "me@example.org"];
      const senders = remember(noSenders, { refused: [], accepted }, 0);
      expect(knownDomains(senders, 599_999)).toBe("* example.org example.com");
      expect(knownDomains(senders, 600_000)).toBe("*");
      const refusing = remember(senders, { refused: ["news@example.com"], accepted: [] }, 1);
      expect(knownDomains(refusing, 1)).toBe("* example.org");
    });

    test("a batch whose worker died was never begun if it would have been parted: it is parted now", () => {
      const lapsed = { ...knowing, lapsed: true };
      expect(tell(batch([email("a"), email("b", stranger)], lapsed))).toBe("a to first; b to second");
      expect(tell(batch([email("a"), email("b", stranger)], { ...knowing, ...inDoubt }))).toBe(
        "a to first; b to second",
      );
    });

    test("one that may have been begun keeps its bytes", () => {
      const known = { context: "* example.org example.com", lapsed: true };
      expect(tell(batch([email("a"), email("b", stranger)], known))).toBe("send");
      expect(tell(batch([email("b", stranger)], { ...knowing, lapsed: true }))).toBe("send");
      const mixed = [email("a"), email("b", stranger)];
      // Made by a worker that kept nothing apart, or by one that has told of a request.
      expect(tell(batch(mixed, { context: "example.com", lapsed: true }))).toBe("send");
      const asked = { kept: [{ provider: "resend", atMs: 1, outcome: "unknown" as const }], total: 1 };
      const notes = { attempts: asked, looks: 0, failures: 1 };
      expect(tell(batch(mixed, { ...knowing, ...inDoubt, notes }))).toBe("send");
    });

    test("where emails can be searched for, none of this is needed", () => {
      expect(tell(batch([email("a"), email("b", stranger)], { context: "" }), recallPolicy)).toBe("send");
    });
  });

  test("every email has one fate, whatever the batch, and what goes on is sent next time", () => {
    fc.assert(
      fc.property(anyBatch, fc.subarray(["shop@example.com", "news@example.com"]), (given, refused) => {
        const senders = remember(noSenders, { refused, accepted: [] }, 0);
        const result = triage(given, senders, 1, policy, nowMs);
        if (result.kind === "send") return;
        const { fates, rest } = result.decision.settlement;
        const domains = new Set(given.emails.map(({ from }) => from.split("@")[1]!));
        const isMixed = domains.size > 1 && [...domains].some((domain) => !given.context.includes(domain));
        expect(!isInDoubt(given) || (isMixed && given.context.startsWith("*"))).toBe(true);
        expect(rest).toBeUndefined();
        expect(fates.map(({ id }) => id).sort()).toEqual(given.emails.map(({ id }) => id).sort());
        for (const batchId of policy.newBatchIds) {
          const ids = fates.flatMap((fate) =>
            fate.kind === "rebatched" && fate.batchId === batchId ? [fate.id] : [],
          );
          const next = batch(
            given.emails.filter(({ id }) => ids.includes(id)),
            { context: given.context },
          );
          // Of several domains, those that are not known are kept apart only now.
          if (!isMixed) expect(triage(next, senders, 1, policy, nowMs).kind).toBe("send");
        }
      }),
    );
  });
});
