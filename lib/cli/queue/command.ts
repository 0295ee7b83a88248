// The group of commands `queue`, and its two shortest: `queue pause` and `queue resume`.

import type { Admin } from "../../queue/contract.ts";
import { type CommandGroup, commandList, defineCommand, done } from "../command.ts";
import { print, printJson } from "../output.ts";
import { clearCommand } from "./clear.ts";
import { deleteCommand } from "./delete.ts";
import { listCommand } from "./list.ts";
import { retryCommand } from "./retry.ts";
import { jsonFlag, withQueue } from "./session.ts";
import { showCommand } from "./show.ts";
import { statsCommand } from "./stats.ts";

const pauseCommand = switchCommand({
  name: "queue pause",
  summary: "stops every claim of every worker: nothing more is sent",
  about:
    "Stops every claim of every worker until `queue resume`, even if they restart. Requests in flight are settled; emails in doubt wait too. Submissions go on. Repeating it changes nothing.",
  isPaused: true,
  change: (admin) => admin.pause(),
  answer: (location) =>
    `Paused the queue in ${location}: nothing more is claimed until \`reliable-email queue resume\`; submissions go on`,
});

const resumeCommand = switchCommand({
  name: "queue resume",
  summary: "lets the workers go on",
  about: "Ends a `queue pause`. Repeating it changes nothing.",
  isPaused: false,
  change: (admin) => admin.resume(),
  answer: (location) => `Resumed the queue in ${location}: workers claim what is due`,
});

function switchCommand({
  isPaused,
  change,
  answer,
  ...description
}: {
  readonly name: string;
  readonly summary: string;
  readonly about: string;
  readonly isPaused: boolean;
  change(admin: Admin): Promise<void>;
  answer(location: string): string;
}) {
  return defineCommand({
    ...description,
    options: { json: jsonFlag },
    run: ({ json }) =>
      withQueue(async ({ admin, location }) => {
        await change(admin);
        if (json) printJson({ queue: location, paused: isPaused });
        else print(answer(location));
        return done;
      }),
  });
}

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
  help: `\
Usage: reliable-email queue <command> [options]

Looks into the queue and changes what is in it, beside running servers and
workers. The settings say where it is: REDIS_URL and REDIS_PREFIX, or DATA_DIR.

Commands:
${commandList(commands)}

Each has its own --help. With --json it prints one document on stdout: if it fails
before it has one, an object with \`error\`, which holds what stderr says.

Exit codes: 0 success, 1 failure or not everything done, 2 usage error or invalid
setting.`,
  commands,
};
