// `queue retry`: dead letters back to waiting, by their ids or all of them; and, by force, what may have been sent.

import type { Ending, SingleCommand } from "../command.ts";
import { readArguments } from "../command.ts";
import { complain, print, printJson } from "../output.ts";
import { openProgress } from "../progress.ts";
import { countOf } from "../text.ts";
import { pageMax, pagesOf } from "./pages.ts";
import { complainOf, type Failure, problemOf } from "./problems.ts";
import { replayable, replayDead, replayDoubtful } from "./replays.ts";
import { done, failed, type Session, withQueue } from "./session.ts";
import { storyOf } from "./story.ts";

export const retry: SingleCommand = {
  name: "queue retry",
  summary: "dead letters back to waiting",
  help: [
    "Usage: reliable-email queue retry <id>... [--force] [--reason text] [--json]",
    "       reliable-email queue retry --all [--force] [--reason text] [--json]",
    "",
    "Sends dead letters again, with a new key. Their attempts are kept, and",
    "GIVE_UP_AFTER begins anew. It may be repeated, and runs beside a running system:",
    "--all takes those that are dead when it begins.",
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
    "                 id with its `problem`",
  ].join("\n"),
  async run(args) {
    const read = readArguments(args, {
      all: { type: "boolean", default: false },
      reason: { type: "string" },
      force: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    });
    if (!read.ok) return { kind: "wrongUsage", mistake: read.mistake };
    const { options, words } = read.values;
    const { all, force, json, reason } = options;
    if (all === words.length > 0) {
      return {
        kind: "wrongUsage",
        mistake: all ? "Either --all or ids" : "Which emails? Their ids, or --all",
      };
    }
    // That every reason holds nothing is no answer to what a variable of a shell should have held.
    if (reason === "") return { kind: "wrongUsage", mistake: "--reason is empty" };
    const wanted: Wanted = { reason, force };
    return withQueue(async (session) => {
      const outcome = all
        ? await retryAll(session, wanted)
        : await retryEach(session, [...new Set(words)], wanted);
      return json ? printOutcome(outcome) : tell(outcome);
    });
  },
};

interface Wanted {
  readonly reason: string | undefined;
  readonly force: boolean;
}

interface Outcome {
  readonly retried: string[];
  readonly possibleDuplicates: string[];
  readonly failures: Failure[];
  /** Of all dead letters: those that may have been sent. */
  readonly heldBack: string[];
}

const nothingYet = (): Outcome => ({ retried: [], possibleDuplicates: [], failures: [], heldBack: [] });

async function retryAll(session: Session, { reason: text, force }: Wanted): Promise<Outcome> {
  const { operator, terminal } = session;
  const outcome = nothingYet();
  const { nowMs: beganAtMs, states } = await operator.stats();
  const progress = openProgress("Retrying", states.dead, terminal);
  let seen = 0;
  try {
    for await (const emails of pagesOf(operator, "dead")) {
      // What dies meanwhile, perhaps once more, is not retried: or else this might never end.
      const before = emails.filter(({ atMs = 0 }) => atMs <= beganAtMs);
      const wanted = before.filter((email) => text === undefined || storyOf(email).reason?.includes(text));
      const ready = wanted.map((email) => replayable(email, beganAtMs));
      const taken = ready.filter(({ mayBeDuplicate }) => force || !mayBeDuplicate);
      outcome.heldBack.push(...ready.filter((one) => !taken.includes(one)).map(({ id }) => id));
      const { retried, possibleDuplicates } = await replayDead(operator, taken);
      outcome.retried.push(...retried);
      outcome.possibleDuplicates.push(...possibleDuplicates);
      progress.show((seen += emails.length));
      if (before.length < emails.length) break;
    }
  } finally {
    progress.end();
  }
  return outcome;
}

async function retryEach(session: Session, ids: readonly string[], wanted: Wanted): Promise<Outcome> {
  const { operator, config } = session;
  const outcome = nothingYet();
  const { nowMs } = await operator.stats();
  for (let start = 0; start < ids.length; start += pageMax) {
    const dead: ReturnType<typeof replayable>[] = [];
    for (const id of ids.slice(start, start + pageMax)) {
      // Another of the same batch was named before.
      if (outcome.retried.includes(id)) continue;
      const stored = await operator.show(id);
      const mayBeMeant =
        wanted.reason === undefined || stored === undefined
          ? true
          : storyOf(stored).reason?.includes(wanted.reason);
      if (stored === undefined) outcome.failures.push({ id, problem: "unknown" });
      else if (stored.state === "in-doubt" && wanted.force && mayBeMeant) {
        const result = await replayDoubtful(operator, id, config.leaseMs);
        if ("problem" in result) {
          outcome.failures.push(result);
          continue;
        }
        outcome.retried.push(...result.retried);
        outcome.possibleDuplicates.push(...result.possibleDuplicates);
        // It was known to be accepted elsewhere, and so is sent.
        if (!result.retried.includes(id)) outcome.failures.push({ id, problem: "sent" });
      } else if (stored.state !== "dead") outcome.failures.push({ id, problem: stored.state });
      else if (!mayBeMeant) outcome.failures.push({ id, problem: "other-reason" });
      else {
        const ready = replayable(stored, nowMs);
        if (ready.mayBeDuplicate && !wanted.force) outcome.failures.push({ id, problem: "outcome-unknown" });
        else dead.push(ready);
      }
    }
    const { retried, possibleDuplicates } = await replayDead(operator, dead);
    outcome.retried.push(...retried);
    outcome.possibleDuplicates.push(...possibleDuplicates);
    const back = new Set(retried);
    for (const { id } of dead) {
      if (!back.has(id)) outcome.failures.push({ id, problem: await problemOf(operator, id) });
    }
  }
  return outcome;
}

function endingOf({ failures }: Outcome): Ending {
  return failures.length === 0 ? done : failed;
}

/** The documented form. */
function printOutcome(outcome: Outcome): Ending {
  complainOf(outcome.failures);
  printJson({
    retried: outcome.retried,
    possible_duplicates: outcome.possibleDuplicates,
    held_back: outcome.heldBack,
    failed: outcome.failures,
  });
  return endingOf(outcome);
}

function tell(outcome: Outcome): Ending {
  const { retried, possibleDuplicates, heldBack } = outcome;
  print(`${countOf(retried.length, "email")} back to waiting`);
  if (possibleDuplicates.length > 0) {
    print(`${countOf(possibleDuplicates.length, "possible duplicate")} among them:`);
    print(possibleDuplicates.map((id) => `  ${id}`).join("\n"));
  }
  if (heldBack.length > 0) {
    complain(`${countOf(heldBack.length, "dead letter")} may have been sent: --force retries them too`);
  }
  complainOf(outcome.failures);
  return endingOf(outcome);
}
