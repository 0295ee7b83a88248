// The parsers of bodies against each other: the same email in every encoding gives the same result, whatever its names and
// values, and an email that was accepted from damaged bytes is accepted again when it is written anew.
//
// FUZZ_RUNS sets the inputs of each test: `FUZZ_RUNS=200000 bun test tests/http/body_fuzz.test.ts --timeout 600000`.

import { expect, test } from "bun:test";
import fc from "fast-check";
import type { Pair } from "../../lib/email/fields.ts";
import { bodyReader, readBody } from "../../lib/http/body/body.ts";
import { checkSubmission, fingerprint, type SubmissionResult } from "../../lib/http/submission.ts";

const numRuns = Number(process.env["FUZZ_RUNS"] ?? 1500);
const nowMs = Date.parse("2026-11-27T12:00:00Z");
const boundary = "----5f3a-boundary-of-a-test";
const types = {
  form: "application/x-www-form-urlencoded",
  json: "application/json",
  multipart: `multipart/form-data; boundary=${boundary}`,
};

function submit(bytes: Uint8Array, kind: keyof typeof types): SubmissionResult {
  const reader = bodyReader(new Headers({ "content-type": types[kind] }));
  if (typeof reader === "string") throw new Error(reader);
  // A form is decoded in place.
  const fields = readBody(reader, bytes.slice());
  return typeof fields === "string" ? { ok: false, message: fields } : checkSubmission(fields, {}, nowMs);
}

interface GivenFile {
  readonly filename: string;
  readonly content: Uint8Array;
  readonly type: string;
  readonly id: string;
}

interface Given {
  readonly texts: Readonly<Record<string, string>>;
  readonly cc: readonly string[];
  readonly bcc: readonly string[];
  readonly headers: readonly Pair[];
  readonly tags: readonly Pair[];
  readonly files: readonly GivenFile[];
}

const hostile = fc.string({
  unit: fc.constantFrom(..."aZ09-_.@+%&=[]{}\"'\\;:,<>/ \r\n\t\0é😀"),
  maxLength: 8,
});
/** Mostly valid values; otherwise few emails would be accepted. */
const mostly = <T>(usual: fc.Arbitrary<T>, rare: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 25, arbitrary: usual }, { weight: 1, arbitrary: rare });
const address = mostly(
  fc.nat(500).map((n) => `a${n}@example.org`),
  hostile,
);
const headerName = mostly(
  fc.constantFrom("X-A", "X-B", "x-c", "List-Id", "References"),
  fc.oneof(fc.constantFrom("x-a", "X-PM-A", "From", "", "List-Unsubscribe-Post"), hostile),
);
const tagName = mostly(
  fc.constantFrom("a", "b", "0", "__proto__", "constructor"),
  fc.oneof(fc.constantFrom("A", "email_id", "a b"), hostile),
);
const value = mostly(
  fc.constantFrom("x", "a-b_C", "0", ""),
  fc.oneof(fc.constantFrom("<https://example.com/u>", "List-Unsubscribe=One-Click"), hostile),
);
const pairs = (name: fc.Arbitrary<string>) =>
  mostly(
    fc.uniqueArray(fc.tuple(name, value), { maxLength: 3, selector: ([one]) => one.toLowerCase() }),
    fc.array(fc.tuple(name, value), { maxLength: 3 }),
  );
const file: fc.Arbitrary<GivenFile> = fc.record({
  filename: mostly(
    fc.constantFrom("a.txt", "logo.png", "é.b2", "a", 'q"u.pdf', "..", "5 %.b3"),
    fc.oneof(fc.constantFrom("b.exe", ""), hostile),
  ),
  content: fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 20 }),
    fc.constantFrom("\r\n", `\r\n--${boundary.slice(1)}`, "--", "\r\n\r\n").map((text) => Buffer.from(text)),
  ),
  type: mostly(
    fc.constantFrom("", "application/octet-stream", "image/x-b; a=b"),
    fc.constantFrom("text/plain", "nonsense"),
  ),
  id: mostly(fc.constant(""), fc.constantFrom("a@b", "c")),
});
const given: fc.Arbitrary<Given> = fc.record({
  texts: fc
    .record(
      {
        to_name: mostly(fc.constant("Ada"), hostile),
        html: mostly(fc.constant("<p>"), hostile),
        reply_to: address,
        send_at: mostly(
          fc.constantFrom("", "2026-12-01T00:00:00Z", "2026-12-01 00:00:00.5+01:00"),
          fc.constantFrom("2026-02-30T00:00:00Z", "2027-12-01T00:00:00Z"),
        ),
      },
      { requiredKeys: [] },
    )
    .map((more) => ({ subject: "s", body: "b", to: "t@example.org", from: "f@example.org", ...more })),
  cc: fc.array(address, { maxLength: 4 }),
  bcc: fc.array(address, { maxLength: 4 }),
  headers: pairs(headerName),
  tags: pairs(tagName),
  files: fc.array(file, { maxLength: 3 }),
});

