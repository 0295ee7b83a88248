// What a command of the executable is, and how its arguments are read: strictly, so that a slip of the keyboard does
// nothing but say so.

import { parseArgs, type ParseArgsOptionsConfig } from "node:util";

export interface Command {
  readonly name: string;
  /** What it does, in the list of all commands. */
  readonly summary: string;
  /** What its own `--help` says. */
  readonly help: string;
  run(args: readonly string[]): Promise<Ending>;
}

/** What came of a command. */
export type Ending =
  | { readonly kind: "exit"; readonly code: 0 | 1 | 2 }
  | { readonly kind: "wrongUsage"; readonly mistake: string }
  /** It goes on, and ends the process itself. */
  | { readonly kind: "running" };

/** The options among the arguments, or what is wrong with them. Whatever is no option is wrong. */
export function readOptions<const Options extends ParseArgsOptionsConfig>(
  args: readonly string[],
  options: Options,
) {
  try {
    const { values } = parseArgs({ args: [...args], options, strict: true });
    return { ok: true, values } as const;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    // Advice follows after the first sentence.
    return { ok: false, mistake: error.message.split(/\.\s/)[0]! } as const;
  }
}
