// Every field that Resend's API takes, sent by its own SDK where the SDK allows it.

import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { type CreateEmailOptions, Resend } from "resend";
import { startFakeResend } from "../../fakes/resend.ts";

const fake = startFakeResend();
const client = new Resend("re_fake", { baseUrl: fake.url });
afterAll(() => fake.stop());
beforeEach(() => fake.clear());

const email = { from: "Shop <shop@example.com>", to: "a@example.org", subject: "s", text: "t" };
const logo = {
  filename: "logo.png",
  content: Buffer.from("PNG"),
  contentType: "image/png",
  contentId: "logo",
};

/** The SHA-256 of "PNG". */
const hash = new Bun.CryptoHasher("sha256").update("PNG").digest("hex");

const send = (change: object) => client.emails.send({ ...email, ...change } as CreateEmailOptions);

async function refusalOf(change: object): Promise<string> {
  const { error } = await send(change);
  expect(fake.acceptances).toEqual([]);
  return error ? `${error.statusCode} ${error.name}: ${error.message}` : "none";
}

/** Sends what the SDK would not. */
async function post(body: object) {
  const headers = { authorization: "Bearer re_fake", "user-agent": "test" };
  const response = await fetch(`${fake.url}/emails`, { method: "POST", headers, body: JSON.stringify(body) });
  return (await response.json()) as { message: string };
}

test("fake resend: every field of an accepted email can be read, but for the content of its files", async () => {
  const { data, error } = await send({
    to: ["a@example.org", "Bo <b@example.org>"],
    cc: "c@example.org",
    bcc: ["d@example.org", "e@example.org"],
    replyTo: ["help@example.com", "desk@example.com"],
    html: '<img src="cid:logo">',
    headers: { "X-Order": "7", "List-Unsubscribe": "<https://example.com/u>" },
    tags: [
      { name: "email_id", value: "e1" },
      { name: "campaign", value: "spring" },
    ],
    attachments: [logo, { filename: "notes.custom", content: Buffer.from("PNG") }],
    scheduledAt: "2026-12-01T10:00:00Z",
  });
  expect(error).toBeNull();
  const [accepted] = fake.acceptances;
  expect(accepted).toEqual({
    provider: "resend",
    messageId: data?.id ?? "",
    atMs: expect.any(Number),
    request: 1,
    batch: "",
    emailId: "e1",
    from: "Shop <shop@example.com>",
    to: "a@example.org, Bo <b@example.org>",
    cc: "c@example.org",
    bcc: "d@example.org, e@example.org",
    replyTo: "help@example.com, desk@example.com",
    subject: "s",
    text: "t",
    html: '<img src="cid:logo">',
    headers: { "X-Order": "7", "List-Unsubscribe": "<https://example.com/u>" },
    attachments: [
      { name: "logo.png", type: "image/png", contentId: "logo", bytes: 3, sha256: hash },
      { name: "notes.custom", type: "application/octet-stream", bytes: 3, sha256: hash },
    ],
    scheduledAt: "2026-12-01T10:00:00Z",
    labels: { email_id: "e1", campaign: "spring" },
  });
  expect(fake.violations()).toEqual([]);
});

test("fake resend: a batch drops attachments silently, whatever is in them", async () => {
  const forbidden = { ...email, attachments: [{ filename: "a.exe", content: Buffer.from("MZ") }, logo] };
  const { error } = await client.batch.send([email, forbidden, { ...email, scheduledAt: "tomorrow" }]);
  expect(error).toBeNull();
  expect(fake.acceptances.map((one) => one.droppedAttachments)).toEqual([undefined, 2, undefined]);
  expect(fake.acceptances.map((one) => one.attachments)).toEqual([undefined, undefined, undefined]);
  expect(fake.acceptances[2]?.scheduledAt).toBe("tomorrow");
});

