// The result of a benchmark, for people and for programs.

export interface Table {
  readonly name: string;
  readonly notes: readonly string[];
  readonly rows: readonly Readonly<Record<string, string | number>>[];
  /** The actual result: ratios between contestants of the same run. */
  readonly ratios: Readonly<Record<string, number>>;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

export function round(value: number, digits = 1): number {
  return Number(value.toFixed(digits));
}

export function toText({ name, notes, rows, ratios }: Table): string {
  const columns = Object.keys(rows[0] ?? {});
  const widths = columns.map((column) =>
    Math.max(column.length, ...rows.map((row) => String(row[column] ?? "").length)),
  );
  const line = (cells: readonly string[]) =>
    cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  ");
  return [
    `# ${name}`,
    ...notes,
    "",
    line(columns),
    ...rows.map((row) => line(columns.map((column) => String(row[column] ?? "")))),
    "",
    ...Object.entries(ratios).map(([what, ratio]) => `${what}: ${round(ratio, 2)}`),
  ].join("\n");
}
