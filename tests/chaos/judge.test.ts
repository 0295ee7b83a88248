// The judgment: it sees every broken promise, and nothing in a correct run.

import { describe, expect, test } from "bun:test";
import type { Arrival } from "../../chaos/comparison.ts";
import { defaultFrom, emailOf, isRefused, mayDie, poisonOf } from "../../chaos/emails.ts";
import { lateBy } from "../../chaos/lateness.ts";
import { type Evidence, judge } from "../../chaos/judge.ts";
import type { Try } from "../../chaos/load.ts";
import { recoveries } from "../../chaos/recovery.ts";
import { countStrikes, schedule } from "../../chaos/schedule.ts";
import { scenarios } from "../../chaos/scenarios.ts";
import { describeStuck } from "../../chaos/stuck.ts";
import { failuresOf, serverDescriptorsMax, serverMemoryMaxMiB, type Seen } from "../../chaos/result.ts";
import { arrivalOf } from "./arrivals.ts";
import { applyPatches, variants } from "./broken_variants.ts";

const seed = 3;
const emails = { seed };
const refused = Array.from({ length: 1000 }, (_, n) => n).find(isRefused)!;

function answered(n: number, over: Partial<Try> = {}): Try {
  return { n, atMs: 1000 + n, tookMs: 5, status: 200, id: `id-${n}`, keyed: true, ...over };
}

function accepted(n: number, over: Partial<Arrival> = {}): Arrival {
  return { ...arrivalOf(n, emails), ...over };
}

function judged(over: Partial<Evidence>) {
  return judge({ emails, tries: [], arrivals: [], dead: [], held: [], ...over });
}

/** The failures that a result reports for this evidence. */
async function failures(over: Partial<Evidence>, seen: Partial<Seen> = {}): Promise<string[]> {
  return failuresOf({
    judgement: await judged(over),
    scenario: { name: "", about: "", faults: [], pauseMs: [0, 0] },
    possibleDuplicates: 0,
    usage: { memoryMiB: 0, descriptors: 0 },
    unready: [],
    unexplained: [],
    strikes: 1,
    stuck: 0,
    stuckWhere: [],
    unsettled: undefined,
    fileBytes: 0,
    violations: [],
    personal: [],
    unreadable: undefined,
    unanswered: [],
    unclean: [],
    crashes: [],
    ...seen,
  });
}

const dead = (n: number) => ({ id: `id-${n}`, subject: emailOf(n, emails).texts["subject"]!, reason: "no" });

