// A command's answer as one list of fields for the JSON document and for the lines and columns that people read.

import { formatAge, formatNumber, formatTime, visible } from "./format.ts";
import { paint, type Style, type Terminal } from "./terminal.ts";

export interface DisplayField {
  /** Its name in lines for people; without one, it is left out there. */
  readonly label?: string;
  /** Left out if it is undefined. */
  readonly value?: unknown;
  /** Instead of `value`: a time, Unix ms. */
  readonly atMs?: number | undefined;
  /** One or several lines for people, instead of `value`; empty lines are omitted. */
  readonly text?: string | readonly string[] | undefined;
  readonly style?: readonly Style[];
}

export type Fields = Readonly<Record<string, DisplayField>>;

/** The document in JSON; times are ISO 8601. */
export function documentOf(fields: Fields): Record<string, unknown> {
  const entries = Object.entries(fields).map(([key, { value, atMs }]) => {
    return [key, atMs === undefined ? value : formatTime(atMs)] as const;
  });
  return Object.fromEntries(entries);
}

/** A field in a table; the age of a time. */
export function cellOf({ value, atMs }: DisplayField, nowMs: number): string | number {
  if (atMs !== undefined) return formatAge(atMs, nowMs);
  return typeof value === "number" ? value : String(value ?? "");
}

/** The title of a field's column: HANDED OVER of `handed_over`, SENT of `sent_at`. */
export function titleOf(key: string): string {
  const words = key.replace(/_(at|since|total)$/, "");
  return words.replaceAll("_", " ").toUpperCase();
}

/** A line for each field with a label. @param nowMs the store's time, Unix ms */
export function linesOf(fields: Fields, nowMs: number, terminal: Terminal): string[] {
  const rows = Object.values(fields).flatMap(({ label, text, style = [], ...field }) => {
    const cell = cellOf(field, nowMs);
    const value = typeof cell === "number" ? formatNumber(cell) : cell;
    const shown = text ?? (field.atMs === undefined ? value : `${formatTime(field.atMs)} (${value})`);
    const lines = [shown].flat().filter((line) => line !== "");
    return label === undefined ? [] : lines.map((line, i) => ({ label: i === 0 ? label : "", line, style }));
  });
  const width = Math.max(...rows.map(({ label }) => label.length));
  return rows.map(({ label, line, style }) => {
    return `${paint(terminal, label.padEnd(width), "dim")} ${paint(terminal, visible(line), ...style)}`;
  });
}
