// Every field that Postmark's API takes, sent by its own SDK where the SDK allows it.

import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { Attachment, Header, type Message, ServerClient } from "postmark";
import { startFakePostmark } from "../../fakes/postmark.ts";

const fake = startFakePostmark();
const usual = structuredClone(fake.settings);
const { host } = new URL(fake.url);
const client = new ServerClient("fake-token", { useHttps: false, requestHost: host });
afterAll(() => fake.stop());
beforeEach(() => {
  fake.clear();
  Object.assign(fake.settings, usual);
});

const email = { From: "Shop <shop@example.com>", To: "a@example.org", Subject: "s", TextBody: "t" };
const logo = new Attachment("logo.png", Buffer.from("PNG").toString("base64"), "image/png", "cid:logo");

/** The SHA-256 of "PNG". */
const hash = new Bun.CryptoHasher("sha256").update("PNG").digest("hex");

/** The result of one email in a batch. */
async function send(change: object) {
  const [, result] = await client.sendEmailBatch([email, { ...email, ...change } as Message]);
  return result as { ErrorCode: number; Message: string };
}

const manyAddresses = (count: number) =>
  Array.from({ length: count }, (_, i) => `r${i}@example.org`).join(",");

test("fake postmark: every field of an accepted email can be read, but for the content of its files", async () => {
  const sent = await client.sendEmail({
    From: "Shop <shop@example.com>",
    To: 'a@example.org,"Bo, jr" <b@example.org>',
    Cc: "c@example.org",
    Bcc: "d@example.org,e@example.org",
    ReplyTo: "help@example.com, desk@example.com",
    Subject: "s",
    TextBody: "t",
    HtmlBody: '<img src="cid:logo">',
    Headers: [new Header("X-Order", "7"), new Header("List-Unsubscribe", "<https://example.com/u>")],
    Attachments: [logo, new Attachment("notes.custom", "UE5H", "application/x-custom; charset=utf-8")],
    Metadata: { email_id: "e1", batch_id: "b1", tag: "spring" },
    Tag: "spring",
    MessageStream: "broadcast",
  });
  expect(fake.acceptances).toEqual([
    {
      provider: "postmark",
      messageId: sent.MessageID,
      atMs: expect.any(Number),
      request: 1,
      batch: "b1",
      emailId: "e1",
      from: "Shop <shop@example.com>",
      to: 'a@example.org, "Bo, jr" <b@example.org>',
      cc: "c@example.org",
      bcc: "d@example.org, e@example.org",
      replyTo: "help@example.com, desk@example.com",
      subject: "s",
      text: "t",
      html: '<img src="cid:logo">',
      headers: { "X-Order": "7", "List-Unsubscribe": "<https://example.com/u>" },
      attachments: [
        { name: "logo.png", type: "image/png", contentId: "logo", bytes: 3, sha256: hash },
        { name: "notes.custom", type: "application/x-custom; charset=utf-8", bytes: 3, sha256: hash },
      ],
      labels: { email_id: "e1", batch_id: "b1", tag: "spring" },
      tag: "spring",
      stream: "broadcast",
    },
  ]);
  expect(fake.violations()).toEqual([]);
});

describe("fake postmark: validation of optional fields", () => {
  const file = (change: object) => ({ Attachments: [{ ...logo, ...change }] });
  const refused: [name: string, change: object, code: number][] = [
    ["a copy to no address", { Cc: "c@example.org, d" }, 300],
    ["a blind copy that is a list", { Bcc: ["d@example.org"] }, 403],
    ["a reply to no address", { ReplyTo: "help" }, 300],
    ["51 recipients in all", { Cc: manyAddresses(25), Bcc: manyAddresses(25) }, 300],
    ["a long tag", { Tag: "t".repeat(1001) }, 300],
    ["two tags", { Tag: ["a", "b"] }, 403],
    [
      "eleven metadata fields",
      { Metadata: Object.fromEntries([..."abcdefghijk"].map((name) => [name, ""])) },
      300,
    ],
    ["a metadata value that is a number", { Metadata: { a: 7 } }, 403],
    ["headers as an object", { Headers: { "X-Order": "7" } }, 403],
    ["a header without a value", { Headers: [{ Name: "X-Order" }] }, 300],
    ["a header with a line feed", { Headers: [{ Name: "X-Order", Value: "7\nBcc: e@example.org" }] }, 300],
    ["a header twice", { Headers: [new Header("X-Order", "7"), new Header("x-order", "8")] }, 300],
    ["a body over 5 MB", { HtmlBody: "x".repeat(5_000_001) }, 300],
    ["a forbidden extension", file({ Name: "logo.png.EXE" }), 411],
    ["a file without a type", file({ ContentType: undefined }), 300],
    ["a name as type", file({ ContentType: "logo.png" }), 300],
    ["a content id without `cid:`", file({ ContentID: "logo" }), 403],
    ["a content id with a space", file({ ContentID: "cid:my logo" }), 403],
    ["an empty file", file({ Content: "" }), 300],
    ["a file that is not base64", file({ Content: "UE5H!" }), 300],
    ["a field that the API does not know", { SendAt: "now" }, 403],
  ];
  test.each(refused)("%s is refused", async (_, change, code) => {
    expect((await send(change)).ErrorCode).toBe(code);
    expect(fake.acceptances).toHaveLength(1);
  });

  test("50 recipients in all are accepted, and a tag of 1,000 characters", async () => {
    const change = { Cc: manyAddresses(25), Bcc: manyAddresses(24), Tag: "t".repeat(1000) };
    expect(await send(change)).toMatchObject({ ErrorCode: 0 });
  });

  test("a file may have no content id, or an empty one", async () => {
    for (const ContentID of [null, ""])
      expect(await send(file({ ContentID }))).toMatchObject({ ErrorCode: 0 });
    expect(fake.acceptances.map(({ attachments }) => attachments?.[0]?.contentId)).toEqual(
      Array(4).fill(undefined),
    );
  });

  test("10 MB is the most, with files in base64", async () => {
    const Content = "A".repeat(8_999_996);
    expect(await send({ TextBody: "x".repeat(1_000_004), ...file({ Content }) })).toMatchObject({
      ErrorCode: 0,
    });
    expect(await send({ TextBody: "x".repeat(1_000_005), ...file({ Content }) })).toMatchObject({
      ErrorCode: 300,
    });
  });

  test("a request over 10 MB, or 50 MB for a batch, is 413", async () => {
    const ofBytes = (count: number) => ({ ...email, HtmlBody: "x".repeat(count) });
    const tooLarge = { statusCode: 413 };
    await expect(client.sendEmail(ofBytes(10_000_000))).rejects.toMatchObject(tooLarge);
    const batch = Array.from({ length: 10 }, () => ofBytes(5_000_000));
    await expect(client.sendEmailBatch(batch)).rejects.toMatchObject(tooLarge);
  });
});

