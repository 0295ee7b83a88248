// Emails of all kinds: which ones the load offers, and what the judge finds if they arrive altered.

import { describe, expect, test } from "bun:test";
import { type Arrival, findDifferences } from "../../chaos/comparison.ts";
import { type Email, emailOf, isRefused } from "../../chaos/emails.ts";
import { judge } from "../../chaos/judge.ts";
import type { Try } from "../../chaos/load.ts";
import { isPersonal } from "../../chaos/personal_data.ts";
import { arrivalOf } from "./arrivals.ts";

const seed = 5;
const emails = { seed };
const numbers = Array.from({ length: 500 }, (_, n) => n);
const all = numbers.map((n) => emailOf(n, emails));

/** The first email with a property. */
function find(has: (email: Email) => boolean): number {
  const n = numbers.find((one) => !isRefused(one) && has(all[one]!));
  if (n === undefined) throw new Error("no such email");
  return n;
}

describe("chaos: emails", () => {
  test("half of them are plain, and there are some of every other kind", () => {
    const share = (has: (email: Email) => boolean) => all.filter(has).length / all.length;
    const isPlain = ({ cc, bcc, headers, tags, files, sendAfterMs }: Email) =>
      cc.length + bcc.length + headers.length + tags.length + files.length === 0 && sendAfterMs === undefined;
    expect(share(isPlain)).toBeWithin(0.4, 0.65);
    for (const name of ["cc", "bcc", "headers", "tags", "files"] as const)
      expect(share((email) => email[name].length > 0)).toBeWithin(0.06, 0.2);
    expect(share(({ sendAfterMs }) => sendAfterMs !== undefined)).toBeWithin(0.04, 0.15);
    expect(share(({ files }) => files.some(({ contentId }) => contentId !== undefined))).toBeGreaterThan(0);
  });

  test("files have one byte to two million, most of them few, and the same ones each time", () => {
    const many = Array.from({ length: 20_000 }, (_, n) => emailOf(n, emails).files).flat();
    const sizes = many.map(({ content }) => content.byteLength).sort((a, b) => a - b);
    expect(sizes[0]).toBe(1);
    expect(sizes.at(-1)).toBe(2 * 1024 * 1024);
    expect(sizes[sizes.length >> 1]).toBeLessThan(10_000);
    const n = find(({ files }) => files.length > 1);
    expect(emailOf(n, emails)).toEqual(all[n]!);
  });

  test("a run may ask for plain ones only", () => {
    for (const n of numbers)
      expect(emailOf(n, { seed, onlyPlain: true })).toEqual({
        texts: expect.anything(),
        cc: [],
        bcc: [],
        headers: [],
        tags: [],
        files: [],
      });
  });
});

describe("comparison", () => {
  const differences = (n: number, over: Partial<Arrival>, provider: Arrival["provider"] = "resend") =>
    findDifferences(all[n]!, { ...arrivalOf(n, emails, provider), ...over });

  test("an email that arrives whole differs in nothing, at any provider", () => {
    for (const n of numbers) {
      for (const provider of ["resend", "postmark", "sandbox"] as const)
        expect(differences(n, {}, provider)).toEqual([]);
    }
  });

  test("copies, headers, tags and times that differ are named", () => {
    const withCc = find(({ cc }) => cc.length > 1);
    const { cc } = arrivalOf(withCc, emails);
    expect(differences(withCc, { cc: undefined })).toEqual(["cc"]);
    expect(differences(withCc, { cc: cc!.split(", ").toReversed().join(", ") })).toEqual(["cc"]);
    const withBcc = find(({ bcc }) => bcc.length > 0);
    const { bcc, headers } = arrivalOf(withBcc, emails);
    expect(differences(withBcc, { bcc: undefined })).toEqual(["bcc"]);
    expect(differences(withBcc, { headers: { ...headers, Bcc: bcc! } })).toEqual(["headers"]);
    expect(differences(withBcc, { bcc }, "sandbox")).toEqual(["bcc"]);
    const withTags = find(({ tags }) => tags.some(([name]) => name === "tag"));
    expect(differences(withTags, { labels: {} })).toEqual(["tags"]);
    expect(differences(withTags, { tag: undefined }, "postmark")).toEqual(["tag"]);
    expect(differences(withCc, { scheduledAt: "tomorrow" })).toEqual(["send_at was passed on"]);
  });

  test("files that are missing, swapped, renamed, of another type or altered are named", () => {
    const n = find(({ files }) => files.length > 1);
    const attachments = arrivalOf(n, emails).attachments!;
    const [first, ...rest] = attachments;
    expect(differences(n, { attachments: rest })).toEqual(["attachments"]);
    expect(differences(n, { attachments: undefined })).toEqual(["attachments"]);
    expect(differences(n, { attachments: attachments.toReversed() })).toEqual(["attachments"]);
    for (const over of [{ name: "a" }, { type: "a/b" }, { contentId: "a" }, { bytes: 1.5 }, { sha256: "00" }])
      expect(differences(n, { attachments: [{ ...first!, ...over }, ...rest] })).toEqual(["attachments"]);
    const other = numbers.findLast((one) => one !== n && all[one]!.files.length > 0)!;
    expect(differences(n, { attachments: arrivalOf(other, emails).attachments })).toEqual(["attachments"]);
  });

  test("what Resend hides is named", () => {
    expect(differences(0, { unsent: "a.pdf is not of type a/b" })).toEqual([
      "never sent: a.pdf is not of type a/b",
    ]);
    expect(differences(0, { droppedAttachments: 2 })).toEqual(["2 files dropped in a batch"]);
  });
});

