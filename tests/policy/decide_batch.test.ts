import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { isInDoubt, type DecodedBatch } from "../../lib/policy/batch.ts";
import type { Policy, Result } from "../../lib/policy/decision.ts";
import { decodeNotes, decodeRecord, noHistory, noNotes } from "../../lib/policy/history.ts";
import {
  anyBatch,
  anyRandom,
  anyResult,
  batch,
  decided,
  each,
  email,
  fileOf,
  historyOf,
  hourMs,
  inDoubt,
  searched,
  nowMs,
  old,
  outcomes,
  policy,
  searchPolicy,
  describeDecision,
  whole,
} from "./fixtures.ts";

const one = [email("a")];
const two = [email("a"), email("b")];
const three = [email("a"), email("b"), email("c")];
const twoSenders = [email("a"), email("b"), email("c", { from: "news@example.com" })];
const late = [email("a", old)];
const retriedByOperator = (hoursAgo: number) => [
  email("a", { ...old, history: { ...noHistory, replayedAtMs: nowMs - hoursAgo * hourMs } }),
];
const refusedElsewhere = [email("a", { history: { ...noHistory, refusedBy: ["postmark"] } })];
const doubted = [email("a", { history: { ...noHistory, doubted: true } })];
const nine = Array.from({ length: 9 }, (_, index) => email(`e${index}`));
/** In doubt for long, with another email accepted since the first of these strikes. */
const struck = (strikes: number): Partial<DecodedBatch> => ({
  ...inDoubt,
  acceptances: 8,
  notes: { ...noNotes, strikes, baseline: { credential: "key", acceptances: 7 } },
});
const answered: Policy = { ...policy, question: "answered" };
const untouched: Result = { kind: "untouched", delayMs: 0 };
const postmark: Partial<DecodedBatch> = { provider: "postmark" };
/** Postmark has said that it refused the email "a", which has several recipients. */
const partlyRefused = (looks: number): Partial<DecodedBatch> => ({
  ...postmark,
  ...inDoubt,
  notes: { ...noNotes, looks, refusals: [{ id: "a", reason: "inactive" }] },
});
const withFiles = [email("a", fileOf(10)), email("b"), email("c", fileOf(10))];
const filesLost = (...ids: string[]): Result => ({ kind: "filesLost", ids: new Set(ids) });
const searchFailed: Result = { kind: "failed", outcome: outcomes.unavailable };

type Row = [subject: string, batch: DecodedBatch, result: Result, decision: string, policy?: Policy];

