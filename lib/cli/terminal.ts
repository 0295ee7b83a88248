// What stands at the other ends of stdin, stdout and stderr: a person at a terminal, or another program.

import { isatty, WriteStream } from "node:tty";

export interface Terminal {
  /** Columns of stdout; undefined if it is no terminal: then nothing is cut. */
  readonly width: number | undefined;
  /** Whether stdout shows colours. */
  readonly colours: boolean;
  /** Whether somebody can be asked, on stderr, and answers, on stdin. */
  readonly asks: boolean;
  /** Whether stderr shows how far long work has come. */
  readonly progress: boolean;
}

/** @param env for `NO_COLOR` (no-color.org: any value that is not empty) and `TERM` */
export function terminalOf(env: Readonly<Record<string, string | undefined>>): Terminal {
  const [stdin, stdout, stderr] = [isatty(0), isatty(1), isatty(2)];
  return {
    width: stdout ? columnsOf(1) : undefined,
    colours: stdout && !env["NO_COLOR"] && env["TERM"] !== "dumb",
    asks: stdin && stderr,
    progress: stderr && env["TERM"] !== "dumb",
  };
}

/** A terminal that does not say how wide it is has 80 columns. */
function columnsOf(descriptor: number): number {
  const [columns] = new WriteStream(descriptor).getWindowSize();
  return columns > 0 ? columns : 80;
}

const codes = { bold: 1, dim: 2, red: 31, yellow: 33 } as const;
export type Style = keyof typeof codes;
export type Paint = (text: string, ...styles: readonly Style[]) => string;

export function painter({ colours }: Terminal): Paint {
  return (text, ...styles) => {
    if (!colours || styles.length === 0 || text === "") return text;
    return `\x1b[${styles.map((style) => codes[style]).join(";")}m${text}\x1b[0m`;
  };
}
