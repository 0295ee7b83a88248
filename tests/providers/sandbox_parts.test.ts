// The files of the sandbox as mail readers read them: copies, headers, tags, attachments and inline images.

import { expect, test } from "bun:test";
import fc from "fast-check";
import PostalMime from "postal-mime";
import type { Email } from "../../lib/email/email.ts";
import type { Attachment } from "../../lib/email/fields.ts";
import { composeEml } from "../../lib/providers/sandbox/eml.ts";
import { python, pythonEnv } from "../support/python.ts";

const plain: Email = { to: "to@example.org", from: "shop@example.com", subject: "Hi", body: "Hello" };
const html = '<p>See <img src="cid:logo.png"></p>';

interface File extends Partial<Attachment> {
  readonly content: Uint8Array;
}

const sha256 = (content: Uint8Array) => new Bun.CryptoHasher("sha256").update(content).digest("hex");

function withFiles(email: Partial<Email>, files: readonly File[]) {
  const attachments = files.map(({ content, ...given }, i) => ({
    filename: `file-${i}.bin`,
    content_type: "application/octet-stream",
    size: content.length,
    sha256: sha256(content),
    ...given,
  }));
  return {
    id: Bun.randomUUIDv7(),
    email: { ...plain, ...email, ...(files.length > 0 && { attachments }) },
    files: files.map(({ content }) => content),
  };
}

const compose = (one: ReturnType<typeof withFiles>) => composeEml(one, Bun.randomUUIDv7());

interface Part {
  readonly type: string;
  readonly filename: string | null;
  readonly contentId: string | null;
  readonly sha256: string;
}

