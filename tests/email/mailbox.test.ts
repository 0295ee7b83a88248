import { expect, test } from "bun:test";
import fc from "fast-check";
import { parseMailbox } from "../../fakes/address_rules.ts";
import { formatMailbox } from "../../lib/email/mailbox.ts";

const address = "ada@example.org";

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
  expect(formatMailbox(address, name)).toBe(expected);
});

/** A reader of RFC 5322's `name-addr`, written apart from what it checks: one mailbox or nothing. */
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

/** Names as a submission may have them: no control character, trimmed, and hostile as often as not. */
const hostile = fc.string({ unit: fc.constantFrom(..."\"\\<>,;:@()[]. '=?aé伯") });
const name = fc
  .oneof(hostile, fc.string({ unit: "grapheme" }), fc.string({ unit: "binary" }))
  // oxlint-disable-next-line no-control-regex
  .map((text) => text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, "").trim())
  .filter((text) => text !== "" && text.isWellFormed());

test("mailbox: any name is read back as it was, with its one address", () => {
  fc.assert(
    fc.property(name, (text) => {
      const written = formatMailbox(address, text);
      expect(read(written)).toEqual({ name: text, address });
      expect(parseMailbox(written)).toEqual({ name: text, address });
    }),
    { numRuns: 2000 },
  );
});