const unsent: [name: string, file: object, reason: string | undefined][] = [
  [
    "a type that contradicts its extension",
    { filename: "data.txt", contentType: "text/csv" },
    "data.txt is not of type text/csv",
  ],
  [
    "bytes of no type with a known extension",
    { filename: "a.PDF", contentType: "application/octet-stream" },
    "a.PDF is not of type application/octet-stream",
  ],
  ["no name", { filename: undefined, contentType: "text/csv" }, "an attachment has no name"],
  ["an empty name", { filename: "", contentType: "text/csv" }, "an attachment has no name"],
  [
    "the type of its extension, with a charset",
    { filename: "a.csv", contentType: "text/csv; charset=utf-8" },
    undefined,
  ],
  ["a type in its other spelling", { filename: "a.vcf", contentType: "text/vcard" }, undefined],
  [
    "any type and an extension that nobody knows",
    { filename: "a.custom", contentType: "text/csv" },
    undefined,
  ],
  ["no type", { filename: "a.pdf", contentType: undefined }, undefined],
];
test.each(unsent)(
  "fake resend: a file with %s is accepted, and the email is sent or not",
  async (_, file, reason) => {
    const { error } = await send({ attachments: [logo, { ...logo, ...file }] });
    expect(error).toBeNull();
    expect(fake.acceptances.map((one) => one.unsent)).toEqual([reason]);
  },
);

describe("fake resend: validation of optional fields", () => {
  const file = (change: object) => ({ attachments: [{ ...logo, ...change }] });
  const refused: [name: string, change: object, says: string][] = [
    ["a copy to no address", { cc: "c" }, "422 validation_error: Invalid `cc` field."],
    ["a list of copies in one text", { cc: "c@example.org,d@example.org" }, "Invalid `cc` field."],
    ["a blind copy that is no text", { bcc: [7] }, "Invalid `bcc` field."],
    ["two replies in one text", { replyTo: "c@example.org, d@example.org" }, "Invalid `reply_to` field."],
    ["a header that is a number", { headers: { "X-Order": 7 } }, "Invalid `headers` field."],
    [
      "a header with a line feed",
      { headers: { "X-Order": "7\nBcc: e@example.org" } },
      "Invalid `headers` field.",
    ],
    ["a header with a space in its name", { headers: { "X Order": "7" } }, "Invalid `headers` field."],
    ["a tag with a dot", { tags: [{ name: "a.b", value: "c" }] }, "Tags should only contain"],
    ["a long tag", { tags: [{ name: "a", value: "b".repeat(257) }] }, "Tags should only contain"],
    ["a tag without a value", { tags: [{ name: "a" }] }, "Tags should only contain"],
    ["a long content id", file({ contentId: "c".repeat(128) }), "Invalid `attachments` field."],
    ["a forbidden extension", file({ filename: "logo.png.EXE" }), "422 invalid_attachment: "],
    ["an empty file", file({ content: "" }), "422 invalid_attachment: The attachment content is empty."],
    ["a file without content", file({ content: undefined }), "422 invalid_attachment: "],
    ["a file that is not base64", file({ content: "UE5H!" }), "422 invalid_attachment: "],
    ["a file in base64 without its padding", file({ content: "UE4" }), "422 invalid_attachment: "],
  ];
  test.each(refused)("%s is refused", async (_, change, says) => {
    expect(await refusalOf(change)).toContain(says);
  });

  test("40 MB is the most, with files in base64", async () => {
    const content = "A".repeat(39_999_996);
    expect((await send({ text: "text", attachments: [{ ...logo, content }] })).error).toBeNull();
    expect(fake.acceptances[0]?.attachments).toMatchObject([{ bytes: 29_999_997 }]);
    fake.clear();
    expect(await refusalOf({ text: "texts", attachments: [{ ...logo, content }] })).toContain("40MB");
  });

  test("every recipient counts toward a quota", async () => {
    fake.settings.dailyQuota = 5;
    const copies = { cc: "c@example.org", bcc: ["d@example.org", "e@example.org"] };
    expect((await send(copies)).error).toBeNull();
    expect((await send(copies)).error?.name).toBe("daily_quota_exceeded");
    expect((await send({})).error).toBeNull();
    fake.settings.dailyQuota = null;
  });
});

test("fake resend: violations of the API's description are refused or ignored, and can be read", async () => {
  expect(await post({ ...email, subject: 7 })).toMatchObject({ message: "Invalid `subject` field." });
  expect(fake.requests[0]?.violations).toEqual(["$.subject: number, not string"]);
  expect(await post({ ...email, send_at: "now" })).toHaveProperty("id");
  expect(fake.requests[1]?.violations).toEqual(["$.send_at: not a known field"]);
  await client.batch.send([email, { ...email, tags: [{ name: "a b", value: "" }] }]);
  expect(fake.requests[2]?.violations).toEqual([
    "$[1].tags[0].name: malformed",
    "$[1].tags[0].value: malformed",
  ]);
  await client.emails.send(email);
  expect(fake.requests[3]).not.toHaveProperty("violations");
  expect(fake.violations()).toHaveLength(4);
});