/** How Python reads the files: the types of all nodes, the headers, and the parts that are not texts of the email. */
async function readInPython(files: readonly Buffer[]) {
  const program = `
import sys, json, hashlib, email, base64
from email import policy
out = []
for line in sys.stdin:
    m = email.message_from_bytes(base64.b64decode(line), policy=policy.default)
    assert not any(p.defects for p in m.walk()), [p.defects for p in m.walk()]
    leaves = [p for p in m.walk() if not p.is_multipart()]
    out.append({
        "types": [p.get_content_type() for p in m.walk()],
        "headers": [[k, str(v)] for k, v in m.items()],
        "text": m.get_body(("plain",)).get_content(),
        "parts": [{"type": p.get_content_type(), "filename": p.get_filename(), "contentId": p["content-id"],
                   "sha256": hashlib.sha256(p.get_payload(decode=True)).hexdigest()}
                  for p in leaves if p.get_filename()],
    })
print(json.dumps(out))`;
  const child = Bun.spawn([python, "-c", program], {
    env: pythonEnv,
    stdin: Buffer.from(files.map((file) => `${file.toString("base64")}\n`).join("")),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [text, errors] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  expect(errors).toBe("");
  return JSON.parse(text) as {
    readonly types: string[];
    readonly headers: [string, string][];
    readonly text: string;
    readonly parts: Part[];
  }[];
}

const bytes = (length: number, seed = 7) =>
  Uint8Array.from({ length }, (_, i) => (i * seed + (i >> 8)) & 0xff);
const partsOf = (one: ReturnType<typeof withFiles>) =>
  (one.email.attachments ?? []).map(({ filename, content_type, sha256: sum, content_id }) => ({
    type: content_type,
    filename,
    contentId: content_id === undefined ? null : `<${content_id}>`,
    sha256: sum,
  }));
const byName = (a: Part, b: Part) => (`${a.filename}` < `${b.filename}` ? -1 : 1);

/** Both parsers find these files and no others, byte for byte. */
async function expectFiles(one: ReturnType<typeof withFiles>, expected: readonly Part[] = partsOf(one)) {
  const file = await compose(one);
  const [read] = await readInPython([file]);
  expect(read!.parts.toSorted(byName)).toEqual([...expected].toSorted(byName));
  const parsed = await PostalMime.parse(file, { attachmentEncoding: "arraybuffer" });
  const parts = parsed.attachments.map((found) => ({
    type: found.mimeType,
    filename: found.filename,
    contentId: found.contentId ?? null,
    sha256: sha256(new Uint8Array(found.content as ArrayBuffer)),
  }));
  expect(parts.toSorted(byName)).toEqual([...expected].toSorted(byName));
  return { read: read!, parsed, text: file.toString() };
}

test("sandbox: an email with everything is nested as mail readers expect, and comes back whole", async () => {
  const one = withFiles({ html }, [
    { filename: "report.pdf", content_type: "application/pdf", content: bytes(100_000) },
    { filename: "logo.png", content_type: "image/png", content_id: "logo.png", content: bytes(3000) },
    { filename: "data.csv", content_type: "text/csv", content: Buffer.from("a,b\n1,2\r3\r\n.\nFrom x") },
  ]);
  const { read, parsed } = await expectFiles(one);
  expect(read.types).toEqual([
    "multipart/mixed",
    "multipart/alternative",
    "text/plain",
    "multipart/related",
    "text/html",
    "image/png",
    "application/pdf",
    "text/csv",
  ]);
  expect(parsed.html?.trim()).toBe(html);
  expect(parsed.text?.trim()).toBe("Hello");
  const dispositions = parsed.attachments.map(({ filename, disposition }) => [filename, disposition]);
  expect(Object.fromEntries(dispositions)).toEqual({
    "logo.png": "inline",
    "report.pdf": "attachment",
    "data.csv": "attachment",
  });
});

test("sandbox: without HTML, a file with a content id is an attachment like any other", async () => {
  const logo = { filename: "logo.png", content_type: "image/png", content_id: "a.b_c@d+e-f" };
  const { read } = await expectFiles(withFiles({}, [{ ...logo, content: bytes(10) }]));
  expect(read.types).toEqual(["multipart/mixed", "text/plain", "image/png"]);
});

test.each([
  ["an email", "message/rfc822", "mail.eml"],
  ["a multipart body", "multipart/mixed; boundary=x", "body.mime"],
])("sandbox: %s as a file keeps its bytes, and opens no part of its own", async (_, type, filename) => {
  const content = Buffer.from(
    "Subject: inner\nTo: x@example.org\n\nbare\nline ends\r\n--x\n\nno part\n--x--",
  );
  const one = withFiles({ html }, [{ filename, content_type: type, content }]);
  const part = { type: "application/octet-stream", filename, contentId: null, sha256: sha256(content) };
  await expectFiles(one, [part]);
});

test.each([
  "naïve Ünïcödé résumé.pdf",
  "請求書 2026 年 11 月.pdf",
  "חשבונית.pdf",
  "👩‍👩‍👧‍👦🎈.pdf",
  `${"long name ".repeat(24)}.pdf`,
  `${"é".repeat(120)}.pdf`,
  "with \"quotes\" and 'more'.pdf",
  "a;b=c, d (e) <f>@[g]?.pdf",
  "utf-8''no%20.pdf",
  "100%.pdf",
  ".pdf",
  "-",
  "..",
])("sandbox: a file named %j keeps its name", async (filename) => {
  await expectFiles(withFiles({}, [{ filename, content_type: "application/pdf", content: bytes(5) }]));
});

test("sandbox: a file whose name looks encoded keeps it, for a reader that follows RFC 2231", async () => {
  const one = withFiles({}, [
    { filename: "=?utf-8?Q?no?=.pdf", content: bytes(5) },
    { filename: "=?utf-8?Q?no?=", content: bytes(5) },
  ]);
  const [read] = await readInPython([await compose(one)]);
  expect(read!.parts).toEqual(partsOf(one));
});

test("sandbox: any files come back byte for byte", async () => {
  const file = fc.record({
    content: fc.uint8Array({ minLength: 1, maxLength: 400 }),
    content_type: fc.constantFrom("text/plain", "text/html", "image/png", "application/pdf", "text/calendar"),
    isInline: fc.boolean(),
  });
  const emails = fc.sample(fc.tuple(fc.array(file, { minLength: 1, maxLength: 5 }), fc.boolean()), 100);
  const composed = emails.map(([files, hasHtml]) => {
    const named = files.map(({ isInline, ...rest }, i) => ({
      ...rest,
      ...(isInline && { content_id: `id-${i}` }),
    }));
    return withFiles(hasHtml ? { html } : {}, named);
  });
  const read = await readInPython(await Promise.all(composed.map(compose)));
  for (const [i, one] of composed.entries()) {
    expect(read[i]!.text.trim()).toBe("Hello");
    expect(read[i]!.parts.toSorted(byName)).toEqual(partsOf(one).toSorted(byName));
  }
});

test("sandbox: Cc is a header and Bcc is nowhere in the file", async () => {
  const cc = Array.from({ length: 40 }, (_, i) => `copy-${i}@${"long-".repeat(8)}domain.example`);
  const bcc = ["hidden@example.net", "secret@example.com"];
  const { parsed, read, text } = await expectFiles(withFiles({ cc, bcc }, []));
  expect(parsed.cc?.map(({ address }) => address)).toEqual(cc);
  expect(new Map(read.headers).get("Cc")).toBe(cc.join(", "));
  expect(text).not.toMatch(/bcc|hidden|secret/i);
  expect(text.split("\r\n").every(({ length }) => length <= 78)).toBe(true);
});

test("sandbox: headers are written as given, and replace none of the others", async () => {
  const headers: [string, string][] = [
    [
      "List-Unsubscribe",
      `<https://example.com/u?id=${"x".repeat(300)}>, <mailto:u@example.com?subject=a%20b>`,
    ],
    ["List-Unsubscribe-Post", "List-Unsubscribe=One-Click"],
    ["List-Id", '"Our news, weekly" <news.example.com>'],
    ["References", `bare ${Array.from({ length: 20 }, (_, i) => `<${i}@example.com>`).join(" ")}`],
    ["In-Reply-To", "bare"],
    ["X-lower-UPPER", "  wide   gap".trim() + " ".repeat(100) + "end"],
    ["X-Encoded-From", "evil@example.com"],
    ["X-Colon", "a: b"],
  ];
  const { parsed, read } = await expectFiles(withFiles({ headers }, []));
  for (const [name, value] of headers) {
    expect(read.headers.filter(([key]) => key === name)).toEqual([[name, value]]);
    const found = parsed.headers.filter(({ originalKey }) => originalKey === name);
    expect(found.map((one) => one.value)).toEqual([value]);
  }
  for (const name of ["From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type"])
    expect(read.headers.filter(([key]) => key.toLowerCase() === name.toLowerCase())).toHaveLength(1);
  expect(parsed.from?.address).toBe("shop@example.com");
});

test("sandbox: tags stand beside the id and the batch", async () => {
  const tags: [string, string][] = [
    ["campaign", "welcome"],
    ["__proto__", "x_y-z"],
  ];
  const { text } = await expectFiles(withFiles({ tags }, []));
  expect(text).toMatch(
    /^X-Reliable-Email-Id: [^\r]*\r\nX-Reliable-Email-Batch: [^\r]*\r\nX-Reliable-Email-Tag: campaign=welcome\r\nX-Reliable-Email-Tag: __proto__=x_y-z\r\n/,
  );
});

test("sandbox: a time before which an email was not to be sent is not in its file", async () => {
  const sent_at = { send_at: "2026-12-24T18:00:00.000Z" };
  expect((await compose(withFiles(sent_at, []))).toString()).not.toContain("2026-12-24");
});

test("sandbox: an email with files has the same bytes every time it is composed", async () => {
  const one = withFiles({ html, cc: ["a@example.org"] }, [
    { content: bytes(10_000) },
    { content: bytes(10), content_id: "x" },
  ]);
  expect((await composeEml(one, "batch")).equals(await composeEml(one, "batch"))).toBe(true);
});

test("sandbox: an email without its files is not composed", async () => {
  const { files: _, ...one } = withFiles({}, [{ content: bytes(10) }]);
  expect(composeEml(one, "batch")).rejects.toThrow("files of an email are missing");
});
