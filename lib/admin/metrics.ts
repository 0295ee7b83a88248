// Metrics for Prometheus: counters and histograms that cost next to nothing while they count, and the text format
// 0.0.4 of a scrape.

/** Prometheus before 3.0 would also accept `text/plain` alone. */
export const contentType = "text/plain; version=0.0.4; charset=utf-8";

/** The text after the metric's name in a line, such as `{provider="resend"}` or `_sum`, and the number. */
export type Sample = readonly [suffix: string, value: number];

/** A metric with all its label values. Its name ends in its unit, or in `_total` if it counts. */
export interface Family {
  readonly name: string;
  /** One line. */
  readonly help: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly samples: Iterable<Sample>;
}

/** The suffix of a sample with labels. There must be few values of a label, none of them chosen by a client. */
export function labels(values: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(values).map(([name, value]) => `${name}="${escape(value, /[\\\n"]/g)}"`);
  return `{${pairs.join(",")}}`;
}

/** Name, help and the numbers at this moment; one number if there are no labels. */
export type Row = readonly [name: string, help: string, value: number | Iterable<Sample>];

export function gauge(...[name, help, value]: Row): Family {
  return { name, help, type: "gauge", samples: typeof value === "number" ? [["", value]] : value };
}

/** A counter that is kept elsewhere. */
export function total(...row: Row): Family {
  return { ...gauge(...row), type: "counter" };
}

export function createCounter(name: string, help: string) {
  const samples = new Map<string, number>();
  return {
    name,
    help,
    type: "counter",
    samples,
    /** @param suffix of {@link labels}; it is shown from the first call on, so 0 announces it */
    add(suffix: string, count = 1): void {
      samples.set(suffix, (samples.get(suffix) ?? 0) + count);
    },
  } as const;
}

export interface Histogram extends Family {
  /** @param suffix of {@link labels} */
  observe(value: number, suffix?: string): void;
  /** Shows these labels before the first observation. */
  announce(suffix?: string): Histogram;
}

/** @param bounds inclusive upper bounds of the buckets, ascending; +Inf is added */
export function createHistogram(name: string, help: string, bounds: readonly number[]): Histogram {
  const cells = new Map<string, { readonly counts: Float64Array; sum: number }>();
  const cellOf = (suffix: string) =>
    cells.get(suffix) ??
    cells.set(suffix, { counts: new Float64Array(bounds.length + 1), sum: 0 }).get(suffix)!;
  return {
    name,
    help,
    type: "histogram",
    observe(value, suffix = "") {
      const cell = cellOf(suffix);
      let i = 0;
      while (i < bounds.length && value > bounds[i]!) i += 1;
      cell.counts[i]! += 1;
      cell.sum += value;
    },
    announce(suffix = "") {
      cellOf(suffix);
      return this;
    },
    get samples() {
      return [...cells].flatMap(([suffix, { counts, sum }]): Sample[] => {
        const start = suffix === "" ? "{" : `${suffix.slice(0, -1)},`;
        let count = 0;
        const buckets = Array.from(counts, (added, i): Sample => {
          count += added;
          return [`_bucket${start}le="${formatNumber(bounds[i] ?? Infinity)}"}`, count];
        });
        return [...buckets, [`_sum${suffix}`, sum], [`_count${suffix}`, count]];
      });
    },
  };
}

/** The text of a scrape. */
export function format(families: readonly Family[]): string {
  const lines = families.flatMap(({ name, help, type, samples }) => [
    `# HELP ${name} ${escape(help, /[\\\n]/g)}\n# TYPE ${name} ${type}\n`,
    ...Array.from(samples, ([suffix, value]) => `${name}${suffix} ${formatNumber(value)}\n`),
  ]);
  return lines.join("");
}

function escape(text: string, special: RegExp): string {
  return text.replace(special, (character) => (character === "\n" ? "\\n" : `\\${character}`));
}

function formatNumber(value: number): string {
  return String(value).replace(/^(-?)Infinity$/, (_, sign) => `${sign || "+"}Inf`);
}
