import { expect, test } from "bun:test";
import { format, gauge, createCounter, createHistogram } from "../../lib/admin/metrics.ts";
import { promtool } from "../support/admin.ts";

test("metrics: counters count for each combination of labels, and say so in the text format", () => {
  const counter = createCounter({ name: "a_total", help: "Of a.", labels: ["one", "two"] });
  counter.of("x", "y").value += 1;
  counter.of("x", "y").value += 2;
  counter.of("xy", "");
  expect(format([counter.family()])).toBe(
    '# HELP a_total Of a.\n# TYPE a_total counter\na_total{one="x",two="y"} 3\na_total{one="xy",two=""} 0\n',
  );
});

test("metrics: a bucket holds what is not above its bound, and all that the smaller ones hold", () => {
  const histogram = createHistogram({ name: "b_seconds", help: "Of b." }, [0.5, 1]);
  for (const value of [0, 0.5, 0.75, 1, 2]) histogram.of().observe(value);
  expect(format([histogram.family()]).split("\n").slice(2)).toEqual([
    'b_seconds_bucket{le="0.5"} 2',
    'b_seconds_bucket{le="1"} 4',
    'b_seconds_bucket{le="+Inf"} 5',
    "b_seconds_sum 4.25",
    "b_seconds_count 5",
    "",
  ]);
});

test("metrics: whatever a label or a number is, Prometheus can read it", async () => {
  const counter = createCounter({ name: "c_total", help: 'A "\\" and\na line.', labels: ["what"] });
  for (const value of ["\\", '"', "\n", '\\"\n{}=,# ü', ""]) counter.of(value).value += 1;
  const numbers = [0, -1, 1e300, 1e-300, 12_345_678.9, Infinity, -Infinity, Number.NaN];
  const text = format([
    counter.family(),
    ...numbers.map((value, i) => gauge(`d_${i}_seconds`, "Of d.", value)),
    { name: "e_bytes", help: "Of nothing.", type: "gauge", samples: [] },
  ]);
  expect(text).toContain('# HELP c_total A "\\\\" and\\na line.\n');
  expect(text).toContain('c_total{what="\\\\\\"\\n{}=,# ü"} 1\n');
  expect(await promtool(["check", "metrics"], text)).toEqual({ code: 0, said: "" });
});
