import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import PostalMime, { type Address as PostalAddress } from "postal-mime";
import { sameAddress } from "../../lib/email/address.ts";
import type { Email } from "../../lib/email/email.ts";
import type { Outcome } from "../../lib/policy/request_outcome.ts";
import type { Outgoing, Provider } from "../../lib/providers/provider.ts";
import { composeEml } from "../../lib/providers/sandbox/eml.ts";
import { createSandbox } from "../../lib/providers/sandbox/sandbox.ts";
import { noFaults, type SandboxFaults } from "../../lib/providers/sandbox/faults.ts";
import { checkSubmission } from "../../lib/http/submission.ts";
import { eventually } from "../support/eventually.ts";
import { hasSmallDisk, onSmallDisk, orWhyNot, removeSmallDisk } from "../support/small_disk.ts";
import { classOf, outgoing, send, wholeOf } from "./adapters.ts";

let folder: string;
let outbox: string;
let provider: Provider;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "reliable-email-sandbox-"));
  outbox = join(folder, "data", "outbox");
  provider = createSandbox({ outbox, faults: noFaults });
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A sandbox with these faults, whose random numbers are the given ones, then 0.99. */
function faulty(chances: SandboxFaults["chances"], ...dice: number[]): Provider {
  return createSandbox({ outbox, faults: { ...noFaults, chances } }, { random: () => dice.shift() ?? 0.99 });
}

const files = () => (statSync(outbox, { throwIfNoEntry: false }) ? readdirSync(outbox).toSorted() : []);
const contents = () =>
  Object.fromEntries(files().map((name) => [name, readFileSync(join(outbox, name), "latin1")]));
const idsIn = ({ batchId, emails }: Outgoing) => emails.map(({ id }) => `${id}.${batchId}`);
const namesOf = (batch: Outgoing) =>
  idsIn(batch)
    .map((id) => `${id}.eml`)
    .toSorted();
const again = (batch: Outgoing): Outgoing => ({ ...batch, batchId: Bun.randomUUIDv7() });

async function eachOf(sending: ReturnType<typeof send>): Promise<string[]> {
  const { result } = await sending;
  return result.kind === "each" ? result.outcomes.map(classOf) : [result.outcome.reason];
}

async function idsOf(sending: ReturnType<typeof send>): Promise<string[]> {
  const { result } = await sending;
  if (result.kind !== "each") throw new Error(result.outcome.reason);
  return result.outcomes.map((outcome: Outcome) =>
    outcome.kind === "accepted" ? outcome.providerMessageId : outcome.kind,
  );
}

