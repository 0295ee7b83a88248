// `queue clear`: deletes the emails that are scheduled, waiting or retrying, and leaves those that are in a batch or dead.

import { defineCommand, flag } from "../command.ts";
import { formatCount } from "../format.ts";
import { confirm } from "../terminal.ts";
import { changeEmails } from "./bulk.ts";
import { jsonFlag, pageMax, withQueue } from "./session.ts";

export const clearCommand = defineCommand({
  name: "queue clear",
  summary: "deletes all emails that are scheduled, waiting or retrying, permanently",
  about:
    "Deletes every email that is scheduled, waiting or retrying, and reports how many it left: those in batches, which cannot be altered, and the dead letters. It asks first. Emails submitted after the command begins stay.",
  options: { yes: flag("does not ask"), json: jsonFlag },
  run({ yes, json }) {
    return withQueue(async (session) => {
      const { admin, location, terminal, unreached } = session;
      const { nowMs: beganAtMs, states } = await admin.stats();
      const total = states.scheduled + states.waiting + states.retrying;
      const question = `Delete ${formatCount(total, "scheduled, waiting or retrying email")} permanently (queue in ${location})`;
      if (total > 0) confirm(question, yes, terminal);
      let deleted = 0;
      let next: string | undefined;
      function* cursors() {
        do yield next;
        while (next !== undefined);
      }
      const work = {
        label: "Deleting",
        total,
        // Without a confirmation, not even what comes back from a batch at this moment is deleted.
        chunks: total > 0 || yes ? cursors() : [],
        async change(from: string | undefined) {
          const cleared = unreached.note(await admin.clear(pageMax, beganAtMs, from));
          next = cleared.next;
          return (deleted += cleared.deleted);
        },
        async report(isLost: boolean) {
          const done =
            total + deleted === 0 ? "Nothing to delete" : `${formatCount(deleted, "email")} deleted`;
          if (isLost) return { document: { deleted }, text: `${done} (queue in ${location})` };
          const { sending, "in-doubt": inDoubt, dead } = (await admin.stats()).states;
          const left = `${formatCount(sending + inDoubt, "email")} in batches, ${formatCount(dead, "dead letter")}`;
          return {
            document: { deleted, left: { sending, "in-doubt": inDoubt, dead } },
            text: `${done}. Left: ${left} (queue in ${location})`,
          };
        },
      };
      return changeEmails(work, session, json);
    });
  },
});
