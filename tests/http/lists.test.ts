// The fields with several values, from the bytes of each kind of body to the email: cc, bcc, headers, tags, attachments.

import { describe, expect, spyOn, test } from "bun:test";
import mime from "mime";
import type { Email } from "../../lib/email/email.ts";
import { bodyReader, readBody } from "../../lib/http/body/body.ts";
import { checkSubmission, fingerprint, type SubmissionResult } from "../../lib/http/submission.ts";

const nowMs = Date.parse("2026-11-27T12:00:00Z");
const least = { subject: "Hello", body: "World", to: "ada@example.org", from: "me@example.org" };
const formType = "application/x-www-form-urlencoded";
const multipartType = "multipart/form-data; boundary=XX";

function submit(body: string | Uint8Array, contentType: string): SubmissionResult {
  const reader = bodyReader(new Headers({ "content-type": contentType }));
  if (typeof reader === "string") throw new Error(reader);
  const fields = readBody(reader, typeof body === "string" ? new TextEncoder().encode(body) : body);
  if (typeof fields === "string") return { ok: false, message: fields };
  return checkSubmission(fields, {}, nowMs);
}

/** A file, or a text if there is no name. */
interface Part {
  readonly text: string;
  readonly filename?: string;
  readonly type?: string;
}

function multipart(parts: readonly (readonly [name: string, part: string | Part])[]): string {
  const all = parts.map(([name, part]) => {
    const { text, filename, type } = typeof part === "string" ? { text: part } : (part as Part);
    const file = filename === undefined ? "" : `; filename="${filename}"`;
    const declared = type === undefined ? "" : `\r\nContent-Type: ${type}`;
    return `--XX\r\nContent-Disposition: form-data; name="${name}"${file}${declared}\r\n\r\n${text}\r\n`;
  });
  return `${all.join("")}--XX--\r\n`;
}

type Entry = readonly [name: string, value: string];
const formOf = (...more: readonly Entry[]) =>
  submit(
    new URLSearchParams(
      [...Object.entries(least), ...more].map(([name, value]): [string, string] => [name, value]),
    ).toString(),
    formType,
  );
const partsOf = (...more: readonly (readonly [name: string, part: string | Part])[]) =>
  submit(multipart([...Object.entries(least), ...more]), multipartType);
const jsonOf = (more: object) => submit(JSON.stringify({ ...least, ...more }), "application/json");
const rawJsonOf = (more: string) =>
  submit(`${JSON.stringify(least).slice(0, -1)},${more}}`, "application/json");

function accepted(result: SubmissionResult): SubmissionResult & { ok: true } {
  if (!result.ok) throw new Error(result.message);
  return result;
}

const emailOf = (result: SubmissionResult): Email => accepted(result).email;
const messageOf = (result: SubmissionResult): string => (result.ok ? "" : result.message);

const base64 = (text: string) => Buffer.from(text).toString("base64");

