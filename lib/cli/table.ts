// Tables for people: aligned, and no wider than the terminal.

import { visible } from "./format.ts";
import { paint, type Style, type Terminal } from "./terminal.ts";

export interface Column<Row> {
  readonly title: string;
  /** Control characters in it are escaped. */
  text(row: Row): string;
  readonly align?: "right";
  style?(row: Row): Style | undefined;
}

const gap = "  ";

/** A table that is written page by page: no column is narrower than on the page before. */
export class Table<Row> {
  readonly #terminal: Terminal;
  readonly #columns: readonly (Column<Row> & { width: number })[];
  #isFirst = true;

  /** @param columns the most important first: lines are cut at the end */
  constructor(columns: readonly Column<Row>[], terminal: Terminal) {
    this.#terminal = terminal;
    this.#columns = columns.map((column) => ({ ...column, width: column.title.length }));
  }

  /** The lines of one page, with the titles before the first. */
  lines(rows: readonly Row[]): string[] {
    const cells = rows.map((row) => this.#columns.map((column, i) => this.#cell(column, row, i)));
    const titles = this.#columns.map(({ title }) => paint(this.#terminal, title, "dim"));
    for (const [i, column] of this.#columns.entries()) {
      column.width = Math.max(column.width, ...cells.map((line) => Bun.stringWidth(line[i]!)));
    }
    const lines = (this.#isFirst ? [titles, ...cells] : cells).map((line) => this.#line(line));
    this.#isFirst = false;
    return lines;
  }

  /** One long text must not push the columns behind it off the terminal: those in the middle get a third of it. */
  #cell({ text, style }: Column<Row>, row: Row, index: number): string {
    const { width = Number.POSITIVE_INFINITY } = this.#terminal;
    const isInner = index > 0 && index < this.#columns.length - 1;
    const shown = isInner ? cut(visible(text(row)), Math.floor(width / 3)) : visible(text(row));
    const wanted = style?.(row);
    return wanted === undefined ? shown : paint(this.#terminal, shown, wanted);
  }

  #line(cells: readonly string[]): string {
    const padded = this.#columns.map(({ width, align }, i) => {
      const cell = cells[i]!;
      const space = " ".repeat(width - Bun.stringWidth(cell));
      return align === "right" ? space + cell : cell + space;
    });
    return cut(padded.join(gap).trimEnd(), this.#terminal.width);
  }
}

function cut(text: string, width = Number.POSITIVE_INFINITY): string {
  if (Bun.stringWidth(text) <= width) return text;
  const shown = Bun.sliceAnsi(text, 0, width, "…");
  // Where a wide character crosses the end, sliceAnsi takes one column too many.
  return Bun.stringWidth(shown) > width ? Bun.sliceAnsi(text, 0, width - 1, "…") : shown;
}

/** The whole table at once. */
export function tableOf<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  terminal: Terminal,
): string[] {
  return new Table(columns, terminal).lines(rows);
}
