// Requests are checked against the providers' specifications, by the fakes, and byte for byte. Their bytes are part of the stored
// format: the next release may send a batch again under the same key, and the request must then be the same.

import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Email } from "../../lib/email/email.ts";
import type { Attachment } from "../../lib/email/fields.ts";
import type { Outgoing, OutgoingEmail } from "../../lib/providers/provider.ts";
import { outgoing, send, startPostmark, startResend, wholeOf } from "./adapters.ts";

const sides = [
  {
    ...startResend(),
    headers: ["content-type", "idempotency-key", "x-batch-validation"],
    secret: ["authorization", "Bearer re_fake"],
  },
  {
    ...startPostmark(),
    headers: ["accept", "content-type"],
    secret: ["x-postmark-server-token", "fake-token"],
  },
] as const;
afterAll(() => {
  for (const { fake } of sides) fake.stop();
});
beforeEach(() => {
  for (const { fake } of sides) fake.clear();
});

/** One email with every field of the first release and one with the fewest: the input of golden files, which never change. */
const golden: Outgoing = {
  batchId: "01920000-0000-7000-8000-00000000000b",
  context: "",
  emails: [
    {
      id: "01920000-0000-7000-8000-000000000001",
      email: {
        to: "ada@example.org",
        to_name: 'Ada "the Countess", née Byron \\ 伯爵',
        from: "shop@example.com",
        from_name: "Der Läden",
        reply_to: "help@example.com",
        subject: "Ihre Bestellung ✓ 😀",
        body: "First line\r\nSecond line\n\ttabbed \u0001 and \u2028 kept",
        html: '<p class="a">First &amp; second</p>\n',
      },
    },
    {
      id: "01920000-0000-7000-8000-000000000002",
      email: { to: "b@example.org", from: "shop@example.com", subject: "Bare", body: "Text" },
    },
  ],
};

const whole: Email = {
  ...golden.emails[0]!.email,
  cc: ["c1@example.org", "c2@example.org"],
  bcc: ["hidden@example.org"],
  headers: [
    ["List-Unsubscribe", "<https://example.com/u?id=1>"],
    ["List-Unsubscribe-Post", "List-Unsubscribe=One-Click"],
    ["X-Order", 'a "quoted" \\ value'],
  ],
  tags: [
    ["tag", "order"],
    ["__proto__", "own"],
    ["7", "seven"],
  ],
  send_at: "2026-12-24T18:00:00.000Z",
};

const files = [
  file({ filename: "Rechnung März 伯爵.pdf", content_type: "application/pdf" }, "%PDF"),
  file({ filename: "logo.png", content_type: "image/png", content_id: "logo.png" }, [0x89, 0x50, 0, 0xff]),
  file(
    { filename: "data.unknown", content_type: "text/x-data; charset=iso-8859-1", declares_type: true },
    "a,b\n",
  ),
  file({ filename: "no extension", content_type: "application/octet-stream", declares_type: true }, [0]),
];

function file(
  about: Pick<Attachment, "filename" | "content_type" | "declares_type" | "content_id">,
  content: string | readonly number[],
): { readonly about: Attachment; readonly content: Uint8Array } {
  const bytes = Buffer.from(content as string);
  const sha256 = new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
  return { about: { ...about, size: bytes.byteLength, sha256 }, content: bytes };
}

function batchOf(...emails: readonly Omit<OutgoingEmail, "id">[]): Outgoing {
  return { ...golden, emails: emails.map((email, index) => ({ id: golden.emails[index]!.id, ...email })) };
}

const withFiles = {
  email: { ...whole, attachments: files.map(({ about }) => about) },
  files: files.map(({ content }) => content),
};

/** Inputs by the suffix of their golden file. */
const goldens: Readonly<Record<string, Outgoing>> = {
  "": golden,
  "-whole": batchOf({ email: whole }, { email: golden.emails[1]!.email }),
  "-files": batchOf(withFiles),
};

