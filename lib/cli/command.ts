// What a command of the executable is, and how its arguments are read: strictly, so that a slip of the keyboard does
// nothing but say so.

import { parseArgs, type ParseArgsOptionsConfig } from "node:util";

export type Command = SingleCommand | CommandGroup;

interface Named {
  /** With those of the groups that it is in: `queue list`. */
  readonly name: string;
  /** What it does, in the list of all commands. */
  readonly summary: string;
  /** What its own `--help` says. */
  readonly help: string;
}

export interface SingleCommand extends Named {
  run(args: readonly string[]): Promise<CommandResult>;
}

/** Does nothing by itself. */
export interface CommandGroup extends Named {
  readonly commands: readonly SingleCommand[];
}

/** What came of a command. */
export type CommandResult =
  | { readonly kind: "exit"; readonly code: 0 | 1 | 2 }
  | { readonly kind: "wrongUsage"; readonly usageError: string }
  /** It goes on, and ends the process itself. */
  | { readonly kind: "running" };

/** The word by which it is called. */
export function wordOf({ name }: Command): string {
  return name.slice(name.lastIndexOf(" ") + 1);
}

/** The options among the arguments, or what is wrong with them. Whatever is no option is wrong. */
export function readOptions<const Options extends ParseArgsOptionsConfig>(
  args: readonly string[],
  options: Options,
) {
  return read(() => parseArgs({ args: [...args], options, strict: true }).values);
}

/** The same, and `words`: the arguments that are no options. */
export function readArguments<const Options extends ParseArgsOptionsConfig>(
  args: readonly string[],
  options: Options,
) {
  return read(() => {
    const parsed = parseArgs({ args: [...args], options, strict: true, allowPositionals: true });
    return { options: parsed.values, words: parsed.positionals };
  });
}

function read<T>(parse: () => T) {
  try {
    return { ok: true, values: parse() } as const;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    // Advice follows after the first sentence.
    const usageError = error.message.split(/\.\s/)[0]!;
    const [, option] = /^Option '(--[\w-]+)' argument is ambiguous$/.exec(usageError) ?? [];
    return {
      ok: false,
      usageError:
        option === undefined ? usageError : `A value that begins with '-' is given as ${option}=VALUE`,
    } as const;
  }
}
