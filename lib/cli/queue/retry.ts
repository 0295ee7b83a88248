// `queue retry`: dead letters back to waiting, by their ids or all of them; and, by force, what may have been sent.

import type { CommandResult, SingleCommand } from "../command.ts";
import { readArguments } from "../command.ts";
import { complain, print, printJson } from "../output.ts";
import { openProgress } from "../progress.ts";
import { countOf } from "../format.ts";
import { type BulkRun, endingAfter, runBulk, type Stop, stopDocument } from "./bulk.ts";
import { pageMax, pagesOf } from "./pages.ts";
import { complainOf, type Failure, problemOf } from "./errors.ts";
import { retryRequestOf, retryDead, retryInDoubt, type Retried } from "./retry_runner.ts";
import { done, failed, type QueueSession, withQueue } from "./open_queue.ts";
import { emailViewOf } from "./email_view.ts";

export const retryCommand: SingleCommand = {
  name: "queue retry",
  summary: "dead letters back to waiting",
  help: [
    "Usage: reliable-email queue retry <id>... [--force] [--reason text] [--json]",
    "       reliable-email queue retry --all [--force] [--reason text] [--json]",
    "",
    "Sends dead letters again, with a new key. Their attempts are kept, and",
    "GIVE_UP_AFTER begins anew. It runs beside a running system, and may be",
    "interrupted and repeated: --all takes those that are dead when it begins.",
    "",
    "Of some dead letters nobody knows whether they were sent. They may arrive twice:",
    "they are retried only by --force, and then named.",
    "",
    "An email in doubt is retried only by its id and --force. That ends the doubt of",
    "its whole batch, which was one request: all its emails go back to waiting, and",
    "may arrive twice. It is refused while a worker has the batch.",
    "",
    "Options:",
    "  --all          all dead letters, never emails in doubt",
    "  --reason text  only those whose reason, as `queue stats` shows it, holds this",
    "  --force        also those that may have been sent",
    "  --json         one object: `retried` and `possible_duplicates` list ids, and",
    "                 `held_back` those that need --force; `failed` names each other",
    "                 id with its `problem`; not through: `interrupted`, `unclear`",
  ].join("\n"),
  async run(args) {
    const read = readArguments(args, {
      all: { type: "boolean", default: false },
      reason: { type: "string" },
      force: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    });
    if (!read.ok) return { kind: "wrongUsage", usageError: read.usageError };
    const { options, words } = read.values;
    const { all, force, json, reason } = options;
    if (all === words.length > 0) {
      return {
        kind: "wrongUsage",
        usageError: all ? "Either --all or ids" : "Which emails? Their ids, or --all",
      };
    }
    // That every reason holds nothing is no answer to what a variable of a shell should have held.
    if (reason === "") return { kind: "wrongUsage", usageError: "--reason is empty" };
    const wanted: Wanted = { reason, force };
    return withQueue(async (session) => {
      const outcome = nothingYet();
      const { nowMs, states } = await session.admin.stats();
      const stop = await runBulk(
        (bulkRun) =>
          all
            ? retryAll(session, wanted, { bulkRun, outcome, beganAtMs: nowMs, dead: states.dead })
            : retryEach(session, wanted, { bulkRun, outcome, beganAtMs: nowMs, ids: [...new Set(words)] }),
        session.config.signalRepeatMs,
      );
      if (json) printOutcome(outcome, stop, session);
      else tell(outcome, session);
      return endingAfter(stop, endingOf(outcome));
    });
  },
};

interface Wanted {
  readonly reason: string | undefined;
  readonly force: boolean;
}

interface Outcome extends Retried {
  readonly failures: Failure[];
  /** Of all dead letters: those that may have been sent. */
  readonly heldBack: string[];
}

const nothingYet = (): Outcome => ({ retried: [], possibleDuplicates: [], failures: [], heldBack: [] });

interface Run {
  readonly bulkRun: BulkRun;
  readonly outcome: Outcome;
  /** The store's time, Unix ms. */
  readonly beganAtMs: number;
}

