// Commands of the executable. One description gives its strict parser, its usage line and its `--help`.

import { parseArgs, type ParseArgsOptionsConfig } from "node:util";
import { Failure } from "./output.ts";

/** 0 success, 1 failure, 2 usage error or invalid setting. */
export type ExitCode = 0 | 1 | 2;

export interface Command {
  /** Includes the names of its groups: `queue list`. */
  readonly name: string;
  /** One line, shown in the list of commands. */
  readonly summary: string;
  /** Returns the text of its own `--help`. */
  help(): string;
  /** Those of a group, which does nothing itself. */
  readonly commands?: readonly Command[];
  /** Returns no exit code if the process goes on, and ends by itself. Throws {@link Failure}. */
  run(args: readonly string[]): Promise<ExitCode | undefined>;
}

/** The arguments cannot be understood. */
export class UsageError extends Failure {
  constructor(message: string) {
    super(message, 2);
  }
}

/** The word by which a command is called within its group. */
export function wordOf({ name }: Command): string {
  return name.slice(name.lastIndexOf(" ") + 1);
}

interface Group {
  readonly name: string;
  readonly summary: string;
  /** Before the list of its commands in the help. */
  readonly about: string;
  /** After it. */
  readonly details: string;
  readonly commands: readonly Command[];
}

export function defineGroup({ name, summary, about, details, commands }: Group): Command {
  const usage = ["Usage: reliable-email", name, "<command> [options]"].filter(Boolean).join(" ");
  const list = () => commands.map((command) => `  ${wordOf(command).padEnd(8)} ${command.summary}`);
  return {
    name,
    summary,
    help: () => [usage, "", about, "", "Commands:", ...list(), "", details].join("\n"),
    commands,
    async run([word = ""]) {
      if (word === "") throw new UsageError("Which command?");
      if (word.startsWith("-")) throw new UsageError(`Unknown option '${word}'`);
      throw new UsageError(`Unknown command '${word}': the commands are ${commands.map(wordOf).join(", ")}`);
    },
  };
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

interface Description<Options extends DescribedOptions> extends Pick<Command, "name" | "summary"> {
  /** In the usage line: the argument that is not an option, any number if it ends in `...`, and its alternatives. */
  readonly words?: string;
  /** Is wrapped to the width of a terminal, except lines that begin with a space. */
  readonly about: string;
  readonly options: Options;
  run(
    options: ReturnType<typeof parseArgs<{ options: Options; strict: true }>>["values"],
    words: readonly string[],
  ): Promise<ExitCode | undefined>;
}

/** An option without a value. */
export function flag(help: string) {
  return { type: "boolean", default: false, help } as const;
}

export function defineCommand<const Options extends DescribedOptions>(
  description: Description<Options>,
): Command {
  const { name, summary, options, words = "", run } = description;
  const wordsMax = words === "" ? 0 : words.includes("...") ? Number.POSITIVE_INFINITY : 1;
  return {
    name,
    summary,
    help: () => helpOf(description),
    async run(args) {
      const read = readOptions(args, options, wordsMax);
      if (!read.ok) throw new UsageError(read.usageError);
      return run(read.values, read.words);
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
  return [
    wrapped(["Usage: reliable-email", name, words, ...optional].filter(Boolean).join(" ")),
    "",
    ...about.split("\n").map((line) => (line.startsWith(" ") ? line : wrapped(line))),
    ...(rows.length === 0 ? [] : ["", "Options:"]),
    ...rows.map((row) => {
      const help = wrapped(row.help, helpWidth - indent).replaceAll("\n", `\n${" ".repeat(indent)}`);
      return `  ${row.usage}`.padEnd(indent) + help;
    }),
  ].join("\n");
}