describe("sandbox: an email in its file", () => {
  const plain: Email = {
    to: "to@example.org",
    from: "shop@example.com",
    subject: "Hi",
    body: "Hello",
  };

  /** An independent parser reads what was written. */
  async function expectSame(email: Email, bytes: Uint8Array): Promise<void> {
    const parsed = await PostalMime.parse(bytes);
    expect(parsed.subject).toBe(email.subject);
    const mailbox = (address: string, name = "") => [{ address: canonical(address), name }];
    expect(parsed.from && [parsed.from].map(withCanonical)).toEqual(mailbox(email.from, email.from_name));
    expect(parsed.to?.map(withCanonical)).toEqual(mailbox(email.to, email.to_name));
    expect(parsed.replyTo?.map(withCanonical)).toEqual(
      email.reply_to === undefined ? undefined : mailbox(email.reply_to),
    );
    expectSameText(parsed.text, email.body);
    if (email.html === undefined) expect(parsed.html).toBeUndefined();
    else expectSameText(parsed.html, email.html);
    expect(parsed.attachments).toEqual([]);
  }

  /** The parser may return, and a file may have, one more line end at the end. */
  function expectSameText(read: string | undefined, written: string): void {
    const lines = (text: string) => text.replace(/\r\n|\r/g, "\n");
    // Text decoders correctly drop the byte order mark.
    const expected = lines(written).replace(/^\ufeff/, "");
    expect([expected, `${expected}\n`]).toContain(lines(read ?? ""));
  }

  /** The case of a domain does not matter. */
  function canonical(address: string): string {
    const [local, domain = ""] = address.split("@");
    return `${local}@${domain.toLowerCase()}`;
  }
  const withCanonical = ({ address = "", name = "" }: PostalAddress) => ({
    address: canonical(address),
    name,
  });

  /** RFC 5322: lines end with CRLF and have at most 998 octets; header fields are ASCII. */
  function expectWellFormed(bytes: Buffer): void {
    const text = bytes.toString("latin1");
    expect(text.endsWith("\r\n")).toBe(true);
    const lines = text.split("\r\n");
    expect(lines.filter((line) => /[\r\n\0]/.test(line))).toEqual([]);
    expect(lines.filter(({ length }) => length > 998)).toEqual([]);
    const header = lines.slice(0, lines.indexOf(""));
    expect(header.filter((line) => !/^(?:[A-Za-z-]+:|[ \t]+[!-~])[\x20-\x7e\t]*$/.test(line))).toEqual([]);
  }

  async function written(email: Email): Promise<Buffer> {
    const batch = outgoing(1);
    const [only] = batch.emails;
    expect(await eachOf(send(provider, { ...batch, emails: [{ ...only!, email }] }))).toEqual(["accepted"]);
    return readFileSync(join(outbox, namesOf(batch)[0]!));
  }

  const html = '<!doctype html>\n<p style="color: red">Ünïcödé =20 &amp; more</p>\n.\nFrom me\n';
  const emails: [name: string, email: Partial<Email>][] = [
    ["as plain as can be", {}],
    ["with everything", { to_name: "Jane", from_name: "Shop", reply_to: "help@example.com", html }],
    ["with a long subject of one word", { subject: "x".repeat(2000) }],
    ["with a long subject of many words", { subject: "word ".repeat(400).trim() }],
    ["with a long subject of emoji", { subject: "👩‍👩‍👧‍👦".repeat(180) }],
    ["with wide gaps in its subject", { subject: `a${" ".repeat(300)}b  c` }],
    ["with a subject that looks encoded", { subject: "=?utf-8?Q?no?= =?utf-8?B?bm8=?=" }],
    ["with a subject like a header", { subject: "Bcc: other@example.org" }],
    [
      "with quotes and commas in its names",
      { to_name: 'Doe, "J\\ane" <x@y.example>;', from_name: "A. (B) : C@D" },
    ],
    ["with names from right to left", { to_name: "משה כהן", from_name: "شركة, ذ.م.م" }],
    ["with emoji in its names", { to_name: "👩‍👩‍👧‍👦 & 🎈", from_name: "“Ёlka”" }],
    ["with long names", { to_name: "é".repeat(200), from_name: "long name ".repeat(20).trim() }],
    [
      "with names that look encoded",
      { to_name: "=?utf-8?Q?no?= =?utf-8?B?bm8=?=", from_name: `"=?utf-8?Q?no?=", ${"long ".repeat(20)}x` },
    ],
    ["with odd local parts", { to: "a'b!#$%&*+/=?^_`{|}~-c@example.org", reply_to: "x.y+z@EXAMPLE.org" }],
    ["with long lines", { body: `${"x".repeat(5000)}\n${"word ".repeat(2000)}\n${"é".repeat(3000)}` }],
    [
      "with dots and From at line starts",
      { body: ".\n..\nFrom me\n>From you\n.\nend", html: ".\nFrom <b>me</b>" },
    ],
    ["with white space at line ends", { body: "a \nb\t\n \n\t\n  c  \n\n\n" }],
    ["with every kind of line end", { body: "a\nb\r\nc\rd\r\re\n\nf\r\r\ng" }],
    ["without a line end", { body: "no end" }],
    ["with control characters", { body: "a\u0001b\u000bc\u000cd\u007fe\u2028f" }],
    [
      "with text that looks like MIME",
      { body: "--x\nContent-Type: text/html\n\n=3D=\n=?utf-8?Q?x?=\n--x--", html },
    ],
    [
      "with a file and an address to fetch",
      { body: "file:///etc/passwd", html: "http://127.0.0.1:1/secret" },
    ],
    ["with data: for its text", { body: "data:text/plain,x", html: "data:text/html;base64,PGI+" }],
    ["with a large body", { body: "Line with ünïcödé, and some more.\n".repeat(26_500) }],
    ["with a large body in one line", { body: "x".repeat(900_000), html: `<p>${"y".repeat(100_000)}` }],
  ];
  test.each(emails)("%s is read back as it was", async (_, over) => {
    const email = { ...plain, ...over };
    const bytes = await written(email);
    expectWellFormed(bytes);
    await expectSame(email, bytes);
  });

  test("of any accepted submission is read back as it was", async () => {
    const pieces = fc.constantFrom(
      "a",
      " ",
      "  ",
      '"',
      "\\",
      ",",
      "é",
      "אב",
      "👩‍👩‍👧",
      "=?",
      "?=",
      "=?u?Q?a?=",
      "x".repeat(90),
    );
    const soup = fc.array(pieces, { maxLength: 40 }).map((some) => some.join(""));
    const line = fc.oneof(fc.string({ unit: "grapheme" }), fc.string({ unit: "binary" }), soup);
    const breaks = fc.constantFrom(
      "\n",
      "\r\n",
      "\r",
      " ",
      "\t",
      ".",
      "From ",
      "=",
      "=20",
      "--",
      "é",
      "אב",
      "\ufeff",
    );
    const text = fc.oneof(
      fc.string({ unit: "grapheme", maxLength: 200 }),
      fc.string({ unit: "binary", maxLength: 200 }),
      fc.array(fc.oneof(breaks, pieces), { maxLength: 60 }).map((some) => some.join("")),
    );
    const fields = fc.record(
      { subject: line, body: text, to_name: line, from_name: line, html: text },
      { requiredKeys: ["subject", "body"] },
    );
    let checked = 0;
    await fc.assert(
      fc.asyncProperty(fields, async (some) => {
        const values = { to: plain.to, from: plain.from, reply_to: "help@example.com", ...some };
        const submission = checkSubmission({ values, faults: {} }, {}, 0);
        if (!submission.ok) return;
        checked++;
        const bytes = await composeEml({ id: Bun.randomUUIDv7(), email: submission.email }, "batch");
        expectWellFormed(bytes);
        await expectSame(submission.email, bytes);
      }),
      { numRuns: 1000 },
    );
    expect(checked).toBeGreaterThan(200);
  });

  test("names its id, its batch and its time", async () => {
    const batch = outgoing(1);
    await send(provider, batch);
    const { id } = batch.emails[0]!;
    const bytes = readFileSync(join(outbox, namesOf(batch)[0]!));
    expect(bytes.toString()).toStartWith(
      `X-Reliable-Email-Id: ${id}\r\nX-Reliable-Email-Batch: ${batch.batchId}\r\n`,
    );
    const parsed = await PostalMime.parse(bytes);
    const header = (key: string) => parsed.headers.find((one) => one.key === key)?.value;
    expect(header("x-reliable-email-id")).toBe(id);
    expect(header("x-reliable-email-batch")).toBe(batch.batchId);
    expect(parsed.messageId).toBe(`<${id}@reliable-email.invalid>`);
    const atMs = Number.parseInt(id.replaceAll("-", "").slice(0, 12), 16);
    expect(Math.abs(Date.now() - atMs)).toBeLessThan(60_000);
    expect(Date.parse(parsed.date!)).toBe(Math.floor(atMs / 1000) * 1000);
  });

  test("with html has both parts, plain text first; without it has one part", async () => {
    expect((await written({ ...plain, html: "<p>Hello" })).toString()).toMatch(
      /^Content-Type: multipart\/alternative;[^]*^Content-Type: text\/plain; charset=utf-8\r$[^]*^Content-Type: text\/html; charset=utf-8\r$/m,
    );
    expect((await written(plain)).toString()).toContain("\r\nContent-Type: text/plain; charset=utf-8\r\n");
  });

  test("in ASCII with short lines is readable in the raw file", async () => {
    const body = "Confirm:\nhttps://shop.example.com/confirm?token=a1b2c3&lang=en\n";
    expect((await written({ ...plain, body })).toString()).toContain(
      `\r\n\r\n${body.replaceAll("\n", "\r\n")}`,
    );
  });

  test("has the same bytes every time it is composed", async () => {
    const one = { id: Bun.randomUUIDv7(), email: { ...plain, html } };
    const first = await composeEml(one, "batch");
    expect((await composeEml(one, "batch")).equals(first)).toBe(true);
  });
});

