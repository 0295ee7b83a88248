// What the slots of a worker have in common: the queue, the settings, the log, and who is told of what they do.

import type { Log } from "../runtime/log.ts";
import type { Death } from "../policy/decision.ts";
import type { OutcomeKind } from "../policy/request_outcome.ts";
import type { Consumer } from "../queue/contract.ts";

export interface DeliverySettings {
  readonly providerTimeoutMs: number;
  readonly leaseMs: number;
  readonly retryBaseMs: number;
  readonly retryMaxMs: number;
  readonly giveUpAfterMs: number;
  readonly searchWaitMs: number;
  /** From when doubt was recorded, ms: a batch that keeps failing while others are accepted may then be split. */
  readonly doubtSplitAfterMs: number;
  /** Names of those with positive weight, in order of preference. */
  readonly providers: readonly string[];
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
 * A send: `answered` if each email has an outcome of its own, else the outcome of all. A search: `looked`, or why it
 * failed. A check: `answered` or `unanswered`.
 */
export type RequestOutcome = "answered" | "unanswered" | "searched" | OutcomeKind;

/** Told of what this worker does, as it happens. */
export interface DeliveryObserver {
  /** A request to a provider was answered, or given up. */
  requested(about: {
    readonly provider: string;
    readonly request: "send" | "search" | "check";
    readonly outcome: RequestOutcome;
    readonly elapsedMs: number;
  }): void;
  /** Emails were accepted; with how long that was after their submission, ms of the store's clock. */
  accepted(provider: string, agesMs: readonly number[]): void;
  /** One was given up. */
  died(provider: string, cause: Death["cause"] | "unreadable"): void;
}