const rows: Row[] = [
  // One email, never in doubt
  ["an accepted email is sent", batch(one), each("accepted"), "a sent"],
  [
    "a rejected email goes to the next provider immediately",
    batch(one),
    each("rejected"),
    "a due postmark 0",
  ],
  [
    "an email that every provider rejects is dead",
    batch(refusedElsewhere),
    each("rejected"),
    "a dead: refused by every provider: bad address",
  ],
  ["an email whose rejection may change is dead too", batch(one), whole("unstable"), "a dead: not today"],
  [
    "an email of a refused sender goes to the next provider immediately",
    batch(one),
    each("senderRefused"),
    "a due postmark 0",
  ],
  [
    "an email whose sender every provider refuses is dead",
    batch(refusedElsewhere),
    whole("senderRefused"),
    "a dead: refused by every provider: not verified",
  ],
  [
    "an email whose sender a provider of weight 0 refuses goes to the first with a weight",
    batch(one, { provider: "sandbox" }),
    whole("senderRefused"),
    "a due resend 0",
  ],
  [
    "a provider of weight 0 does not count among those that can take an email",
    batch(one),
    whole("senderRefused"),
    "a dead: refused by every provider: not verified",
    { ...policy, providers: ["resend"] },
  ],
  [
    "an email refused with the account goes to any provider immediately",
    batch(one),
    whole("accountRefused"),
    "a due any 0 in 1",
  ],
  ["a throttled email goes to any provider immediately", batch(one), whole("throttled"), "a due any 0"],
  ["an email backs off from an unavailable provider", batch(one), whole("unavailable"), "a due any 500"],
  ["an unknown outcome puts the batch in doubt", batch(one), whole("unknown"), "rest 500"],
  [
    "an unknown outcome of a provider that can be searched leads to a search soon",
    batch(one, postmark),
    whole("unknown"),
    "rest 1000",
    searchPolicy,
  ],
  [
    "an email whose key was used with other bytes is dead, with an unknown outcome",
    batch(one),
    whole("keyReused"),
    "a dead: outcome unknown: other bytes",
  ],
  ["a batch that was not begun gives its emails back", batch(two), untouched, "a due any 0; b due any 0"],
  [
    "an email that one provider refused goes back to the only one left",
    batch(refusedElsewhere),
    whole("unavailable"),
    "a due resend 500",
  ],
  [
    "an email refused with the account next to an accepted one backs off",
    batch(two),
    each("accountRefused", "accepted"),
    "a due any 500 in 2; b sent",
  ],

  // One email, late
  [
    "a late email dies from a failure of a provider that answers questions",
    batch(late),
    whole("maintenance"),
    "a dead: gave up: 503",
    answered,
  ],
  [
    "a late email outlives a failure of a provider that was not asked, or did not answer",
    batch(late),
    whole("maintenance"),
    "a due any 500 in 1",
  ],
  [
    "a late email outlives a connection that was never made",
    batch(late),
    whole("unavailable"),
    "a due any 500 in 1",
    answered,
  ],
  [
    "a late email that traveled in company travels alone next",
    batch([...late, email("b")]),
    whole("maintenance"),
    "a due any 500 in 1; b due any 500 in 1",
    answered,
  ],
  [
    "a late email dies from a refused account if the question found the account valid",
    batch(late),
    whole("accountRefused"),
    "a dead: gave up: bad key",
    { ...policy, question: "ok" },
  ],
  [
    "a late email outlives a refused account if the question was refused too",
    batch(late),
    whole("accountRefused"),
    "a due any 0 in 1",
    answered,
  ],
  [
    "a late email of a refused sender still goes to the next provider",
    batch(late),
    whole("senderRefused"),
    "a due postmark 0",
    answered,
  ],
  [
    "no email is late soon after a step of the store's clock",
    batch(late, { clockSteppedAtMs: nowMs - 1_000 }),
    whole("maintenance"),
    "a due any 500",
    answered,
  ],
  ["a late email outlives throttling", batch(late), whole("throttled"), "a due any 0", answered],
  [
    "a late email in doubt dies from a failed attempt, with an unknown outcome",
    batch(late, inDoubt),
    whole("serverError"),
    "a dead: outcome unknown: gave up: 500",
    answered,
  ],
  [
    "a late email outlives an unknown outcome that puts it in doubt",
    batch(late),
    whole("unknown"),
    "rest 500",
    answered,
  ],
  [
    "a late email dies when its doubt ends, if the provider worked when its attempt failed",
    batch(late, { ...inDoubt, notes: { ...noNotes, isBlamed: true } }),
    { kind: "ended" },
    "a dead: outcome unknown: gave up: no answer",
  ],
  ["a late email outlives being given back", batch(late), untouched, "a due any 0"],
  ["a late email outlives the end of its doubt", batch(late, inDoubt), { kind: "ended" }, "a due any 0 in 1"],
  [
    "an old email that an operator retried is not late until GIVE_UP_AFTER has passed again",
    batch(retriedByOperator(71)),
    whole("maintenance"),
    "a due any 500",
    answered,
  ],
  [
    "an email that an operator retried too long ago dies",
    batch(retriedByOperator(72)),
    whole("maintenance"),
    "a dead: gave up: 503",
    answered,
  ],
  // Several emails, never in doubt
  [
    "each email has its own outcome",
    batch(three),
    each("accepted", "rejected", "senderRefused"),
    "a sent; b due postmark 0; c due postmark 0",
  ],
  [
    "a rejected batch continues immediately in pieces of eight",
    batch(nine),
    whole("rejected"),
    nine.map(({ id }) => `${id} due any 0 in 8`).join("; "),
  ],
  [
    "a rejected piece continues as single emails",
    batch(nine.slice(1), { pieceMax: 8 }),
    whole("rejected"),
    nine
      .slice(1)
      .map(({ id }) => `${id} due any 0 in 1`)
      .join("; "),
  ],
  [
    "a batch that a provider itself fails is retried in pieces",
    batch(two),
    whole("maintenance"),
    "a due any 500 in 1; b due any 500 in 1",
  ],
  [
    "a connection that was never made is no email's fault",
    batch(two),
    whole("unavailable"),
    "a due any 500; b due any 500",
  ],
  [
    "an email that travels alone continues to do so until it succeeds",
    batch(one, { pieceMax: 1 }),
    whole("throttled"),
    "a due any 0 in 1",
  ],
  [
    "a batch with only a refused sender is refused as a whole",
    batch(two),
    whole("senderRefused"),
    "a due postmark 0; b due postmark 0",
  ],
  [
    "a batch of several senders continues in pieces if the refusal names none",
    batch(twoSenders),
    whole("senderRefused"),
    "a due any 0 in 1; b due any 0 in 1; c due any 0 in 1",
  ],
  [
    "only the sender's domain that a refusal names is refused",
    batch([email("a"), email("b", { from: "me@Example.org" })]),
    whole("named"),
    "a due any 0 in 100; b due postmark 0",
  ],
  [
    "a named domain that no email of the batch has is ignored",
    batch(twoSenders),
    whole("named"),
    "a due any 0 in 1; b due any 0 in 1; c due any 0 in 1",
  ],
  [
    "emails that were refused with the account stay together, apart from others",
    batch(twoSenders),
    whole("accountRefused"),
    "a due any 0 in 3; b due any 0 in 3; c due any 0 in 3",
  ],
  ["a throttled batch goes back whole", batch(two), whole("throttled"), "a due any 0; b due any 0"],

  // In doubt
  [
    "an answer for each email ends doubt",
    batch(three, inDoubt),
    each("accepted", "unavailable", "senderRefused"),
    "a sent; b due any 500; c due postmark 0",
  ],
  ["a stable rejection ends doubt", batch(one, inDoubt), whole("rejected"), "a due postmark 0"],
  [
    "a stable rejection splits a batch in doubt",
    batch(two, inDoubt),
    whole("rejected"),
    "a due any 0 in 1; b due any 0 in 1",
  ],
  ["a rejection that may change does not end doubt", batch(two, inDoubt), whole("unstable"), "rest 500"],
  [
    "a key used with other bytes ends doubt",
    batch(two, inDoubt),
    whole("keyReused"),
    "a dead: outcome unknown: other bytes; b dead: outcome unknown: other bytes",
  ],
  ["a refused sender does not end doubt", batch(one, inDoubt), whole("senderRefused"), "rest 500"],
  ["a refused account does not end doubt", batch(one, inDoubt), whole("accountRefused"), "rest 500"],
  ["a throttled batch in doubt stays whole", batch(two, inDoubt), whole("throttled"), "rest 500"],
  ["an unavailable provider does not end doubt", batch(one, inDoubt), whole("unavailable"), "rest 500"],
  ["an unknown outcome does not end doubt", batch(one, inDoubt), whole("unknown"), "rest 500"],
  [
    "a batch whose lease expired is in doubt",
    batch(two, { leaseExpired: true }),
    whole("throttled"),
    "rest 500",
  ],
  ["a late batch in doubt stays in doubt", batch(late, inDoubt), whole("unavailable"), "rest 500"],
  ["a batch in doubt that was not begun stays as it is", batch(two, inDoubt), untouched, "rest 0"],
  [
    "doubt that ends gives all emails back",
    batch(two, inDoubt),
    { kind: "ended" },
    "a due any 0 in 1; b due any 0 in 1",
  ],
  [
    "a batch in doubt backs off by its own failures",
    batch(one, { ...inDoubt, notes: { ...noNotes, failures: 3 } }),
    whole("unavailable"),
    "rest 4000",
  ],
  [
    "throttling in doubt does not add to the backoff",
    batch(one, { ...inDoubt, notes: { ...noNotes, failures: 9 } }),
    whole("throttled"),
    "rest 500",
  ],
  [
    "a batch in doubt is due at the latest when its doubt ends",
    batch(one, { ...inDoubt, doubtEndsAtMs: nowMs + 200 }),
    whole("unavailable"),
    "rest 200",
  ],
  [
    "attempts in doubt are at most 30 s apart",
    batch(one, { ...inDoubt, notes: { ...noNotes, failures: 12 } }),
    whole("unavailable"),
    "rest 30000",
  ],
  [
    "the attempts that a split needs are made before it is allowed",
    batch(two, { doubtSinceMs: nowMs - 1_000, notes: { ...noNotes, failures: 12, strikes: 3 } }),
    whole("unavailable"),
    "rest 24000",
  ],
  [
    "a batch that fails for the fifth time while others are accepted is split",
    batch(two, struck(4)),
    whole("serverError"),
    "a due any 0 in 1; b due any 0 in 1",
  ],
  [
    "a batch whose sender is refused at every repetition is split: the refusal shows that the provider works",
    batch(two, { ...struck(4), acceptances: 7 }),
    whole("senderRefused"),
    "a due any 0 in 1; b due any 0 in 1",
  ],
  ["four failures are too few for a split", batch(two, struck(3)), whole("serverError"), "rest 500"],
  [
    "a batch is not split while no other email is accepted",
    batch(two, { ...struck(4), acceptances: 7 }),
    whole("serverError"),
    "rest 500",
  ],
  [
    "an acceptance under another credential is no evidence",
    batch(two, struck(4)),
    whole("serverError"),
    "rest 500",
    { ...policy, credential: "another" },
  ],
  [
    "a batch is not split within two minutes",
    batch(two, { ...struck(4), doubtSinceMs: nowMs - 119_000 }),
    whole("serverError"),
    "rest 1050",
  ],
  [
    "throttling, maintenance and lost connections do not count towards a split",
    batch(two, struck(4)),
    whole("maintenance"),
    "rest 500",
  ],
  [
    "a request that the provider is still working on does not count towards a split",
    batch(two, struck(4)),
    { kind: "whole", outcome: { ...outcomes.serverError, isAtWork: true } },
    "rest 500",
  ],
  [
    "a claim that finds the evidence splits without another attempt",
    batch(two, struck(5)),
    { kind: "split" },
    "a due any 0 in 1; b due any 0 in 1",
  ],
  [
    "an exhausted quota ends no email",
    batch(late),
    { kind: "whole", outcome: { ...outcomes.accountRefused, isQuota: true } },
    "a due any 0 in 1",
    { ...policy, question: "ok" },
  ],
  [
    "the rest of a piece with a refused sender continues in halves",
    batch([email("a"), email("b", { from: "me@example.org" }), email("c"), email("d")], { pieceMax: 100 }),
    whole("named"),
    "a due any 0 in 2; b due postmark 0 in 100; c due any 0 in 2; d due any 0 in 2",
  ],
  ["one email is never split", batch(one, struck(9)), whole("serverError"), "rest 500"],
  [
    "a provider that can be searched needs no split",
    batch(two, { ...postmark, ...struck(9) }),
    { kind: "failed", outcome: outcomes.serverError },
    "rest 500",
    searchPolicy,
  ],

  // After doubt
  [
    "an email that was in doubt before dies with an unknown outcome",
    batch(doubted),
    each("unstable"),
    "a dead: outcome unknown: not today",
  ],
  ["an email that was in doubt before can be sent", batch(doubted), whole("unavailable"), "a due any 500"],

  // Files
  [
    "an email with files goes on alone from a provider that takes them alone",
    batch(withFiles, { pieceMax: 8 }),
    whole("rejected"),
    "a due any 0 in 1; b due any 0 in 1; c due any 0 in 1",
  ],
  [
    "an email with files that failed there is retried alone",
    batch(withFiles.slice(0, 1)),
    whole("unavailable"),
    "a due any 500 in 1",
  ],
  [
    "at another provider an email with files is retried in batches",
    batch(withFiles, postmark),
    whole("unavailable"),
    "a due any 500; b due any 500; c due any 500",
    { ...policy, batchesFiles: true },
  ],
  [
    "a batch that was never begun is sent on, although its lease has expired",
    batch(withFiles, { leaseExpired: true }),
    { kind: "neverBegun" },
    "a due any 0 in 1; b due any 0; c due any 0 in 1",
  ],
  [
    "an email without its files is dead, and the others go on",
    batch(withFiles),
    filesLost("a"),
    "b due any 0; c due any 0 in 1; a dead: its files cannot be read from the store",
  ],
  [
    "an email in doubt without its files is dead with an unknown outcome",
    batch(withFiles.slice(0, 1), inDoubt),
    filesLost("a"),
    "a dead: outcome unknown: its files cannot be read from the store",
  ],
  [
    "an email that was accepted meanwhile needs no files",
    batch([email("a", { ...fileOf(10), marked: true })], inDoubt),
    filesLost("a"),
    "a dead: undefined",
  ],

  // Scheduled emails
  [
    "GIVE_UP_AFTER counts from the time at which an email was to be sent",
    batch([email("a", { ...old, send_at: new Date(nowMs - 71 * hourMs).toISOString() })]),
    whole("maintenance"),
    "a due any 500",
    answered,
  ],
  [
    "a time before the submission does not count",
    batch([email("a", { send_at: new Date(nowMs - 99 * hourMs).toISOString() })]),
    whole("maintenance"),
    "a due any 500",
    answered,
  ],

  // Searches
  [
    "a refused email of several recipients is searched for, and no other",
    batch(two, postmark),
    each("partlyRefused", "accepted"),
    "b sent; rest 1000",
    searchPolicy,
  ],
  ["it was sent if the search finds it", batch(one, partlyRefused(1)), searched("a"), "a sent", searchPolicy],
  [
    "it is refused if two searches do not find it, and the others are sent again",
    batch(two, partlyRefused(1)),
    searched(),
    "a dead: inactive; b due any 0 in 1",
    searchPolicy,
  ],
  [
    "emails that a search finds are sent",
    batch(two, { ...postmark, ...inDoubt }),
    searched("a", "b"),
    "a sent; b sent",
    searchPolicy,
  ],
  [
    "a search before the search wait leaves what it does not find until then",
    batch(two, { ...postmark, doubtSinceMs: nowMs - 10_000 }),
    searched("a"),
    "a sent; rest 50050",
    searchPolicy,
  ],
  [
    "one search after the search wait is not enough",
    batch(two, { ...postmark, ...inDoubt }),
    searched("a"),
    "a sent; rest 10000",
    searchPolicy,
  ],
  [
    "a second search after the search wait sends again what it does not find",
    batch(two, { ...postmark, ...inDoubt, notes: { ...noNotes, looks: 1 } }),
    searched("a"),
    "a sent; b due any 0 in 1",
    searchPolicy,
  ],
  [
    "a search of another account does not count",
    batch(one, { ...postmark, ...inDoubt, credential: "old", notes: { ...noNotes, looks: 1, account: "7" } }),
    searched(),
    "rest 10000",
    { ...searchPolicy, account: "8" },
  ],
  [
    "a search of the same account under another token counts",
    batch(one, { ...postmark, ...inDoubt, credential: "old", notes: { ...noNotes, looks: 1, account: "7" } }),
    searched(),
    "a due any 0 in 1",
    { ...searchPolicy, account: "7" },
  ],
  [
    "the search wait starts again after a step of the store's clock",
    batch(one, { ...postmark, ...inDoubt, clockSteppedAtMs: nowMs - 1_000, notes: { ...noNotes, looks: 1 } }),
    searched(),
    "rest 59050",
    searchPolicy,
  ],
  [
    "a second search before the search wait does not count",
    batch(one, { ...postmark, doubtSinceMs: nowMs - 60_050, notes: { ...noNotes, looks: 1 } }),
    searched(),
    "rest 10000",
    searchPolicy,
  ],
  [
    "a search in the claim that found the lease expired does not count",
    batch(one, { ...postmark, leaseExpired: true, doubtSinceMs: nowMs - 100 }),
    searched(),
    "rest 59950",
    searchPolicy,
  ],
  [
    "a failed search does not count",
    batch(one, { ...postmark, ...inDoubt, notes: { ...noNotes, looks: 1 } }),
    searchFailed,
    "rest 500",
    searchPolicy,
  ],
  [
    "two searches with a short search wait have a gap",
    batch(one, { ...postmark, ...inDoubt }),
    searched(),
    "rest 50",
    { ...searchPolicy, searchWaitMs: 60 },
  ],
  [
    "two searches with a long search wait have a gap of 15 s",
    batch(one, { ...postmark, doubtSinceMs: nowMs - 700_000 }),
    searched(),
    "rest 15000",
    { ...searchPolicy, searchWaitMs: 600_000 },
  ],

  // Answers that no adapter gives
  ["an answer that leaves out an email leaves the batch whole", batch(two), each("accepted"), "rest 500"],
  [
    "an answer that leaves out an email settles the others if the rest can be searched for",
    batch(two, postmark),
    each("accepted"),
    "a sent; rest 1000",
    searchPolicy,
  ],
];

