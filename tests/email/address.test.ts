import { expect, test } from "bun:test";
import fc from "fast-check";
import { parseMailbox } from "../../fakes/address_rules.ts";
import {
  formatMailbox,
  hasControlCharacter,
  isAddress,
  isAmong,
  sameAddress,
} from "../../lib/email/address.ts";
import { hangMs } from "../support/eventually.ts";

test.each([
  "ada@example.org",
  "Ada.Lovelace+tag@Sub.Example.ORG",
  "a!#$%&'*+-/=^_`{|}~z@example.org",
  "a@xn--bcher-kva.example",
  "1@1.com",
  `${"a".repeat(64)}@example.org`,
  `a@${"b".repeat(63)}.org`,
])("address: %p is accepted", (text) => {
  expect(isAddress(text)).toBe(true);
});

test.each([
  "",
  "ada",
  "@example.org",
  "ada@",
  "ada@@example.org",
  "a@b@example.org",
  "ada@example",
  "ada@example..org",
  "ada@.example.org",
  "ada@example.org.",
  "ada@-example.org",
  "ada@example-.org",
  "ada@exa_mple.org",
  "ada@192.168.0.1",
  "ada@[192.168.0.1]",
  ".ada@example.org",
  "ada.@example.org",
  "a..b@example.org",
  '"ada"@example.org',
  "a?b@example.org",
  "a b@example.org",
  "a,b@example.org",
  "ada@example.org,eve@example.org",
  "Ada <ada@example.org>",
  "<ada@example.org>",
  "adä@example.org",
  "ada@exämple.org",
  "ada@example.org\n",
  "ada@example.org\r\nBcc: eve@example.org",
  "ada@example.org\0",
  `${"a".repeat(65)}@example.org`,
  `a@${"b".repeat(64)}.org`,
  `a@${"bcd.".repeat(63)}org`,
])("address: %p is refused", (text) => {
  expect(isAddress(text)).toBe(false);
});

test("address: any text is checked quickly", () => {
  // Takes milliseconds; quadratic time would take many minutes.
  const startMs = performance.now();
  for (const piece of ["a", ".", "a.", "-", "a-", "@", "a@", "a@b.", "a@b-"])
    isAddress(piece.repeat(500_000));
  expect(performance.now() - startMs).toBeLessThan(hangMs);
});

test("address: only printable ASCII is ever accepted, with one @", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string({ unit: "binary" }), fc.emailAddress()), (text) => {
      if (isAddress(text)) expect(text).toMatch(/^[\x21-\x3f\x41-\x7e]+@[\x21-\x3f\x41-\x7e]+$/);
    }),
  );
});

test.each([
  ["a@example.org", "a@EXAMPLE.org", true],
  ["a@example.org", "A@example.org", false],
  ["a@example.org", "a@example.com", false],
  ["ab@example.org", "a@bexample.org", false],
] as const)("address: %p and %p are the same mailbox: %p", (one, other, same) => {
  expect(sameAddress(one, other)).toBe(same);
  expect(sameAddress(other, one)).toBe(same);
});

test.each([
  ["shop@example.org", true],
  ["shop@EXAMPLE.org", true],
  ["Shop@example.org", false],
  ["other@example.org", false],
  ["any@example.com", true],
  ["any@Example.COM", true],
  ["any@mail.example.com", false],
  ["any@notexample.com", false],
  ["any@example.co", false],
  ["example.com@example.net", false],
] as const)("address: %p is in the list of allowed senders: %p", (address, expected) => {
  expect(isAmong(address, ["shop@Example.org", "@EXAMPLE.com"])).toBe(expected);
});

test("address: no address is in an empty list", () => {
  expect(isAmong("a@example.org", [])).toBe(false);
});

test.each(["\0", "\t", "\n", "\r", "\u001f", "\u007f", "\u0080", "\u0085", "\u009f", "\u2028", "\u2029"])(
  "address: %j is a control character",
  (character) => {
    expect(hasControlCharacter(`a${character}b`)).toBe(true);
  },
);

test.each([" ", "~", "\u00a0", "é", "\u200b", "😀"])(
  "address: %j is not a control character",
  (character) => {
    expect(hasControlCharacter(`a${character}b`)).toBe(false);
  },
);

const ada = "ada@example.org";

test.each([
  [undefined, "ada@example.org"],
  ["", "ada@example.org"],
  ["Ada", "Ada <ada@example.org>"],
  ["Ada Lovelace", "Ada Lovelace <ada@example.org>"],
  ["Æneas 伯爵", "Æneas 伯爵 <ada@example.org>"],
  ["O'Brien", "O'Brien <ada@example.org>"],
  ["Lovelace, Ada", '"Lovelace, Ada" <ada@example.org>'],
  ["A. Lovelace", '"A. Lovelace" <ada@example.org>'],
  ['Ada "Countess"', '"Ada \\"Countess\\"" <ada@example.org>'],
  ["back\\slash", '"back\\\\slash" <ada@example.org>'],
  ["eve@example.com", '"eve@example.com" <ada@example.org>'],
  ["<eve@example.com>", '"<eve@example.com>" <ada@example.org>'],
] as const)("mailbox: the name %p", (name, expected) => {
  expect(formatMailbox(ada, name)).toBe(expected);
});

/** Parses RFC 5322's `name-addr`, independently of the code under test: returns one mailbox, or undefined. */
function read(text: string): { name: string; address: string } | undefined {
  let name = "";
  let at = 0;
  if (text[0] === '"') {
    for (at = 1; text[at] !== '"'; at += 1) {
      if (at >= text.length) return undefined;
      if (text[at] === "\\") at += 1;
      name += text[at];
    }
    at += 1;
    if (text[at] !== " ") return undefined;
    at += 1;
  } else {
    const open = text.indexOf("<");
    name = text.slice(0, open - 1);
    if (/[()<>[\]:;@\\,."]/.test(name)) return undefined;
    at = open;
  }
  const rest = text.slice(at);
  return /^<[^<>\s,;"]+>$/.test(rest) ? { name, address: rest.slice(1, -1) } : undefined;
}

/** Names as they can be submitted: trimmed, without control characters, often hostile. */
const hostile = fc.string({ unit: fc.constantFrom(..."\"\\<>,;:@()[]. '=?aé伯") });
const name = fc
  .oneof(hostile, fc.string({ unit: "grapheme" }), fc.string({ unit: "binary" }))
  // oxlint-disable-next-line no-control-regex
  .map((text) => text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, "").trim())
  .filter((text) => text !== "" && text.isWellFormed());

test("mailbox: any name is read back unchanged, with exactly one address", () => {
  fc.assert(
    fc.property(name, (text) => {
      const written = formatMailbox(ada, text);
      expect(read(written)).toEqual({ name: text, address: ada });
      expect(parseMailbox(written)).toEqual({ name: text, address: ada });
    }),
    { numRuns: 2000 },
  );
});
