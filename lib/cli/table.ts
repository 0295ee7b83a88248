// Tables for people: aligned, and no wider than the terminal.

import { visible } from "./format.ts";
import { paint, type Style, type Terminal } from "./terminal.ts";

export interface Column<Row> {
  readonly title: string;
  /** Control characters in it are escaped. */
  text(row: Row): string;
  readonly align?: "right";
  /** May be cut if the terminal is too narrow. */
  readonly elastic?: true;
  /** May be omitted if the terminal is too narrow even so; the column with the highest number goes first. */
  readonly omitted?: number;
  style?(row: Row): Style | undefined;
}

interface FittedColumn<Row> extends Column<Row> {
  width: number;
}

const gap = "  ";
/** Columns of the terminal that an elastic column keeps at least. */
const elasticMin = 10;

/** A table that is written page by page: every page has the same columns, and none is narrower than the one before. */
export class Table<Row> {
  readonly #terminal: Terminal;
  #columns: FittedColumn<Row>[];
  #isFirst = true;

  constructor(columns: readonly Column<Row>[], terminal: Terminal) {
    this.#terminal = terminal;
    this.#columns = columns.map((column) => ({ ...column, width: column.title.length }));
  }

  /** The lines of one page, with the titles before the first. */
  lines(rows: readonly Row[]): string[] {
    for (const column of this.#columns) {
      const widths = rows.map((row) => Bun.stringWidth(visible(column.text(row))));
      column.width = Math.max(column.width, ...widths);
    }
    if (this.#isFirst) this.#omitColumns();
    this.#shrinkColumns();
    const titles = this.#isFirst ? [this.#line(({ title }) => paint(this.#terminal, title, "dim"))] : [];
    this.#isFirst = false;
    return [...titles, ...rows.map((row) => this.#line((column) => this.#cell(column, row)))];
  }

  #cell({ width, style, text }: FittedColumn<Row>, row: Row): string {
    const whole = visible(text(row));
    const cut = Bun.sliceAnsi(whole, 0, width, "…");
    // Where a wide character crosses the end, sliceAnsi takes one column too many.
    const shown = Bun.stringWidth(cut) > width ? Bun.sliceAnsi(whole, 0, width - 1, "…") : cut;
    const wanted = style?.(row);
    return wanted === undefined ? shown : paint(this.#terminal, shown, wanted);
  }

  #line(cellOf: (column: FittedColumn<Row>) => string): string {
    const cells = this.#columns.map((column) => {
      const cell = cellOf(column);
      const space = " ".repeat(column.width - Bun.stringWidth(cell));
      return column.align === "right" ? space + cell : cell + space;
    });
    return cells.join(gap).trimEnd();
  }

  /** How much wider than the terminal the lines are, if no elastic column is wider than `elasticMax`. */
  #excess(elasticMax = Number.POSITIVE_INFINITY): number {
    const widths = this.#columns.map(({ width, elastic }) => (elastic ? Math.min(width, elasticMax) : width));
    const sum = widths.reduce((total, width) => total + width + gap.length, -gap.length);
    return sum - (this.#terminal.width ?? Number.POSITIVE_INFINITY);
  }

  #omitColumns(): void {
    const optional = this.#columns.filter(({ omitted }) => omitted !== undefined);
    for (const worst of optional.toSorted((a, b) => b.omitted! - a.omitted!)) {
      if (this.#excess(elasticMin) <= 0) return;
      this.#columns = this.#columns.filter((column) => column !== worst);
    }
  }

  /** Takes what is too much from the widest elastic column, one character at a time. */
  #shrinkColumns(): void {
    const elastic = this.#columns.filter((column) => column.elastic);
    for (let excess = this.#excess(); excess > 0; excess -= 1) {
      const [widest] = elastic.toSorted((a, b) => b.width - a.width);
      if (widest === undefined || widest.width <= elasticMin) return;
      widest.width -= 1;
    }
  }
}

/** The whole table at once. */
export function tableOf<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  terminal: Terminal,
): string[] {
  return new Table(columns, terminal).lines(rows);
}
