// No field reaches a provider with anything in it that could end a line, whatever its encoding.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { hasControlCharacter, isAddress } from "../../lib/email/address.ts";
import { bodyReader, readBody } from "../../lib/http/body/body.ts";
import { textNames, type TextName } from "../../lib/email/fields.ts";
import { checkSubmission } from "../../lib/http/submission.ts";

type Values = { [name in TextName]?: string };

const least: Values = { subject: "Hi", body: "Hello", to: "jane@example.org", from: "shop@example.com" };
const addresses = ["to", "from", "reply_to"] as const;
const lines = ["subject", "to_name", "from_name"] as const;

/** A submission in each encoding. */
const encodings = {
  "application/x-www-form-urlencoded": (values: Values) => new URLSearchParams(values).toString(),
  "application/json": (values: Values) => JSON.stringify(values),
  "multipart/form-data; boundary=b0undary": (values: Values) =>
    `${Object.entries(values)
      .map(
        ([name, value]) => `--b0undary\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`,
      )
      .join("")}--b0undary--\r\n`,
};
const contentTypes = Object.keys(encodings) as (keyof typeof encodings)[];

function submit(contentType: keyof typeof encodings, values: Values) {
  const reader = bodyReader(new Headers({ "content-type": contentType }));
  if (typeof reader === "string") throw new Error(reader);
  const fields = readBody(reader, new TextEncoder().encode(encodings[contentType](values)));
  return typeof fields === "string"
    ? ({ ok: false, message: fields } as const)
    : checkSubmission(fields, {}, 0);
}

const controls = [
  ...Array(0x20).keys(),
  ...Array.from({ length: 0x21 }, (_, i) => 0x7f + i),
  0x2028,
  0x2029,
].map((code) => String.fromCharCode(code));

test.each(contentTypes)(
  "injection: no control character gets into a single-line field through %s",
  (contentType) => {
    for (const control of controls) {
      for (const ending of [control, `${control}Bcc: eve@example.net`]) {
        for (const name of lines) {
          expect(submit(contentType, { ...least, [name]: `a${ending}b` })).toEqual({
            ok: false,
            message: `${name}: has a control character`,
          });
        }
        for (const name of addresses) {
          expect(submit(contentType, { ...least, [name]: `a@example.org${ending}.example.net` })).toEqual({
            ok: false,
            message: `${name}: is not an email address`,
          });
        }
      }
    }
  },
);

test.each(contentTypes)("injection: one address stays one address, through %s", (contentType) => {
  for (const more of [
    ",eve@example.net",
    ";eve@example.net",
    " eve@example.net",
    "> <eve@example.net",
    "(eve)",
  ]) {
    for (const name of addresses) {
      expect(submit(contentType, { ...least, [name]: `a@example.org${more}` }).ok).toBe(false);
    }
  }
});

const hostile = fc.string({
  unit: fc.oneof(
    fc.constantFrom(
      ...controls,
      ...'"\\<>,;:@&=%+{}-',
      "\r\n",
      "\r\n--b0undary\r\n",
      "=?utf-8?Q?=0D=0A?=",
      "\ud800",
    ),
    fc.constantFrom(..."ab.é😀 "),
  ),
  maxLength: 12,
});

test("injection: accepted emails have only single lines and single addresses in their fields", () => {
  // Few hostile fields at a time, or nothing would be accepted.
  const values = fc
    .dictionary(fc.constantFrom(...textNames), hostile, { minKeys: 1, maxKeys: 2 })
    .map((wild): Values => ({ ...least, ...wild }));
  let accepted = 0;
  fc.assert(
    fc.property(fc.constantFrom(...contentTypes), values, (contentType, given) => {
      const result = submit(contentType, given);
      if (!result.ok || !("email" in result)) return;
      accepted += 1;
      const { email } = result;
      for (const name of lines) expect(hasControlCharacter(email[name] ?? "")).toBe(false);
      for (const name of addresses) expect(email[name] === undefined || isAddress(email[name])).toBe(true);
      for (const value of Object.values(email)) expect(String(value).isWellFormed()).toBe(true);
    }),
    { numRuns: 2000 },
  );
  expect(accepted).toBeGreaterThan(50);
});
