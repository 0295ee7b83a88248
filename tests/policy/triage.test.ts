import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { isInDoubt } from "../../lib/policy/batch.ts";
import { noHistory } from "../../lib/policy/history.ts";
import { isRefused, noRefusedSenders, rememberRefused } from "../../lib/policy/senders.ts";
import { triage } from "../../lib/policy/triage.ts";
import { anyBatch, batch, email, historyOf, inDoubt, nowMs, policy, told } from "./given.ts";

const bad = { from: "bad@example.com" };
const refusing = rememberRefused(noRefusedSenders, [bad.from], 0);
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
    expect(outcomeOf(batch([email("a", byResend)]), noRefusedSenders)).toBe("a due postmark 0");
  });

  test("an email that every provider refused is dead", () => {
    expect(outcomeOf(batch([email("a", byAll)]), noRefusedSenders)).toStartWith(
      "a dead: refused by every provider",
    );
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
    const result = triage(batch([email("a"), marked]), noRefusedSenders, 1, policy, nowMs);
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
      (senders, from, index) => rememberRefused(senders, [from], index),
      noRefusedSenders,
    );
    expect(remembered.size).toBe(1_000);
    expect(isRefused(remembered, "2999@example.com", 3_000)).toBe(true);
    expect(rememberRefused(remembered, ["x"], 700_000).size).toBe(1);
  });

  test("a hand-over is an attempt of its history and counted by itself", () => {
    const result = triage(batch([email("a", bad)]), refusing, 1, policy, nowMs);
    if (result.kind === "send") throw new Error("sent");
    expect(historyOf(result.decision, "a")).toMatchObject({ refusedBy: ["resend"], tries: 0 });
    expect(historyOf(result.decision, "a").attempts.kept[0]?.outcome).toBe("handedOver");
    expect(result.decision.settlement.counts).toEqual({ "handed_over:resend": 1 });
  });

  test("every email has one fate, whatever the batch, and what goes on is sent next time", () => {
    fc.assert(
      fc.property(anyBatch, fc.subarray(["shop@example.com", "news@example.com"]), (given, refused) => {
        const senders = rememberRefused(noRefusedSenders, refused, 0);
        const result = triage(given, senders, 1, policy, nowMs);
        if (result.kind === "send") return;
        const { fates, rest } = result.decision.settlement;
        expect(isInDoubt(given)).toBe(false);
        expect(rest).toBeUndefined();
        expect(fates.map(({ id }) => id).sort()).toEqual(given.emails.map(({ id }) => id).sort());
        for (const batchId of policy.newBatchIds) {
          const ids = fates.flatMap((fate) =>
            fate.kind === "rebatched" && fate.batchId === batchId ? [fate.id] : [],
          );
          const next = batch(given.emails.filter(({ id }) => ids.includes(id)));
          expect(triage(next, senders, 1, policy, nowMs).kind).toBe("send");
        }
      }),
    );
  });
});
