// Requests are checked against the providers' specifications, by the fakes, and byte for byte. Their bytes are part of the stored
// format: the next release may send a batch again under the same key, and the request must then be the same.

import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Outgoing } from "../../lib/providers/provider.ts";
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

/** One email with every field and one with the fewest: the input of the golden files, which must never change. */
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

describe.each(sides.map((side) => [side.name, side] as const))("%s: a request", (name, side) => {
  const { fake, provider, headers, secret } = side;

  async function requestOf(batch: Outgoing) {
    const { result } = await send(provider, batch);
    if (result.kind !== "each") throw new Error(result.outcome.kind);
    const request = fake.requests.at(-1);
    if (!request?.body) throw new Error("no request");
    return { ...request, body: request.body };
  }

  test("matches the golden file byte for byte", async () => {
    const request = await requestOf(golden);
    const head = headers.map((header) => `${header}: ${request.headers[header]}\n`).join("");
    const file = Bun.file(`${import.meta.dir}/golden/${name}.txt`);
    expect(`${request.method} ${request.target}\n${head}\n${request.body}\n`).toBe(await file.text());
  });

  test("has the secret in its header, and a user agent", async () => {
    const request = await requestOf(golden);
    expect(request.headers[secret[0]]).toBe(secret[1]);
    expect(request.headers["user-agent"]).toBeTruthy();
  });

  test("contains only fields of the specification, and all required ones", async () => {
    for (const batch of [golden, outgoing(1), outgoing(provider.batchMax)]) await requestOf(batch);
    expect(fake.violations()).toEqual([]);
    expect(fake.acceptances).toHaveLength(golden.emails.length + 1 + provider.batchMax);
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

  test("enables no tracking and no hidden copies", async () => {
    const { body } = await requestOf(golden);
    expect(body).not.toMatch(/track|bcc|"cc"/i);
  });
});
