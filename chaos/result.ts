// What a run came to, and what of it should not be.

import type { Duplicate, Judgement } from "./judge.ts";
import type { Usage } from "./usage.ts";
import type { Recovery } from "./recovery.ts";
import { inFlightMax } from "./load.ts";
import type { Scenario } from "./scenario.ts";
import type { Crash } from "./deployment.ts";

export interface RunResult extends Judgement {
  /** Nothing of it should not be. */
  readonly ok: boolean;
  /** What should not be, in words. */
  readonly failures: readonly string[];
  readonly kills: number;
  readonly strikes: number;
  /** Duplicates that the service itself names as possible ones. */
  readonly explained: number;
  /** As many possible duplicates the service has counted. */
  readonly possibleDuplicates: number;
  /** Of the servers. */
  readonly usage: Usage;
  /** Emails in the queue that nothing happens with any more. */
  readonly stuck: number;
  /** Why the queue could not be looked into any more; undefined if it could. */
  readonly unreadable: string | undefined;
  /** Emails with a key that were never answered 200. */
  readonly unanswered: number;
  readonly crashes: readonly Crash[];
  readonly recovery: Recovery;
  readonly elapsedMs: number;
}

/** Limit of a server's memory as docs/api.md states it, MiB. */
export const serverMemoryMaxMiB = 600;
/** Limit of a server's file descriptors besides those for clients' connections, as docs/reliability-testing.md states it. */
export const serverDescriptorsMax = 64;

export interface Seen {
  readonly judgement: Judgement;
  readonly scenario: Scenario;
  readonly possibleDuplicates: number;
  readonly usage: Usage;
  /** Reasons for not being ready that no fault excuses. */
  readonly unready: readonly string[];
  readonly unexplained: readonly Duplicate[];
  readonly strikes: number;
  readonly stuck: number;
  readonly unreadable: string | undefined;
  readonly unanswered: number;
  readonly unclean: readonly string[];
  readonly crashes: readonly Crash[];
}

/** What should not be, in words. */
export function failuresOf(seen: Seen): string[] {
  const { judgement, scenario, unexplained, stuck, unreadable, unanswered, unclean, crashes } = seen;
  const failures: string[] = unreadable === undefined ? [] : [`the queue cannot be read: ${unreadable}`];
  const fail = (count: number, what: string, example?: string) => {
    if (count > 0) failures.push(`${count} ${what}${example === undefined ? "" : `: ${example}`}`);
  };
  const findings = (list: Judgement["lost"], what: string) =>
    fail(list.length, what, list[0] && `email ${list[0].n}, ${list[0].what}`);
  const told = (list: readonly Duplicate[]) =>
    list[0] && `email ${list[0].n} by ${list[0].providers.join(", then ")}`;
  findings(judgement.lost, "lost");
  findings(judgement.corrupt, "corrupt");
  findings(judgement.wronglyDead, "wrongly dead or accepted");
  findings(judgement.renamed, "with two ids");
  findings(judgement.late, "accepted too late");
  const { duplicates } = judgement;
  // Resend could have prevented each of these.
  const atResend = scenario.mayDuplicateIfCounted
    ? []
    : duplicates.filter(({ providers }) => providers.filter((name) => name === "resend").length > 1);
  const others = duplicates.filter((one) => !atResend.includes(one));
  fail(atResend.length, "accepted twice by Resend", told(atResend));
  if (!scenario.mayDuplicateAtPostmark && !scenario.mayDuplicateIfCounted)
    fail(others.length, "accepted twice", told(others));
  else {
    const unnamed = unexplained.filter((one) => others.includes(one));
    fail(unnamed.length, "accepted twice, and not counted as possible duplicates", told(unnamed));
    const again = others.reduce((sum, { providers }) => sum + providers.length - 1, 0);
    fail(Math.max(0, again - seen.possibleDuplicates), "more acceptances than the service counts");
  }
  if (seen.strikes === 0) failures.push("no fault struck: nothing is shown");
  if (judgement.acknowledged === 0) failures.push("nothing was acknowledged: nothing is shown");
  fail(stuck, "stuck in the queue");
  fail(unanswered, "never answered 200, however often they were repeated");
  fail(judgement.clients.refused, "refused by a 4xx");
  if (!scenario.mayHang) {
    fail(judgement.clients.errors["no answer in time"] ?? 0, "tries without an answer in time");
  }
  const { memoryMiB, descriptors } = seen.usage;
  if (memoryMiB > serverMemoryMaxMiB) failures.push(`a server took ${Math.round(memoryMiB)} MiB of memory`);
  // A client that times out and retries has two connections for a moment.
  if (descriptors > serverDescriptorsMax + 2 * inFlightMax)
    failures.push(`a server had ${descriptors} descriptors open`);
  for (const reason of seen.unready) failures.push(`not ready, though nothing excuses it: ${reason}`);
  // While a store is away as well, a worker cannot settle what it has in flight.
  if (scenario.faults.every((fault) => fault.do === "restart")) {
    fail(unclean.length, "did not stop cleanly", unclean[0]);
  }
  // A Redis whose disk is full ends by itself.
  const ours = crashes.filter(({ component }) => component !== "redis");
  fail(ours.length, "processes ended by themselves", ours[0] && `${ours[0].component}, ${ours[0].how}`);
  return failures;
}