describe("decide", () => {
  for (const [subject, given, result, expected, under = policy] of rows) {
    test(subject, () => expect(describeDecision(decided(given, result, under))).toBe(expected));
  }
});

describe("decide: counters and reports", () => {
  test("outcomes are counted by provider", () => {
    const { settlement } = decided(
      batch([...three, email("d"), email("e")]),
      each("accepted", "accepted", "rejected", "unavailable", "senderRefused"),
      policy,
    );
    expect(settlement.counts).toEqual({
      "accepted:resend": 2,
      "rejected:resend": 2,
      "retried:resend": 3,
    });
  });

  test("the notes of a batch keep which emails were refused for some recipients", () => {
    const refusalsOf = (result: Result, emails = two) => {
      const { rest } = decided(batch(emails, postmark), result, searchPolicy).settlement;
      return decodeNotes(rest?.notes ?? "").refusals;
    };
    const refusals = [{ id: "a", reason: "inactive" }];
    expect(refusalsOf(each("partlyRefused", "serverError"))).toEqual(refusals);
    expect(refusalsOf(whole("partlyRefused"), one)).toEqual(refusals);
    // The refusal does not say which of the emails it is about.
    expect(refusalsOf(whole("partlyRefused"))).toEqual([]);
  });

  test("what a provider says about an acceptance is kept with it", () => {
    const accepted = { ...outcomes.accepted, note: "not to b@example.org" };
    const { settlement } = decided(batch(one), { kind: "each", outcomes: [accepted] }, policy);
    const [fate] = settlement.fates;
    const { history } = decodeRecord(fate?.kind === "sent" ? fate.record : "");
    expect(history.attempts.kept).toMatchObject([{ outcome: "accepted", reason: "not to b@example.org" }]);
  });

  test("emails are counted as unknown once, when they enter doubt", () => {
    expect(decided(batch(two), whole("unknown"), policy).settlement.counts).toEqual({
      "unknown:resend": 2,
    });
    expect(decided(batch(two, inDoubt), whole("unknown"), policy).settlement.counts).toEqual({});
  });

  test("possible duplicates are reported and counted, except those accepted meanwhile", () => {
    const decision = decided(
      batch([...two, email("c", { marked: true })], inDoubt),
      { kind: "ended" },
      policy,
    );
    expect(decision.possibleDuplicates).toEqual(["a", "b"]);
    expect(decision.settlement.counts).toEqual({ possible_duplicates: 2, "retried:resend": 2 });
  });

  test("dead letters are reported with their cause", () => {
    const { dead } = decided(
      batch([...one, ...doubted.map((email) => ({ ...email, id: "d" }))]),
      each("unstable", "unstable"),
      policy,
    );
    expect(dead).toEqual([
      { id: "a", cause: "rejected", reason: "not today", outcomeUnknown: false },
      { id: "d", cause: "rejected", reason: "not today", outcomeUnknown: true },
    ]);
  });

  test("refused senders are reported once, if it is known which they are", () => {
    const refused = (emails: typeof two, result: Result) =>
      decided(batch(emails), result, policy).refusedSenders;
    expect(refused(two, whole("senderRefused"))).toEqual(["shop@example.com"]);
    expect(refused(twoSenders, whole("senderRefused"))).toEqual([]);
    expect(refused(twoSenders, each("accepted", "accepted", "senderRefused"))).toEqual(["news@example.com"]);
  });

  const signs: [Result, string][] = [
    [each("accepted"), "success"],
    [each("accepted", "accountRefused"), "success"],
    [each("rejected", "accountRefused"), "accountRefused"],
    [whole("rejected"), "success"],
    [each("partlyRefused"), "success"],
    [each("partlyRefused", "accountRefused"), "accountRefused"],
    [whole("senderRefused"), "success"],
    [whole("keyReused"), "success"],
    [whole("maintenance"), "failure"],
    [whole("serverError"), "failure"],
    [whole("unavailable"), "unanswered"],
    [whole("unknown"), "unanswered"],
    [whole("accountRefused"), "accountRefused"],
    [whole("throttled"), "none"],
    [searchFailed, "unanswered"],
    [searched(), "none"],
    [{ kind: "ended" }, "none"],
    [untouched, "none"],
  ];
  test.each(signs)("the event for the breaker after %j is %s", (result, sign) => {
    const emails = result.kind === "each" ? two.slice(0, result.outcomes.length) : two;
    expect(decided(batch(emails, inDoubt), result, policy).health).toBe(sign as never);
  });

  const failures: [Result, string | undefined][] = [
    [each("accepted", "accountRefused"), undefined],
    [each("rejected", "senderRefused"), undefined],
    [each("throttled", "accountRefused"), "bad key"],
    [each("rejected", "throttled"), "slow down"],
    [whole("rejected"), undefined],
    [each("partlyRefused"), undefined],
    [whole("senderRefused"), undefined],
    [whole("keyReused"), undefined],
    [whole("unavailable"), "refused"],
    [whole("unknown"), "reset"],
    [whole("accountRefused"), "bad key"],
    [whole("throttled"), "slow down"],
    [searchFailed, "refused"],
    [searched(), undefined],
    [{ kind: "ended" }, undefined],
    [untouched, undefined],
  ];
  test.each(failures)("the failure of the provider after %j is %s", (result, failure) => {
    for (const over of [{}, inDoubt]) {
      expect(decided(batch(two, over), result, policy).settlement.failure?.reason).toBe(failure);
    }
  });

  test("a failure is marked as the provider's own or not", () => {
    const own = (result: Result) => decided(batch(two), result, policy).settlement.failure?.own;
    expect(own(whole("maintenance"))).toBe(true);
    expect(own(whole("serverError"))).toBe(true);
    expect(own(whole("throttled"))).toBe(true);
    expect(own(whole("unavailable"))).toBe(false);
    expect(own(whole("unknown"))).toBe(false);
  });
});

