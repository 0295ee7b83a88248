// The entry point of the executable: finds the command, and turns its result into an exit code.

import { describe } from "../runtime/errors.ts";
import { build } from "../runtime/version.ts";
import { type Command, type CommandGroup, commandList, type CommandResult, done } from "./command.ts";
import { wordOf, wrongUsage } from "./command.ts";
import { configCommand } from "./config/command.ts";
import { devCommand } from "./dev.ts";
import { visible } from "./format.ts";
import { CannotWrite, complain, hint, print, printFailure } from "./output.ts";
import { queueCommand } from "./queue/command.ts";
import { serverCommand, workerCommand } from "./server_and_worker.ts";

const commands = [serverCommand, workerCommand, devCommand, queueCommand, configCommand] as const;

/** Enough for somebody who has only the executable to send a first email. */
const help = `\
reliable-email takes emails over HTTP, stores them, and delivers them through
Resend or Postmark. Whatever process is killed meanwhile, no email is lost.

Usage: reliable-email <command> [options]

Commands:
${commandList(commands)}

Options:
  --help     prints this; after a command, the help of that command
  --version  prints the version, the commit and the version of Bun

To try it, run \`reliable-email dev\`, which needs no settings and sends nothing.
Then send an email:

  curl -d subject=Hi -d body=Hello -d to=jane@example.org http://127.0.0.1:3000

In production, run \`server\` and \`worker\` with settings in the environment:

  RESEND_API_KEY, POSTMARK_SERVER_TOKEN   at least one of them, for the worker
  DEFAULT_FROM                            the sender of emails that name none
  REDIS_URL                               where the queue is; without it, the
  DATA_DIR                                queue is in this folder, by default
                                          ./data
  HOST, PORT                              where the server listens, by default
                                          127.0.0.1 and 3000

\`config --check\` tries the settings out, and \`queue stats\` shows how the queue
is doing.

docs/ documents all settings, the API, the log, and what happens when
something fails.

Exit codes: 0 success, 1 failure, 2 usage error or invalid setting.`;

const root: CommandGroup = { name: "", summary: "", help, commands };

const asksForHelp = (arg: string) => arg === "--help" || arg === "-h";

/** Runs the command that the arguments name, within `command` if that is a group. */
async function run(command: Command, args: readonly string[]): Promise<CommandResult> {
  const [word = "", ...rest] = args;
  const isGroup = "commands" in command;
  if (isGroup ? asksForHelp(word) : args.some(asksForHelp)) {
    const stray = isGroup ? rest.find((arg) => !asksForHelp(arg)) : undefined;
    if (stray !== undefined) return report(command, wrongUsage(`Unexpected argument '${stray}'`));
    print(command.help);
    return done;
  }
  if (!isGroup) return report(command, await command.run(args));
  const found = command.commands.find((one) => wordOf(one) === word);
  return found === undefined ? report(command, wrongUsage(unknownText(command, word))) : run(found, rest);
}

function unknownText({ commands: known }: CommandGroup, word: string): string {
  if (word === "") return "Which command?";
  if (word.startsWith("-")) return `Unknown option '${word}'`;
  return `Unknown command '${word}': there are ${known.map(wordOf).join(", ")}`;
}

/** Prints a usage error, with the command whose help says more. */
function report(command: Command, result: CommandResult): CommandResult {
  if (result.kind === "wrongUsage") {
    complain(visible(result.usageError));
    hint(`Try: ${["reliable-email", command.name, "--help"].filter((part) => part !== "").join(" ")}\n`);
  }
  return result;
}

async function main([word, ...rest]: readonly string[]): Promise<CommandResult> {
  if (word === "help") return run(root, [...rest, "--help"]);
  if (word !== "--version") return run(root, word === undefined ? [] : [word, ...rest]);
  const [stray] = rest;
  if (stray !== undefined) return report(root, wrongUsage(`Unexpected argument '${stray}'`));
  const { name, version, commit, bun } = build;
  print(`${name} ${version} (${commit === undefined ? "from sources" : `commit ${commit}`}, bun ${bun})`);
  return done;
}

/** Whether the answer is to be one JSON document, even if the command fails. */
function wantsJson(args: readonly string[]): boolean {
  const end = args.indexOf("--");
  return (end === -1 ? args : args.slice(0, end)).includes("--json");
}

const args = process.argv.slice(2);
const result = await main(args).catch((error: unknown): CommandResult => {
  if (error instanceof CannotWrite) {
    complain(error.message);
    return { kind: "exit", code: 1 };
  }
  if (wantsJson(args)) {
    complain(`A bug: ${describe(error).reason}`);
    printFailure();
  }
  throw error;
});
if (result.kind !== "running") {
  const code = result.kind === "exit" ? result.code : 2;
  if (code !== 0 && wantsJson(args)) printFailure();
  process.exit(code);
}
