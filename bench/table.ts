// The result of a benchmark, for people and for programs.

/** The results of several rounds. */
export interface Figure {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export type Cell = string | number | Figure | undefined;
export type Row = Readonly<Record<string, Cell>>;

export interface Table {
  readonly name: string;
  readonly notes: readonly string[];
  /** Names of the columns, in the groups that are one column each in Markdown. Default: those of the first row. */
  readonly columns?: readonly (readonly string[])[];
  /** Those that show their range in text. */
  readonly ranged?: readonly string[];
  readonly rows: readonly Row[];
  /** Results of the whole run. */
  readonly ratios?: Readonly<Record<string, number>>;
}

/** Undefined without values. */
export function figure(values: readonly number[]): Figure | undefined {
  const sorted = values.toSorted((a, b) => a - b);
  if (sorted.length === 0) return undefined;
  const [below, above] = [sorted[(sorted.length - 1) >> 1]!, sorted[sorted.length >> 1]!];
  return { median: (below + above) / 2, min: sorted[0]!, max: sorted.at(-1)! };
}

export function median(values: readonly number[]): number {
  return figure(values)?.median ?? Number.NaN;
}

export function round(value: number, digits = 1): number {
  return Number(value.toFixed(digits));
}

/** The value at a share of the way from the least to the greatest. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** Three digits, and all of those before the point. */
function formatNumber(value: number): string {
  const size = Math.abs(value);
  const digits = Number.isInteger(value) || size >= 100 ? 0 : size >= 10 ? 1 : 2;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** @param isRanged whether a range follows its median, in parentheses, unless there was one round */
function formatCell(cell: Cell, isRanged: boolean): string {
  if (cell === undefined) return "";
  if (typeof cell === "string") return cell;
  if (typeof cell === "number") return formatNumber(cell);
  const [median = "", min, max] = [cell.median, cell.min, cell.max].map(formatNumber);
  return isRanged && min !== max ? `${median} (${min}–${max})` : median;
}

function columnsOf({ columns, rows }: Table): readonly (readonly string[])[] {
  return columns ?? Object.keys(rows[0] ?? {}).map((column) => [column]);
}

export function toText(table: Table): string {
  const { name, notes, ranged = [], rows, ratios = {} } = table;
  const names = columnsOf(table).flat();
  const lines = [
    names,
    ...rows.map((row) => names.map((column) => formatCell(row[column], ranged.includes(column)))),
  ];
  const widths = names.map((_, i) => Math.max(...lines.map((cells) => cells[i]!.length)));
  const line = (cells: readonly string[]) =>
    cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  ");
  return [
    `# ${name}`,
    ...notes,
    "",
    ...lines.map((cells) => line(cells).trimEnd()),
    ...Object.entries(ratios).map(([what, ratio]) => `${what}: ${formatNumber(ratio)}`),
  ].join("\n");
}

/** A table of docs/: one column for each group. */
export function toMarkdown(table: Table): string {
  const { notes, ranged = [], rows } = table;
  const columns = columnsOf(table);
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  const joined = (row: Row, group: readonly string[]) =>
    group
      .map((column) => formatCell(row[column], ranged.includes(column)))
      .filter(Boolean)
      .join("; ");
  return [
    ...notes.flatMap((note) => [note, ""]),
    line(columns.map((group) => group.join("; "))),
    line(columns.map(() => "---")),
    ...rows.map((row) => line(columns.map((group) => joined(row, group)))),
  ].join("\n");
}
