import { expect, test } from "bun:test";
import fc from "fast-check";
import { textNames, type TextName } from "../../lib/email/fields.ts";
import { checkSubmission, fingerprint, type SenderRules } from "../../lib/http/submission.ts";
import type { SubmittedFields } from "../../lib/http/submitted_fields.ts";

type Values = { [name in TextName]?: string };

const nowMs = Date.parse("2026-11-27T12:00:00Z");
const least: Values = { subject: "Hello", body: "World", to: "ada@example.org", from: "me@example.org" };

function check(values: Values, senders: SenderRules = {}, faults: SubmittedFields["faults"] = {}) {
  return checkSubmission({ values, faults }, senders, nowMs);
}

function email(values: Values, senders: SenderRules = {}) {
  const result = check(values, senders);
  if (!result.ok) throw new Error(result.message);
  return result.email;
}

function message(values: Values, senders: SenderRules = {}, faults: SubmittedFields["faults"] = {}): string {
  const result = check(values, senders, faults);
  return result.ok ? "" : result.message;
}

test("submission: all fields reach the email", () => {
  const values: Values = {
    ...least,
    to_name: "Ada",
    from_name: "Me",
    html: "<p>World</p>",
    reply_to: "re@example.org",
  };
  expect(email(values)).toEqual(values as ReturnType<typeof email>);
});

test("submission: single-line fields are trimmed, body and html are kept exactly", () => {
  const padded = Object.fromEntries(
    Object.entries({ ...least, to_name: "A", reply_to: "a@example.org", html: "x" }).map(([name, value]) => [
      name,
      `\r\n \t${value}\u00a0\n`,
    ]),
  );
  expect(email(padded)).toEqual({
    subject: "Hello",
    body: "\r\n \tWorld\u00a0\n",
    to: "ada@example.org",
    to_name: "A",
    from: "me@example.org",
    reply_to: "a@example.org",
    html: "\r\n \tx\u00a0\n",
  });
});

test("submission: body and html are limited to 5,000,000 bytes of UTF-8 each", () => {
  const most = "é".repeat(2_500_000);
  expect(message({ ...least, body: most })).toBe("");
  expect(message({ ...least, html: most })).toBe("");
  expect(message({ ...least, body: `${most}x`, html: `${most}x` })).toBe(
    "body: is over 5000000 bytes; html: is over 5000000 bytes",
  );
});

test("submission: a domain of half a million combining marks is refused without delay", () => {
  const to = `ada@a${"\u0301\u0316".repeat(250_000)}.org`;
  expect(message({ ...least, to })).toBe("to: is not an email address");
});

test("submission: an address with a non-ASCII domain is refused with a hint at its punycode", () => {
  const hint = "is not an email address: its domain must be in punycode, xn--mnchen-3ya.de";
  expect(message({ ...least, to: "ada@münchen.de", from: "me@MÜNCHEN.de" })).toBe(
    `to: ${hint}; from: ${hint}`,
  );
  for (const to of ["äda@münchen.de", "ada@münchen", "ada@a b.de", "ada@", "", "@münchen.de", "a@mü..de"]) {
    expect(message({ ...least, to })).toMatch(/^to: is (not an email address|required)$/);
  }
});

test("submission: an empty optional field is absent", () => {
  expect(email({ ...least, to_name: " \r\n", from_name: "", html: "", reply_to: " " })).toEqual(email(least));
});

test("submission: only allowed senders are accepted, and another one is named with all other invalid fields", () => {
  const rules = { defaultFrom: "me@example.org", allowedFrom: ["@example.org", "you@example.com"] };
  const refused = "from: is not among the allowed senders";
  expect(email({ ...least, from: "x@Example.org" }, rules).from).toBe("x@Example.org");
  expect(email({ ...least, from: "you@example.com" }, rules).from).toBe("you@example.com");
  expect(email({ ...least, from: "" }, rules).from).toBe("me@example.org");
  expect(message({ ...least, from: "me@example.com" }, rules)).toBe(refused);
  expect(message({ ...least, from: "me@sub.example.org" }, rules)).toBe(refused);
  expect(message({ ...least, to: "x", from: "me@example.com", html: "\0" }, rules)).toBe(
    `to: is not an email address; ${refused}; html: has a NUL character`,
  );
  expect(message({ ...least, from: "me" }, rules)).toBe("from: is not an email address");
  expect(message({ ...least, from: "" }, { allowedFrom: rules.allowedFrom })).toBe("from: is required");
  expect(message(least, rules, { from: "is given twice" })).toBe("from: is given twice");
});

const long = `${"a".repeat(50)}@example.org`;