describe("decide: histories and records", () => {
  test("a record has the batch and message id of a sent email", () => {
    const [fate] = decided(batch(one), each("accepted"), policy).settlement.fates;
    expect(fate?.kind === "sent" && decodeRecord(fate.record)).toEqual({
      batchId: "batch",
      provider: "resend",
      providerMessageId: "m",
      atMs: nowMs,
      history: {
        ...noHistory,
        attempts: { kept: [{ provider: "resend", atMs: nowMs, outcome: "accepted" }], total: 1 },
      },
    });
  });

  test("the attempts of a batch in doubt become part of its emails' histories", () => {
    const first = decided(batch(one, postmark), whole("unknown"), searchPolicy);
    const notes = decodeNotes(first.settlement.rest?.notes ?? "");
    const second = decided(batch(one, { ...postmark, ...inDoubt, notes }), searched(), searchPolicy);
    const third = decided(
      batch(one, { ...postmark, ...inDoubt, notes: decodeNotes(second.settlement.rest?.notes ?? "") }),
      searched(),
      searchPolicy,
    );
    const history = historyOf(third, "a");
    expect(history.attempts.kept.map(({ outcome }) => outcome)).toEqual(["unknown", "notFound", "notFound"]);
    expect(history.doubted).toBe(true);
  });

  test("only an unavailable provider and the end of doubt count as tries", () => {
    const tries = (result: Result, over: Partial<DecodedBatch> = {}) =>
      historyOf(decided(batch(one, over), result, policy), "a").tries;
    expect(tries(whole("unavailable"))).toBe(1);
    expect(tries({ kind: "ended" }, inDoubt)).toBe(1);
    for (const name of ["accountRefused", "throttled", "senderRefused"] as const)
      expect(tries(whole(name))).toBe(0);
    expect(tries(untouched)).toBe(0);
  });

  test("throttling is not a failure of a batch in doubt, but an unanswered request is", () => {
    const failures = (result: Result) =>
      decodeNotes(decided(batch(one, inDoubt), result, policy).settlement.rest?.notes ?? "").failures;
    expect(failures(whole("throttled"))).toBe(0);
    expect(failures(whole("unknown"))).toBe(1);
  });

  test("an email that two providers can still take is reserved for neither", () => {
    const under = { ...policy, providers: ["resend", "postmark", "sandbox"] };
    const decision = decided(batch(refusedElsewhere), whole("unavailable"), under);
    expect(describeDecision(decision)).toBe("a due any 500");
  });

  test("an email whose doubt ends repeatedly backs off", () => {
    const tried = [email("a", { history: { ...noHistory, tries: 4 } })];
    expect(describeDecision(decided(batch(tried, inDoubt), { kind: "ended" }, policy))).toBe(
      "a due any 4000 in 1",
    );
  });

  test("emails that failed together are due together", () => {
    const { settlement } = decided(batch(three), whole("unavailable"), policy);
    expect(new Set(settlement.fates.map((fate) => fate.kind === "due" && fate.delayMs)).size).toBe(1);
  });
});

