// A command's answer as one list of fields, from which both the JSON document and the lines for people are made.

import { formatAge, formatNumber, formatTime, visible } from "./format.ts";
import { paint, type Style, type Terminal } from "./terminal.ts";

export interface Field {
  /** Its name in JSON. */
  readonly key: string;
  /** Its name for people; without one, it is in JSON only. */
  readonly label?: string;
  /** In JSON, where an undefined value is omitted. */
  readonly value?: unknown;
  /** Instead of `value`: a time, Unix ms. */
  readonly atMs?: number | undefined;
  /** For people, instead of `value`; `""` leaves the field out. */
  readonly text?: string;
  readonly style?: readonly Style[];
}

export function isoTime(atMs: number | undefined): string | undefined {
  return atMs === undefined ? undefined : formatTime(atMs);
}

/** The document in JSON; times are ISO 8601. */
export function documentOf(fields: readonly Field[]): Readonly<Record<string, unknown>> {
  return Object.fromEntries(fields.map(({ key, value, atMs }) => [key, value ?? isoTime(atMs)]));
}

/** A field in a table: of a time only its age. */
export function cellOf({ value, atMs }: Field, nowMs: number): string {
  if (atMs !== undefined) return formatAge(atMs, nowMs);
  return typeof value === "number" ? formatNumber(value) : String(value ?? "");
}

/** A line for each field that has a label and a value. `nowMs` is the store's time, Unix ms. */
export function linesOf(fields: readonly Field[], nowMs: number, terminal: Terminal): string[] {
  const width = Math.max(...fields.map(({ label = "" }) => label.length));
  return fields.flatMap(({ label, text, style = [], ...field }) => {
    const time = field.atMs === undefined ? "" : `${formatTime(field.atMs)} `;
    const age = cellOf(field, nowMs);
    const shown = text ?? (time === "" ? age : `${time}(${age})`);
    if (label === undefined || shown === "") return [];
    return [`${paint(terminal, label.padEnd(width), "dim")} ${paint(terminal, visible(shown), ...style)}`];
  });
}
