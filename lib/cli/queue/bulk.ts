// Commands that change many emails: they work in chunks, report what could not be done, and stop at a signal. None keeps
// a record of its progress, since each can simply be run again.

import { StoreUnavailable } from "../../queue/contract.ts";
import { onSignals } from "../../runtime/service.ts";
import { type CommandResult, done, failed } from "../command.ts";
import { formatNumber, visible } from "../format.ts";
import { complain, hint } from "../output.ts";
import { pageMax, type QueueSession } from "./session.ts";

/** Why a command ended early: a signal came, or the store was lost. */
export type Interruption = "signal" | StoreUnavailable;

interface Progress {
  /** The activity, such as `Deleting`. */
  readonly label: string;
  /** Emails, as far as is known before. */
  readonly total: number;
}

/**
 * Calls `change` for each chunk until there is none left, a signal comes, or the store is lost. A second signal ends the
 * process at once.
 * @param change returns how many emails have been dealt with so far
 */
export async function forEachChunk<Chunk>(
  chunks: AsyncIterable<Chunk> | Iterable<Chunk>,
  change: (chunk: Chunk) => Promise<number>,
  { label, total }: Progress,
  { config, terminal }: QueueSession,
): Promise<Interruption | undefined> {
  const show = (text: string) => terminal.showsProgress && hint(`\r\x1b[K${text}`);
  let isStopped = false;
  let release: (() => void) | undefined;
  try {
    for await (const chunk of chunks) {
      if (isStopped) return "signal";
      // Before the first change a signal simply ends the process.
      release ??= onSignals({
        repeatMs: config.signalRepeatMs,
        first: () => (isStopped = true),
        second: () => process.exit(1),
      });
      const count = await change(chunk);
      show(`${label}: ${formatNumber(count)} of ${formatNumber(Math.max(count, total))}`);
    }
    return undefined;
  } catch (error) {
    if (error instanceof StoreUnavailable) return error;
    throw error;
  } finally {
    release?.();
    show("");
  }
}

/** Emails by their ids, each once, in chunks that one call may take. */
export function* chunksOf(ids: readonly string[]): Generator<readonly { readonly id: string }[]> {
  const unique = [...new Set(ids)].map((id) => ({ id }));
  for (let start = 0; start < unique.length; start += pageMax) yield unique.slice(start, start + pageMax);
}

/** The result of a command whose changes have been printed. Throws the loss of the store, for {@link withQueue}. */
export function resultOf(
  interruption: Interruption | undefined,
  failures: readonly Failure[],
): CommandResult {
  if (interruption === undefined) return failures.length === 0 ? done : failed;
  const isLost = interruption !== "signal";
  const doubt = isLost ? ", and perhaps those of one more step" : "";
  complain(`Interrupted: the changes above were made${doubt}; run the command again for the rest`);
  if (isLost) throw interruption;
  return failed;
}

const problems = {
  unknown: "is unknown: it was never in this queue, or left it longer ago than ids are kept",
  waiting: "is not a dead letter: it is waiting",
  retrying: "is not a dead letter: it is to be tried again",
  sending: "is not a dead letter: it is being sent",
  "in-doubt": "is in doubt, and the service is finding out. --force sends it again, with all of its batch",
  sent: "was sent",
  deleted: "was deleted before",
  "outcome-unknown": "may have been sent: --force retries it nevertheless, and it may arrive twice",
  "other-reason": "is dead for another reason",
  "in-batch": "is in a batch, and cannot be altered",
  busy: "is in doubt, and a worker has its batch at the moment: try again",
  changed: "has changed meanwhile: try again",
} as const;

/** Why something could not be done to an email, by its name in JSON. */
export type Problem = keyof typeof problems;

export interface Failure {
  readonly id: string;
  readonly problem: Problem;
}

/** Reports each failure in one line. */
export function complainAbout(failures: readonly Failure[]): void {
  for (const { id, problem } of failures) complain(`${visible(id)} ${problems[problem]}`);
}
