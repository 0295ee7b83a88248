// `queue pause` and `queue resume`: stop every claim of every worker, and let them go on.

import type { Admin } from "../../queue/contract.ts";
import type { SingleCommand } from "../command.ts";
import { readOptions } from "../command.ts";
import { print, printJson } from "../output.ts";
import { done, withQueue } from "./open_queue.ts";

export const pauseCommand = switchOf({
  name: "queue pause",
  summary: "stops every claim of every worker: nothing more is sent",
  about: [
    "Stops every claim of every worker, until `queue resume`, also over restarts.",
    "Requests in flight are settled; emails in doubt wait too. Submissions go on.",
    "Repeated, it changes nothing.",
  ],
  paused: true,
  turn: (admin) => admin.pause(),
  said: (place) =>
    `Paused the queue in ${place}: nothing more is claimed until \`reliable-email queue resume\`; submissions go on`,
});

export const resumeCommand = switchOf({
  name: "queue resume",
  summary: "lets the workers go on",
  about: ["Ends what `queue pause` began. Repeated, it changes nothing."],
  paused: false,
  turn: (admin) => admin.resume(),
  said: (place) => `Resumed the queue in ${place}: workers claim what is due`,
});

function switchOf({
  name,
  summary,
  about,
  paused,
  turn,
  said,
}: {
  name: string;
  summary: string;
  about: readonly string[];
  paused: boolean;
  turn: (admin: Admin) => Promise<void>;
  said: (place: string) => string;
}): SingleCommand {
  return {
    name,
    summary,
    help: [
      `Usage: reliable-email ${name} [--json]`,
      "",
      ...about,
      "",
      "Options:",
      "  --json  one object: which `queue`, and whether it is `paused` now",
    ].join("\n"),
    async run(args) {
      const read = readOptions(args, { json: { type: "boolean", default: false } });
      if (!read.ok) return { kind: "wrongUsage", usageError: read.usageError };
      return withQueue(async ({ admin, place }) => {
        await turn(admin);
        if (read.values.json) printJson({ queue: place, paused });
        else print(said(place));
        return done;
      });
    },
  };
}