describe("decide: an email accepted meanwhile", () => {
  const marked = email("m", { marked: true });
  const fateOf = (result: Result, over: Partial<DecodedBatch> = {}, under = policy) =>
    decided(batch([marked, email("b")], over), result, under);

  test("never goes back to waiting, and is not reported as a possible duplicate", () => {
    for (const decision of [
      fateOf(whole("unavailable")),
      fateOf(whole("keyReused")),
      fateOf({ kind: "ended" }, inDoubt),
      fateOf(whole("rejected")),
      fateOf(untouched),
    ]) {
      expect(decision.settlement.fates.find(({ id }) => id === "m")?.kind).toBe("dead");
      expect(decision.dead.map(({ id }) => id)).not.toContain("m");
      expect(decision.possibleDuplicates).not.toContain("m");
    }
  });

  test("is not searched for", () => {
    const { settlement } = fateOf(searched("b"), { ...postmark, ...inDoubt }, searchPolicy);
    expect(settlement.rest).toBeUndefined();
    expect(settlement.fates.map(({ kind }) => kind).sort()).toEqual(["dead", "sent"]);
  });

  test("may be the one at fault: the other is sent alone", () => {
    expect(fateOf(whole("rejected")).settlement.fates.find(({ id }) => id === "b")).toMatchObject({
      kind: "due",
      pieceMax: 1,
    });
  });
});

