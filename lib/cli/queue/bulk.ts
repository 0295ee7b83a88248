// Commands that change many emails: they work in chunks, report what could not be done, and stop at a signal. None keeps
// a record of its progress, since each can simply be run again.

import { StoreUnavailable } from "../../queue/contract.ts";
import { onSignals } from "../../runtime/service.ts";
import type { ExitCode } from "../command.ts";
import { formatNumber, visible } from "../format.ts";
import { complain, hint, print, printJson } from "../output.ts";
import { pageMax, type QueueSession } from "./session.ts";

/** The rest of a message that begins with an id. */
export const problems = {
  unknown: "is unknown: it was never in this queue, or left it so long ago that its id is no longer kept",
  scheduled: "is not a dead letter: it is scheduled",
  waiting: "is not a dead letter: it is waiting",
  retrying: "is not a dead letter: it will be retried",
  sending: "is not a dead letter: it is being sent",
  "in-doubt": "is in doubt, and the service is finding out. --force sends it again, with all of its batch",
  sent: "was sent",
  deleted: "was deleted before",
  "outcome-unknown": "may have been sent: --force retries it nevertheless, and it may arrive twice",
  "other-reason": "is dead for another reason",
  "in-batch": "is in a batch, and cannot be altered",
  busy: "is in doubt, and a worker has its batch at the moment: try again",
  unreached: "is in a part of the queue that does not answer: try again later",
  changed: "has changed meanwhile: try again",
  moving: "cannot be retried while the queue is being moved: retry in the new queue",
  "deleted-at-target": "was deleted in the new queue: delete it here too",
} as const;

/** Why something could not be done to an email, by its name in JSON. */
export type Problem = keyof typeof problems;

export interface FailedEmail {
  readonly id: string;
  readonly problem: Problem;
}

interface Change<Chunk> {
  /** The activity, such as `Deleting`. */
  readonly label: string;
  /** Emails, as far as is known before. */
  readonly total: number;
  readonly chunks: AsyncIterable<Chunk> | Iterable<Chunk>;
  /** Returns how many emails have been dealt with so far. */
  change(chunk: Chunk): Promise<number>;
  /** @param isLost whether the store was lost */
  report(isLost: boolean): Report | Promise<Report>;
}

/** The result of a command, as a document and as text. */
interface Report {
  readonly document: object;
  readonly text: string;
  readonly failed?: readonly FailedEmail[];
}

/**
 * Changes chunk after chunk until none is left, a signal comes, or the store is lost, and reports what was done. A
 * second signal ends the process at once. If the store was lost, its error is thrown after the report.
 */
export async function changeEmails<Chunk>(
  { label, total, chunks, change, report }: Change<Chunk>,
  { config, terminal, location, unreached }: QueueSession,
  json: boolean,
): Promise<ExitCode> {
  const showProgress = (text: string) => terminal.showsProgress && hint(`\r\x1b[K${text}`);
  let loss: StoreUnavailable | undefined;
  let isStopped = false;
  let isInterrupted = false;
  let release: (() => void) | undefined;
  try {
    for await (const chunk of chunks) {
      isInterrupted = isStopped;
      if (isInterrupted) break;
      // Before the first change a signal simply ends the process.
      release ??= onSignals({
        repeatMs: config.signalRepeatMs,
        first: () => (isStopped = true),
        second: () => process.exit(1),
      });
      const count = await change(chunk);
      showProgress(`${label}: ${formatNumber(count)} of ${formatNumber(Math.max(count, total))}`);
    }
  } catch (error) {
    if (!(error instanceof StoreUnavailable)) throw error;
    loss = error;
    isInterrupted = true;
  } finally {
    release?.();
    showProgress("");
  }

  const { document, text, failed = [] } = await report(loss !== undefined);
  if (json)
    printJson({
      queue: location,
      ...document,
      ...unreached.field,
      interrupted: isInterrupted || undefined,
    });
  else print(text);
  for (const { id, problem } of failed) complain(`${visible(id)} ${problems[problem]}`);
  if (isInterrupted) {
    const doubt = loss === undefined ? "" : ", and perhaps those of one more step";
    complain(`Interrupted: the changes above were made${doubt}; run the command again for the rest`);
  }
  if (loss !== undefined) throw loss;
  return isInterrupted || failed.length > 0 ? 1 : 0;
}

/** Emails by their ids, each once, in chunks that one call may take. */
export function* chunksOf(ids: readonly string[]): Generator<readonly { readonly id: string }[]> {
  const unique = [...new Set(ids)].map((id) => ({ id }));
  for (let start = 0; start < unique.length; start += pageMax) yield unique.slice(start, start + pageMax);
}
