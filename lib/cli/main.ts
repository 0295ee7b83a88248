// The entry of the executable: picks the command, and turns what came of it into an exit code.

import type { Command } from "./command.ts";
import { dev } from "./dev/dev.ts";
import { helpOf } from "./help.ts";
import { print } from "./output.ts";
import { server, worker } from "./services.ts";
import { versionLine } from "./version.ts";

const commands: readonly Command[] = [server, worker, dev];

const asksForHelp = (arg: string | undefined) => arg === "--help" || arg === "-h";

/** @returns the exit code; none if the process goes on */
async function main([name, ...args]: readonly string[]): Promise<number | undefined> {
  if (name === undefined) return wrongUsage("Which command?");
  if (name === "--version") return args.length === 0 ? say(versionLine()) : stray(args[0]!);
  if (name === "help" && args.length > 0) return main([...args, "--help"]);
  if (name === "help" || asksForHelp(name)) {
    const other = args.find((arg) => !asksForHelp(arg));
    return other === undefined ? say(helpOf(commands)) : stray(other);
  }

  const command = commands.find((one) => one.name === name);
  if (command === undefined) {
    const known = commands.map((one) => one.name).join(", ");
    return wrongUsage(
      name.startsWith("-") ? `Unknown option '${name}'` : `Unknown command '${name}': there are ${known}`,
    );
  }
  if (args.some(asksForHelp)) return say(command.help);
  const ending = await command.run(args);
  switch (ending.kind) {
    case "exit":
      return ending.code;
    case "wrongUsage":
      return wrongUsage(ending.mistake, command);
    case "running":
      return undefined;
  }
}

function say(text: string): number {
  print(text);
  return 0;
}

function stray(argument: string): number {
  return wrongUsage(`Unexpected argument '${argument}'`);
}

function wrongUsage(mistake: string, command?: Command): number {
  const subject = command === undefined ? "" : ` ${command.name}`;
  console.error(`${mistake}\nTry: reliable-email${subject} --help`);
  return 2;
}

const code = await main(process.argv.slice(2));
if (code !== undefined) process.exit(code);
