// A question before what cannot be undone: a person is asked, a program has to say --yes.

import { readSync } from "node:fs";
import { complain, hint } from "./output.ts";
import type { Terminal } from "./terminal.ts";

/**
 * Whether it is confirmed; if not, that has been said.
 * @param question without its question mark
 */
export function confirmed(question: string, yes: boolean, { asks }: Terminal): boolean {
  if (yes) return true;
  if (!asks) {
    complain(`Not confirmed: there is no terminal to ask on. Add --yes if it is meant: ${question}`);
    return false;
  }
  hint(`${question}? [y/N] `);
  if (/^\s*y(es)?\s*$/i.test(readLine())) return true;
  complain("Not confirmed: nothing was done");
  return false;
}

/** A line from the terminal, which gives it when it is whole; empty at its end. */
function readLine(): string {
  const buffer = Buffer.alloc(1024);
  try {
    return buffer.toString("utf8", 0, readSync(0, buffer));
  } catch {
    // The terminal has gone.
    return "";
  }
}
