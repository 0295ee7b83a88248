// One line of a child's log: read, and written so that a person likes to read it.

import { type LogLevel, logLevels } from "../../runtime/log.ts";

export interface LogLine {
  readonly level: LogLevel;
  readonly event: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Nothing if the line is not of the log. */
export function parseLogLine(line: string): LogLine | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { time: _, level, event, ...fields } = value as Record<string, unknown>;
  const known = logLevels.find((one) => one === level);
  if (known === undefined || typeof event !== "string") return undefined;
  return { level: known, event, fields };
}

export function isAtLeast(entry: LogLine, level: LogLevel): boolean {
  return logLevels.indexOf(entry.level) >= logLevels.indexOf(level);
}

/** As `worker: warn store-connection-lost reason="…"`. */
export function formatLogLine(child: string, { level, event, fields }: LogLine): string {
  const rest = Object.entries(fields).map(
    ([name, value]) =>
      ` ${name}=${typeof value === "string" && !/^[\w.:-]+$/.test(value) ? JSON.stringify(value) : String(value)}`,
  );
  return `${child}: ${level} ${event}${rest.join("")}`;
}
