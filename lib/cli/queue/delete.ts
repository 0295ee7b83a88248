// `queue delete`: deletes emails that are in no batch.

import type { Admin } from "../../queue/contract.ts";
import { defineCommand, done, failed, flag, wrongUsage } from "../command.ts";
import { formatCount } from "../format.ts";
import { print, printJson } from "../output.ts";
import { confirm } from "../terminal.ts";
import { chunksOf, complainAbout, type Failure, forEachChunk, resultOf } from "./bulk.ts";
import { deadPages, jsonFlag, withQueue } from "./session.ts";

export const deleteCommand = defineCommand({
  name: "queue delete",
  summary: "deletes emails that are in no batch, permanently",
  words: "<id>...|--all-dead",
  wordsMax: Number.POSITIVE_INFINITY,
  about:
    "Deletes emails that wait or are dead. Only their ids stay known for a while. An email in a batch cannot be altered, and is refused.",
  options: {
    "all-dead": flag("the dead letters that there are when it begins; asks first"),
    yes: flag("does not ask"),
    json: jsonFlag,
  },
  run({ "all-dead": allDead, yes, json }, ids) {
    if (allDead && ids.length > 0) return wrongUsage("Either --all-dead or ids");
    if (!allDead && ids.length === 0) return wrongUsage("Which emails? Their ids, or --all-dead");
    return withQueue(async (session) => {
      const { admin, location, terminal } = session;
      const { nowMs, states } = await admin.stats();
      if (allDead && states.dead === 0 && !json) {
        print(`There are no dead letters (queue in ${location})`);
        return done;
      }
      const question = `Delete ${formatCount(states.dead, "dead letter")} permanently (queue in ${location})`;
      if (allDead && states.dead > 0 && !confirm(question, yes, terminal)) return failed;
      const outcome: Outcome = { deleted: 0, failures: [] };
      const interruption = await forEachChunk<readonly Target[]>(
        allDead ? deadPages(admin, nowMs) : chunksOf(ids),
        (emails) => deleteChunk(admin, emails, outcome),
        { label: "Deleting", total: allDead ? states.dead : ids.length },
        session,
      );
      const { deleted, failures } = outcome;
      if (json)
        printJson({ queue: location, deleted, failed: failures, ...(interruption && { interrupted: true }) });
      else print(`${formatCount(deleted, "email")} deleted (queue in ${location})`);
      complainAbout(failures);
      return resultOf(interruption, failures);
    });
  },
});

interface Target {
  readonly id: string;
  /** For a dead letter that was found in the queue, not named: one that has changed since is left alone. */
  readonly history?: string;
}

interface Outcome {
  deleted: number;
  readonly failures: Failure[];
}

/** @returns how many were deleted so far */
async function deleteChunk(admin: Admin, emails: readonly Target[], outcome: Outcome): Promise<number> {
  const ids = emails.map(({ id }) => id);
  const histories = emails.flatMap(({ history }) => history ?? []);
  const isFound = histories.length > 0;
  const answers = await admin.delete(ids, isFound ? histories : undefined);
  for (const [i, id] of ids.entries()) {
    const answer = answers[i];
    if (answer === "deleted") outcome.deleted += 1;
    else if (answer === "in-batch") outcome.failures.push({ id, problem: answer });
    else if (!isFound) {
      // The ids of some emails that have left the queue are still known.
      const state = (await admin.show(id))?.state;
      outcome.failures.push({ id, problem: state === "sent" || state === "deleted" ? state : "unknown" });
    }
  }
  return outcome.deleted;
}
