// Tables for people: aligned, and no wider than the terminal.

import { formatNumber, visible } from "./format.ts";
import { paint, type Style, type Terminal } from "./terminal.ts";

/** The value is shown without control characters; numbers stand on the right. */
export type Column<Row> = readonly [
  title: string,
  value: (row: Row) => string | number | undefined,
  style?: (row: Row) => Style | undefined,
];

const gap = "  ";

/** A table that is written page by page: no column is narrower than on the page before. */
export class Table<Row> {
  readonly #terminal: Terminal;
  readonly #columns: readonly Column<Row>[];
  readonly #widths: number[];
  #isFirst = true;

  /** @param columns the most important first: lines are cut at the end */
  constructor(columns: readonly Column<Row>[], terminal: Terminal) {
    this.#terminal = terminal;
    this.#columns = columns;
    this.#widths = columns.map(([title]) => title.length);
  }

  /** The lines of one page, with the titles before the first. */
  lines(rows: readonly Row[]): string[] {
    const titles = this.#columns.map(([title, value]) => {
      const isNumber = rows.some((row) => typeof value(row) === "number");
      return { text: paint(this.#terminal, title, "dim"), isNumber };
    });
    const cells = rows.map((row) => this.#columns.map((_, i) => this.#cell(row, i)));
    if (this.#isFirst) cells.unshift(titles);
    this.#isFirst = false;
    for (const i of this.#columns.keys()) {
      this.#widths[i] = Math.max(this.#widths[i]!, ...cells.map((line) => Bun.stringWidth(line[i]!.text)));
    }
    return cells.map((line) => {
      const padded = line.map(({ text, isNumber }, i) => {
        const space = " ".repeat(this.#widths[i]! - Bun.stringWidth(text));
        return isNumber ? space + text : text + space;
      });
      return cut(padded.join(gap).trimEnd(), this.#terminal.width);
    });
  }

  #cell(row: Row, i: number) {
    const [, valueOf, styleOf] = this.#columns[i]!;
    const { width = Number.POSITIVE_INFINITY } = this.#terminal;
    const value = valueOf(row) ?? "";
    const isNumber = typeof value === "number";
    const whole = isNumber ? formatNumber(value) : visible(value);
    // One long text must not push the columns behind it off the terminal.
    const isInner = i > 0 && i < this.#columns.length - 1;
    const shown = isInner ? cut(whole, Math.floor(width / 3)) : whole;
    const style = styleOf?.(row);
    return { text: style === undefined ? shown : paint(this.#terminal, shown, style), isNumber };
  }
}

function cut(text: string, width = Number.POSITIVE_INFINITY): string {
  if (Bun.stringWidth(text) <= width) return text;
  const shown = Bun.sliceAnsi(text, 0, width, "…");
  // Where a wide character crosses the end, sliceAnsi takes one column too many.
  return Bun.stringWidth(shown) > width ? Bun.sliceAnsi(text, 0, width - 1, "…") : shown;
}

export function tableOf<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  terminal: Terminal,
): string[] {
  return new Table(columns, terminal).lines(rows);
}