describe("recipients", () => {
  const both = ["a@example.org", "b@example.org"];

  test("lists: every way to give several recipients is the same", () => {
    const forms = [
      ["cc", "cc"],
      ["cc[]", "cc[]"],
      ["cc[0]", "cc[1]"],
      ["cc", "cc[7]"],
    ].map((names) => names.map((name, i): Entry => [name, both[i]!]));
    const results = [
      ...forms.map((entries) => formOf(...entries)),
      ...forms.map((entries) => partsOf(...entries)),
      jsonOf({ cc: both }),
      jsonOf({ cc: ["", both[0], null, " ", `\t${both[1]}\r\n`] }),
      formOf(["cc", ""], ["cc[]", both[0]!], ["cc", " "], ["cc", ` ${both[1]} `]),
    ];
    for (const result of results) expect(emailOf(result).cc).toEqual(both);
    expect(new Set(results.map((result) => fingerprint(accepted(result).given))).size).toBe(1);
  });

  test("lists: one recipient in JSON may be a string, and empty ones are absent", () => {
    expect(emailOf(jsonOf({ bcc: both[0] })).bcc).toEqual([both[0]!]);
    const without = emailOf(jsonOf({}));
    for (const empty of [null, "", " ", [], [""], [null, " "]]) {
      expect(emailOf(jsonOf({ cc: empty, bcc: empty }))).toEqual(without);
    }
    expect(emailOf(formOf(["cc", ""], ["bcc[]", " "]))).toEqual(without);
  });

  const hint = "must be one address without a name; repeat the field for several";

  test.each([
    [{ cc: "ada" }, "cc: is not an email address"],
    [
      { cc: "a@münchen.de" },
      "cc: is not an email address: its domain must be in punycode, xn--mnchen-3ya.de",
    ],
    [{ cc: "a@example.org, b@example.org" }, `cc: ${hint}`],
    [{ bcc: "a@example.org;b@example.org" }, `bcc: ${hint}`],
    [{ cc: ["b@example.org", "Ada <a@example.org>"] }, `cc[1]: ${hint}`],
    [
      { cc: ["x", "y"], bcc: ["z", 5] },
      "cc[0]: is not an email address; cc[1]: is not an email address; bcc[0]: is not an email address; bcc[1]: is not a string",
    ],
    [{ cc: { a: 1 } }, "cc: is neither a string nor an array of strings"],
    [{ cc: 5 }, "cc: is neither a string nor an array of strings"],
    [{ cc: [["a@example.org"]] }, "cc: is not a string"],
    [{ cc: "ada@EXAMPLE.org" }, "cc: is already a recipient"],
    [{ cc: ["b@example.org", "b@Example.org"] }, "cc[1]: is already a recipient"],
    [{ cc: "b@example.org", bcc: ["c@example.org", "b@example.org"] }, "bcc[1]: is already a recipient"],
    [{ cc: "a\r\n@example.org" }, "cc: is not an email address"],
  ])("lists: %j is refused", (more, message) => {
    expect(messageOf(jsonOf(more))).toBe(message);
  });

  test("lists: local parts that differ in case are two recipients", () => {
    expect(emailOf(jsonOf({ cc: "ADA@example.org" })).cc).toEqual(["ADA@example.org"]);
  });

  test("lists: an email has at most 50 recipients", () => {
    const many = (count: number, name: string) =>
      Array.from({ length: count }, (_, i) => `${name}${i}@example.org`);
    expect(emailOf(jsonOf({ cc: many(25, "c"), bcc: many(24, "b") })).bcc).toHaveLength(24);
    const over = "has too many addresses: to, cc and bcc have at most 50 together";
    expect(messageOf(jsonOf({ cc: many(50, "c") }))).toBe(`cc: ${over}`);
    expect(messageOf(jsonOf({ cc: many(25, "c"), bcc: many(25, "b") }))).toBe(`bcc: ${over}`);
    expect(messageOf(jsonOf({ cc: many(101, "c") }))).toBe("cc: has over 100 values");
    const forms = many(101, "c").map((one): Entry => ["cc", one]);
    expect(messageOf(formOf(...forms))).toBe("cc: has over 100 values");
    expect(messageOf(partsOf(...forms))).toBe("cc: has over 100 values");
  });

  test.each(["cc[a]", "cc[0", "cc[0][1]", "cc[]x"])("lists: a form's field %j is refused", (name) => {
    expect(messageOf(formOf([name, both[0]!]))).toBe("cc: must be named cc, cc[] or cc[0]");
    expect(messageOf(partsOf([name, both[0]!]))).toBe("cc: must be named cc, cc[] or cc[0]");
    expect(messageOf(formOf([name, ""]))).toBe("");
  });

  test("lists: a name that only begins like a field's is unknown, and ignored", () => {
    const names = ["ccc", "CC", "cc ", "cc.0", "headers.X", "header", "tag", "attachment_1"];
    expect(emailOf(formOf(...names.map((name): Entry => [name, "x"])))).toEqual(emailOf(formOf()));
  });

  test("lists: a form with over ten thousand fields is refused, unknown ones included", () => {
    const unknown = (count: number) => Array.from({ length: count }, () => ["x", ""] as const);
    const most = unknown(10_000 - Object.keys(least).length);
    const fault = "the form has over 10000 fields";
    expect(formOf(...most).ok).toBe(true);
    expect(messageOf(formOf(...most, ["x", ""]))).toBe(fault);
    expect(partsOf(...most).ok).toBe(true);
    expect(messageOf(partsOf(...most, ["x", ""]))).toBe(fault);
  });

  test("lists: a form with over a thousand known fields is refused before any of them costs memory", () => {
    expect(messageOf(submit("cc=a&".repeat(1001), formType))).toBe("the form has over 1000 known fields");
  });
});