describe("judge", () => {
  test("a run is correct when each acknowledged email has arrived unchanged, once", async () => {
    const numbers = Array.from({ length: 300 }, (_, n) => n).filter((n) => !isRefused(n));
    const evidence = {
      tries: [...numbers.map((n) => answered(n)), answered(refused), answered(5)],
      arrivals: numbers.map((n) => accepted(n)),
      dead: [dead(refused)],
    };
    expect(await failures(evidence)).toEqual([]);
    expect(await judged(evidence)).toMatchObject({ acknowledged: numbers.length + 1, deadAsTheyShould: 1 });
  });

  test("lost: an acknowledged email that is neither accepted nor dead", async () => {
    expect(await failures({ tries: [answered(1)] })).toEqual(["1 lost: email 1, id-1"]);
    const tries = [answered(1), answered(2, { status: 500 })];
    expect(await failures({ tries, arrivals: [accepted(1)] })).toEqual([]);
  });

  test("an email that the service rightly keeps in doubt is not lost", async () => {
    const held = [{ id: `id-${refused}` }];
    expect(await failures({ tries: [answered(refused)], held })).toEqual([]);
  });

  test("corrupt: an email with a field that differs, or that nobody submitted", async () => {
    const fields: Partial<Arrival>[] = [
      { text: "another" },
      { html: "<p>another</p>" },
      { from: "other@example.com" },
      { from: `Another <${defaultFrom}>` },
      { to: "other@example.org" },
      { to: `Another <user-1@example.org>` },
      { replyTo: "other@example.com" },
      { subject: `${emailOf(1, emails).texts["subject"]} ` },
      { subject: "9-1 of another seed" },
    ];
    for (const over of fields) {
      const [first] = await failures({ tries: [answered(1)], arrivals: [accepted(1, over), accepted(1)] });
      expect(first).toStartWith("1 corrupt");
    }
  });

  test("emails that are wrongly dead or wrongly accepted are failures", async () => {
    expect(await failures({ tries: [answered(1)], dead: [dead(1)] })).toEqual([
      "1 wrongly dead or accepted: email 1, id-1: no",
    ]);
    const arrivals = [accepted(refused)];
    expect((await failures({ tries: [answered(refused)], arrivals }))[0]).toContain("should have refused");
  });

  test("two ids for one key, or an id other than the answer's, are failures", async () => {
    const tries = [answered(1), answered(1, { id: "other" })];
    expect((await failures({ tries, arrivals: [accepted(1)] }))[0]).toContain("with two ids");
    const arrivals = [accepted(1, { emailId: "other" })];
    expect((await failures({ tries: [answered(1)], arrivals }))[0]).toContain("accepted as other");
  });

  test("a second acceptance by Resend is always a failure; one with Postmark, unless it is allowed and reported", async () => {
    const tries = [answered(1)];
    const twice = [accepted(1), accepted(1)];
    expect(await failures({ tries, arrivals: twice })).toEqual([
      "1 accepted twice by Resend: email 1 by resend, then resend",
    ]);
    const judgement = await judged({
      tries,
      arrivals: [accepted(1, { provider: "postmark" }), accepted(1)],
    });
    const [duplicate] = judgement.duplicates;
    const none = {
      unclean: [],
      crashes: [],
      unexplained: [],
      strikes: 1,
      fileBytes: 0,
      violations: [],
      personal: [],
    };
    const usage = { memoryMiB: 0, descriptors: 0 };
    const counted = { possibleDuplicates: 1, usage, unready: [] };
    const state = { stuck: 0, stuckWhere: [], unsettled: undefined, unreadable: undefined, unanswered: [] };
    const seen = { judgement, ...counted, ...state, ...none };
    const scenario = { name: "", about: "", faults: [], pauseMs: [0, 0] } as const;
    const allowing = { ...scenario, mayDuplicateAtPostmark: true } as const;
    expect(failuresOf({ ...seen, scenario })).toHaveLength(1);
    expect(failuresOf({ ...seen, scenario: allowing })).toEqual([]);
    expect(failuresOf({ ...seen, scenario: allowing, unexplained: [duplicate!] })).toHaveLength(1);
  });

  test("an acceptance by Postmark does not excuse a second one by Resend", async () => {
    const arrivals = [accepted(1), accepted(1), accepted(1, { provider: "postmark" })];
    expect(await failures({ tries: [answered(1)], arrivals })).toEqual([
      "1 accepted twice by Resend: email 1 by resend, then resend, then postmark",
    ]);
  });

  test("a 200 without an id, and a run that proves nothing, are failures", async () => {
    const { id: _, ...nameless } = answered(2);
    const tries = [answered(1), nameless];
    expect((await failures({ tries, arrivals: [accepted(1)] }))[0]).toContain("without an id");
    expect(await failures({})).toEqual(["nothing was acknowledged: the run proves nothing"]);
  });

  test("clients that were refused, or got no answer in time, are failures", async () => {
    const arrivals = [accepted(1)];
    const after = (over: Partial<Try>) => failures({ tries: [answered(1), answered(2, over)], arrivals });
    expect(await after({ status: 400 })).toEqual(["1 refused by a 4xx"]);
    expect(await after({ status: 0, error: "no answer in time" })).toEqual([
      "1 tries without an answer in time",
    ]);
  });
});

