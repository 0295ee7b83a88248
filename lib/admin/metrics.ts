// Metrics as Prometheus reads them: counters and histograms that cost next to nothing while they count, and the text
// format 0.0.4 that is made of them at a scrape.

/** `text/plain` alone would be taken for it too, by readers older than 3.0. */
export const contentType = "text/plain; version=0.0.4; charset=utf-8";

export type Labels = Readonly<Record<string, string>>;

export interface MetricSample {
  /** Behind the family's name: of a histogram `_bucket`, `_sum` or `_count`. */
  readonly suffix?: string;
  readonly labels?: Labels;
  readonly value: number;
}

/** One metric with all its label values. */
export interface Family {
  readonly name: string;
  /** One line. */
  readonly help: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly samples: readonly MetricSample[];
}

/** What can be asked for its family at any time. */
export interface Instrument {
  family(): Family;
}

export interface Description<Label extends string> {
  /** With its unit, and `_total` if it counts. */
  readonly name: string;
  readonly help: string;
  /** Names; of values there must be few, and none that a client may choose. */
  readonly labels?: readonly Label[];
}

/** Add to `value`; it never goes down. */
export interface Count {
  value: number;
}

export interface Counter extends Instrument {
  /** The count for these values, in the order of the names. It appears, as 0, once it was asked for. */
  of(...values: readonly string[]): Count;
}

export interface Distribution {
  observe(value: number): void;
}

export interface Histogram extends Instrument {
  /** As of {@link Counter}. */
  of(...values: readonly string[]): Distribution;
}

export function createCounter<const Label extends string>(description: Description<Label>): Counter {
  const cells = openCells(description.labels ?? [], (): Count => ({ value: 0 }));
  return {
    of: cells.of,
    family: () => ({
      ...about(description),
      type: "counter",
      samples: cells.all().map(({ labels, cell }) => ({ labels, value: cell.value })),
    }),
  };
}

/** @param bounds of its buckets, ascending, each of which holds what is not above it; the last, +Inf, is added */
export function createHistogram<const Label extends string>(
  description: Description<Label>,
  bounds: readonly number[],
): Histogram {
  const cells = openCells(description.labels ?? [], () => openDistribution(bounds));
  return {
    of: cells.of,
    family: () => ({
      ...about(description),
      type: "histogram",
      samples: cells.all().flatMap(({ labels, cell }) => cell.samples(labels)),
    }),
  };
}

/** One value, as it is now. */
export function gauge(name: string, help: string, value: number): Family {
  return { name, help, type: "gauge", samples: [{ value }] };
}

/** The text of a scrape. */
export function format(families: readonly Family[]): string {
  const lines: string[] = [];
  for (const { name, help, type, samples } of families) {
    lines.push(`# HELP ${name} ${escape(help, /[\\\n]/g)}`, `# TYPE ${name} ${type}`);
    for (const { suffix = "", labels = {}, value } of samples) {
      const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escape(text, /[\\\n"]/g)}"`);
      const where = pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
      lines.push(`${name}${suffix}${where} ${formatNumber(value)}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

interface Cells<Cell> {
  of(...values: readonly string[]): Cell;
  all(): { labels: Labels; cell: Cell }[];
}

function openCells<Cell>(names: readonly string[], create: () => Cell): Cells<Cell> {
  const cells = new Map<string, { labels: Labels; cell: Cell }>();
  return {
    of(...values) {
      // Two values cannot run into each other: none holds a NUL.
      const key = values.length === 1 ? values[0]! : values.join("\0");
      let entry = cells.get(key);
      if (entry === undefined) {
        entry = { labels: Object.fromEntries(names.map((name, i) => [name, values[i]!])), cell: create() };
        cells.set(key, entry);
      }
      return entry.cell;
    },
    all: () => [...cells.values()],
  };
}

function openDistribution(bounds: readonly number[]) {
  const counts = new Float64Array(bounds.length + 1);
  let sum = 0;
  return {
    observe(value: number): void {
      let i = 0;
      while (i < bounds.length && value > bounds[i]!) i += 1;
      counts[i]! += 1;
      sum += value;
    },
    samples(labels: Labels): MetricSample[] {
      const samples: MetricSample[] = [];
      let total = 0;
      for (const [i, count] of counts.entries()) {
        total += count;
        const le = formatNumber(bounds[i] ?? Number.POSITIVE_INFINITY);
        samples.push({ suffix: "_bucket", labels: { ...labels, le }, value: total });
      }
      samples.push({ suffix: "_sum", labels, value: sum }, { suffix: "_count", labels, value: total });
      return samples;
    },
  };
}

function about({ name, help }: Description<string>): { name: string; help: string } {
  return { name, help };
}

function escape(text: string, what: RegExp): string {
  return text.replace(what, (character) => (character === "\n" ? "\\n" : `\\${character}`));
}

function formatNumber(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return "+Inf";
  return value === Number.NEGATIVE_INFINITY ? "-Inf" : String(value);
}
