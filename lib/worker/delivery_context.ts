// Shared by all deliveries of a worker: the queue, the settings, the log and the observer; and how they report dead
// letters.

import type { Log } from "../runtime/log.ts";
import type { Death, RetrySettings } from "../policy/decision.ts";
import type { Outcome } from "../policy/request_outcome.ts";
import { kindOf } from "../providers/failure_reason.ts";
import type { Consumer } from "../queue/contract.ts";

/** `providers` are the names of those with positive weight, in order of preference. */
export interface DeliverySettings extends RetrySettings {
  readonly providerTimeoutMs: number;
  readonly leaseMs: number;
  /** Since doubt was recorded, ms: from then on an empty search counts. */
  readonly searchWaitMs: number;
  /** Provider requests in flight. */
  readonly concurrency: number;
  /** From a batch's first claim to the end of its doubt, ms. */
  readonly doubtTimeoutMs: number;
}

export interface DeliveryContext {
  /** Names this process: a UUID. */
  readonly worker: string;
  readonly consumer: Consumer;
  readonly settings: DeliverySettings;
  readonly log: Log;
  readonly observer?: DeliveryObserver;
}

/**
 * A send: `answered` if each email has an outcome of its own, else the outcome of all. A search: `searched`, or why it
 * failed. A check: `answered` or `unanswered`.
 */
export type RequestOutcome = "answered" | "unanswered" | "searched" | Outcome["kind"];

/** Is called with what this worker does, as it happens. */
export interface DeliveryObserver {
  /** A request to a provider was answered, or given up. */
  requested(about: {
    readonly provider: string;
    readonly request: "send" | "search" | "check";
    readonly outcome: RequestOutcome;
    readonly elapsedMs: number;
  }): void;
  /** Emails were accepted. `agesMs`: how long after each was first due, by the store's clock. */
  accepted(provider: string, agesMs: readonly number[]): void;
  /** One became a dead letter. */
  died(provider: string, cause: Death["cause"]): void;
}

/** Most ids in one log line: a write to a pipe stays whole up to 4 KiB. */
const idsMax = 50;

/** Names every dead letter, in few lines: thousands may die together of one cause. */
export function reportDead(
  { log, observer }: DeliveryContext,
  about: { readonly batch: string; readonly provider: string },
  dead: readonly Death[],
): void {
  for (const { cause } of dead) observer?.died(about.provider, cause);
  const alike = Map.groupBy(dead, (one) =>
    JSON.stringify([one.cause, kindOf(one.reason), one.outcomeUnknown]),
  );
  for (const some of alike.values()) {
    const { cause, reason, outcomeUnknown } = some[0]!;
    if (cause === "unreadable") {
      for (const { id } of some) log.error("email-unreadable", { ...about, id, outcomeUnknown });
      continue;
    }
    for (let start = 0; start < some.length; start += idsMax) {
      const ids = some.slice(start, start + idsMax).map(({ id }) => id);
      const what = { cause, reason: kindOf(reason), outcomeUnknown, count: ids.length, ids };
      log.error("dead-letter", { ...about, ...what });
    }
  }
}