describe("sandbox: a batch", () => {
  test("becomes one file per email, in order, that only the owner can read", async () => {
    const batch = outgoing(100);
    expect(await idsOf(send(provider, batch))).toEqual(idsIn(batch));
    expect(files()).toEqual(namesOf(batch));
    expect(statSync(outbox).mode & 0o777).toBe(0o700);
    expect(statSync(join(folder, "data")).mode & 0o777).toBe(0o700);
    expect(new Set(files().map((name) => statSync(join(outbox, name)).mode & 0o777))).toEqual(
      new Set([0o600]),
    );
  });

  test("that is sent again is accepted again, and written once", async () => {
    const batch = outgoing(3);
    const first = await send(provider, batch);
    const written = () =>
      files().map((name) => {
        const { ino, ctimeNs } = statSync(join(outbox, name), { bigint: true });
        return { name, ino, ctimeNs };
      });
    const before = written();
    expect(await send(provider, batch)).toEqual(first);
    expect(written()).toEqual(before);
  });

  test("that was partly written is completed", async () => {
    const batch = outgoing(3);
    await send(provider, batch);
    const whole = contents();
    rmSync(join(outbox, namesOf(batch)[1]!));
    expect(await idsOf(send(provider, batch))).toEqual(idsIn(batch));
    expect(contents()).toEqual(whole);
  });

  test("with an email of another batch is a visible second delivery", async () => {
    const first = outgoing(1);
    const batches = [first, again(first), again(first)];
    for (const batch of batches) expect(await idsOf(send(provider, batch))).toEqual(idsIn(batch));
    expect(files()).toEqual(batches.flatMap(namesOf).toSorted());
    for (const batch of batches) {
      const { headers } = await PostalMime.parse(readFileSync(join(outbox, namesOf(batch)[0]!)));
      const header = headers.find(({ key }) => key === "x-reliable-email-batch");
      expect(header?.value).toBe(batch.batchId);
      expect(await idsOf(send(provider, batch))).toEqual(idsIn(batch));
    }
    expect(files()).toHaveLength(3);
  });

  test("that two workers send concurrently is written once", async () => {
    const others = Array.from({ length: 4 }, () => createSandbox({ outbox, faults: noFaults }));
    for (let round = 0; round < 10; round++) {
      const batch = outgoing(10);
      const expected = idsIn(batch);
      const ids = await Promise.all(others.map((one) => idsOf(send(one, batch))));
      expect(ids).toEqual(others.map(() => expected));
      expect(files()).toEqual(namesOf(batch));
      const whole = await Promise.all(
        batch.emails.map(async ({ id, email }) => {
          const bytes = await composeEml({ id, email }, batch.batchId);
          return [`${id}.${batch.batchId}.eml`, bytes.toString("latin1")];
        }),
      );
      expect(contents()).toEqual(Object.fromEntries(whole));
      rmSync(outbox, { recursive: true });
    }
  });

  test("written concurrently with others loses none of them", async () => {
    const batch = outgoing(10);
    const batches = Array.from({ length: 4 }, () => again(batch));
    const ids = await Promise.all(
      batches.map((one) => idsOf(send(createSandbox({ outbox, faults: noFaults }), one))),
    );
    expect(new Set(ids.flat()).size).toBe(40);
    expect(files()).toEqual(
      ids
        .flat()
        .map((id) => `${id}.eml`)
        .toSorted(),
    );
    expect(ids).toEqual(batches.map(idsIn));
  });
});

