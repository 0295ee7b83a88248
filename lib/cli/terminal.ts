// The terminal: how wide it is, whether it shows colors, and questions to the person who sits at it.

import { readSync } from "node:fs";
import { isatty } from "node:tty";
import { styleText } from "node:util";
import { Failure, hint } from "./output.ts";

export interface Terminal {
  /** Columns of stdout; undefined if stdout is not a terminal, so nothing is cut. */
  readonly width: number | undefined;
  readonly hasColors: boolean;
  /** Whether a person can be asked, on stderr, and can answer, on stdin. */
  readonly canAsk: boolean;
  readonly showsProgress: boolean;
}

/** @param env for `NO_COLOR` (no-color.org: any value that is not empty) and `TERM` */
export function terminalOf(env: Readonly<Record<string, string | undefined>>): Terminal {
  const [stdin, stdout, stderr] = [isatty(0), isatty(1), isatty(2)];
  const isDumb = env["TERM"] === "dumb";
  return {
    // A terminal that does not report its width has 80 columns.
    width: stdout ? process.stdout.columns || 80 : undefined,
    hasColors: stdout && !env["NO_COLOR"] && !isDumb,
    canAsk: stdin && stderr,
    showsProgress: stderr && !isDumb,
  };
}

export type Style = "bold" | "dim" | "red" | "yellow";

export function paint({ hasColors }: Terminal, text: string, ...styles: readonly Style[]): string {
  return hasColors && text !== "" ? styleText(styles, text, { validateStream: false }) : text;
}

/**
 * Asks before something that cannot be undone. Throws {@link Failure} if the answer is not yes. Not Bun's `confirm`,
 * which asks on stdout, where a document may be expected.
 * @param question without its question mark
 * @param yes whether it was confirmed by an option
 */
export function confirm(question: string, yes: boolean, { canAsk }: Terminal): void {
  if (yes) return;
  if (!canAsk) {
    throw new Failure(`Not confirmed: there is no terminal to ask on. Add --yes to confirm: ${question}`);
  }
  hint(`${question}? [y/N] `);
  if (!/^\s*y(es)?\s*$/i.test(readLine())) throw new Failure("Not confirmed: nothing was done");
}

/** Reads one line, which a terminal delivers whole; empty at the end of input. */
function readLine(): string {
  const buffer = Buffer.alloc(1024);
  try {
    return buffer.toString("utf8", 0, readSync(0, buffer));
  } catch {
    // The terminal has gone.
    return "";
  }
}