describe("headers and tags", () => {
  const headers: [string, string][] = [
    ["List-Unsubscribe", "<mailto:u@example.com>, <https://example.com/u?id=1>"],
    ["List-Unsubscribe-Post", "List-Unsubscribe=One-Click"],
    ["In-Reply-To", "<a@b>"],
    ["References", "<a@b> <c@d>"],
    ["auto-submitted", "auto-generated"],
    ["Precedence", "bulk"],
    ["Importance", "high"],
    ["X-Order_1", "17; ~!"],
  ];
  const tags: [string, string][] = [
    ["kind", "welcome"],
    ["__proto__", "x"],
    ["constructor", "y-Z_9"],
  ];
  const named = (name: string, pairs: readonly [string, string][]) =>
    pairs.map(([key, value]): Entry => [`${name}[${key}]`, value]);

  test("lists: headers and tags are read from every kind of body, in their order", () => {
    const json = rawJsonOf(
      `"headers":${JSON.stringify(Object.fromEntries(headers))},"tags":{"kind":"welcome","__proto__":"x","constructor":"y-Z_9"}`,
    );
    const entries = [...named("headers", headers), ...named("tags", tags)];
    const results = [json, formOf(...entries), partsOf(...entries)];
    for (const result of results) expect(emailOf(result)).toMatchObject({ headers, tags });
    expect(new Set(results.map((result) => fingerprint(accepted(result).given))).size).toBe(1);
  });

  test("lists: values are trimmed, and empty ones are absent", () => {
    expect(emailOf(jsonOf({ headers: { "X-A": " b\r\n", "X-B": "", "X-C": null } })).headers).toEqual([
      ["X-A", "b"],
    ]);
    for (const empty of [null, "", {}, [], { "X-A": "" }]) {
      expect(emailOf(jsonOf({ headers: empty, tags: empty }))).toEqual(emailOf(jsonOf({})));
    }
    expect(
      emailOf(formOf(["headers[X-A]", ""], ["headers[]", ""], ["headers", ""], ["tags[a]", " "])),
    ).toEqual(emailOf(formOf()));
  });

  const ascii = "has a character that is not printable ASCII";
  const unknown = "is not a header that can be set";

  test.each([
    ["From", "x", unknown],
    ["Subject", "x", unknown],
    ["Bcc", "a@example.org", unknown],
    ["Message-ID", "<a@b>", unknown],
    ["Content-Type", "text/plain", unknown],
    ["X-", "x", unknown],
    ["List-", "x", unknown],
    ["List Id", "x", unknown],
    ["X-A: b", "x", unknown],
    ["X-A\r\nBcc", "x", unknown],
    ["X-Ä", "x", unknown],
    ["", "x", unknown],
    ["X-PM-Message-Stream", "x", "is reserved"],
    ["x-ses-a", "x", "is reserved"],
    ["X-RESEND-A", "x", "is reserved"],
    ["X-Reliable-Email-Id", "x", "is reserved"],
    ["X-A", "a\r\nBcc: b", ascii],
    ["X-A", "a\tb", ascii],
    ["X-A", "é", ascii],
    ["X-A", "\ud800", ascii],
    ["X-A", "x".repeat(999), "is over 998 characters"],
    ["X-A", 5, "is not a string"],
    [
      "List-Unsubscribe-Post",
      "List-Unsubscribe=One-Click",
      "needs an https address in List-Unsubscribe, such as <https://example.com/u/1>",
    ],
    ["list-unsubscribe-post", "one-click", "is not List-Unsubscribe=One-Click"],
  ])("lists: the header %j with %j is refused", (name, value, fault) => {
    const place = name.toLowerCase() === "list-unsubscribe-post" ? "List-Unsubscribe-Post" : name;
    expect(messageOf(jsonOf({ headers: { [name]: value } }))).toBe(`headers[${place}]: ${fault}`);
  });

  test.each([
    ["<mailto:u@example.com>", false],
    ["https://example.com/u", false],
    ["<http://example.com/u>", false],
    ["<https://>", false],
    ["<HTTPS://example.com/u>", true],
    ["(comment) <https://example.com/u>", true],
  ])("lists: List-Unsubscribe %j allows one click: %j", (value, isAllowed) => {
    const result = jsonOf({
      headers: { "list-unsubscribe": value, "LIST-UNSUBSCRIBE-POST": "List-Unsubscribe=One-Click" },
    });
    expect(result.ok).toBe(isAllowed);
  });

  test.each([
    ["a b", "x", "has a name that is not 1 to 20 characters of A-Z a-z 0-9 _ -"],
    ["", "x", "has a name that is not 1 to 20 characters of A-Z a-z 0-9 _ -"],
    ["x".repeat(21), "x", "has a name that is not 1 to 20 characters of A-Z a-z 0-9 _ -"],
    ["email_id", "x", "is reserved"],
    ["Batch_ID", "x", "is reserved"],
    ["a", "x y", "is not 1 to 80 characters of A-Z a-z 0-9 _ -"],
    ["a", "x".repeat(81), "is not 1 to 80 characters of A-Z a-z 0-9 _ -"],
    ["a", true, "is not a string"],
  ])("lists: the tag %j with %j is refused", (name, value, fault) => {
    expect(messageOf(jsonOf({ tags: { [name]: value } }))).toBe(`tags[${name}]: ${fault}`);
  });

  test("lists: at most 20 headers and 8 tags are accepted", () => {
    const many = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, i) => [`X-${i}`, "x"]));
    expect(messageOf(jsonOf({ headers: many(20), tags: many(8) }))).toBe("");
    expect(messageOf(jsonOf({ headers: many(21), tags: many(9) }))).toBe(
      "headers: has over 20 values; tags: has over 8 values",
    );
  });

  test("lists: a name given twice is refused in every kind of body, in any case, however it is escaped", () => {
    const twice = "headers[x-a]: is given twice; tags[a]: is given twice";
    const entries: Entry[] = [
      ["headers[X-A]", "1"],
      ["headers[x-a]", "1"],
      ["tags[a]", "1"],
      ["tags[a]", ""],
    ];
    expect(messageOf(formOf(...entries))).toBe(twice);
    expect(messageOf(partsOf(...entries))).toBe(twice);
    expect(messageOf(rawJsonOf('"headers":{"X-A":"1","x-a":"1"},"tags":{"a":"1","\\u0061":"2"}'))).toBe(
      twice,
    );
    expect(messageOf(rawJsonOf('"tags":{"__proto__":"1","__proto__":"2"}'))).toBe(
      "tags[__proto__]: is given twice",
    );
    expect(messageOf(rawJsonOf('"x":{"tags":{"a":1,"a":2}},"tags":{"b":"1"}'))).toBe("");
    expect(messageOf(rawJsonOf('"tags":{"b":"1"},"tags":null'))).toBe("tags: is given twice");
    expect(messageOf(rawJsonOf('"cc":null,"cc":"a@example.org"'))).toBe("cc: is given twice");
  });

  test.each([
    [{ headers: "X-A: b" }, "headers: is not an object of strings"],
    [{ headers: [["X-A", "b"]] }, "headers: is not an object of strings"],
    [{ tags: [{ name: "a", value: "b" }] }, "tags: is not an object of strings"],
    [{ tags: 5 }, "tags: is not an object of strings"],
  ])("lists: the shape of %j is refused", (more, message) => {
    expect(messageOf(jsonOf(more))).toBe(message);
  });

  test("lists: a form's field without a name in brackets is refused", () => {
    expect(messageOf(formOf(["headers", "X-A: b"]))).toBe("headers: must be named headers[NAME]");
    expect(messageOf(partsOf(["tags[a", "b"]))).toBe("tags: must be named tags[NAME]");
  });

  test("lists: a long name is cut off in a message", () => {
    const name = `X-${"y".repeat(5000)}`;
    expect(messageOf(formOf([`headers[${name}]`, "x"]))).toBe(`headers[${name.slice(0, 100)}…]: ${unknown}`);
  });
});