describe("decide: for any batch and result", () => {
  const anyPolicy = fc.constantFrom(policy, searchPolicy);
  const forAll = (
    property: (batch: DecodedBatch, result: Result, decision: ReturnType<typeof decided>) => void,
  ) =>
    fc.assert(
      fc.property(anyBatch, anyResult, anyPolicy, anyRandom, (given, result, under, random) =>
        property(given, result, decided(given, result, under, random)),
      ),
      { numRuns: 2_000 },
    );

  test("every email has one fate or stays in the batch", () => {
    forAll(({ emails }, _, { settlement: { fates, rest } }) => {
      const ids = fates.map(({ id }) => id);
      expect(new Set(ids).size).toBe(ids.length);
      for (const id of ids) expect(emails.some((email) => email.id === id)).toBe(true);
      expect(ids.length < emails.length).toBe(rest !== undefined);
    });
  });

  test("doubt is ended only by an answer, a search, a stable refusal or its timeout", () => {
    forAll((given, result, { settlement: { fates } }) => {
      if (!isInDoubt(given) || result.kind === "ended") return;
      if (result.kind === "searched" || result.kind === "each") return;
      if (result.kind === "whole") {
        const { outcome } = result;
        if (outcome.kind === "keyReused" || (outcome.kind === "rejected" && outcome.stable)) return;
        if (outcome.kind === "senderRefused" && given.notes.strikes >= 4) return;
      }
      expect(fates).toEqual([]);
    });
  });

  test("an unknown outcome sends nothing to another provider", () => {
    forAll((given, result, { settlement: { fates } }) => {
      if (result.kind !== "whole" || result.outcome.kind !== "unknown") return;
      expect(fates).toEqual([]);
      expect(given.emails.length).toBeGreaterThan(0);
    });
  });

  test("a history keeps at most 20 attempts, and counts all", () => {
    forAll((given, _, decision) => {
      for (const fate of decision.settlement.fates) {
        const before = given.emails.find(({ id }) => id === fate.id)?.history.attempts.total ?? 0;
        const { attempts } =
          fate.kind === "sent" ? decodeRecord(fate.record).history : historyOf(decision, fate.id);
        expect(attempts.kept.length).toBeLessThanOrEqual(20);
        expect(attempts.kept.length).toBe(Math.min(attempts.total, 20));
        expect(attempts.total).toBeGreaterThanOrEqual(before);
      }
      const notes = decodeNotes(decision.settlement.rest?.notes ?? "");
      expect(notes.attempts.kept.length).toBeLessThanOrEqual(20);
    });
  });

  test("delays are whole numbers, not negative, and never beyond the end of doubt", () => {
    forAll((given, _, { settlement: { fates, rest } }) => {
      for (const fate of fates) {
        if (fate.kind !== "due") continue;
        expect(Number.isInteger(fate.delayMs) && fate.delayMs >= 0).toBe(true);
        expect(fate.delayMs).toBeLessThanOrEqual(policy.retryMaxMs);
      }
      if (rest === undefined) return;
      expect(Number.isInteger(rest.delayMs) && rest.delayMs >= 0).toBe(true);
      const leftMs = given.doubtEndsAtMs - nowMs;
      expect(rest.delayMs).toBeLessThanOrEqual(leftMs > 0 ? leftMs : 2000);
    });
  });

  test("no email is reserved for a provider that has refused it", () => {
    forAll((_, __, { settlement: { fates } }) => {
      for (const fate of fates) {
        if (fate.kind !== "due" || fate.only === undefined) continue;
        expect(JSON.parse(fate.history).refusedBy).not.toContain(fate.only);
      }
    });
  });

  test("an email that may have been sent dies with an unknown outcome", () => {
    forAll((_, __, decision) => {
      for (const { id, outcomeUnknown } of decision.dead) {
        const { doubted, deadReason } = historyOf(decision, id);
        expect(outcomeUnknown).toBe(doubted);
        expect(deadReason?.startsWith("outcome unknown: ")).toBe(doubted);
      }
    });
  });
});