const quoted = (text: string) => JSON.stringify(text);

/** Writes members by hand, so that names may repeat. */
function asJson({ texts, cc, bcc, headers, tags, files }: Given): Buffer {
  const object = (all: readonly Pair[]) => `{${all.map((pair) => pair.map(quoted).join(":")).join(",")}}`;
  const attachments = files.map(({ filename, content, type, id }) =>
    object([
      ["filename", filename],
      ["content", content.toBase64()],
      ["content_type", type],
      ["content_id", id],
    ]),
  );
  const members = [
    ...Object.entries(texts).map((pair) => pair.map(quoted).join(":")),
    `"cc":${JSON.stringify(cc)},"bcc":${JSON.stringify(bcc)}`,
    `"headers":${object(headers)},"tags":${object(tags)},"attachments":[${attachments.join(",")}]`,
  ];
  return Buffer.from(`{${members.join(",")}}`);
}

function fieldsOf({ texts, cc, bcc, headers, tags }: Given): [string, string][] {
  return [
    ...Object.entries(texts),
    ...cc.map((one, i): [string, string] => [["cc", "cc[]", `cc[${i}]`][i % 3]!, one]),
    ...bcc.map((one): [string, string] => ["bcc", one]),
    ...headers.map(([name, value]): [string, string] => [`headers[${name}]`, value]),
    ...tags.map(([name, value]): [string, string] => [`tags[${name}]`, value]),
  ];
}

const asForm = (one: Given) => Buffer.from(new URLSearchParams(fieldsOf(one)).toString());