describe("sandbox: a process that is killed", () => {
  test("leaves no partial file under its final name", async () => {
    // A reader sees nothing or the whole file.
    const batch = outgoing(20);
    const whole = await Promise.all(
      batch.emails.map(async ({ id, email }) => {
        const long = { ...email, body: "x\n".repeat(100_000) };
        return {
          id,
          email: long,
          size: (await composeEml({ id, email: long }, batch.batchId)).length,
        };
      }),
    );
    const sizes = new Map(whole.map(({ id, size }) => [`${id}.${batch.batchId}.eml`, size]));
    let done = false;
    const sending = send(provider, { ...batch, emails: whole }).finally(() => (done = true));
    const wrong: string[] = [];
    await eventually("it is sent", () => {
      for (const name of files().filter((one) => !one.startsWith("."))) {
        if (statSync(join(outbox, name)).size !== sizes.get(name)) wrong.push(name);
      }
      return done;
    });
    expect(await idsOf(sending)).toHaveLength(20);
    expect(wrong).toEqual([]);
  });

  test("leaves at most one hidden partial file, which does no harm", async () => {
    const batch = outgoing(1);
    mkdirSync(outbox, { recursive: true });
    writeFileSync(join(outbox, ".part.tmp"), "X-Rel");
    expect(await idsOf(send(provider, batch))).toEqual(idsIn(batch));
    expect(files()).toEqual([".part.tmp", ...namesOf(batch)]);
  });
});