describe("decide: under another credential", () => {
  const began = { ...inDoubt, credential: "old" };

  test("an acceptance by Resend in doubt is a possible duplicate", () => {
    const decision = decided(batch(two, began), each("accepted", "rejected"), policy);
    expect(decision.possibleDuplicates).toEqual(["a"]);
    expect(decision.settlement.counts).toMatchObject({ possible_duplicates: 1 });
  });

  test("an email that was not in doubt, or that a search found, is not a possible duplicate", () => {
    const counts = (over: Partial<DecodedBatch>, result: Result, under = policy) =>
      decided(batch(two, over), result, under).possibleDuplicates;
    expect(counts({ credential: "old" }, each("accepted", "accepted"))).toEqual([]);
    expect(counts(inDoubt, each("accepted", "accepted"))).toEqual([]);
    expect(counts({ ...postmark, ...began }, searched("a", "b"), searchPolicy)).toEqual([]);
  });

  test("a search under the batch's own token records the account that it was sent from", () => {
    const under = { ...searchPolicy, account: "7" };
    const { settlement } = decided(batch(two, { ...postmark, ...inDoubt }), searched(), under);
    expect(decodeNotes(settlement.rest?.notes ?? "").account).toBe("7");
    const other = decided(batch(two, { ...postmark, ...began }), searched(), under);
    expect(decodeNotes(other.settlement.rest?.notes ?? "").account).toBeUndefined();
  });
});