describe("judge: limits", () => {
  const limits = { withinMs: 1000, withPoisonMs: 5000 };
  const course = { fromMs: 100, acceptedMs: 1500, hadPoisonBesideIt: false };

  test("count from the 200, and differ for emails next to poison", () => {
    expect(lateBy({ ...course, acceptedMs: 50 }, limits, [])).toBe(0);
    expect(lateBy({ ...course, acceptedMs: 1100 }, limits, [])).toBe(0);
    expect(lateBy(course, limits, [])).toBe(400);
    expect(lateBy({ ...course, hadPoisonBesideIt: true }, limits, [])).toBe(0);
    expect(lateBy({ ...course, acceptedMs: 5101, hadPoisonBesideIt: true }, limits, [])).toBe(1);
  });

  test("count from the end of an excuse that began before the deadline", () => {
    const late = { ...course, acceptedMs: 4000 };
    expect(lateBy(late, limits, [{ startMs: 1200, endMs: 3500 }])).toBe(2900);
    expect(lateBy(late, limits, [{ startMs: 900, endMs: 2500 }])).toBe(500);
    // The second counts because the first moved the deadline past its start.
    const two = [
      { startMs: 2400, endMs: 3100 },
      { startMs: 900, endMs: 2000 },
    ];
    expect(lateBy(late, limits, two)).toBe(0);
    expect(lateBy(course, limits, [{ startMs: 0, endMs: 50 }])).toBe(400);
  });

  test("report an email that is accepted later", async () => {
    const evidence = { tries: [answered(1)], arrivals: [accepted(1, { atMs: 3000 })] };
    expect(await failures(evidence)).toEqual([]);
    const [late] = await failures({ ...evidence, limits });
    expect(late).toBe("1 accepted too late: email 1, id-1: 1999 ms after its 200");
    const poisoned = [{ provider: "resend" as const, atMs: 1, emailIds: ["id-1", "id-2"] }];
    expect(await failures({ ...evidence, limits, poisoned })).toEqual([]);
    expect(await failures({ ...evidence, limits, wrongClocks: [{ startMs: 0, endMs: 2500 }] })).toEqual([]);
  });
});

describe("judge: poison", () => {
  const poisoned = { seed, poisonEvery: 3 };
  const find = (wanted: (n: number) => boolean) => Array.from({ length: 200 }, (_, n) => n).find(wanted)!;
  const takenBySomebody = find((n) => poisonOf(n, poisoned) !== undefined && !mayDie(n, poisoned));
  const acceptedByNobody = find((n) => poisonOf(n, poisoned)?.at === undefined && mayDie(n, poisoned));
  const dying = (n: number, reason: string) => ({
    id: `id-${n}`,
    subject: emailOf(n, poisoned).texts["subject"]!,
    reason,
  });

  test("a poisoned email may die if no provider accepts it, but not if one certainly does", async () => {
    const of = (n: number) => ({ emails: poisoned, tries: [answered(n)], dead: [dying(n, "gave up: 500")] });
    expect(await failures(of(acceptedByNobody))).toEqual([]);
    expect((await failures(of(takenBySomebody)))[0]).toStartWith("1 wrongly dead or accepted");
  });

  test('an email that is accepted and dead must have the reason "outcome unknown"', async () => {
    const n = acceptedByNobody;
    const with_ = (reason: string) =>
      judged({
        emails: poisoned,
        tries: [answered(n)],
        arrivals: [arrivalOf(n, poisoned)],
        dead: [dying(n, reason)],
      });
    expect((await with_("outcome unknown: gave up: 500")).wronglyDead).toEqual([]);
    expect((await with_("gave up: 500")).wronglyDead).toHaveLength(1);
  });
});