describe("fake postmark: inactive recipients", () => {
  beforeEach(() => Object.assign(fake.settings, { inactive: ["gone@example.org", "left@example.org"] }));

  test("are named in the answer if others get the email", async () => {
    const result = await send({ To: "Gone@example.org, a@example.org", Bcc: "left@example.org" });
    expect(result).toMatchObject({
      ErrorCode: 0,
      Message: expect.stringContaining(
        "will not deliver to these inactive addresses: gone@example.org, left@example.org.",
      ),
    });
    expect(fake.acceptances.map(({ inactive }) => inactive)).toEqual([
      undefined,
      ["gone@example.org", "left@example.org"],
    ]);
  });

  test("make the answer a refusal although others get the email, if set so", async () => {
    fake.settings.someInactive = "refused";
    expect(await send({ Cc: "gone@example.org" })).toMatchObject({
      ErrorCode: 406,
      Message: expect.stringContaining("Found inactive addresses: gone@example.org."),
    });
    const one = client.sendEmail({ ...email, Bcc: "gone@example.org" });
    await expect(one).rejects.toMatchObject({ code: 406, statusCode: 422 });
    expect(fake.acceptances).toHaveLength(3);
  });

  test("refuse the email if nobody else gets it", async () => {
    expect(await send({ To: "gone@example.org", Cc: "left@example.org" })).toMatchObject({ ErrorCode: 406 });
    const alone = client.sendEmail({ ...email, To: "gone@example.org" });
    await expect(alone).rejects.toMatchObject({ code: 406, recipients: ["gone@example.org"] });
  });
});

test("fake postmark: an account that awaits approval can send no copies to other domains", async () => {
  fake.settings.pendingDomain = "example.org";
  expect(await send({ Bcc: "b@example.com" })).toMatchObject({ ErrorCode: 412 });
});

test("fake postmark: a search shows recipients, tag and files, and finds by each recipient and the tag", async () => {
  const search = (filter: object) => client.getOutboundMessages({ count: 9, offset: 0, ...filter });
  await client.sendEmail({
    ...email,
    Cc: "Cy <c@example.org>",
    Bcc: "d@example.org",
    Tag: "spring",
    Attachments: [logo],
  });
  await client.sendEmail(email);
  for (const filter of [{ recipient: "C@example.org" }, { recipient: "d@example.org" }, { tag: "spring" }]) {
    const { Messages } = await search(filter);
    expect(Messages).toMatchObject([
      {
        Tag: "spring",
        To: [{ Email: "a@example.org", Name: null }],
        Cc: [{ Email: "c@example.org", Name: "Cy" }],
        Bcc: [{ Email: "d@example.org", Name: null }],
        Recipients: ["a@example.org", "c@example.org", "d@example.org"],
        Attachments: ["logo.png"],
      },
    ]);
  }
  expect((await search({ fromEmail: "shop@example.com" })).Messages).toHaveLength(2);
  expect(fake.violations()).toEqual([]);
  await search({ job: "7" });
  expect(fake.violations()).toEqual(["?.job: not a known field"]);
});

test("fake postmark: violations of the API's description are refused, and can be read", async () => {
  await send({ Subject: 7 });
  expect(fake.requests[0]?.violations).toEqual(["$[1].Subject: number, not string"]);
  await client.sendEmail({ ...email, SendAt: "now" } as Message).catch(() => undefined);
  expect(fake.requests[1]?.violations).toEqual(["$.SendAt: not a known field"]);
  await client.sendEmail(email);
  expect(fake.requests[2]).not.toHaveProperty("violations");
});
