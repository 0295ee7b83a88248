// `queue delete`: emails that are in no batch, for good.

import type { Ending, SingleCommand } from "../command.ts";
import { readArguments } from "../command.ts";
import { confirmed } from "../confirm.ts";
import { print, printJson } from "../output.ts";
import { openProgress } from "../progress.ts";
import { countOf } from "../text.ts";
import { pageMax, pagesOf } from "./pages.ts";
import { complainOf, type Failure } from "./problems.ts";
import { done, failed, type Session, withQueue } from "./session.ts";

export const deletion: SingleCommand = {
  name: "queue delete",
  summary: "deletes emails that are in no batch, for good",
  help: [
    "Usage: reliable-email queue delete <id>... [--json]",
    "       reliable-email queue delete --all-dead [--yes] [--json]",
    "",
    "Deletes emails that wait or are dead. Nothing of them is kept but that their ids",
    "were known. An email in a batch cannot be altered, and is refused.",
    "",
    "Options:",
    "  --all-dead  the dead letters that there are when it begins; asks before",
    "  --yes       does not ask",
    "  --json      one object: `deleted` is a count, `failed` names each other id",
    "              with its `problem`",
  ].join("\n"),
  async run(args) {
    const read = readArguments(args, {
      "all-dead": { type: "boolean", default: false },
      yes: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    });
    if (!read.ok) return { kind: "wrongUsage", mistake: read.mistake };
    const { options, words } = read.values;
    const allDead = options["all-dead"];
    if (allDead === words.length > 0) {
      const mistake = allDead ? "Either --all-dead or ids" : "Which emails? Their ids, or --all-dead";
      return { kind: "wrongUsage", mistake };
    }
    return withQueue(async (session) => {
      const outcome = allDead
        ? await deleteAllDead(session, options.yes)
        : await deleteEach(session, [...new Set(words)]);
      return outcome === undefined ? failed : report(outcome, options.json);
    });
  },
};

interface Outcome {
  readonly deleted: number;
  readonly failures: readonly Failure[];
}

async function deleteEach({ operator }: Session, ids: readonly string[]): Promise<Outcome> {
  let deleted = 0;
  const failures: Failure[] = [];
  for (let start = 0; start < ids.length; start += pageMax) {
    const some = ids.slice(start, start + pageMax);
    const answers = await operator.delete(some);
    for (const [i, id] of some.entries()) {
      const answer = answers[i];
      if (answer === "deleted") deleted += 1;
      else if (answer === "in-batch") failures.push({ id, problem: answer });
      else {
        // Some of those that are there no more are known still.
        const state = (await operator.show(id))?.state;
        failures.push({ id, problem: state === "sent" || state === "deleted" ? state : "unknown" });
      }
    }
  }
  return { deleted, failures };
}

/** Nothing if it was not confirmed. */
async function deleteAllDead({ operator, terminal }: Session, yes: boolean): Promise<Outcome | undefined> {
  const { nowMs: beganAtMs, states } = await operator.stats();
  if (!confirmed(`Delete ${countOf(states.dead, "dead letter")} for good`, yes, terminal)) return undefined;
  const progress = openProgress("Deleting", states.dead, terminal);
  let deleted = 0;
  try {
    for await (const emails of pagesOf(operator, "dead")) {
      const before = emails.filter(({ atMs = 0 }) => atMs <= beganAtMs);
      const answers = await operator.delete(
        before.map(({ id }) => id),
        // Another operator may have sent some back to waiting since.
        { ifDead: true },
      );
      deleted += answers.filter((answer) => answer === "deleted").length;
      progress.show(deleted);
      if (before.length < emails.length) break;
    }
  } finally {
    progress.end();
  }
  return { deleted, failures: [] };
}

function report({ deleted, failures }: Outcome, json: boolean): Ending {
  if (json) printJson({ deleted, failed: failures });
  else print(`${countOf(deleted, "email")} deleted`);
  complainOf(failures);
  return failures.length === 0 ? done : failed;
}