describe("result", () => {
  const usage = { memoryMiB: 60, descriptors: 40 };

  test("more acceptances than the service counts are a failure, even if reported", async () => {
    const evidence = { tries: [answered(1)], arrivals: [accepted(1), accepted(1), accepted(1)] };
    const scenario = {
      name: "",
      about: "",
      faults: [],
      pauseMs: [0, 0],
      mayDuplicateIfCounted: true,
    } as const;
    expect(await failures(evidence, { scenario, possibleDuplicates: 2 })).toEqual([]);
    expect(await failures(evidence, { scenario, possibleDuplicates: 1 })).toEqual([
      "1 more acceptances than the service counts",
    ]);
  });

  test("a stuck email is reported with its place, what it waits for and why", async () => {
    const well = { tries: [answered(1)], arrivals: [accepted(1)] };
    const batch = { state: "in-doubt", provider: "resend", batch: "b-1" };
    const times = { in_doubt_since: "12:00", next_try_at: "12:05", attempts_total: 3, reason: "no answer" };
    const listed = [
      { ...dead(7), ...batch, ...times },
      { ...dead(refused), ...batch, ...times },
      { id: "id-8", state: "waiting" },
    ];
    const stuckWhere = describeStuck(listed, seed);
    expect(await failures(well, { stuck: 2, stuckWhere })).toEqual([
      [
        "2 stuck in the queue",
        `in-doubt at resend, batch b-1: email 7, ${refused} (refused by every provider): in_doubt_since 12:00, next_try_at 12:05, attempts_total 3, reason no answer`,
        "waiting: email id-8",
      ].join("\n  "),
    ]);
  });

  test("an email that never got a 200 is reported with its last answer", async () => {
    const well = { tries: [answered(1)], arrivals: [accepted(1)] };
    const unanswered = [answered(2, { status: 500, error: "the store is down" })];
    expect(await failures(well, { unanswered })).toEqual([
      "1 never answered with 200, despite repeats: email 2, 500 the store is down",
    ]);
  });

  test("a server that exceeds the documented limits is a failure", async () => {
    const well = { tries: [answered(1)], arrivals: [accepted(1)] };
    expect(await failures(well, { usage })).toEqual([]);
    const heavy = { ...usage, memoryMiB: serverMemoryMaxMiB + 1 };
    expect(await failures(well, { usage: heavy })).toEqual([
      `a server took ${serverMemoryMaxMiB + 1} MiB of memory`,
    ]);
    expect(await failures(well, { usage: { ...usage, descriptors: 1000 } })).toEqual([
      "a server had 1000 descriptors open",
    ]);
    const page = (name: string) => Bun.file(`${import.meta.dir}/../../docs/${name}.md`).text();
    expect(await page("api")).toContain(`${serverMemoryMaxMiB} MiB of memory`);
    expect(await page("reliability-testing")).toContain(`${serverDescriptorsMax} descriptors`);
  });

  test("a process that is not ready is a failure", async () => {
    const well = { tries: [answered(1)], arrivals: [accepted(1)] };
    expect(await failures(well, { unready: ["worker-0: doubt: of a batch"] })).toEqual([
      "not ready without an excuse: worker-0: doubt: of a batch",
    ]);
  });
});

describe("schedule", () => {
  const [scenario] = scenarios;
  const first = (seedOf: number, lane: number) => {
    const strikes = schedule(scenario!, seedOf, lane);
    return Array.from({ length: 20 }, () => strikes.next().value);
  };

  test("the same seed gives the same faults, and another seed different ones", () => {
    expect(first(1, 0)).toEqual(first(1, 0));
    expect(first(1, 0)).not.toEqual(first(2, 0));
    expect(first(1, 0)).not.toEqual(first(1, 1));
  });

  test("the strikes of all lanes that begin in time are counted", () => {
    const strikes = {
      name: "",
      about: "",
      faults: [{ do: "freeze", component: "server", forMs: [300, 300] }],
    } as const;
    const count = (lanes: number, ms: number) =>
      countStrikes({ ...strikes, pauseMs: [1000, 1000], lanes }, 1, ms);
    expect([count(1, 999), count(1, 1000), count(1, 2299), count(2, 2300)]).toEqual([0, 1, 1, 4]);
  });

  test("the names of scenarios are unique", () => {
    expect(new Set(scenarios.map(({ name }) => name)).size).toBe(scenarios.length);
  });
});

describe("recovery", () => {
  test("lasts from the end of a fault until clients are answered as fast as they ask", () => {
    const answers = Array.from({ length: 300 }, (_, i) => (i < 100 ? i * 10 : 1500 + (i - 100) * 10));
    const { count, maxMs } = recoveries([{ startMs: 1000, endMs: 1200 }], answers, 100);
    expect(count).toBe(1);
    expect(maxMs).toBeGreaterThanOrEqual(270);
    expect(maxMs).toBeLessThanOrEqual(310);
  });
});

test.each(variants)("the sources have what is broken in one that $name ($store)", ({ patches }) => {
  expect(applyPatches(patches).size).toBe(new Set(patches.map(({ file }) => file)).size);
});
