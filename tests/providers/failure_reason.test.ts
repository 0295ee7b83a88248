import { expect, test } from "bun:test";
import fc from "fast-check";
import { kindOf, reasonOf } from "../../lib/providers/failure_reason.ts";

test.each([
  [[422, "validation_error:", "Invalid `to` field."], "422 validation_error: Invalid `to` field."],
  [[undefined, null, "", "code 300:"], "code 300:"],
  [
    ["The 'From' address you supplied (ada@example.org) is not a Sender Signature."],
    "The 'From' address you supplied ([address]) is not a Sender Signature.",
  ],
  [
    ["Found inactive addresses: a@b.c, d.e+f@g.h. Inactive"],
    "Found inactive addresses: [address], [address]. Inactive",
  ],
  [["Mail <o'brien@example.org>"], "Mail <[address]>"],
  [["see ?to=ada%40example.org"], "see [address]"],
  [["用户@例子.广告 bounced"], "[address] bounced"],
  [
    ["Error parsing 'From': Illegal email address 'Ada'. It must contain the '@' symbol."],
    "Error parsing 'From': Illegal email address '[…]'. It must contain the '@' symbol.",
  ],
  [["can't, won't and isn't"], "can't, won't and isn't"],
  [['Subject "Your order" is bad'], 'Subject "[…]" is bad'],
  [['Subject "Your order'], 'Subject "[…]"'],
  [["one\r\ntwo\u0000\u2028three\u0085"], "one two three"],
] as const)("reason: %p", (parts, expected) => {
  expect(reasonOf(...parts)).toBe(expected);
});

test("reason: it never exceeds 500 units or ends with half a character", () => {
  for (const text of ["x".repeat(10_000), "x " + "😀".repeat(10_000)]) {
    expect(reasonOf(text).length).toBeLessThanOrEqual(500);
    expect(reasonOf(text).isWellFormed()).toBe(true);
  }
});

test("reason: it contains no address or control character, whatever the provider wrote", () => {
  const word = fc.oneof(
    fc.emailAddress(),
    fc.string({ unit: "binary" }),
    fc.constantFrom("'", '"', "(", "<", ",", " "),
  );
  fc.assert(
    fc.property(fc.array(word), (words) => {
      const reason = reasonOf(words.join(" "));
      expect(reason.replaceAll("'@'", "")).not.toMatch(/[^\s<>()[\]",;:@]@[^\s<>()[\]",;:@]/);
      // oxlint-disable-next-line no-control-regex
      expect(reason).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/);
    }),
    { numRuns: 2000 },
  );
});

test.each([
  ["422 validation_error: Invalid `to`: Jane <[address]>", "422 validation_error"],
  ["200 code 406: Jane is inactive", "200 code 406"],
  ["code 300: Jane", "code 300"],
  ["401 API key is invalid", "401"],
  ["refused: Jane", "refused"],
  ["sandbox: reject", "sandbox: reject"],
  ["no answer: ECONNRESET", "no answer: ECONNRESET"],
  ["no answer: TimeoutError", "no answer: TimeoutError"],
  ["no connection: ERR_PROXY_TUNNEL", "no connection: ERR_PROXY_TUNNEL"],
  ["503 not the provider's own answer", "503"],
  ["200 does not account for every email: unreadable at data", "200"],
  ["jane: no", undefined],
  ["422 jane: no", "422"],
  ["the provider refuses this sender", undefined],
  ["", undefined],
])("reason: the log shortens %p to %p", (reason, kind) => {
  expect(kindOf(reason)).toBe(kind);
});
