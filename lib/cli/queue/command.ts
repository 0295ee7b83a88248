// The command group `queue`, with its two shortest commands: `queue pause` and `queue resume`.

import { defineCommand, defineGroup } from "../command.ts";
import { print, printJson } from "../output.ts";
import { clearCommand } from "./clear.ts";
import { deleteCommand } from "./delete.ts";
import { listCommand } from "./list.ts";
import { moveCommand } from "./move.ts";
import { retryCommand } from "./retry.ts";
import { jsonFlag, withQueue } from "./session.ts";
import { showCommand } from "./show.ts";
import { statsCommand } from "./stats.ts";

const pauseCommand = defineCommand({
  name: "queue pause",
  summary: "stops every claim of every worker: nothing more is sent",
  about:
    "Stops every claim of every worker until `queue resume`, even if they restart. Requests in flight are settled; emails in doubt wait too. Submissions continue. Repeating it changes nothing.",
  options: { json: jsonFlag },
  run: ({ json }) => setPaused(true, json),
});

const resumeCommand = defineCommand({
  name: "queue resume",
  summary: "lets the workers continue",
  about: "Ends a `queue pause`. Repeating it changes nothing.",
  options: { json: jsonFlag },
  run: ({ json }) => setPaused(false, json),
});

function setPaused(paused: boolean, json: boolean) {
  return withQueue(async ({ admin, location, unreached }) => {
    unreached.note(await admin.setPaused(paused));
    if (json) printJson({ queue: location, paused, ...unreached.field });
    else if (!paused) print(`Resumed the queue in ${location}: workers claim what is due`);
    else
      print(
        `Paused the queue in ${location}: nothing more is claimed until \`reliable-email queue resume\`; submissions continue`,
      );
    return 0;
  });
}

export const queueCommand = defineGroup({
  name: "queue",
  summary: "shows, pauses and moves the queue, retries and deletes emails",
  about: `\
Shows and changes the emails in the queue, also while servers and workers run.
The settings say where it is: REDIS_URL and REDIS_PREFIX, or DATA_DIR.`,
  details: `\
Each command has its own --help. With --json it prints one document on stdout.
If it fails before it has one, it prints an object whose \`error\` is the message
on stderr.

Exit codes: 0 success, 1 failure or not everything done, 2 usage error or
invalid setting.`,
  commands: [
    statsCommand,
    listCommand,
    showCommand,
    retryCommand,
    deleteCommand,
    pauseCommand,
    resumeCommand,
    clearCommand,
    moveCommand,
  ],
});
