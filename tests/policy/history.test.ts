import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  addAttempts,
  type Attempt,
  cutReason,
  asDead,
  asRetried,
  decodeHistory,
  decodeNotes,
  decodeRecord,
  encodeMemory,
  encodeRecord,
  noHistory,
  noNotes,
} from "../../lib/policy/history.ts";
import { anyHistory } from "./fixtures.ts";

const attempt = (atMs: number): Attempt => ({
  provider: "resend",
  atMs,
  outcome: "unavailable",
  reason: "down",
});
const all = (count: number, from = 0) => Array.from({ length: count }, (_, index) => attempt(from + index));
const remembered = (attempts: readonly Attempt[]) =>
  attempts.reduce((history, one) => addAttempts(history, { kept: [one], total: 1 }), noHistory);
const kept = (attempts: readonly Attempt[]) => remembered(attempts).attempts;

describe("attempts", () => {
  test("the first ten, the last ten and their number are kept", () => {
    const { kept: some, total } = kept(all(57));
    expect(some.map(({ atMs }) => atMs)).toEqual([
      0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56,
    ]);
    expect(total).toBe(57);
  });

  test("joining keeps the same attempts as adding one by one", () => {
    fc.assert(
      fc.property(fc.nat({ max: 50 }), fc.nat({ max: 50 }), (earlier, later) => {
        const joined = addAttempts(remembered(all(earlier)), kept(all(later, earlier)));
        expect(joined.attempts).toEqual(kept(all(earlier + later)));
      }),
    );
  });

  test("a reason has at most 500 characters, and never ends with half of one", () => {
    expect(cutReason("x".repeat(500))).toHaveLength(500);
    expect(cutReason("x".repeat(501))).toHaveLength(500);
    expect(cutReason(`${"x".repeat(499)}😀`)).toBe("x".repeat(499));
    expect(cutReason(`${"x".repeat(498)}😀!`)).toBe(`${"x".repeat(498)}😀`);
    expect(kept([{ ...attempt(0), reason: "y".repeat(9_000) }]).kept[0]?.reason).toHaveLength(500);
  });
});