describe.each(sides.map((side) => [side.name, side] as const))("%s: a request", (name, side) => {
  const { fake, provider, headers, secret } = side;

  async function requestOf(batch: Outgoing) {
    const { result } = await send(provider, batch);
    if (result.kind !== "each") throw new Error(result.outcome.kind);
    const request = fake.requests.at(-1);
    if (!request?.body) throw new Error("no request");
    return { ...request, body: request.body };
  }

  test.each(Object.entries(goldens))("matches the golden file byte for byte: %j", async (suffix, batch) => {
    const request = await requestOf(batch);
    const head = headers
      .filter((header) => header in request.headers)
      .map((header) => `${header}: ${request.headers[header]}\n`)
      .join("");
    const file = Bun.file(`${import.meta.dir}/golden/${name}${suffix}.txt`);
    expect(`${request.method} ${request.target}\n${head}\n${request.body}\n`).toBe(await file.text());
  });

  test("has the secret in its header, and a user agent", async () => {
    const request = await requestOf(golden);
    expect(request.headers[secret[0]]).toBe(secret[1]);
    expect(request.headers["user-agent"]).toBeTruthy();
  });

  test("contains only fields of the specification, and all required ones", async () => {
    const batches = [...Object.values(goldens), outgoing(1), outgoing(provider.batchMax)];
    for (const batch of batches) await requestOf({ ...batch, batchId: Bun.randomUUIDv7() });
    expect(fake.violations()).toEqual([]);
    expect(fake.acceptances).toHaveLength(batches.reduce((sum, { emails }) => sum + emails.length, 0));
  });

  test("carries every field of an email, and every byte of its files", async () => {
    await requestOf(goldens["-files"]!);
    const [email] = fake.acceptances;
    expect(email).toMatchObject({
      cc: "c1@example.org, c2@example.org",
      bcc: "hidden@example.org",
      headers: Object.fromEntries(whole.headers!),
      attachments: files.map(({ about: { filename, content_type, content_id, size: bytes, sha256 } }) => ({
        name: filename,
        type: content_type,
        ...(content_id !== undefined && { contentId: content_id }),
        bytes,
        sha256,
      })),
    });
    expect(Object.entries(email!.labels)).toEqual(
      expect.arrayContaining(whole.tags!.map(([...pair]) => pair)),
    );
    expect(email!.tag).toBe(name === "postmark" ? "order" : undefined);
    for (const key of ["droppedAttachments", "unsent", "scheduledAt"]) expect(email).not.toHaveProperty(key);
  });

  test("is never made without the files of an email", async () => {
    const { email } = withFiles;
    await expect(send(provider, batchOf({ email }))).rejects.toThrow();
    expect(fake.requests).toEqual([]);
  });

  test("is the same whenever it is sent again", async () => {
    const first = await requestOf(golden);
    const again = await requestOf(golden);
    expect(again.body).toBe(first.body);
    expect(again.headers).toEqual(first.headers);
  });

  test("transmits every text unchanged", async () => {
    const text = fc
      .string({ unit: "grapheme", minLength: 1, maxLength: 40 })
      .filter((value) => value.trim() !== "");
    await fc.assert(
      fc.asyncProperty(text, text, fc.option(text, { nil: undefined }), async (subject, body, html) => {
        const [first] = outgoing(1).emails;
        if (!first) throw new Error("one");
        const email = { ...first.email, subject, body, ...(html !== undefined && { html }) };
        expect(await wholeOf(send(provider, { ...outgoing(1), emails: [{ ...first, email }] }))).toBe("each");
        const sent = fake.acceptances.at(-1);
        expect([sent?.subject, sent?.text, sent?.html]).toEqual([subject, body, html]);
      }),
      { numRuns: 50 },
    );
  });

  test("enables no tracking and adds no copies", async () => {
    const { body } = await requestOf(golden);
    expect(body).not.toMatch(/track|bcc|"cc"/i);
  });
});