/** Whether a header parameter can express a name: it has no line end, and no backslash that would escape something. */
const isWritable = (name: string) => !/[\r\n\0]|\\$|\\[\\"]/.test(name);

function asMultipart(one: Given): Buffer {
  const escaped = (name: string) => name.replaceAll('"', '\\"');
  const head = (name: string) => `--${boundary}\r\nContent-Disposition: form-data; name="${escaped(name)}"`;
  const texts = fieldsOf(one).map(([name, value]) => Buffer.from(`${head(name)}\r\n\r\n${value}\r\n`));
  const files = one.files.flatMap(({ filename, content, type, id }) => {
    const name = id === "" ? "attachment" : "inline";
    const declared = type === "" ? "" : `\r\nContent-Type: ${type}`;
    const start = `${head(name)}; filename="${escaped(filename)}"${declared}\r\n\r\n`;
    return [Buffer.from(start), content, Buffer.from("\r\n")];
  });
  return Buffer.concat([...texts, ...files, Buffer.from(`--${boundary}--\r\n`)]);
}

/** An accepted submission for comparisons: JSON does not keep the order of names that are numbers. */
function essence(result: SubmissionResult) {
  if (!result.ok) return result.message.split("; ").toSorted();
  const { email, files, sendAtMs } = result;
  const sorted = (all: readonly Pair[] | undefined) => all?.map(String).toSorted();
  return {
    email: { ...email, headers: sorted(email.headers), tags: sorted(email.tags) },
    files: files?.map((bytes) => bytes.toHex()),
    sendAtMs,
    // Types of files count as they were given, and `regiven` gives others.
    fingerprint: files === undefined && fingerprint(result.given),
  };
}

/** The email of an accepted submission as a client would give it. */
function regiven({ email, files = [] }: SubmissionResult & { ok: true }): Given {
  const { cc = [], bcc = [], headers = [], tags = [], attachments = [], ...texts } = email;
  const given = attachments.map(({ filename, content_type: type, content_id: id = "" }, i) => {
    return { filename, type, id, content: files[i]! };
  });
  return { texts, cc, bcc, headers, tags, files: given };
}

/** Counts accepted and refused inputs: a generator that gives only one kind tests nothing. */
function counted() {
  const counts = { accepted: 0, refused: 0 };
  const count = ({ ok }: SubmissionResult) => (counts[ok ? "accepted" : "refused"] += 1);
  const check = () => expect(Math.min(counts.accepted, counts.refused)).toBeGreaterThan(numRuns / 50);
  return { count, check };
}

test("fuzz: lists and maps are the same email or the same faults in JSON, in forms and in multipart forms", () => {
  const { count, check } = counted();
  fc.assert(
    fc.property(given, (one) => {
      const withoutFiles = { ...one, files: [] };
      const json = submit(asJson(withoutFiles), "json");
      count(json);
      const names = [...one.headers, ...one.tags].map(([name]) => name);
      // JSON names a repeated member after all others.
      if (new Set(names).size < names.length)
        return expect(json.ok).toBe(submit(asForm(withoutFiles), "form").ok);
      expect(essence(submit(asForm(withoutFiles), "form"))).toEqual(essence(json));
      if (names.every(isWritable))
        expect(essence(submit(asMultipart(withoutFiles), "multipart"))).toEqual(essence(json));
    }),
    { numRuns },
  );
  check();
});

test("fuzz: files of multipart forms reach the email unchanged, and are the same in JSON", () => {
  const { count, check } = counted();
  fc.assert(
    fc.property(fc.array(file, { maxLength: 3 }), (files) => {
      const one = { texts: { subject: "s", body: "b", to: "t@example.org", from: "f@example.org" }, files };
      if (!files.every(({ filename }) => isWritable(filename))) return;
      const result = submit(asMultipart({ ...one, cc: [], bcc: [], headers: [], tags: [] }), "multipart");
      count(result);
      if (!result.ok) return;
      const sent = files.filter(({ filename, content }) => filename !== "" || content.length > 0);
      expect(result.files?.map((bytes) => bytes.toHex()) ?? []).toEqual(
        sent.map(({ content }) => content.toHex()),
      );
      expect(result.email.attachments?.map(({ filename }) => filename) ?? []).toEqual(
        sent.map(({ filename }) => filename.trim()),
      );
      expect(essence(submit(asJson(regiven(result)), "json"))).toEqual(essence(result));
    }),
    { numRuns },
  );
  check();
});

const mutation = fc.record({
  at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
  kind: fc.constantFrom("cut", "double", "byte", "insert", "remove"),
  byte: fc.oneof(
    fc.constantFrom(...Buffer.from("\r\n\0\"{}[]%&=;:-\\,*'")),
    fc.integer({ min: 0, max: 255 }),
  ),
  length: fc.integer({ min: 1, max: 40 }),
});

function mutated(
  bytes: Buffer,
  changes: readonly (typeof mutation extends fc.Arbitrary<infer T> ? T : never)[],
) {
  for (const { at, kind, byte, length } of changes) {
    const place = Math.floor(at * bytes.length);
    const [before, behind] = [bytes.subarray(0, place), bytes.subarray(place)];
    const after = {
      cut: [before],
      double: [before, behind.subarray(0, length), behind],
      byte: [before, Buffer.of(byte), behind.subarray(1)],
      insert: [before, Buffer.of(byte), behind],
      remove: [before, behind.subarray(length)],
    }[kind];
    bytes = Buffer.concat(after!);
  }
  return bytes;
}

test.each([
  ["json", asJson],
  ["form", asForm],
  ["multipart", asMultipart],
] as const)(
  "fuzz: damaged bytes of %s never throw, and what is accepted is the same email when written anew",
  (kind, encode) => {
    let accepted = 0;
    fc.assert(
      fc.property(given, fc.array(mutation, { maxLength: 1 }), (one, changes) => {
        const result = submit(mutated(encode(one), changes), kind);
        if (!result.ok) return expect(result.message).not.toBe("");
        accepted += 1;
        const again = regiven(result);
        expect(essence(submit(asJson(again), "json"))).toEqual(essence(result));
        if (kind !== "json" && again.files.length === 0)
          expect(essence(submit(asForm(again), "form"))).toEqual(essence(result));
      }),
      { numRuns },
    );
    expect(accepted).toBeGreaterThan(numRuns / 100);
  },
);
