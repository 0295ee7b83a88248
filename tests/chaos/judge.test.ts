// The judgement itself: it sees each thing that should not be, and nothing where all is well.

import { describe, expect, test } from "bun:test";
import type { Acceptance } from "../../fakes/ledger.ts";
import { defaultFrom, emailOf, type Fields, isRefused } from "../../chaos/emails.ts";
import { type Evidence, judge } from "../../chaos/judge.ts";
import type { Try } from "../../chaos/load.ts";
import { recoveries } from "../../chaos/recovery.ts";
import { schedule } from "../../chaos/schedule.ts";
import { scenarios } from "../../chaos/scenarios.ts";
import { failuresOf } from "../../chaos/verdict.ts";

const seed = 3;
const refused = Array.from({ length: 1000 }, (_, n) => n).find(isRefused)!;

function answered(n: number, over: Partial<Try> = {}): Try {
  return { n, atMs: 1000 + n, tookMs: 5, status: 200, id: `id-${n}`, keyed: true, ...over };
}

function accepted(n: number, over: Partial<Acceptance> = {}): Acceptance {
  const { subject, body, to, to_name, from, from_name, html, reply_to } = emailOf(seed, n) as Fields & {
    subject: string;
    body: string;
  };
  const box = (address = "", name?: string) =>
    name === undefined ? address : `"${name.replaceAll('"', '\\"')}" <${address}>`;
  return {
    provider: "resend",
    messageId: `m-${n}`,
    atMs: 2000,
    request: 1,
    batch: "b",
    emailId: `id-${n}`,
    from: box(from ?? defaultFrom, from_name),
    to: box(to, to_name),
    subject,
    text: body,
    ...(html !== undefined && { html }),
    ...(reply_to !== undefined && { replyTo: reply_to }),
    labels: {},
    ...over,
  };
}

function judged(over: Partial<Evidence>) {
  return judge({ seed, tries: [], acceptances: [], dead: [], held: [], ...over });
}

/** What a verdict would say of it. */
async function failures(over: Partial<Evidence>): Promise<string[]> {
  return failuresOf({
    judgement: await judged(over),
    scenario: { name: "", about: "", faults: [], pauseMs: [0, 0] },
    unexplained: [],
    strikes: 1,
    stuck: 0,
    unreadable: undefined,
    unanswered: 0,
    unclean: [],
    crashes: [],
  });
}

const dead = (n: number) => ({ id: `id-${n}`, subject: emailOf(seed, n)["subject"]!, reason: "no" });

