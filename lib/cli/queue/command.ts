// The command `queue`: what an operator may ask of the queue, and do to it.

import type { CommandGroup } from "../command.ts";
import { wordOf } from "../command.ts";
import { clearCommand } from "./clear.ts";
import { deleteCommand } from "./delete.ts";
import { listCommand } from "./list.ts";
import { pauseCommand, resumeCommand } from "./pause.ts";
import { retryCommand } from "./retry.ts";
import { showCommand } from "./show.ts";
import { statsCommand } from "./stats.ts";

const commands = [
  statsCommand,
  listCommand,
  showCommand,
  retryCommand,
  deleteCommand,
  pauseCommand,
  resumeCommand,
  clearCommand,
] as const;

export const queueCommand: CommandGroup = {
  name: "queue",
  summary: "looks into the queue, and retries, deletes or pauses",
  help: [
    "Usage: reliable-email queue <command> [options]",
    "",
    "Looks into the queue and changes what is in it, beside running servers and",
    "workers. The settings say where it is: REDIS_URL and REDIS_PREFIX, or DATA_DIR.",
    "",
    "Commands:",
    ...commands.map((command) => `  ${wordOf(command).padEnd(6)}  ${command.summary}`),
    "",
    "Each has a --help of its own. With --json it prints one document on stdout: if it",
    "fails before it has one, an object with `error`, what stderr says.",
    "",
    "Exit codes: 0 done, 1 failed or not all of it done, 2 wrong usage or a wrong",
    "setting.",
  ].join("\n"),
  commands,
};
