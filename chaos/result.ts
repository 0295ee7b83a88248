// The result of a run, and its failures.

import type { Duplicate, Judgement } from "./judge.ts";
import type { Usage } from "./usage_watch.ts";
import type { Recovery } from "./recovery.ts";
import { inFlightMax, type Try } from "./load.ts";
import type { Scenario } from "./scenario.ts";
import type { Crash } from "./deployment.ts";

export interface RunResult extends Judgement {
  /** The run kept every promise. */
  readonly ok: boolean;
  /** The broken promises, as text. */
  readonly failures: readonly string[];
  readonly kills: number;
  readonly strikes: number;
  /** Duplicates that the service itself reports as possible duplicates. */
  readonly explained: number;
  /** Possible duplicates that the service has counted. */
  readonly possibleDuplicates: number;
  /** Most resources of any server. */
  readonly usage: Usage;
  /** Emails left in the queue after it should have drained. */
  readonly stuck: number;
  /** Bytes of files in the queue at the end. */
  readonly fileBytes: number;
  /** Why the queue could not be read at the end; undefined if it could. */
  readonly unreadable: string | undefined;
  /** Emails with a key that never got a 200. */
  readonly unanswered: number;
  readonly crashes: readonly Crash[];
  readonly recovery: Recovery;
  readonly elapsedMs: number;
}

/** Limit of a server's memory as docs/api.md states it, MiB. */
export const serverMemoryMaxMiB = 500;
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
  /** Where the stuck emails are, and why, in lines. */
  readonly stuckWhere: readonly string[];
  /** Why the nodes of the store do not agree after all faults; undefined if they do. */
  readonly unsettled: string | undefined;
  /** Bytes of files in the queue at the end. */
  readonly fileBytes: number;
  /** Requests that violate a provider's published API description. */
  readonly violations: readonly string[];
  /** Log lines with personal data. */
  readonly personal: readonly string[];
  readonly unreadable: string | undefined;
  /** The last try of each email with a key that never got a 200. */
  readonly unanswered: readonly Try[];
  readonly unclean: readonly string[];
  readonly crashes: readonly Crash[];
}

/** The broken promises, as text. */
export function failuresOf(seen: Seen): string[] {
  const { judgement, scenario, unexplained, stuck, unreadable, unanswered, unclean, crashes } = seen;
  const failures: string[] = unreadable === undefined ? [] : [`the queue cannot be read: ${unreadable}`];
  const fail = (count: number, what: string, example?: string) => {
    if (count > 0) failures.push(`${count} ${what}${example === undefined ? "" : `: ${example}`}`);
  };
  const findings = (list: Judgement["lost"], what: string) =>
    fail(list.length, what, list[0] && `email ${list[0].n}, ${list[0].what}`);
  const describe = (list: readonly Duplicate[]) =>
    list[0] && `email ${list[0].n} by ${list[0].providers.join(", then ")}`;
  findings(judgement.lost, "lost");
  findings(judgement.corrupt, "corrupt");
  findings(judgement.wronglyDead, "wrongly dead or accepted");
  findings(judgement.early, "sent before their time");
  findings(judgement.renamed, "with two ids");
  findings(judgement.late, "accepted too late");
  const { duplicates } = judgement;
  // Resend could have prevented each of these.
  const atResend = scenario.mayDuplicateIfCounted
    ? []
    : duplicates.filter(({ providers }) => providers.filter((name) => name === "resend").length > 1);
  const others = duplicates.filter((one) => !atResend.includes(one));
  fail(atResend.length, "accepted twice by Resend", describe(atResend));
  if (!scenario.mayDuplicateAtPostmark && !scenario.mayDuplicateIfCounted)
    fail(others.length, "accepted twice", describe(others));
  else {
    const unnamed = unexplained.filter((one) => others.includes(one));
    fail(unnamed.length, "accepted twice without being counted as possible duplicates", describe(unnamed));
    const again = others.reduce((sum, { providers }) => sum + providers.length - 1, 0);
    fail(Math.max(0, again - seen.possibleDuplicates), "more acceptances than the service counts");
  }
  const bytesLeft = seen.fileBytes - judgement.fileBytesKept;
  if (unreadable === undefined && stuck === 0 && bytesLeft !== 0)
    failures.push(`the queue has ${seen.fileBytes} bytes of files instead of ${judgement.fileBytesKept}`);
  fail(seen.violations.length, "violations of a provider's API", seen.violations[0]);
  fail(seen.personal.length, "log lines with personal data", seen.personal[0]);
  if (seen.unsettled !== undefined) failures.push(`the nodes do not agree: ${seen.unsettled}`);
  if (seen.strikes === 0) failures.push("no fault struck: the run proves nothing");
  if (judgement.acknowledged === 0) failures.push("nothing was acknowledged: the run proves nothing");
  fail(stuck, ["stuck in the queue", ...seen.stuckWhere].join("\n  "));
  const [open] = unanswered;
  fail(
    unanswered.length,
    "never answered with 200, despite repeats",
    open && `email ${open.n}, ${open.status} ${open.error ?? ""}`,
  );
  fail(judgement.clients.refused, "refused by a 4xx");
  if (!scenario.mayHang) {
    fail(judgement.clients.errors["no answer in time"] ?? 0, "tries without an answer in time");
  }
  const { memoryMiB, descriptors } = seen.usage;
  if (memoryMiB > serverMemoryMaxMiB) failures.push(`a server took ${Math.round(memoryMiB)} MiB of memory`);
  // A client that times out and retries has two connections for a moment.
  if (descriptors > serverDescriptorsMax + 2 * inFlightMax)
    failures.push(`a server had ${descriptors} descriptors open`);
  for (const reason of seen.unready) failures.push(`not ready without an excuse: ${reason}`);
  // If the store is down too, a worker cannot settle what it has in flight.
  if (scenario.faults.every((fault) => fault.do === "restart")) {
    fail(unclean.length, "did not stop cleanly", unclean[0]);
  }
  // A Redis whose disk is full exits on its own.
  const ours = crashes.filter(({ component }) => component !== "redis");
  fail(ours.length, "processes exited on their own", ours[0] && `${ours[0].component}, ${ours[0].how}`);
  return failures;
}
