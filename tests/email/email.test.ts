import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  decodeEmail,
  decodeEnvelope,
  type Email,
  encodeEmail,
  envelopeLine,
  storedBytes,
  storedBytesMax,
} from "../../lib/email/email.ts";

const full: Email = {
  to: "jane@example.org",
  to_name: "Jané",
  from: "shop@example.com",
  from_name: "Shop",
  reply_to: "help@example.com",
  subject: "Hi",
  body: "Hello\n\nworld",
  html: "<p>Hello</p>",
};

test("email: the stored form does not change, because releases read each other's", () => {
  expect(encodeEmail(full)).toBe(
    `{"to":"jane@example.org","to_name":"Jané","from":"shop@example.com","from_name":"Shop","reply_to":"help@example.com","subject":"Hi"}
{"body":"Hello\\n\\nworld","html":"<p>Hello</p>"}`,
  );
  expect(encodeEmail({ to: "a@b.c", from: "d@e.f", subject: "s", body: "b" })).toBe(
    `{"to":"a@b.c","from":"d@e.f","subject":"s"}\n{"body":"b"}`,
  );
});

test("email: a stored text takes one byte of memory per character, or two if any is not ASCII", () => {
  expect(storedBytes("abc")).toBe(3);
  expect(storedBytes("abé")).toBe(6);
});

test("email: the size of a stored text is never underestimated", () => {
  const part = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.constantFrom("\u0001".repeat(1000), '"'.repeat(1000)),
  );
  fc.assert(
    fc.property(part, part, fc.string({ unit: "grapheme" }), (body, html, name) => {
      const lists = { cc: [name], headers: [[name, name] as const], tags: [["a", name] as const] };
      const email = { ...full, body, html, to_name: name, ...(html.length > body.length ? lists : {}) };
      expect(storedBytesMax(email)).toBeGreaterThanOrEqual(storedBytes(encodeEmail(email)));
    }),
  );
});

test("email: the size of a large stored text is hardly overestimated, or it would crowd out others", () => {
  const email = { ...full, body: `é${"x".repeat(1_000_000)}`, html: '<a href="x">'.repeat(100_000) };
  expect(storedBytesMax(email)).toBeLessThan(1.1 * storedBytes(encodeEmail(email)));
});

test("email: a stored email is read back, and so is its envelope line alone", () => {
  const text = fc.string({ unit: "binary" });
  const email = fc.record(
    {
      to: text,
      from: text,
      subject: text,
      body: text,
      html: text,
      to_name: text,
      from_name: text,
      reply_to: text,
    },
    { requiredKeys: ["to", "from", "subject", "body"] },
  );
  fc.assert(
    fc.property(email, (one) => {
      const { body: _, html: __, ...envelope } = one;
      const stored = encodeEmail(one);
      expect(decodeEmail(stored)).toEqual(one);
      expect(decodeEnvelope(stored)).toEqual(envelope);
      expect(decodeEnvelope(envelopeLine(stored))).toEqual(envelope);
    }),
  );
});

test("email: other JSON is refused, and fields of a later release are harmless", () => {
  const { body, html, ...envelope } = full;
  const stored = (first: unknown, second: unknown) => `${JSON.stringify(first)}\n${JSON.stringify(second)}`;
  for (const first of [
    5,
    null,
    [],
    "text",
    {},
    { to: 5 },
    ...Object.keys(envelope).flatMap((name) => [
      { ...envelope, [name]: 5 },
      { ...envelope, [name]: null },
    ]),
  ]) {
    expect(() => decodeEmail(stored(first, { body, html }))).toThrow();
    expect(() => decodeEnvelope(stored(first, { body, html }))).toThrow();
  }
  for (const second of [5, null, [], {}, { html }, { body: 5 }, { body, html: null }]) {
    expect(() => decodeEmail(stored(envelope, second))).toThrow();
  }
  const newer = stored({ ...envelope, newer: 5 }, { body, html, newest: [] });
  expect(decodeEmail(newer)).toMatchObject(full);
  expect(decodeEnvelope(newer)).toMatchObject(envelope);
});
