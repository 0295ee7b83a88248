// The command `dev`: server and worker as children, until a signal ends them or one of them ends by itself.

import { errorCode } from "../../runtime/errors.ts";
import { makeDir } from "../../runtime/durable_dir.ts";
import { outboxIn } from "../../providers/registry.ts";
import { createLog } from "../../runtime/log.ts";
import { onStop } from "../../runtime/signals.ts";
import { type Command, type CommandResult, readOptions } from "../command.ts";
import { print } from "../output.ts";
import { watchOutbox } from "./outbox_watch.ts";
import { type Child, startChild } from "./children.ts";
import { formatLogLine, isAtLeast, parseLogLine } from "./log_line.ts";
import { type DevSettings, devSettings } from "./settings.ts";
import { banner } from "./banner.ts";
import { isTaken } from "./port_check.ts";

const names = ["server", "worker"] as const;

export const devCommand: Command = {
  name: "dev",
  summary: "both at once, to try it: emails land in a folder, nothing is sent",
  help: [
    "Usage: reliable-email dev",
    "",
    "Runs a server and a worker until Ctrl-C. It needs no settings. It shows each",
    "email as it lands, and the warnings and errors of the log.",
    "",
    "Settings of the environment hold. Without them, some differ from what they are",
    "elsewhere:",
    "",
    "  PROVIDERS      sandbox: each email becomes a file in DATA_DIR/outbox. Keys of",
    "                 providers in the environment are not used unless this is set.",
    "  DEFAULT_FROM   dev@example.com",
    "  LOG_LEVEL      warn",
    "",
    "A given ADMIN_PORT is the server's, and the worker's is the next.",
  ].join("\n"),
  async run(args) {
    const options = readOptions(args, {});
    if (!options.ok) return { kind: "wrongUsage", usageError: options.usageError };
    const read = devSettings(process.env);
    if (read.ok) return start(read.settings);
    console.error(read.message);
    return { kind: "exit", code: 2 };
  },
};

async function start(settings: DevSettings): Promise<CommandResult> {
  const { config, admin, shown } = settings;
  if (await isTaken(config.host, config.port)) {
    console.error(
      `Cannot start: PORT ${config.port} is taken by another process: stop it, or set another PORT`,
    );
    return { kind: "exit", code: 1 };
  }
  for (const port of admin === undefined ? [] : Object.values(admin.ports)) {
    if (!(await isTaken(admin!.host, port))) continue;
    console.error(
      `Cannot start: ADMIN_PORT ${port} is taken by another process: set it to another, or ADMIN_PORT= for none`,
    );
    return { kind: "exit", code: 1 };
  }
  if (config.providers.some(({ name }) => name === "sandbox")) {
    const outbox = outboxIn(config.dataDir);
    try {
      makeDir(outbox);
    } catch (error) {
      const code = errorCode(error) ?? "unknown error";
      console.error(`Cannot start: DATA_DIR cannot hold the folder ${outbox} (${code})`);
      return { kind: "exit", code: 1 };
    }
    watchOutbox(outbox, (path) => print(`→ ${path}`));
  }

  /** Of the server; and whether the worker has started. */
  let port: number | undefined;
  let delivers = false;
  let greeted = false;
  const onLine = (name: string, line: string) => {
    const entry = parseLogLine(line);
    if (entry === undefined) return print(`${name}: ${line}`);
    if (isAtLeast(entry, shown)) print(formatLogLine(name, entry));
    if (entry.event === "server-listening") port = Number(entry.fields["port"]);
    if (entry.event === "worker-started") delivers = true;
    if (greeted || port === undefined || !delivers) return;
    greeted = true;
    print(banner(settings, port));
  };
  const children = names.map((name) =>
    startChild({
      name,
      env: { ...settings.env, ...(admin !== undefined && { ADMIN_PORT: String(admin.ports[name]) }) },
      onLine: (line) => onLine(name, line),
    }),
  );

  let stopping = false;
  onStop({
    log: createLog({ level: shown, write: (line) => print(formatLogLine("dev", parseLogLine(line)!)) }),
    // They keep to the same bound, and this is for when they do not.
    timeoutMs: config.shutdownTimeoutMs + 2000,
    repeatMs: config.signalRepeatMs,
    async drain() {
      stopping = true;
      print("Stopping");
      if (!(await stopAll(children))) throw new Error("a process did not end well");
    },
  });

  const first = await Promise.race(
    children.map(async ({ name, exited }) => ({ name, how: (await exited) ?? "exit code 0" })),
  );
  if (stopping) return { kind: "running" };
  console.error(`The ${first.name} has ended by itself (${first.how}): stopping`);
  await stopAll(children);
  return { kind: "exit", code: 1 };
}

/** @returns whether all ended as they should */
async function stopAll(children: readonly Child[]): Promise<boolean> {
  for (const child of children) child.stop();
  const ends = await Promise.all(children.map(({ exited }) => exited));
  return ends.every((how) => how === undefined);
}
