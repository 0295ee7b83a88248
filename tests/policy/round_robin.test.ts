import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { charge, inTurn, type Shares, type Weighted } from "../../lib/policy/round_robin.ts";

const evenShares: Shares = new Map();
const resend = { name: "resend", weight: 3 };
const postmark = { name: "postmark", weight: 1 };

/** The providers chosen for these batches, in order. */
function run(eligible: readonly Weighted[], batches: readonly number[]): string[] {
  let shares = evenShares;
  return batches.map((emails) => {
    const name = inTurn(shares, eligible)[0]?.name ?? "none";
    shares = charge(shares, eligible, name, emails);
    return name;
  });
}

const anyWeights = fc
  .array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 4 })
  .map((weights) => weights.map((weight, index) => ({ name: `p${index}`, weight })));

describe("round robin", () => {
  test("single emails alternate smoothly", () => {
    const names = run([resend, postmark], Array(8).fill(1));
    expect(names.map((name) => name[0]).join("")).toBe("rrprrrpr");
  });

  test("without eligible providers none is chosen", () => expect(inTurn(evenShares, [])).toEqual([]));

  test("a tie goes to the first", () => {
    expect(inTurn(evenShares, [{ ...resend, weight: 1 }, postmark])[0]?.name).toBe("resend");
    expect(inTurn(evenShares, [postmark, { ...resend, weight: 1 }])[0]?.name).toBe("postmark");
  });

  test("an empty claim is not charged", () => {
    expect(charge(evenShares, [resend, postmark], "resend", 0)).toEqual(evenShares);
  });

  test("a provider that was not eligible does not catch up afterwards", () => {
    let shares = evenShares;
    for (let count = 0; count < 1_000; count += 1) shares = charge(shares, [postmark], "postmark", 1);
    expect([...shares.values()].every((share) => share === 0)).toBe(true);
  });

  test("single emails follow the weights exactly over every cycle", () => {
    fc.assert(
      fc.property(anyWeights, fc.integer({ min: 1, max: 4 }), (eligible, cycles) => {
        const total = eligible.reduce((sum, { weight }) => sum + weight, 0);
        const names = run(eligible, Array(total * cycles).fill(1));
        for (let cycle = 0; cycle < cycles; cycle += 1) {
          const some = names.slice(cycle * total, (cycle + 1) * total);
          for (const { name, weight } of eligible)
            expect(some.filter((one) => one === name)).toHaveLength(weight);
        }
      }),
    );
  });

  test("batches never put a provider ahead of its share by more than its full batch, nor behind by more than the others'", () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 100 }), { minLength: 1, maxLength: 200 });
    fc.assert(
      fc.property(anyWeights, sizes, (eligible, batches) => {
        const total = eligible.reduce((sum, { weight }) => sum + weight, 0);
        const names = run(eligible, batches);
        const sent = new Map<string, number>();
        let all = 0;
        for (const [index, name] of names.entries()) {
          all += batches[index] ?? 0;
          sent.set(name, (sent.get(name) ?? 0) + (batches[index] ?? 0));
          for (const { name: one, weight } of eligible) {
            const ahead = (sent.get(one) ?? 0) - (all * weight) / total;
            expect(ahead).toBeLessThanOrEqual(100 + 1e-9);
            expect(ahead).toBeGreaterThanOrEqual(-100 * Math.max(1, eligible.length - 1) - 1e-9);
          }
        }
      }),
    );
  });
});
