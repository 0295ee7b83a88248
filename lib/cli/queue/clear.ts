// `queue clear`: deletes what waits, and leaves what is in a batch or dead.

import type { QueueStats } from "../../queue/contract.ts";
import type { SingleCommand } from "../command.ts";
import { readOptions } from "../command.ts";
import { confirmed } from "../confirm.ts";
import { complain, print, printJson } from "../output.ts";
import { openProgress } from "../progress.ts";
import { countOf, numberOf } from "../format.ts";
import { endingAfter, runBulk, type Stop, stopDocument } from "./bulk.ts";
import { pageMax } from "./pages.ts";
import { done, failed, withQueue } from "./open_queue.ts";

export const clearCommand: SingleCommand = {
  name: "queue clear",
  summary: "deletes all emails that wait, for good",
  help: [
    "Usage: reliable-email queue clear [--yes] [--json]",
    "",
    "Deletes every email that is waiting or retrying, and says how many it left:",
    "those in batches, which cannot be altered, and the dead letters. It asks before.",
    "What is submitted after it has begun stays.",
    "",
    "Options:",
    "  --yes   does not ask",
    "  --json  one object: `deleted` is a count, `left` has one under the name of",
    "          each state that it leaves; `interrupted` if it was not through",
  ].join("\n"),
  async run(args) {
    const read = readOptions(args, {
      yes: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    });
    if (!read.ok) return { kind: "wrongUsage", usageError: read.usageError };
    return withQueue(async ({ admin, config, place, terminal }) => {
      const { nowMs: beganAtMs, states: before } = await admin.stats();
      const count = before.waiting + before.retrying;
      const what = count === 1 ? "that waits or is" : "that wait or are";
      const question = `Delete ${countOf(count, "email")} ${what} to be tried again, for good (queue in ${place})`;
      if (count > 0 && !confirmed(question, read.values.yes, terminal)) return failed;
      const progress = openProgress("Deleting", count, terminal);
      let deleted = 0;
      let isAsked = false;
      let left: Left | undefined;
      const stop = await runBulk(async ({ isStopped }) => {
        // Unless it was confirmed, not even what comes back from a batch in this very moment.
        let from = count > 0 || read.values.yes ? "" : undefined;
        while (from !== undefined && !isStopped()) {
          isAsked = true;
          const cleared = await admin.clear(pageMax, beganAtMs, from === "" ? undefined : from);
          isAsked = false;
          progress.show((deleted += cleared.deleted));
          from = cleared.next;
        }
        left = leftOf((await admin.stats()).states);
      }, config.signalRepeatMs).finally(() => progress.end());
      if (read.values.json) printJson({ queue: place, deleted, left, ...stopDocument(stop) });
      else print(`${toldOf(deleted, stop)}${left ? leftText(left) : ""} (queue in ${place})`);
      if (isAsked) {
        complain(`The answer to the last step was lost: up to ${numberOf(pageMax)} more may be deleted`);
      }
      return endingAfter(stop, done);
    });
  },
};

type Left = Pick<QueueStats["states"], "sending" | "in-doubt" | "dead">;

function leftOf({ sending, "in-doubt": inDoubt, dead }: QueueStats["states"]): Left {
  return { sending, "in-doubt": inDoubt, dead };
}

function toldOf(deleted: number, stop: Stop | undefined): string {
  return deleted === 0 && stop === undefined ? "Nothing to delete" : `${countOf(deleted, "email")} deleted`;
}

function leftText({ sending, "in-doubt": inDoubt, dead }: Left): string {
  return `. Left: ${countOf(sending + inDoubt, "email")} in batches, ${countOf(dead, "dead letter")}`;
}
