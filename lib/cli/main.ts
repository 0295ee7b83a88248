// The entry of the executable: picks the command, and turns what came of it into an exit code.

import { type Command, type SingleCommand, wordOf } from "./command.ts";
import { configCommand } from "./config/command.ts";
import { describe } from "../runtime/errors.ts";
import { devCommand } from "./dev/dev.ts";
import { helpOf } from "./help.ts";
import { CannotWrite, complain, hint, print, printFailure } from "./output.ts";
import { queueCommand } from "./queue/command.ts";
import { serverCommand, workerCommand } from "./server_and_worker.ts";
import { visible } from "./format.ts";
import { versionLine } from "./version.ts";

const commands: readonly Command[] = [serverCommand, workerCommand, devCommand, queueCommand, configCommand];

const asksForHelp = (arg: string | undefined) => arg === "--help" || arg === "-h";

/** @returns the exit code; none if the process goes on */
async function main([name, ...args]: readonly string[]): Promise<number | undefined> {
  if (name === "--version") return args.length === 0 ? say(versionLine()) : stray(args[0]!);
  if (name === "help" && args.length > 0) return main([...args, "--help"]);
  if (name === "help") return say(helpOf(commands));
  return pick(commands, helpOf(commands), undefined, name, args);
}

/** One of the commands, by the word that stands where it should. */
async function pick(
  among: readonly Command[],
  help: string,
  group: Command | undefined,
  word: string | undefined,
  args: readonly string[],
): Promise<number | undefined> {
  if (word === undefined) return wrongUsage("Which command?", group);
  if (asksForHelp(word)) {
    const other = args.find((arg) => !asksForHelp(arg));
    return other === undefined ? say(help) : stray(other, group);
  }
  const command = among.find((one) => wordOf(one) === word);
  if (command === undefined) {
    const known = among.map(wordOf).join(", ");
    return wrongUsage(
      word.startsWith("-") ? `Unknown option '${word}'` : `Unknown command '${word}': there are ${known}`,
      group,
    );
  }
  if ("commands" in command) return pick(command.commands, command.help, command, args[0], args.slice(1));
  return run(command, args);
}

async function run(command: SingleCommand, args: readonly string[]): Promise<number | undefined> {
  if (args.some(asksForHelp)) return say(command.help);
  const ending = await command.run(args);
  switch (ending.kind) {
    case "exit":
      return ending.code;
    case "wrongUsage":
      return wrongUsage(ending.usageError, command);
    case "running":
      return undefined;
  }
}

function say(text: string): number {
  print(text);
  return 0;
}

function stray(argument: string, command?: Command): number {
  return wrongUsage(`Unexpected argument '${argument}'`, command);
}

function wrongUsage(usageError: string, command?: Command): number {
  const subject = command === undefined ? "" : ` ${command.name}`;
  complain(visible(usageError));
  hint(`Try: reliable-email${subject} --help\n`);
  return 2;
}

/** Its answer is one document, also where it fails. */
function wantsJson(args: readonly string[]): boolean {
  const end = args.indexOf("--");
  return (end === -1 ? args : args.slice(0, end)).includes("--json");
}

const args = process.argv.slice(2);
const code = await main(args).catch((error: unknown) => {
  if (error instanceof CannotWrite) {
    complain(error.message);
    return 1;
  }
  if (wantsJson(args)) {
    complain(`A bug: ${describe(error).reason}`);
    printFailure();
  }
  throw error;
});
if (code !== undefined) {
  if (code !== 0 && wantsJson(args)) printFailure();
  process.exit(code);
}
