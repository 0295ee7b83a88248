// The entry point of the executable: finds the command, and turns its result into an exit code.

import { describe } from "../runtime/errors.ts";
import { build } from "../runtime/version.ts";
import { type Command, defineGroup, type ExitCode, UsageError, wordOf } from "./command.ts";
import { visibleLines } from "./format.ts";
import { complain, Failure, hint, print, printFailure } from "./output.ts";

// deploy/build.ts lets the executable start with code that is interpreted for longer, since most of it runs only once.
setTimeout(() => Bun.unsafe.setJITPolicy(1), 1000).unref();

/** Only the command that is called is loaded: the others would double the time that it takes to start. */
const loaders = new Map<string, () => Promise<Command>>([
  ["server", async () => (await import("./server_and_worker.ts")).serverCommand],
  ["worker", async () => (await import("./server_and_worker.ts")).workerCommand],
  ["dev", async () => (await import("./dev.ts")).devCommand],
  ["queue", async () => (await import("./queue/command.ts")).queueCommand],
  ["config", async () => (await import("./config/command.ts")).configCommand],
]);

/** Loads the command of this name; all of them if it is none, to list them. */
function loadCommands(name: string): Promise<Command[]> {
  const load = loaders.get(name);
  const loads = load === undefined ? [...loaders.values()] : [load];
  return Promise.all(loads.map((one) => one()));
}

/** Its help is enough for somebody who has only the executable to send a first email. */
const rootText = {
  name: "",
  summary: "",
  about: `\
Accepts emails over HTTP, stores them, and delivers them through Resend or
Postmark. No accepted email is lost, whichever process is killed.`,
  details: `\
Options:
  --help     prints this help or, after a command, the help of that command
  --version  prints the version, the commit and the version of Bun

To try it, run \`reliable-email dev\`, which needs no settings and sends nothing.
Then send an email:

  curl -d subject=Hi -d body=Hello -d to=jane@example.org http://127.0.0.1:3000

In production, run \`server\` and \`worker\` with settings in the environment:

  RESEND_API_KEY, POSTMARK_SERVER_TOKEN   at least one of them, for the worker
  DEFAULT_FROM                            the sender of emails that name none
  REDIS_URL                               the Redis that holds the queue
  DATA_DIR                                without REDIS_URL, the folder that
                                          holds the queue, by default ./data
  HOST, PORT                              where the server listens, by default
                                          127.0.0.1 and 3000

\`config --check\` tries the settings out, and \`queue stats\` shows the state of
the queue.

docs/ documents all settings, the API, the log, and what happens when
something fails.

Exit codes: 0 success, 1 failure, 2 usage error or invalid setting.`,
};

const asksForHelp = (arg: string) => arg === "--help" || arg === "-h";

/** Finds the command that the arguments name, as deep as groups go, and its own arguments. */
function find(command: Command, args: readonly string[]): [command: Command, args: readonly string[]] {
  const next = command.commands?.find((one) => wordOf(one) === args[0]);
  return next === undefined ? [command, args] : find(next, args.slice(1));
}

async function run(command: Command, args: readonly string[]): Promise<ExitCode | undefined> {
  const isVersion = command.name === "" && args[0] === "--version";
  const isHelp = command.commands === undefined ? args.some(asksForHelp) : asksForHelp(args[0] ?? "");
  if (!isVersion && !isHelp) return command.run(args);
  const stray = args.slice(1).find((arg) => !asksForHelp(arg));
  if (stray !== undefined && command.commands) throw new UsageError(`Unexpected argument '${stray}'`);
  print(isVersion ? versionText() : command.help());
  return 0;
}

function versionText(): string {
  const { name, version, commit, bun } = build;
  return `${name} ${version} (${commit === undefined ? "from sources" : `commit ${commit}`}, bun ${bun})`;
}

/** Whether the answer is to be one JSON document, even if the command fails. */
function wantsJson(args: readonly string[]): boolean {
  const end = args.indexOf("--");
  return (end === -1 ? args : args.slice(0, end)).includes("--json");
}

const [word, ...rest] = process.argv.slice(2);
const args = word === undefined ? [] : word === "help" ? [...rest, "--help"] : [word, ...rest];
const commands = args[0] === "--version" ? [] : await loadCommands(args[0] ?? "");
const [command, commandArgs] = find(defineGroup({ ...rootText, commands }), args);
try {
  const code = await run(command, commandArgs);
  // A service goes on, and ends the process itself.
  if (code !== undefined) process.exit(code);
} catch (error) {
  const isExpected = error instanceof Failure;
  const message = isExpected ? visibleLines(error.message) : `A bug: ${describe(error).reason}`;
  complain(message);
  if (error instanceof UsageError) hint(`Try: reliable-email ${[command.name, "--help"].join(" ").trim()}\n`);
  if (wantsJson(args)) printFailure(message);
  if (!isExpected) throw error;
  process.exit(error.exitCode);
}
