import { expect, test } from "bun:test";
import fc from "fast-check";
import { openGate } from "../lib/access.ts";

const old = "old-token-0123456789";
const current = "current-token-abcdef";
const gate = openGate([old, current]);

test.each([
  `Bearer ${old}`,
  `Bearer ${current}`,
  `bearer ${current}`,
  `BEARER ${current}`,
  `Bearer   ${current}`,
])("access: %j is let in", (header) => {
  expect(gate(header)).toBe(true);
});

test.each([
  null,
  "",
  "Bearer",
  "Bearer ",
  current,
  `Basic ${current}`,
  `Bearer${current}`,
  `Bearer\t${current}`,
  `Bearer ${current.toUpperCase()}`,
  `Bearer ${current.slice(0, -1)}`,
  `Bearer ${current}x`,
  `Bearer ${current} `,
  `Bearer ${current},`,
  `Bearer ${current} ${old}`,
  `Bearer ${old},${current}`,
  `Bearer ${current}, Bearer ${current}`,
  `Bearer "${current}"`,
  `Bearer ${current}é`,
  `Bearer token=${current}`,
])("access: %j is not", (header) => {
  expect(gate(header)).toBe(false);
});

test("access: without a token nobody is let in", () => {
  expect(openGate([])(`Bearer ${current}`)).toBe(false);
});

test("access: whatever is shown, only a token lets in, and nothing throws", () => {
  const shown = fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom(old, current, `${current}\0`, ""));
  const scheme = fc.constantFrom("Bearer ", "bearer  ", "Bearer", "Basic ", "");
  fc.assert(
    fc.property(scheme, shown, (before, token) => {
      const known = token === old || token === current;
      expect(gate(before + token)).toBe(known && /^bearer +$/i.test(before));
    }),
  );
});