describe("judge", () => {
  test("all is well when what was acknowledged has arrived as it was, once", async () => {
    const numbers = Array.from({ length: 300 }, (_, n) => n).filter((n) => !isRefused(n));
    const evidence = {
      tries: [...numbers.map((n) => answered(n)), answered(refused), answered(5)],
      acceptances: numbers.map((n) => accepted(n)),
      dead: [dead(refused)],
    };
    expect(await failures(evidence)).toEqual([]);
    expect(await judged(evidence)).toMatchObject({ acknowledged: numbers.length + 1, deadAsTheyShould: 1 });
  });

  test("lost: acknowledged, and neither accepted nor dead", async () => {
    expect(await failures({ tries: [answered(1)] })).toEqual(["1 lost: email 1, id-1"]);
    const tries = [answered(1), answered(2, { status: 500 })];
    expect(await failures({ tries, acceptances: [accepted(1)] })).toEqual([]);
  });

  test("what the service rightly keeps in doubt is not lost", async () => {
    const held = [{ id: `id-${refused}` }];
    expect(await failures({ tries: [answered(refused)], held })).toEqual([]);
  });

  test("corrupt: any field that differs, or an email of nobody", async () => {
    const fields: Partial<Acceptance>[] = [
      { text: "another" },
      { html: "<p>another</p>" },
      { from: "other@example.com" },
      { from: `Another <${defaultFrom}>` },
      { to: "other@example.org" },
      { to: `Another <user-1@example.org>` },
      { replyTo: "other@example.com" },
      { subject: `${emailOf(seed, 1)["subject"]} ` },
      { subject: "9-1 of another seed" },
    ];
    for (const over of fields) {
      const [first] = await failures({ tries: [answered(1)], acceptances: [accepted(1, over), accepted(1)] });
      expect(first).toStartWith("1 corrupt");
    }
  });

  test("wrongly dead, and wrongly accepted", async () => {
    expect(await failures({ tries: [answered(1)], dead: [dead(1)] })).toEqual([
      "1 wrongly dead or accepted: email 1, id-1: no",
    ]);
    const acceptances = [accepted(refused)];
    expect((await failures({ tries: [answered(refused)], acceptances }))[0]).toContain("should have refused");
  });

  test("two ids for one key, or another id than was answered", async () => {
    const tries = [answered(1), answered(1, { id: "other" })];
    expect((await failures({ tries, acceptances: [accepted(1)] }))[0]).toContain("with two ids");
    const acceptances = [accepted(1, { emailId: "other" })];
    expect((await failures({ tries: [answered(1)], acceptances }))[0]).toContain("accepted as other");
  });

  test("twice by Resend never; with Postmark only where that is allowed, and named by the service", async () => {
    const tries = [answered(1)];
    const twice = [accepted(1), accepted(1)];
    expect(await failures({ tries, acceptances: twice })).toEqual([
      "1 accepted twice by Resend: email 1 by resend, then resend",
    ]);
    const judgement = await judged({
      tries,
      acceptances: [accepted(1, { provider: "postmark" }), accepted(1)],
    });
    const [duplicate] = judgement.duplicates;
    const none = { unclean: [], crashes: [], unexplained: [], strikes: 1 };
    const seen = { judgement, stuck: 0, unreadable: undefined, unanswered: 0, ...none };
    const scenario = { name: "", about: "", faults: [], pauseMs: [0, 0] } as const;
    const allowing = { ...scenario, mayDuplicateAtPostmark: true } as const;
    expect(failuresOf({ ...seen, scenario })).toHaveLength(1);
    expect(failuresOf({ ...seen, scenario: allowing })).toEqual([]);
    expect(failuresOf({ ...seen, scenario: allowing, unexplained: [duplicate!] })).toHaveLength(1);
  });

  test("what Postmark accepted as well excuses no second acceptance by Resend", async () => {
    const acceptances = [accepted(1), accepted(1), accepted(1, { provider: "postmark" })];
    expect(await failures({ tries: [answered(1)], acceptances })).toEqual([
      "1 accepted twice by Resend: email 1 by resend, then resend, then postmark",
    ]);
  });

  test("a 200 without an id, and a run that shows nothing", async () => {
    const { id: _, ...nameless } = answered(2);
    const tries = [answered(1), nameless];
    expect((await failures({ tries, acceptances: [accepted(1)] }))[0]).toContain("without an id");
    expect(await failures({})).toEqual(["nothing was acknowledged: nothing is shown"]);
  });

  test("clients that were refused, or got no answer in time", async () => {
    const acceptances = [accepted(1)];
    const after = (over: Partial<Try>) => failures({ tries: [answered(1), answered(2, over)], acceptances });
    expect(await after({ status: 400 })).toEqual(["1 refused by a 4xx"]);
    expect(await after({ status: 0, error: "no answer in time" })).toEqual([
      "1 tries without an answer in time",
    ]);
  });
});

describe("schedule", () => {
  const [scenario] = scenarios;
  const first = (seedOf: number, lane: number) => {
    const strikes = schedule(scenario!, seedOf, lane);
    return Array.from({ length: 20 }, () => strikes.next().value);
  };

  test("the same seed gives the same faults, another one others", () => {
    expect(first(1, 0)).toEqual(first(1, 0));
    expect(first(1, 0)).not.toEqual(first(2, 0));
    expect(first(1, 0)).not.toEqual(first(1, 1));
  });

  test("scenarios have names of their own", () => {
    expect(new Set(scenarios.map(({ name }) => name)).size).toBe(scenarios.length);
  });
});

describe("recovery", () => {
  test("from the end of a fault until clients are answered as fast as they ask", () => {
    const answers = Array.from({ length: 300 }, (_, i) => (i < 100 ? i * 10 : 1500 + (i - 100) * 10));
    const { count, maxMs } = recoveries([{ startMs: 1000, endMs: 1200 }], answers, 100);
    expect(count).toBe(1);
    expect(maxMs).toBeGreaterThanOrEqual(270);
    expect(maxMs).toBeLessThanOrEqual(310);
  });
});