describe("decide: past the end of doubt, while the clock is not trusted", () => {
  const over = { ...inDoubt, doubtEndsAtMs: nowMs, clockSteppedAtMs: nowMs - 1_000 };

  test("an acceptance by Resend is a possible duplicate", () => {
    const decision = decided(batch(two, over), each("accepted", "accepted"), policy);
    expect(decision.possibleDuplicates).toEqual(["a", "b"]);
  });

  test("an email that a search at Postmark finds is sent once", () => {
    const decision = decided(batch(two, { ...postmark, ...over }), searched("a", "b"), searchPolicy);
    expect(decision.possibleDuplicates).toEqual([]);
  });

  test("a batch has the same retry delay as before its end", () => {
    const delayMs = (over: Partial<DecodedBatch>) =>
      decided(batch(two, over), whole("unknown"), policy).settlement.rest?.delayMs;
    expect(delayMs(over)).toBe(delayMs(inDoubt)!);
    // Soon, because the clock may have stepped a moment ago without the store's notice.
    expect(delayMs({ ...over, clockSteppedAtMs: undefined })).toBe(2000);
  });
});

describe("decide: the notes of a batch in doubt", () => {
  const notesAfter = (over: Partial<DecodedBatch>, result: Result, under = policy) =>
    decodeNotes(decided(batch(two, over), result, under).settlement.rest?.notes ?? "");

  test("acceptances count as evidence from the attempt after the first strike", () => {
    expect(notesAfter({ acceptances: 3 }, whole("unknown"))).toMatchObject({ strikes: 1 });
    expect(notesAfter({ acceptances: 3 }, whole("unknown")).baseline).toBeUndefined();
    const second = notesAfter(
      { ...inDoubt, acceptances: 5, notes: { ...noNotes, strikes: 1 } },
      whole("unknown"),
    );
    expect(second).toMatchObject({ strikes: 2, baseline: { credential: "key", acceptances: 5 } });
    const third = notesAfter({ ...inDoubt, acceptances: 6, notes: second }, whole("unknown"));
    expect(third.baseline).toEqual({ credential: "key", acceptances: 5 });
  });

  test("a failure of a provider that has just answered a question is blamed on the email", () => {
    expect(notesAfter({}, whole("unknown")).isBlamed).toBe(false);
    expect(notesAfter({}, whole("unknown"), { ...policy, question: "answered" }).isBlamed).toBe(true);
  });

  test("a failed search is not a strike, and removes no blame", () => {
    const notes = { ...noNotes, isBlamed: true, strikes: 1 };
    expect(notesAfter({ ...postmark, ...inDoubt, notes }, searchFailed, searchPolicy)).toMatchObject({
      strikes: 1,
      isBlamed: true,
    });
  });
});
