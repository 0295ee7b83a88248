// Commands of the executable. One description gives its strict parser, its usage line and its `--help`.

import { parseArgs, type ParseArgsOptionsConfig } from "node:util";

export type Command = SingleCommand | CommandGroup;

interface Named {
  /** Includes the names of its groups: `queue list`. */
  readonly name: string;
  /** One line, shown in the list of commands. */
  readonly summary: string;
  /** The text of its own `--help`. */
  readonly help: string;
}

export interface SingleCommand extends Named {
  run(args: readonly string[]): Promise<CommandResult>;
}

export interface CommandGroup extends Named {
  readonly commands: readonly Command[];
}

export type CommandResult =
  | { readonly kind: "exit"; readonly code: 0 | 1 | 2 }
  | { readonly kind: "wrongUsage"; readonly usageError: string }
  /** The process goes on, and the command ends it itself. */
  | { readonly kind: "running" };

export const done: CommandResult = { kind: "exit", code: 0 };
export const failed: CommandResult = { kind: "exit", code: 1 };

export function wrongUsage(usageError: string): CommandResult {
  return { kind: "wrongUsage", usageError };
}

/** The word by which a command is called within its group. */
export function wordOf({ name }: Command): string {
  return name.slice(name.lastIndexOf(" ") + 1);
}

/** One line for each command, for the help of their group. */
export function commandList(commands: readonly Command[]): string {
  return commands.map((command) => `  ${wordOf(command).padEnd(8)} ${command.summary}`).join("\n");
}

/**
 * Parses strictly, so that a typing error changes nothing.
 * @param wordsMax most arguments that are not options
 */
export function readOptions<const Options extends ParseArgsOptionsConfig>(
  args: readonly string[],
  options: Options,
  wordsMax = 0,
) {
  try {
    const config = { args: [...args], options, strict: true, allowPositionals: true } as const;
    const { values, positionals: words } = parseArgs(config);
    const stray = words[wordsMax];
    if (stray === undefined) return { ok: true, values, words } as const;
    return { ok: false, usageError: `Unexpected argument '${stray}'` } as const;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    // parseArgs adds advice after the first sentence.
    const usageError = error.message.split(/\.\s/)[0]!;
    const [, option] = /^Option '(--[\w-]+)' argument is ambiguous$/.exec(usageError) ?? [];
    const advice = `A value that begins with '-' is given as ${option}=VALUE`;
    return { ok: false, usageError: option === undefined ? usageError : advice } as const;
  }
}

type DescribedOptions = ParseArgsOptionsConfig &
  Readonly<Record<string, { readonly help: string; readonly placeholder?: string }>>;

interface Description<Options extends DescribedOptions> {
  readonly name: string;
  readonly summary: string;
  /** In the usage line: the arguments that are not options, and options that stand in their place. */
  readonly words?: string;
  /** Most of them. Default: none. */
  readonly wordsMax?: number;
  /** Is wrapped to the width of a terminal, but for lines that begin with a space. */
  readonly about: string;
  readonly options: Options;
  run(
    options: ReturnType<typeof parseArgs<{ options: Options; strict: true }>>["values"],
    words: readonly string[],
  ): CommandResult | Promise<CommandResult>;
}

/** An option without a value. */
export function flag(help: string) {
  return { type: "boolean", default: false, help } as const;
}

export function defineCommand<const Options extends DescribedOptions>(
  description: Description<Options>,
): SingleCommand {
  const { name, summary, options, wordsMax, run } = description;
  return {
    name,
    summary,
    help: helpOf(description),
    async run(args) {
      const read = readOptions(args, options, wordsMax);
      return read.ok ? run(read.values, read.words) : wrongUsage(read.usageError);
    },
  };
}

const helpWidth = 80;

function helpOf({ name, words = "", about, options }: Omit<Description<DescribedOptions>, "run">): string {
  const rows = Object.entries(options).map(([option, { placeholder = "", help }]) => {
    return { usage: `--${option} ${placeholder}`.trim(), help };
  });
  const optional = rows.filter(({ usage }) => !words.includes(usage)).map(({ usage }) => `[${usage}]`);
  const indent = Math.max(...rows.map(({ usage }) => usage.length)) + 4;
  const wrapped = (text: string, width = helpWidth) => Bun.wrapAnsi(text, width);
  const usage = ["Usage: reliable-email", name, words, ...optional].filter(Boolean).join(" ");
  return [
    wrapped(usage),
    "",
    ...about.split("\n").map((line) => (line.startsWith(" ") ? line : wrapped(line))),
    ...(rows.length === 0 ? [] : ["", "Options:"]),
    ...rows.map((row) => {
      const help = wrapped(row.help, helpWidth - indent).replaceAll("\n", `\n${" ".repeat(indent)}`);
      return `  ${row.usage}`.padEnd(indent) + help;
    }),
  ].join("\n");
}