describe("sandbox: a disk that fails", () => {
  test("before anything is written: certainly not sent, with a reason", async () => {
    mkdirSync(join(folder, "data"));
    writeFileSync(outbox, "");
    const { result } = await send(provider);
    expect(result).toMatchObject({ kind: "whole", outcome: { kind: "unavailable" } });
    expect(result.kind === "whole" && result.outcome.reason).toMatch(/^outbox: E[A-Z]+$/);

    const below = createSandbox({ outbox: join(outbox, "deeper"), faults: noFaults });
    expect(await wholeOf(send(below))).toBe("unavailable");
  });

  /** The folder disappears when the random number for this email is drawn. */
  function failingAt(email: number): Provider {
    let thrown = -2;
    const random = () => {
      if (++thrown === email) renameSync(outbox, `${outbox}.away`);
      return 0.99;
    };
    return createSandbox({ outbox, faults: noFaults }, { random });
  }

  test("at the first email: not sent, and nothing left behind", async () => {
    expect(await wholeOf(send(failingAt(1), outgoing(2)))).toBe("unavailable");
    expect(readdirSync(`${outbox}.away`)).toEqual([]);
  });

  test("at the second email: the first was perhaps sent, and a repeat finds it", async () => {
    const batch = outgoing(2);
    expect(await wholeOf(send(failingAt(2), batch))).toBe("unknown");
    renameSync(`${outbox}.away`, outbox);
    // The first email was sent by the earlier request: no number is drawn for it again.
    expect(await wholeOf(send(failingAt(1), batch))).toBe("unknown");
    renameSync(`${outbox}.away`, outbox);
    expect(await eachOf(send(provider, batch))).toEqual(["accepted", "accepted"]);
    expect(files()).toEqual(namesOf(batch));
  });

  test.skipIf(!hasSmallDisk)(`that is full: not sent, and nothing left behind${orWhyNot}`, async () => {
    const disk = join(folder, "disk");
    mkdirSync(disk);
    const program = `
      import { createSandbox } from ${JSON.stringify(Bun.resolveSync("../../lib/providers/sandbox/sandbox.ts", import.meta.dir))};
      import { readdirSync } from "node:fs";
      const faults = { chances: {}, latency: { minMs: 0, maxMs: 0 } };
      const sandbox = createSandbox({ outbox: process.argv[1], faults });
      const [batch] = JSON.parse(process.argv[2]);
      const { result } = await sandbox.send(batch, AbortSignal.timeout(60_000));
      console.log(JSON.stringify({ result, files: readdirSync(process.argv[1]) }));`;
    const batch = outgoing(1);
    const emails = batch.emails.map((one) => ({
      ...one,
      email: { ...one.email, body: "x".repeat(100_000) },
    }));
    const command = [process.execPath, "-e", program, disk, JSON.stringify([{ ...batch, emails }])];
    const { stdout } = Bun.spawnSync(onSmallDisk(disk, "size=64k", command));
    removeSmallDisk(disk);
    expect(JSON.parse(stdout.toString())).toEqual({
      result: { kind: "whole", outcome: { kind: "unavailable", reason: "outbox: ENOSPC", own: false } },
      files: [],
    });
  });

  test("that loses the folder: it is created again", async () => {
    await send(provider);
    rmSync(outbox, { recursive: true });
    expect(await eachOf(send(provider))).toEqual(["accepted", "accepted"]);
  });
});

describe("sandbox: a deadline", () => {
  test("that has passed sends nothing", async () => {
    expect(await wholeOf(send(provider, outgoing(), AbortSignal.abort()))).toBe("unavailable");
    expect(files()).toEqual([]);
  });

  test("that passes during the latency sends nothing", async () => {
    const slow = createSandbox({
      outbox,
      faults: { ...noFaults, latency: { minMs: 3_600_000, maxMs: 3_600_000 } },
    });
    expect(await wholeOf(send(slow, outgoing(), AbortSignal.timeout(1)))).toBe("unavailable");
    expect(files()).toEqual([]);
  });

  test("that passes in the middle leaves the rest unsent, and doubt", async () => {
    const batch = outgoing(3);
    const controller = new AbortController();
    // The second number drawn for an email is the third email's: the deadline passes during that draw.
    let thrown = 0;
    const one = createSandbox(
      { outbox, faults: noFaults },
      {
        random() {
          if (++thrown === 4) controller.abort();
          return 0.99;
        },
      },
    );
    expect(await wholeOf(send(one, batch, controller.signal))).toBe("unknown");
    expect(files()).toHaveLength(2);
    expect(await eachOf(send(provider, batch))).toEqual(["accepted", "accepted", "accepted"]);
    expect(files()).toEqual(namesOf(batch));
  });
});