describe("files in JSON", () => {
  const file = { filename: "a.txt", content: base64("hi") };
  const one = (more: object) => jsonOf({ attachments: [{ ...file, ...more }] });

  test("lists: files reach the email, and their contents are beside it", () => {
    const { email, files } = accepted(
      jsonOf({
        attachments: [
          { ...file, content_id: "logo@x" },
          { filename: " grüße.unknown ", content: base64("\0\xff"), content_type: "application/x-y; a=b" },
          { filename: "b", content: "YQ==", content_type: null, content_id: "", other: 5 },
        ],
      }),
    );
    const sha256 = (text: string) => new Bun.CryptoHasher("sha256").update(text).digest("hex");
    expect(email.attachments).toEqual([
      { filename: "a.txt", content_type: "text/plain", size: 2, sha256: sha256("hi"), content_id: "logo@x" },
      {
        filename: "grüße.unknown",
        content_type: "application/x-y; a=b",
        declares_type: true,
        size: 3,
        sha256: sha256("\0\xff"),
      },
      {
        filename: "b",
        content_type: "application/octet-stream",
        declares_type: true,
        size: 1,
        sha256: sha256("a"),
      },
    ]);
    expect(files!.map((bytes) => Buffer.from(bytes).toString())).toEqual(["hi", "\0\xff", "a"]);
  });

  test("lists: no files are absent files", () => {
    for (const attachments of [null, "", []]) expect(accepted(jsonOf({ attachments })).files).toBeUndefined();
    expect(emailOf(jsonOf({ attachments: [] }))).toEqual(emailOf(jsonOf({})));
  });

  test("lists: base64 may be in lines", () => {
    expect(accepted(one({ content: "aGVs\r\nbG8=\n" })).files!.map(String)).toEqual(["104,101,108,108,111"]);
  });

  test.each([
    ["aGk", ": it is cut off or lacks padding"],
    ["a", ": it is cut off or lacks padding"],
    ["aGl=", ""],
    ["aGk=aGk=", ""],
    ["aG k=", ": it contains a space"],
    ["a-_=", ": it uses - or _ of the URL-safe alphabet instead of + and /"],
    ["data:text/plain;base64,aGk=", ": leave out the prefix data:…;base64,"],
    ["\ud800", ""],
    ["äöü=", ""],
  ])("lists: the content %j is refused", (content, hint) => {
    expect(messageOf(one({ content }))).toBe(`attachments[0].content: is not base64${hint}`);
  });

  test.each([
    [{ filename: undefined }, "filename: is required"],
    [{ filename: " " }, "filename: is required"],
    [{ filename: 5 }, "filename: is not a string"],
    [{ filename: "a/b" }, "filename: has a slash or a backslash"],
    [{ filename: "a\\b" }, "filename: has a slash or a backslash"],
    [{ filename: "a\u0085b" }, "filename: has a control character"],
    [{ filename: "a\ud800" }, "filename: has a lone surrogate"],
    [{ filename: "é".repeat(128) }, "filename: is over 255 bytes"],
    [{ filename: "a.EXE" }, "filename: has an extension that providers refuse: .exe"],
    [{ content: undefined }, "content: is missing or empty"],
    [{ content: "" }, "content: is missing or empty"],
    [{ content: [1] }, "content: is not a string"],
    [{ content_id: "a b" }, "content_id: is not 1 to 127 characters of A-Z a-z 0-9 . _ @ + -"],
    [{ content_id: "<a>" }, "content_id: is not 1 to 127 characters of A-Z a-z 0-9 . _ @ + -"],
    [{ content_id: "x".repeat(128) }, "content_id: is not 1 to 127 characters of A-Z a-z 0-9 . _ @ + -"],
    [{ content_type: "text" }, "content_type: is not a media type such as application/pdf"],
    [{ content_type: "text/plain; x" }, "content_type: is not a media type such as application/pdf"],
    [{ content_type: 'text/plain; x="a\r\nb"' }, "content_type: is not a media type such as application/pdf"],
    [
      { content_type: "text/html" },
      "content_type: contradicts the extension of the file name, whose type is text/plain",
    ],
    [
      { filename: "a.img", content_type: "application/x-raw" },
      "content_type: contradicts the extension of the file name, whose type is application/octet-stream",
    ],
    [
      { filename: "a.csv", content_type: "application/vnd.ms-excel" },
      "content_type: contradicts the extension of the file name, whose type is text/csv",
    ],
  ])("lists: a file with %j is refused", (more, fault) => {
    expect(messageOf(one(more))).toBe(`attachments[0].${fault}`);
  });

  test.each([
    ["a.txt", "text/plain", "text/plain", false],
    ["a.txt", "TEXT/Plain; charset=utf-8", "text/plain; charset=utf-8", true],
    ["a.ics", "text/calendar;method=REQUEST", "text/calendar;method=REQUEST", true],
    ["a.xml", "text/xml", "application/xml", false],
    ["a.wav", "audio/x-wav", "audio/wav", false],
    ["a.docx", "", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", false],
    ["a.unknown", "", "application/octet-stream", true],
    ["a.VSDX", "", "application/vnd.visio", false],
    ["a.img", "application/octet-stream", "application/octet-stream", false],
    ["a.bin2", 'application/x-y; z="a b"', 'application/x-y; z="a b"', true],
  ])(
    "lists: the file %j declared as %j is sent as %j, and Resend is told so: %j",
    (filename, content_type, expected, isTold) => {
      const [sent] = emailOf(one({ filename, content_type })).attachments!;
      expect(sent).toMatchObject({ content_type: expected });
      expect("declares_type" in sent!).toBe(isTold);
    },
  );

  test("lists: every fault of every file is named with its place", () => {
    const attachments = [file, "a.txt", { ...file, content: "x" }, { filename: "b.exe", content_id: "," }];
    expect(messageOf(jsonOf({ attachments }))).toBe(
      "attachments[1]: is not an object; attachments[2].content: is not base64: it is cut off or lacks padding; " +
        "attachments[3].filename: has an extension that providers refuse: .exe; " +
        "attachments[3].content: is missing or empty; " +
        "attachments[3].content_id: is not 1 to 127 characters of A-Z a-z 0-9 . _ @ + -",
    );
  });

  test("lists: content ids are unique", () => {
    const attachments = ["a", "A", "a"].map((content_id) => ({ ...file, content_id }));
    expect(messageOf(jsonOf({ attachments }))).toBe("attachments[2].content_id: is given twice");
  });

  test("lists: a member of a file that is given twice is refused", () => {
    const text =
      '"attachments":[{"filename":"a","content":"YQ=="},{"filename":"a","content":"YQ==","content":"Yg=="}]';
    expect(messageOf(rawJsonOf(text))).toBe("attachments[1].content: is given twice");
    const nested = `"attachments":[{"x":[{"content":1},{"content":[2,"]"]}],"filename":"a","content":"YQ=="}]`;
    expect(messageOf(rawJsonOf(nested))).toBe("");
  });

  test.each(["[[1],2]", "[]", "{}", '{"a":1,"a":2}', '"x"', "1", "[{}]"])(
    "lists: a list given first as %s and then in another shape is given twice",
    (first) => {
      for (const [name, second] of [
        ["tags", '{"a":"1"}'],
        ["attachments", '[{"filename":"a","content":"YQ=="},{}]'],
      ] as const)
        expect(messageOf(rawJsonOf(`"${name}":${first},"${name}":${second}`))).toBe(
          `${name}: is given twice`,
        );
    },
  );

  test("lists: a file name of a million dots is refused without delay", () => {
    const filename = `a${".".repeat(1_000_000)}b`;
    expect(messageOf(jsonOf({ attachments: [{ filename, content: base64("a") }] }))).toBe(
      "attachments[0].filename: is over 255 bytes",
    );
  });

  test("lists: at most 50 files are accepted, and only their first hundred are looked at", () => {
    const many = (length: number) => ({ attachments: Array.from({ length }, () => file) });
    expect(messageOf(jsonOf(many(50)))).toBe("");
    expect(messageOf(jsonOf(many(51)))).toBe("attachments: has over 50 files");
    expect(messageOf(jsonOf(many(101)))).toBe("attachments: has over 100 values");
  });

  test("lists: files in another shape, or under the names of a form, are refused", () => {
    expect(messageOf(jsonOf({ attachments: file }))).toBe("attachments: is not an array of objects");
    for (const name of ["attachment", "inline"]) {
      expect(messageOf(jsonOf({ [name]: [file] }))).toBe(
        `attachments: must be named attachments in JSON, not ${name}`,
      );
      expect(messageOf(jsonOf({ [name]: null }))).toBe("");
    }
  });

  test("lists: an email is at most 10,000,000 bytes, with files in base64", () => {
    const content = (bytes: number) => Buffer.alloc(bytes, "x").toString("base64");
    const of = (bytes: number) => one({ content: content(bytes) });
    const rest = "HelloWorldada@example.orgme@example.orga.txttext/plain".length;
    const most = Math.floor((10_000_000 - rest) / 4) * 3;
    expect(messageOf(of(most))).toBe("");
    expect(messageOf(of(most + 1))).toMatch(
      /^the email has 1000000\d bytes, over 10000000: files count in base64$/,
    );
  });
});

describe("files in multipart forms", () => {
  const file: Part = { text: "hi", filename: "a.txt" };

  test("lists: files are read under each of their names, in their order", () => {
    const names = [
      "attachment",
      "attachments",
      "attachment[]",
      "attachments[]",
      "attachment[3]",
      "attachments[0]",
    ];
    const result = accepted(
      partsOf(...names.map((name, i) => [name, { text: `${i}\r\n`, filename: `${i}.txt` }] as const)),
    );
    expect(result.email.attachments!.map(({ filename }) => filename)).toEqual(
      names.map((_, i) => `${i}.txt`),
    );
    expect(result.files!.map((bytes) => Buffer.from(bytes).toString())).toEqual(
      names.map((_, i) => `${i}\r\n`),
    );
  });

  test("lists: the same files are the same email in JSON", () => {
    const json = jsonOf({
      attachments: [
        { filename: "a.txt", content: base64("hi") },
        { filename: "logo.png", content: base64("png"), content_id: "logo.png" },
      ],
    });
    const parts = partsOf(
      ["attachment", { ...file, type: "application/octet-stream" }],
      ["inline", { text: "png", filename: "logo.png", type: "Application/Octet-Stream" }],
    );
    expect(accepted(parts)).toEqual(accepted(json));
  });

  test("lists: a part's type counts only if the extension is unknown", () => {
    const typeOf = (filename: string, type?: string) =>
      emailOf(partsOf(["attachment", { text: "x", filename, ...(type !== undefined && { type }) }]))
        .attachments![0]!.content_type;
    expect(typeOf("a.csv", "application/vnd.ms-excel")).toBe("text/csv");
    expect(typeOf("a.csv", "nonsense")).toBe("text/csv");
    expect(typeOf("a.b2", "image/x-b; charset=latin1")).toBe("image/x-b; charset=latin1");
    expect(typeOf("a.b2")).toBe("application/octet-stream");
    expect(() => typeOf("a.b2", "nonsense")).toThrow(
      "attachments[0].content_type: is not a media type such as application/pdf",
    );
  });

  test("lists: the charset of a file does not matter, and its bytes need not be UTF-8", () => {
    const text = multipart([
      ...Object.entries(least),
      ["attachment", { text: "\xff\0\xe9", filename: "a.txt", type: "text/plain; charset=latin1" }],
    ]);
    const { files } = accepted(submit(Buffer.from(text, "latin1"), multipartType));
    expect(files!.map((bytes) => [...bytes])).toEqual([[255, 0, 233]]);
  });

  test("lists: a file input that was left empty is absent, and any other empty file is refused", () => {
    const empty: Part = { text: "", filename: "", type: "application/octet-stream" };
    for (const name of ["attachment", "attachments[]", "inline", "photo"]) {
      expect(emailOf(partsOf([name, empty]))).toEqual(emailOf(partsOf()));
    }
    expect(messageOf(partsOf(["attachment", { ...file, text: "" }]))).toBe(
      "attachments[0].content: is empty",
    );
    expect(messageOf(partsOf(["attachment", { ...file, filename: "" }]))).toBe(
      "attachments[0].filename: is required",
    );
  });

  test("lists: a file under another name is refused", () => {
    expect(messageOf(partsOf(["attachment", file], ["photo", file]))).toBe(
      'attachments[1]: is a file under the unknown name "photo": name it attachment or inline',
    );
    expect(messageOf(partsOf(["photo", { ...file, filename: "" }]))).toStartWith(
      "attachments[0]: is a file under the unknown name",
    );
    expect(messageOf(partsOf(["photo", { ...file, text: "" }]))).toStartWith(
      "attachments[0]: is a file under the unknown name",
    );
    expect(messageOf(partsOf(["to", file]))).toBe("to: is given twice");
    expect(
      messageOf(partsOf(["cc", file], ["headers[X-A]", file], ["tags", file], ["attachments[x]", file])),
    ).toBe(
      "cc: is a file; headers[X-A]: is a file; tags: must be named tags[NAME]; " +
        "attachments: must be named attachments, attachments[] or attachments[0]",
    );
  });

  test("lists: a text under the name of a file is refused unless it is empty", () => {
    for (const name of ["attachment", "attachments[]", "inline"]) {
      expect(messageOf(partsOf([name, "hi"]))).toBe("attachments[0]: is not a file");
      expect(messageOf(formOf([name, "hi"]))).toBe("attachments[0]: is not a file");
      expect(messageOf(partsOf([name, ""]))).toBe("");
      expect(messageOf(formOf([name, ""]))).toBe("");
    }
    const binary = multipart([...Object.entries(least), ["attachment", "\xff"]]);
    expect(messageOf(submit(Buffer.from(binary, "latin1"), multipartType))).toBe(
      "attachments[0]: is not a file",
    );
  });

  test("lists: the name of an inline file must be a content id", () => {
    expect(messageOf(partsOf(["inline", { text: "x", filename: "my logo.png" }]))).toBe(
      "attachments[0].filename: is not 1 to 127 characters of A-Z a-z 0-9 . _ @ + -: the name of an inline file is its content id",
    );
    expect(messageOf(partsOf(["inline", file], ["inline[]", file]))).toBe(
      "attachments[1].content_id: is given twice",
    );
  });
});

describe("send_at", () => {
  test.each([
    ["2026-11-27T13:00:00Z", "2026-11-27T13:00:00.000Z"],
    [" 2026-12-26 13:00:00.1239+01:00 ", "2026-12-26T12:00:00.123Z"],
    ["2026-12-27T12:00:00z", "2026-12-27T12:00:00.000Z"],
    ["2024-02-29t00:00:00-00:30", "2024-02-29T00:30:00.000Z"],
    ["1969-12-31T23:59:59Z", "1969-12-31T23:59:59.000Z"],
  ])("lists: %j is the instant %s", (send_at, expected) => {
    const result = accepted(jsonOf({ send_at }));
    expect(result.email.send_at).toBe(expected);
    expect(result.sendAtMs).toBe(Date.parse(expected));
    expect(fingerprint(result.given)).toBe(fingerprint(accepted(formOf(["send_at", expected])).given));
  });

  const fault = "is not a date and time with seconds and offset such as 2027-01-31T09:00:00+01:00";

  test.each([
    ["2026-11-28", fault],
    ["2026-11-28T12:00Z", fault],
    ["2026-11-28T12:00:00", fault],
    ["2026-11-28T12:00:00+0100", fault],
    ["2026-11-31T12:00:00Z", fault],
    ["2027-02-29T12:00:00Z", fault],
    ["2026-11-28T24:00:00Z", fault],
    ["2026-12-31T23:59:60Z", fault],
    ["2026-11-28T12:00:0000Z", fault],
    ["2026-11-28T12:00:00.Z", fault],
    ["2026-11-28T12:00:00+24:00", fault],
    ["tomorrow", fault],
    ["1795000000", fault],
    ["2026-11-28T12:00:00 01:00", "is not a time: its + must be written as %2B in a form"],
    ["2026-12-27T12:00:00.001Z", "is over 30 days ahead"],
    ["9999-12-31T23:59:59Z", "is over 30 days ahead"],
  ])("lists: send_at %j is refused", (send_at, message) => {
    expect(messageOf(jsonOf({ send_at }))).toBe(`send_at: ${message}`);
  });

  test("lists: an empty send_at is absent, and two are refused", () => {
    expect(emailOf(jsonOf({ send_at: " " }))).toEqual(emailOf(jsonOf({})));
    expect(messageOf(formOf(["send_at", ""], ["send_at", ""]))).toBe("send_at: is given twice");
    expect(messageOf(jsonOf({ send_at: 5 }))).toBe("send_at: is not a string");
  });
});

describe("fingerprints", () => {
  const printOf = (more: object) => fingerprint(accepted(jsonOf(more)).given);
  const file = { filename: "a.b2", content: base64("hi"), content_type: "image/x-b", content_id: "a" };
  const full = {
    cc: ["a@example.org", "b@example.org"],
    bcc: ["c@example.org"],
    headers: { "X-A": "1", "X-B": "2" },
    tags: { a: "1", b: "2" },
    attachments: [file, { ...file, filename: "b.b2", content_id: "b" }],
    send_at: "2026-11-28T12:00:00Z",
  };

  test("lists: the fingerprint does not change between releases", () => {
    expect(printOf({})).toBe("eT5E-s_LtTJPSq08YxQMoauQS1Zh_7An453TOAI26YY");
    expect(printOf(full)).toBe("oL75F74CD12umuf2fLp60VRqf4I5nQugl4m-PCXAgQs");
  });

  test.each([
    ["a.b2 without a type", () => jsonOf({ attachments: [{ ...file, content_type: "" }] })],
    ["a.b2 of a type", () => jsonOf({ attachments: [file] })],
    [
      "a.b2 of a type with parameters",
      () => jsonOf({ attachments: [{ ...file, content_type: "image/x-b; a=b" }] }),
    ],
    ["a.b2 in a form", () => partsOf(["attachment", { text: "hi", filename: "a.b2", type: "image/x-b" }])],
    ["a.png in a form", () => partsOf(["attachment", { text: "hi", filename: "a.png", type: "image/png" }])],
    [
      "a.png of a type",
      () => jsonOf({ attachments: [{ ...file, filename: "a.png", content_type: "image/png" }] }),
    ],
  ])(
    "lists: the fingerprint of an email with %s does not depend on the types that a release knows",
    (_, give) => {
      const before = accepted(give());
      const table = spyOn(mime, "getType");
      try {
        // The next release has learned one type and forgotten another.
        table.mockImplementation((name) => (name.endsWith("b2") ? "image/x-b" : null));
        expect(fingerprint(accepted(give()).given)).toBe(fingerprint(before.given));
      } finally {
        table.mockRestore();
      }
    },
  );

  test("lists: a file is the same whether its type is unknown or declared as unknown", () => {
    const of = (content_type: string | undefined) => printOf({ attachments: [{ ...file, content_type }] });
    expect(of("application/octet-stream")).toBe(of(undefined));
    expect(of("Application/Octet-Stream")).toBe(of(""));
    expect(of("application/octet-stream; a=b")).not.toBe(of(undefined));
  });

  test.each([
    { headers: { "x-b": "2", "X-a": "1" } },
    { tags: { b: "2", a: "1" } },
    { send_at: "2026-11-28T13:00:00.000+01:00" },
    { cc: ["", " a@example.org", "b@example.org"] },
  ])("lists: %j is the same email", (more) => {
    expect(printOf({ ...full, ...more })).toBe(printOf(full));
  });

  test.each([
    { headers: { "X-A": "2", "X-B": "1" } },
    { tags: { A: "1", b: "2" } },
    { send_at: "2026-11-28T12:00:01Z" },
    { cc: full.cc.toReversed() },
    { cc: full.bcc, bcc: full.cc },
    { attachments: full.attachments.toReversed() },
    ...[
      { filename: "c.b2" },
      { content: base64("ho") },
      { content_type: "image/x-c" },
      { content_id: "c" },
    ].map((change) => ({ attachments: [{ ...file, ...change }, full.attachments[1]!] })),
  ])("lists: %j is another email", (more) => {
    expect(printOf({ ...full, ...more })).not.toBe(printOf(full));
  });
});
