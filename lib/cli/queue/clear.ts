// `queue clear`: deletes the emails that wait, and leaves those that are in a batch or dead.

import { defineCommand, failed, flag } from "../command.ts";
import { formatCount } from "../format.ts";
import { print, printJson } from "../output.ts";
import { confirm } from "../terminal.ts";
import { forEachChunk, resultOf } from "./bulk.ts";
import { jsonFlag, pageMax, withQueue } from "./session.ts";

export const clearCommand = defineCommand({
  name: "queue clear",
  summary: "deletes all emails that wait, permanently",
  about:
    "Deletes every email that is waiting or retrying, and reports how many it left: those in batches, which cannot be altered, and the dead letters. It asks first. What is submitted after it has begun stays.",
  options: { yes: flag("does not ask"), json: jsonFlag },
  run({ yes, json }) {
    return withQueue(async (session) => {
      const { admin, location, terminal } = session;
      const { nowMs: beganAtMs, states } = await admin.stats();
      const count = states.waiting + states.retrying;
      const verbs = count === 1 ? "waits or is" : "wait or are";
      const question = `Delete ${formatCount(count, "email")} that ${verbs} to be tried again, permanently (queue in ${location})`;
      if (count > 0 && !confirm(question, yes, terminal)) return failed;
      let deleted = 0;
      let next: string | undefined;
      function* cursors() {
        do yield next;
        while (next !== undefined);
      }
      const interruption = await forEachChunk(
        // Without a confirmation, not even what comes back from a batch at this moment is deleted.
        count > 0 || yes ? cursors() : [],
        async (from) => {
          const cleared = await admin.clear(pageMax, beganAtMs, from);
          next = cleared.next;
          return (deleted += cleared.deleted);
        },
        { label: "Deleting", total: count },
        session,
      );
      const isLost = interruption !== undefined && interruption !== "signal";
      const { sending, "in-doubt": inDoubt, dead } = isLost ? states : (await admin.stats()).states;
      const left = isLost ? undefined : { sending, "in-doubt": inDoubt, dead };
      if (json) printJson({ queue: location, deleted, left, ...(interruption && { interrupted: true }) });
      else {
        const what =
          deleted === 0 && interruption === undefined
            ? "Nothing to delete"
            : `${formatCount(deleted, "email")} deleted`;
        const rest = `. Left: ${formatCount(sending + inDoubt, "email")} in batches, ${formatCount(dead, "dead letter")}`;
        print(`${what}${isLost ? "" : rest} (queue in ${location})`);
      }
      return resultOf(interruption, []);
    });
  },
});