describe("judge: whole emails", () => {
  const n = find(({ sendAfterMs }) => sendAfterMs !== undefined);
  const tried: Try = { n, atMs: 1000, tookMs: 10, status: 200, id: `id-${n}`, keyed: true, sendAtMs: 3000 };
  const judged = (atMs: number, over = {}) =>
    judge({
      emails,
      tries: [tried],
      arrivals: [{ ...arrivalOf(n, emails), atMs }],
      dead: [],
      held: [],
      ...over,
    });

  test("an email accepted before its time is a finding, unless a clock was wrong meanwhile", async () => {
    expect((await judged(3000)).early).toEqual([]);
    expect((await judged(2999)).early).toEqual([{ n, what: "resend, 1 ms before its time" }]);
    const wrongAt = async (startMs: number, endMs: number) =>
      (await judged(2000, { wrongClocks: [{ startMs, endMs }] })).early.length;
    expect(await wrongAt(500, 995)).toBe(0);
    expect(await wrongAt(1500, 5000)).toBe(0);
    expect([await wrongAt(500, 900), await wrongAt(2100, 5000)]).toEqual([1, 1]);
  });

  test("an email is late from its time on", async () => {
    const limits = { withinMs: 500 };
    expect((await judged(3500, { limits })).late).toEqual([]);
    expect(await judged(3501, { limits })).toMatchObject({
      slowestMs: 501,
      late: [{ n, what: `id-${n}: 501 ms after its time` }],
    });
  });

  test("a time too far ahead for a server whose clock is behind is no refusal", async () => {
    const tries = [{ ...tried, status: 400 }, tried];
    expect((await judged(3000, { tries })).clients.refused).toBe(1);
    const wrongClocks = [{ startMs: 900, endMs: 1100 }];
    expect((await judged(3000, { tries, wrongClocks })).clients.refused).toBe(0);
  });

  test("the queue keeps the files of dead letters and of emails in doubt", async () => {
    const withFiles = numbers.filter((one) => all[one]!.files.length > 0).slice(0, 2);
    const [dead, held] = withFiles.map((one) => [{ id: `id-${one}`, subject: all[one]!.texts["subject"]! }]);
    const bytes = withFiles
      .flatMap((one) => all[one]!.files)
      .reduce((sum, { content }) => sum + content.length, 0);
    expect((await judged(3000, { dead, held })).fileBytesKept).toBe(bytes);
    expect((await judged(3000)).fileBytesKept).toBe(0);
  });
});

test("personal data: whatever an email holds is noticed in a log, and nothing else", () => {
  const n = find(({ files, headers }) => files.length > 0 || headers.length > 0);
  for (const { texts, cc, bcc, headers, files } of [all[n]!, ...all.slice(0, 50)]) {
    const { from_name: _, subject: __, ...others } = texts;
    const values = [...Object.values(others), ...cc, ...bcc, ...files.map(({ filename }) => filename)];
    for (const value of values) expect([value, isPersonal(`{"x":"${value}"}`)]).toEqual([value, true]);
    for (const [name] of headers) expect(isPersonal(name) || name === "X-Chaos").toBe(true);
  }
  const line =
    '{"time":"2026-11-27T17:00:00.000Z","event":"batch-settled","id":"0193-1-2","provider":"resend"}';
  expect(isPersonal(line)).toBe(false);
});
