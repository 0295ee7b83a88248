import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { bySender, halves } from "../../lib/policy/split.ts";
import { anyEmails, email } from "./given.ts";

const of = (...senders: string[]) => senders.map((from, index) => email(`e${index}`, { from }));

describe("split", () => {
  test("an email that is alone is not halved", () => expect(halves(of("a"))).toBeUndefined());

  test("one sender is not cut", () => expect(bySender(of("a", "a", "a"))).toBeUndefined());

  test("senders are cut as near to the middle as they allow", () => {
    const sizes = (...senders: string[]) => bySender(of(...senders))?.map(({ length }) => length);
    expect(sizes("a", "b", "b", "b", "b")).toEqual([1, 4]);
    expect(sizes("a", "b", "c", "d")).toEqual([2, 2]);
    expect(sizes("a", "a", "a", "b", "c")).toEqual([3, 2]);
    expect(sizes("b", "a", "b", "a", "c", "b")).toEqual([3, 3]);
  });

  test("both parts hold something, together everything, and no sender twice", () => {
    fc.assert(
      fc.property(anyEmails, fc.constantFrom(halves, bySender), (emails, cut) => {
        const parts = cut(emails);
        if (parts === undefined) return;
        const [left, right] = parts;
        expect(Math.min(left.length, right.length)).toBeGreaterThan(0);
        expect([...left, ...right].map(({ id }) => id).sort()).toEqual(emails.map(({ id }) => id).sort());
        if (cut === bySender)
          expect(left.some(({ from }) => right.some((other) => other.from === from))).toBe(false);
      }),
    );
  });
});