test.each([
  [{}, "subject: is required; body: is required; to: is required; from: is required"],
  [{ ...least, subject: " " }, "subject: is required"],
  [{ ...least, body: "" }, "body: is required"],
  [{ ...least, body: " \r\n\t" }, "body: is blank"],
  [{ ...least, to: "ada" }, "to: is not an email address"],
  [{ ...least, to: "a@example.org, b@example.org" }, "to: is not an email address"],
  [{ ...least, from: "ada" }, "from: is not an email address"],
  [{ ...least, reply_to: "ada" }, "reply_to: is not an email address"],
  [{ ...least, to: "ada", subject: "" }, "subject: is required; to: is not an email address"],
  [{ ...least, subject: "a\r\nBcc: eve@example.org" }, "subject: has a control character"],
  [{ ...least, subject: "a\u2028b" }, "subject: has a control character"],
  [{ ...least, to_name: "a\u0085b" }, "to_name: has a control character"],
  [{ ...least, from_name: "a\u007fb" }, "from_name: has a control character"],
  [{ ...least, subject: "\ud800" }, "subject: has a lone surrogate"],
  [{ ...least, body: "\udc00" }, "body: has a lone surrogate"],
  [{ ...least, html: "\udc00" }, "html: has a lone surrogate"],
  [{ ...least, body: "a\0" }, "body: has a NUL character"],
  [{ ...least, html: "a\0" }, "html: has a NUL character"],
  [{ ...least, subject: "x".repeat(2001) }, "subject: is over 2000 characters"],
  [{ ...least, to: long, to_name: "x".repeat(191) }, "to_name: with its address is over 255 characters"],
  [
    { ...least, from: long, from_name: "x".repeat(191) },
    "from_name: with its address is over 255 characters",
  ],
  [
    { ...least, subject: "", to_name: "x".repeat(300) },
    "subject: is required; to_name: with its address is over 255 characters",
  ],
] as const)("submission: %j is refused", (values, expected) => {
  expect(message(values)).toBe(expected);
});

test("submission: the longest subject and mailbox are accepted", () => {
  expect(email({ ...least, subject: "x".repeat(2000) }).subject).toHaveLength(2000);
  expect(email({ ...least, to: long, to_name: "x".repeat(190) }).to_name).toHaveLength(190);
});

test("submission: body and html can contain any other character", () => {
  const value = "a\u0001\u2028\ufeff😀\r\n.\r\n";
  expect(email({ ...least, body: value, html: value })).toMatchObject({ body: value, html: value });
});

test("submission: an error in how a field was sent is reported instead of one in its value", () => {
  expect(message({ ...least, to: "nobody" }, {}, { to: "is given twice", html: "is a file" })).toBe(
    "to: is given twice; html: is a file",
  );
  expect(message({ ...least, to: "" }, {}, { to: "is a file" })).toBe("to: is a file");
});

const defaults = { defaultFrom: "app@example.org", defaultFromName: "App" };
const anonymous: Values = { subject: "Hello", body: "World", to: "ada@example.org" };

test.each([
  [{}, "app@example.org", "App"],
  [{ from: "app@example.org" }, "app@example.org", "App"],
  [{ from: "app@EXAMPLE.org" }, "app@EXAMPLE.org", "App"],
  [{ from: "me@example.org" }, "me@example.org", undefined],
  [{ from: "me@example.org", from_name: "Me" }, "me@example.org", "Me"],
  [{ from_name: "Me" }, "app@example.org", "Me"],
] as const)(
  "submission: with %j the default name is used only for the default sender",
  (given, from, name) => {
    const made = email({ ...anonymous, ...given }, defaults);
    expect([made.from, made.from_name]).toEqual([from, name]);
  },
);

test("submission: an invalid from is not replaced by the default", () => {
  expect(message(anonymous, defaults, { from: "is a file" })).toBe("from: is a file");
});

function print(values: Values, senders: SenderRules = {}): string {
  const result = check(values, senders);
  if (!result.ok) throw new Error(result.message);
  return fingerprint(result.given);
}

test("submission: the fingerprint covers the trimmed fields, before any default", () => {
  expect(print({ ...least, subject: " Hello\n", to_name: " " })).toBe(print(least));
  expect(print(anonymous, defaults)).toBe(print(anonymous, { defaultFrom: "other@example.org" }));
  expect(print(anonymous, defaults)).not.toBe(print({ ...anonymous, from: defaults.defaultFrom }, defaults));
});

test("submission: the fingerprint does not change between releases", () => {
  expect(print(least)).toBe("eT5E-s_LtTJPSq08YxQMoauQS1Zh_7An453TOAI26YY");
  const full: Values = {
    subject: "Hello",
    body: "World",
    to: "ada@example.org",
    to_name: "Ada",
    from: "me@example.org",
    from_name: "Me",
    html: "<p>World</p>",
    reply_to: "re@example.org",
  };
  expect(print(full)).toBe("uMp-9azIlIT3Zws6_0B8In7hr3HdXjAXOYYLGMjz3r8");
});

test("submission: the fingerprint depends on every field, and not on their order", () => {
  const value = fc.string({ minLength: 1 }).filter((text) => /\S/.test(text));
  const record = fc.record({ subject: value, body: value, html: value, to_name: value, from_name: value });
  fc.assert(
    fc.property(
      record,
      fc.constantFrom("subject", "body", "html", "to_name", "from_name"),
      (values, name) => {
        const reversed = Object.fromEntries(Object.entries(values).reverse());
        expect(fingerprint(reversed)).toBe(fingerprint(values));
        expect(fingerprint({ ...values, [name]: `${values[name as "subject"]}.` })).not.toBe(
          fingerprint(values),
        );
      },
    ),
  );
});

test("submission: checks never throw, and accepted values are unchanged", () => {
  const value = fc.oneof(fc.string({ unit: "binary" }), fc.emailAddress(), fc.constant("\ud800"));
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...textNames), value), (values) => {
      const result = check(values, defaults);
      if (!result.ok) return expect(result.message).toMatch(/^[a-z_]+: [^;]+(; [a-z_]+: [^;]+)*$/);
      expect(result.email.body).toBe(values["body"]!);
      expect(result.email.to).toBe(values["to"]!.trim());
    }),
  );
});
