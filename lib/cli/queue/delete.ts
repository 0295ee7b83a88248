// `queue delete`: emails that are in no batch, for good.

import type { SingleCommand } from "../command.ts";
import { readArguments } from "../command.ts";
import { confirmed } from "../confirm.ts";
import { print, printJson } from "../output.ts";
import { openProgress } from "../progress.ts";
import { countOf } from "../format.ts";
import { type BulkRun, endingAfter, runBulk, type Stop, stopDocument } from "./bulk.ts";
import { pageMax, pagesOf } from "./pages.ts";
import { complainOf, type Failure } from "./errors.ts";
import { done, failed, type QueueSession, withQueue } from "./open_queue.ts";

export const deleteCommand: SingleCommand = {
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
    "              with its `problem`; not through: `interrupted`, `unclear`",
  ].join("\n"),
  async run(args) {
    const read = readArguments(args, {
      "all-dead": { type: "boolean", default: false },
      yes: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    });
    if (!read.ok) return { kind: "wrongUsage", usageError: read.usageError };
    const { options, words } = read.values;
    const allDead = options["all-dead"];
    if (allDead === words.length > 0) {
      const usageError = allDead ? "Either --all-dead or ids" : "Which emails? Their ids, or --all-dead";
      return { kind: "wrongUsage", usageError };
    }
    return withQueue(async (session) => {
      const outcome: Outcome = { deleted: 0, failures: [] };
      const { admin, place, terminal } = session;
      const { nowMs, states } = await admin.stats();
      if (allDead && states.dead === 0 && !options.json) {
        print(`There are no dead letters (queue in ${place})`);
        return done;
      }
      if (allDead && states.dead > 0) {
        const question = `Delete ${countOf(states.dead, "dead letter")} for good (queue in ${place})`;
        if (!confirmed(question, options.yes, terminal)) return failed;
      }
      const stop = await runBulk(
        (bulkRun) =>
          allDead
            ? deleteAllDead(session, { bulkRun, outcome, beganAtMs: nowMs, dead: states.dead })
            : deleteEach(session, { bulkRun, outcome, ids: [...new Set(words)] }),
        session.config.signalRepeatMs,
      );
      report(outcome, stop, session, options.json);
      return endingAfter(stop, outcome.failures.length === 0 ? done : failed);
    });
  },
};

interface Outcome {
  deleted: number;
  readonly failures: Failure[];
}

interface Run {
  readonly bulkRun: BulkRun;
  readonly outcome: Outcome;
}

async function deleteEach(
  { admin }: QueueSession,
  { bulkRun, outcome, ids }: Run & { readonly ids: readonly string[] },
): Promise<void> {
  for (let start = 0; start < ids.length; start += pageMax) {
    const some = ids.slice(start, start + pageMax);
    if (bulkRun.isStopped()) return;
    const answers = await bulkRun.change(some, () => admin.delete(some));
    outcome.deleted += answers.filter((answer) => answer === "deleted").length;
    for (const [i, id] of some.entries()) {
      const answer = answers[i];
      if (answer === "deleted") continue;
      if (answer === "in-batch") outcome.failures.push({ id, problem: answer });
      else {
        // Some of those that are there no more are known still.
        const state = (await admin.show(id))?.state;
        outcome.failures.push({ id, problem: state === "sent" || state === "deleted" ? state : "unknown" });
      }
    }
  }
}

async function deleteAllDead(
  { admin, terminal }: QueueSession,
  { bulkRun, outcome, beganAtMs, dead }: Run & { readonly beganAtMs: number; readonly dead: number },
): Promise<void> {
  const progress = openProgress("Deleting", dead, terminal);
  try {
    for await (const emails of pagesOf(admin, "dead")) {
      if (bulkRun.isStopped()) return;
      const before = emails.filter(({ atMs = 0 }) => atMs <= beganAtMs);
      const ids = before.map(({ id }) => id);
      // Another operator may have sent some back to waiting since, where they may have died again.
      const seen = before.map(({ history }) => history);
      const answers = await bulkRun.change(ids, () => admin.delete(ids, seen));
      outcome.deleted += answers.filter((answer) => answer === "deleted").length;
      progress.show(outcome.deleted);
      if (before.length < emails.length) break;
    }
  } finally {
    progress.end();
  }
}

function report(
  { deleted, failures }: Outcome,
  stop: Stop | undefined,
  { place }: QueueSession,
  json: boolean,
): void {
  if (json) printJson({ queue: place, deleted, failed: failures, ...stopDocument(stop) });
  else print(`${countOf(deleted, "email")} deleted (queue in ${place})`);
  complainOf(failures);
}