async function retryAll(
  { admin, terminal }: QueueSession,
  { reason: text, force }: Wanted,
  { bulkRun, outcome, beganAtMs, dead }: Run & { readonly dead: number },
): Promise<void> {
  const progress = openProgress("Retrying", dead, terminal);
  let seen = 0;
  try {
    for await (const emails of pagesOf(admin, "dead")) {
      if (bulkRun.isStopped()) break;
      // What dies meanwhile, perhaps once more, is not retried: or else this might never end.
      const before = emails.filter(({ atMs = 0 }) => atMs <= beganAtMs);
      const wanted = before.filter(
        (email) => text === undefined || emailViewOf(email).reason?.includes(text),
      );
      const ready = wanted.map((email) => retryRequestOf(email, beganAtMs));
      const taken = ready.filter(({ mayBeDuplicate }) => force || !mayBeDuplicate);
      outcome.heldBack.push(...ready.filter((one) => !taken.includes(one)).map(({ id }) => id));
      await retryDead(admin, taken, bulkRun, outcome);
      progress.show((seen += emails.length));
      if (before.length < emails.length) break;
    }
  } finally {
    progress.end();
  }
}

async function retryEach(
  { admin, config }: QueueSession,
  wanted: Wanted,
  { bulkRun, outcome, beganAtMs, ids }: Run & { readonly ids: readonly string[] },
): Promise<void> {
  for (let start = 0; start < ids.length; start += pageMax) {
    const dead: ReturnType<typeof retryRequestOf>[] = [];
    for (const id of ids.slice(start, start + pageMax)) {
      // Another of the same batch was named before.
      if (outcome.retried.includes(id)) continue;
      if (bulkRun.isStopped()) return;
      const stored = await admin.show(id);
      const mayBeMeant =
        wanted.reason === undefined || stored === undefined
          ? true
          : emailViewOf(stored).reason?.includes(wanted.reason);
      if (stored === undefined) outcome.failures.push({ id, problem: "unknown" });
      else if (stored.state === "in-doubt" && wanted.force && mayBeMeant) {
        const failure = await retryInDoubt(admin, id, config.leaseMs, bulkRun, outcome);
        if (failure !== undefined) outcome.failures.push(failure);
        // It was known to be accepted elsewhere, and so is sent.
        else if (!outcome.retried.includes(id)) outcome.failures.push({ id, problem: "sent" });
      } else if (stored.state !== "dead") outcome.failures.push({ id, problem: stored.state });
      else if (!mayBeMeant) outcome.failures.push({ id, problem: "other-reason" });
      else {
        const ready = retryRequestOf(stored, beganAtMs);
        if (ready.mayBeDuplicate && !wanted.force) outcome.failures.push({ id, problem: "outcome-unknown" });
        else dead.push(ready);
      }
    }
    await retryDead(admin, dead, bulkRun, outcome);
    const back = new Set(outcome.retried);
    for (const { id } of dead) {
      if (!back.has(id)) outcome.failures.push({ id, problem: await problemOf(admin, id) });
    }
  }
}

function endingOf({ failures }: Outcome): CommandResult {
  return failures.length === 0 ? done : failed;
}

/** The documented form. */
function printOutcome(outcome: Outcome, stop: Stop | undefined, { place }: QueueSession): void {
  complainOf(outcome.failures);
  printJson({
    queue: place,
    retried: outcome.retried,
    possible_duplicates: outcome.possibleDuplicates,
    held_back: outcome.heldBack,
    failed: outcome.failures,
    ...stopDocument(stop),
  });
}

function tell(outcome: Outcome, { place }: QueueSession): void {
  const { retried, possibleDuplicates, heldBack } = outcome;
  print(`${countOf(retried.length, "email")} back to waiting (queue in ${place})`);
  if (possibleDuplicates.length > 0) {
    print(`${countOf(possibleDuplicates.length, "possible duplicate")} among them:`);
    print(possibleDuplicates.map((id) => `  ${id}`).join("\n"));
  }
  if (heldBack.length > 0) {
    complain(`${countOf(heldBack.length, "dead letter")} may have been sent: --force retries them too`);
  }
  complainOf(outcome.failures);
}
