// `queue delete`: deletes emails that are in no batch.

import { defineCommand, flag, UsageError } from "../command.ts";
import { formatCount } from "../format.ts";
import { print } from "../output.ts";
import { confirm } from "../terminal.ts";
import { changeEmails, chunksOf, type FailedEmail } from "./bulk.ts";
import { deadPages, jsonFlag, stateOf, withQueue } from "./session.ts";

/** `history` is that of a dead letter that was found, not named: if it has changed since, it is left alone. */
type Target = { readonly id: string; readonly history?: string };

export const deleteCommand = defineCommand({
  name: "queue delete",
  summary: "deletes emails that are in no batch, permanently",
  words: "<id>...|--all-dead",
  about:
    "Deletes emails that are scheduled, waiting, retrying or dead. Deleting a scheduled email cancels it. Only their ids are kept, for a while. An email in a batch cannot be altered, so it is left alone and reported.",
  options: {
    "all-dead": flag("all letters that are dead when the command begins; asks first"),
    yes: flag("does not ask"),
    json: jsonFlag,
  },
  async run({ "all-dead": allDead, yes, json }, ids) {
    if (allDead && ids.length > 0) throw new UsageError("Use either --all-dead or ids, not both");
    if (!allDead && ids.length === 0) throw new UsageError("Which emails? Give their ids, or --all-dead");
    return withQueue(async (session) => {
      const { admin, location, terminal } = session;
      const { nowMs, states } = await admin.stats();
      if (allDead && states.dead === 0 && !json) {
        print(`There are no dead letters (queue in ${location})`);
        return 0;
      }
      const question = `Delete ${formatCount(states.dead, "dead letter")} permanently (queue in ${location})`;
      if (allDead && states.dead > 0) confirm(question, yes, terminal);
      let deleted = 0;
      const failed: FailedEmail[] = [];
      const work = {
        label: "Deleting",
        total: allDead ? states.dead : ids.length,
        chunks: allDead ? deadPages(session, nowMs) : chunksOf(ids),
        async change(emails: readonly Target[]) {
          const histories = allDead ? emails.map(({ history = "" }) => history) : undefined;
          const answers = await admin.delete(
            emails.map(({ id }) => id),
            histories,
          );
          for (const [i, { id }] of emails.entries()) {
            const answer = answers[i];
            if (answer === "deleted") deleted += 1;
            else if (answer === "in-batch" || answer === "unreached") failed.push({ id, problem: answer });
            else if (!allDead) {
              // The ids of some emails that have left the queue are still known.
              const state = await stateOf(admin, id);
              const isNamed = state === "sent" || state === "deleted" || state === "unreached";
              failed.push({ id, problem: isNamed ? state : "unknown" });
            }
          }
          return deleted;
        },
        report: () => ({
          document: { deleted, failed },
          text: `${formatCount(deleted, "email")} deleted (queue in ${location})`,
          failed,
        }),
      };
      return changeEmails<readonly Target[]>(work, session, json);
    });
  },
});
