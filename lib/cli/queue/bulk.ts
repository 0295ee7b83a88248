// The course of a command that changes many emails, chunk by chunk: a signal ends it after a chunk, the loss of the
// store in the middle of one. Either way what was done is told, and of which emails nobody knows.

import { StoreUnavailable } from "../../queue/contract.ts";
import { onSignals } from "../../runtime/signals.ts";
import { complain } from "../output.ts";
import { numberOf } from "../format.ts";
import { failed } from "./open_queue.ts";
import type { CommandResult } from "../command.ts";

/** Why it ended before it was through. */
export type Stop =
  | { readonly kind: "signal" }
  /** Of the emails of `unclear` nobody knows whether the last change was made to them. */
  | { readonly kind: "lost"; readonly error: StoreUnavailable; readonly unclear: readonly string[] };

export interface BulkRun {
  /** Whether a signal has come: no more is to be begun. */
  isStopped(): boolean;
  /** Makes a change to these emails. */
  change<T>(ids: readonly string[], make: () => Promise<T>): Promise<T>;
}

/**
 * @param work notes what it has done as it goes, since it may end at any change
 * @param repeatMs see `onSignals`
 * @returns nothing if it was through
 */
export async function runBulk(
  consumer: (bulkRun: BulkRun) => Promise<void>,
  repeatMs: number,
): Promise<Stop | undefined> {
  let stopped = false;
  let unclear: readonly string[] = [];
  const release = onSignals({ repeatMs, first: () => (stopped = true), second: () => process.exit(1) });
  /** What was begun is through, as far as a signal could have ended it. */
  let cutShort = false;
  try {
    await consumer({
      isStopped: () => (cutShort ||= stopped),
      async change(ids, make) {
        unclear = ids;
        const result = await make();
        unclear = [];
        return result;
      },
    });
    return cutShort ? { kind: "signal" } : undefined;
  } catch (error) {
    if (error instanceof StoreUnavailable) return { kind: "lost", error, unclear };
    throw error;
  } finally {
    release();
  }
}

/** What a document in JSON says of it. */
export function stopDocument(stop: Stop | undefined) {
  if (stop === undefined) return {};
  return {
    interrupted: true,
    ...(stop.kind === "lost" && stop.unclear.length > 0 && { unclear: stop.unclear }),
  };
}

const namedMax = 20;

/** On stderr, after what was done. Throws the loss of the store, for the session to tell. */
export function endingAfter(stop: Stop | undefined, ending: CommandResult): CommandResult {
  if (stop === undefined) return ending;
  complain("Interrupted: what is told was done, and stays done; repeat the command for the rest");
  if (stop.kind === "signal") return failed;
  const { unclear } = stop;
  if (unclear.length > 0) {
    complain("The answer to the last step was lost: it may have been done or not, to");
    for (const id of unclear.slice(0, namedMax)) complain(`  ${id}`);
    const more = unclear.length - namedMax;
    if (more > 0) complain(`  and ${numberOf(more)} more`);
  }
  throw stop.error;
}