describe("sandbox: a fault", () => {
  test.each([
    ["unavailable", "unavailable", { own: true }],
    ["throttle", "throttled", {}],
    ["refuse-account", "accountRefused", {}],
    ["lose-request", "unknown", { own: false }],
  ] as const)("%s: %s, and nothing is written", async (name, expected, own) => {
    const { result, rate } = await send(faulty({ [name]: 1 }));
    expect(result).toEqual({
      kind: "whole",
      outcome: { kind: expected, reason: `sandbox: ${name}`, ...own },
    } as never);
    expect(rate).toEqual({});
    expect(files()).toEqual([]);
  });

  test("lose-answer: unknown, and everything is written; a repeat is accepted", async () => {
    const batch = outgoing();
    expect(await wholeOf(send(faulty({ "lose-answer": 1 }), batch))).toBe("unknown");
    expect(files()).toEqual(namesOf(batch));
    expect(await idsOf(send(provider, batch))).toEqual(idsIn(batch));
    expect(files()).toEqual(namesOf(batch));
  });

  test.each([
    ["written", 0.49],
    ["not written", 0.5],
  ])("hang: no answer before the deadline, then unknown; at random, %s", async (what, coin) => {
    const batch = outgoing();
    const controller = new AbortController();
    let answered = false;
    const one = faulty({ hang: 1 }, 0, 0, coin);
    const sending = send(one, batch, controller.signal).finally(() => (answered = true));
    if (what === "written") await eventually("it is written", () => files().length === 2);
    expect(answered).toBe(false);
    controller.abort();
    expect(await wholeOf(sending)).toBe("unknown");
    expect(files()).toEqual(what === "written" ? namesOf(batch) : []);
  });

  test("reject and refuse-sender: affect one email, and the others are written", async () => {
    const batch = outgoing(4);
    // Two numbers for the request, then one for each email.
    const one = faulty({ reject: 0.2, "refuse-sender": 0.2 }, 0, 0, 0.4, 0.39, 0.19, 0.5);
    expect(await eachOf(send(one, batch))).toEqual([
      "accepted",
      "senderRefused",
      "rejected, stable",
      "accepted",
    ]);
    expect(files()).toEqual([namesOf(batch)[0]!, namesOf(batch)[3]!]);
  });

  test.each(["reject", "refuse-sender"] as const)(
    "%s: never applies to an email that was accepted before",
    async (name) => {
      const batch = outgoing();
      await send(provider, batch);
      expect(await eachOf(send(faulty({ [name]: 1 }), batch))).toEqual(["accepted", "accepted"]);
      expect(await eachOf(send(faulty({ [name]: 1 }), again(batch)))).not.toContain("accepted");
    },
  );

  test("occurs as often as it is set to", async () => {
    const chances = { unavailable: 0.1, throttle: 0.2, hang: 0.3 };
    const drawn = (random: number) =>
      wholeOf(send(faulty(chances, random, 0, 0.99), outgoing(1), AbortSignal.timeout(1)));
    expect(await drawn(0.099)).toBe("unavailable");
    expect(await drawn(0.101)).toBe("throttled");
    expect(await drawn(0.299)).toBe("throttled");
    expect(await drawn(0.301)).toBe("unknown");
    expect(await eachOf(send(faulty(chances, 0.601), outgoing(1)))).toEqual(["accepted"]);
  });

  test("latency: is drawn uniformly between its bounds", async () => {
    const faults = { ...noFaults, latency: { minMs: 20, maxMs: 60 } };
    const startMs = performance.now();
    await send(createSandbox({ outbox, faults }, { random: () => 0.5 }), outgoing(1));
    expect(performance.now() - startMs).toBeGreaterThan(39);
  });
});

test("sandbox: no reason contains an address or a path", async () => {
  mkdirSync(join(folder, "data"));
  writeFileSync(outbox, "");
  const { result } = await send(provider);
  expect(JSON.stringify(result)).not.toContain("@");
  expect(JSON.stringify(result)).not.toContain(folder);
});

test("sandbox: only the case of a domain may change in an address", async () => {
  const email = { ...outgoing(1).emails[0]!.email, to: "Jane.Doe@Example.ORG" };
  const { to } = await PostalMime.parse(await composeEml({ id: Bun.randomUUIDv7(), email }, "batch"));
  expect(sameAddress(to![0]!.address!, email.to)).toBe(true);
});
