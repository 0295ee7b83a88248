// `queue clear`: deletes what waits, and leaves what is in a batch or dead.

import type { SingleCommand } from "../command.ts";
import { readOptions } from "../command.ts";
import { confirmed } from "../confirm.ts";
import { print, printJson } from "../output.ts";
import { openProgress } from "../progress.ts";
import { countOf } from "../text.ts";
import { pageMax } from "./pages.ts";
import { done, failed, withQueue } from "./session.ts";

export const clear: SingleCommand = {
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
    "          each state that it leaves",
  ].join("\n"),
  async run(args) {
    const read = readOptions(args, {
      yes: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    });
    if (!read.ok) return { kind: "wrongUsage", mistake: read.mistake };
    return withQueue(async ({ operator, terminal }) => {
      const { nowMs: beganAtMs, states: before } = await operator.stats();
      const count = before.waiting + before.retrying;
      const question = `Delete ${countOf(count, "email")} that wait or are to be tried again, for good`;
      if (!confirmed(question, read.values.yes, terminal)) return failed;
      const progress = openProgress("Deleting", count, terminal);
      let deleted = 0;
      try {
        let from: string | undefined;
        do {
          const cleared = await operator.clear(pageMax, beganAtMs, from);
          progress.show((deleted += cleared.deleted));
          from = cleared.next;
        } while (from !== undefined);
      } finally {
        progress.end();
      }
      const { sending, "in-doubt": inDoubt, dead } = (await operator.stats()).states;
      if (read.values.json) printJson({ deleted, left: { sending, "in-doubt": inDoubt, dead } });
      else {
        print(
          `${countOf(deleted, "email")} deleted. Left: ${countOf(sending + inDoubt, "email")} in batches, ${countOf(dead, "dead letter")}`,
        );
      }
      return done;
    });
  },
};
