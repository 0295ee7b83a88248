import { expect, test } from "bun:test";
import { createCounter, format, gauge, createHistogram, labels } from "../../lib/admin/metrics.ts";
import { promtool } from "../support/admin.ts";

test("metrics: counters count each combination of labels, and are printed in the text format", () => {
  const counter = createCounter("a_total", "Of a.");
  counter.add(labels({ one: "x", two: "y" }));
  counter.add(labels({ one: "x", two: "y" }), 2);
  counter.add(labels({ one: "xy", two: "" }), 0);
  expect(format([counter])).toBe(
    '# HELP a_total Of a.\n# TYPE a_total counter\na_total{one="x",two="y"} 3\na_total{one="xy",two=""} 0\n',
  );
});

test("metrics: a bucket counts values up to its bound, including those of smaller buckets", () => {
  const histogram = createHistogram("b_seconds", "Of b.", [0.5, 1]);
  for (const value of [0, 0.5, 0.75, 1, 2]) histogram.observe(value);
  histogram.announce(labels({ one: "x" }));
  expect(format([histogram]).split("\n").slice(2)).toEqual([
    'b_seconds_bucket{le="0.5"} 2',
    'b_seconds_bucket{le="1"} 4',
    'b_seconds_bucket{le="+Inf"} 5',
    "b_seconds_sum 4.25",
    "b_seconds_count 5",
    'b_seconds_bucket{one="x",le="0.5"} 0',
    'b_seconds_bucket{one="x",le="1"} 0',
    'b_seconds_bucket{one="x",le="+Inf"} 0',
    'b_seconds_sum{one="x"} 0',
    'b_seconds_count{one="x"} 0',
    "",
  ]);
});

test("metrics: Prometheus can read any label and any number", async () => {
  const counter = createCounter("c_total", 'A "\\" and\na line.');
  for (const what of ["\\", '"', "\n", '\\"\n{}=,# ü', ""]) counter.add(labels({ what }));
  const numbers = [0, -1, 1e300, 1e-300, 12_345_678.9, Infinity, -Infinity, Number.NaN];
  const text = format([
    counter,
    ...numbers.map((value, i) => gauge(`d_${i}_seconds`, "Of d.", value)),
    { name: "e_bytes", help: "Of nothing.", type: "gauge", samples: [] },
  ]);
  expect(text).toContain('# HELP c_total A "\\\\" and\\na line.\n');
  expect(text).toContain('c_total{what="\\\\\\"\\n{}=,# ü"} 1\n');
  expect(await promtool(["check", "metrics"], text)).toEqual({ code: 0, output: "" });
});