describe("history", () => {
  test("empty text is the empty history, and vice versa", () => {
    expect(decodeHistory("")).toEqual(noHistory);
    expect(encodeMemory(noHistory)).toBe("");
    expect(decodeNotes("")).toEqual(noNotes);
    expect(encodeMemory(noNotes)).toBe("");
  });

  test("the stored form is the same in this release and the next", () => {
    const attempts = kept([{ provider: "resend", atMs: 5, outcome: "unknown", reason: "reset" }]);
    const history = { attempts, tries: 2, refusedBy: ["postmark"], doubted: true };
    expect(encodeMemory(history)).toBe(
      '{"attempts":[{"provider":"resend","atMs":5,"outcome":"unknown","reason":"reset"}],' +
        '"tries":2,"refusedBy":["postmark"],"doubted":true}',
    );
    expect(encodeMemory({ ...noHistory, deadReason: "no" })).toBe('{"deadReason":"no"}');
    expect(encodeMemory({ ...noHistory, replayedAtMs: 7 })).toBe('{"replayedAtMs":7}');
    expect(encodeMemory({ ...noNotes, attempts, looks: 1, failures: 3 })).toBe(
      '{"attempts":[{"provider":"resend","atMs":5,"outcome":"unknown","reason":"reset"}],"looks":1,"failures":3}',
    );
    const baseline = { credential: "key", acceptances: 4 };
    expect(encodeMemory({ ...noNotes, strikes: 2, baseline, isBlamed: true, account: "7" })).toBe(
      '{"strikes":2,"baseline":{"credential":"key","acceptances":4},"isBlamed":true,"account":"7"}',
    );
    const refusals = [{ id: "a", reason: "no" }];
    expect(encodeMemory({ ...noNotes, refusals })).toBe('{"refusals":[{"id":"a","reason":"no"}]}');
    expect(
      encodeRecord({ batchId: "b", provider: "resend", providerMessageId: "m", atMs: 9, history: noHistory }),
    ).toBe('{"batchId":"b","provider":"resend","providerMessageId":"m","atMs":9,"history":{}}');
  });

  test("encoded values are decoded unchanged", () => {
    fc.assert(
      fc.property(anyHistory, fc.nat(), fc.nat(), (history, looks, failures) => {
        expect(decodeHistory(encodeMemory(history))).toEqual(history);
        const notes = { ...noNotes, attempts: history.attempts, looks, failures, isBlamed: looks > failures };
        expect(decodeNotes(encodeMemory(notes))).toEqual(notes);
        const record = { batchId: "b", provider: "p", providerMessageId: "m", atMs: looks, history };
        expect(decodeRecord(encodeRecord(record))).toEqual(record);
      }),
    );
  });

  test("fields and outcomes of a later release are harmless", () => {
    const text = '{"attempts":[{"provider":"x","atMs":1,"outcome":"new"}],"total":40,"newer":true}';
    expect(decodeHistory(text)).toMatchObject({ attempts: { total: 40 }, tries: 0, doubted: false });
  });

  test("JSON of another shape is refused", () => {
    const histories = [
      "5",
      "null",
      "[]",
      '"text"',
      '{"attempts":5}',
      '{"attempts":[5]}',
      '{"attempts":[null]}',
      '{"attempts":[{"provider":"x","atMs":"1","outcome":"sent"}]}',
      '{"attempts":[{"provider":"x","atMs":1e300,"outcome":"sent"}]}',
      '{"attempts":[{"provider":"x","atMs":1,"outcome":"sent","reason":5}]}',
      '{"attempts":[{"atMs":1,"outcome":"sent"}]}',
      '{"total":"5"}',
      '{"tries":-1}',
      '{"tries":null}',
      '{"refusedBy":"resend"}',
      '{"refusedBy":[5]}',
      '{"doubted":"no"}',
      '{"deadReason":5}',
      '{"replayedAtMs":1e300}',
    ];
    const record = { batchId: "b", provider: "p", providerMessageId: "m", atMs: 1 };
    expect(decodeRecord(JSON.stringify(record)).history).toEqual(noHistory);
    for (const text of histories) {
      expect(() => decodeHistory(text)).toThrow();
      const stored = JSON.stringify({ ...record, history: JSON.parse(text) });
      expect(() => decodeRecord(stored)).toThrow();
    }
    for (const text of [
      "5",
      "null",
      '{"attempts":5}',
      '{"looks":"1"}',
      '{"failures":1.5}',
      '{"total":{}}',
      '{"strikes":-1}',
      '{"baseline":{"credential":"key"}}',
      '{"isBlamed":1}',
      '{"account":7}',
    ]) {
      expect(() => decodeNotes(text)).toThrow();
    }
    for (const wrong of [
      { batchId: 5 },
      { provider: null },
      { providerMessageId: undefined },
      { atMs: 1e16 },
    ]) {
      expect(() => decodeRecord(JSON.stringify({ ...record, ...wrong }))).toThrow();
    }
    expect(() => decodeRecord("5")).toThrow();
  });

  test("the reason of a dead letter that was in doubt says that its outcome is unknown", () => {
    expect(asDead({ ...noHistory, doubted: true }, "no").deadReason).toBe("outcome unknown: no");
    expect(asDead(noHistory, "no").deadReason).toBe("no");
  });

  test("a dead letter that is retried keeps its attempts and doubt, and nothing that followed from them", () => {
    fc.assert(
      fc.property(anyHistory, fc.nat(), (history, nowMs) => {
        const { attempts, doubted } = history;
        const replayed = { attempts, tries: 0, refusedBy: [], doubted, replayedAtMs: nowMs };
        expect(asRetried(asDead(history, "no"), nowMs)).toEqual(replayed);
        expect(asRetried({ ...replayed, replayedAtMs: 1 }, nowMs)).toEqual(replayed);
      }),
    );
  });

  test("the outcome of a dead letter is unknown if its doubt ever ended without an answer, retried or not", () => {
    for (const doubted of [false, true]) {
      const dead = asDead({ ...noHistory, doubted }, "no");
      expect(dead.doubted).toBe(doubted);
      const again = asDead(asRetried(dead, 5), "no again");
      expect(again.doubted).toBe(doubted);
      expect(again.deadReason).toBe(doubted ? "outcome unknown: no again" : "no again");
    }
  });
});
