// Tables for people: aligned, and on a terminal no wider than it is.

import { visible } from "./format.ts";
import { painter, type Style, type Terminal } from "./terminal.ts";

export interface Column<Row> {
  readonly title: string;
  /** Its control characters are made visible. */
  text(row: Row): string;
  readonly align?: "right";
  /** May be cut where the terminal is too narrow. */
  readonly elastic?: true;
  /** Omitted where the terminal is too narrow even so: the column with the highest number first. */
  readonly omitted?: number;
  style?(row: Row): Style | undefined;
}

const gap = "  ";
/** Left of what is cut, columns at least. */
const elasticMin = 10;

export interface Table<Row> {
  /** The lines for these rows, with those before them under the same titles. */
  lines(rows: readonly Row[]): string[];
}

/** A table that is written page by page: a page is never narrower than the one before, and has the same columns. */
export function openTable<Row>(all: readonly Column<Row>[], terminal: Terminal): Table<Row> {
  const paint = painter(terminal);
  let columns = all;
  let widths: number[] = [];
  let isFirst = true;
  return {
    lines(rows) {
      if (isFirst) {
        columns = thatFit(all, rows, terminal.width);
        widths = columns.map(({ title }) => title.length);
      }
      const cells = rows.map((row) => columns.map((column) => visible(column.text(row))));
      const needed = widths.map((width, i) =>
        cells.reduce((most, row) => Math.max(most, Bun.stringWidth(row[i]!)), width),
      );
      widths = fit(needed, columns, terminal.width);
      const line = (texts: readonly string[], row?: Row) =>
        columns
          .map((column, i) => {
            const text = cut(texts[i]!, widths[i]!);
            const space = " ".repeat(Math.max(0, widths[i]! - Bun.stringWidth(text)));
            const style = row === undefined ? "dim" : column.style?.(row);
            const painted = style === undefined ? text : paint(text, style);
            if (column.align === "right") return space + painted;
            return i === columns.length - 1 ? painted : painted + space;
          })
          .join(gap)
          .trimEnd();
      const titles = isFirst ? [line(columns.map(({ title }) => title))] : [];
      isFirst = false;
      return [...titles, ...cells.map((texts, i) => line(texts, rows[i]))];
    },
  };
}

/** The whole table at once. */
export function tableOf<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  terminal: Terminal,
): string[] {
  return openTable(columns, terminal).lines(rows);
}

/** Without those that have to be omitted. */
function thatFit<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  width = Number.POSITIVE_INFINITY,
): readonly Column<Row>[] {
  const least = columns.reduce(
    (sum, { title, elastic, text }) => {
      const widest = rows.reduce(
        (most, row) => Math.max(most, Bun.stringWidth(visible(text(row)))),
        title.length,
      );
      return sum + (elastic ? Math.min(widest, Math.max(elasticMin, title.length)) : widest);
    },
    gap.length * (columns.length - 1),
  );
  if (least <= width) return columns;
  const last = columns.reduce((worst, one) => ((one.omitted ?? 0) > (worst.omitted ?? 0) ? one : worst));
  return last.omitted === undefined
    ? columns
    : thatFit(
        columns.filter((one) => one !== last),
        rows,
        width,
      );
}

/** Takes from the widest elastic column, a character at a time, what is too much for the line. */
function fit<Row>(
  needed: readonly number[],
  columns: readonly Column<Row>[],
  width: number | undefined,
): number[] {
  const widths = [...needed];
  if (width === undefined) return widths;
  let tooMuch = widths.reduce((sum, one) => sum + one, gap.length * (widths.length - 1)) - width;
  for (; tooMuch > 0; tooMuch -= 1) {
    let widest: number | undefined;
    for (const [i, { elastic }] of columns.entries()) {
      if (elastic && widths[i]! > elasticMin && (widest === undefined || widths[i]! > widths[widest]!))
        widest = i;
    }
    if (widest === undefined) break;
    widths[widest]! -= 1;
  }
  return widths;
}

const graphemes = new Intl.Segmenter("en", { granularity: "grapheme" });

/** At most so many columns of a terminal, what is cut off named by an ellipsis. */
function cut(text: string, width: number): string {
  if (Bun.stringWidth(text) <= width) return text;
  let kept = "";
  let used = 1;
  for (const { segment } of graphemes.segment(text)) {
    used += Bun.stringWidth(segment);
    if (used > width) break;
    kept += segment;
  }
  return `${kept}…`;
}
