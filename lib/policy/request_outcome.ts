// The possible results of one request to a provider, and what they say about the provider. Adapters translate an API's
// answers into outcomes; they decide nothing. What follows for the emails is in decide_batch.ts.

import type { Settlement } from "../queue/contract.ts";
import { cutReason } from "./history.ts";

/** The result for one email, or for every email in a request alike. */
export type Outcome = Acceptance | FailedOutcome;

export interface Acceptance {
  readonly kind: "accepted";
  readonly providerMessageId: string;
  /** The provider's note for the email's history, such as recipients it will not deliver to. May contain addresses. */
  readonly note?: string;
}

export type FailedOutcome =
  /**
   * The provider refuses the message. `stable`: because of the message alone, so that every earlier attempt was refused
   * too (400, 413, 422; never 406 or 451). Another provider may have other rules.
   */
  | { readonly kind: "rejected"; readonly reason: string; readonly stable: boolean }
  /** This provider refuses this sender; another may take it. `domain`: as the refusal names it, in lower case. */
  | { readonly kind: "senderRefused"; readonly reason: string; readonly domain?: string }
  /**
   * The provider refuses our account: credentials, suspension, configuration, or a quota that is used up, which ends
   * with time and is never an email's fault.
   */
  | { readonly kind: "accountRefused"; readonly reason: string; readonly isQuota?: true }
  /** Too many requests, certainly not accepted. */
  | { readonly kind: "throttled"; readonly reason: string }
  /** Certainly not sent: never connected, or the API says that it is down. */
  | { readonly kind: "unavailable"; readonly reason: string; readonly own: boolean }
  /**
   * The answer was lost or cannot be read: it may have been accepted. `own` (here and in `unavailable`) is whether the
   * provider itself answered, in its own form: a gateway's answer, a timeout, a broken connection, an unreadable
   * answer, and a 2xx that does not account for every email are not. `isAtWork`: an earlier request under the same key
   * has not ended, and nothing is wrong with its emails. `isRefusal`: the provider says that it refused the email, but
   * it may have accepted it for some recipients.
   */
  | {
      readonly kind: "unknown";
      readonly reason: string;
      readonly own: boolean;
      readonly isAtWork?: true;
      readonly isRefusal?: true;
    }
  /** The idempotency key was used with other bytes: an earlier request may have been accepted, and cannot be asked about. */
  | { readonly kind: "keyReused"; readonly reason: string };

/** The rate limit, as a provider's headers state it. */
export interface RateHint {
  /** Requests allowed per second. */
  readonly limitPerSecond?: number;
  /** Requests left in the current window. */
  readonly remaining?: number;
  /** Until the next window begins, ms. */
  readonly resetMs?: number;
  /** How long the provider asks us to wait, ms. */
  readonly retryAfterMs?: number;
}

/** The answer to one request that sends a batch. */
export type SendResult =
  /** A readable 2xx that accounts for every email, in the order in which they were given. */
  | { readonly kind: "each"; readonly outcomes: readonly Outcome[] }
  /** One answer for the whole request. `rejected` and `senderRefused` mean that some email in it is at fault, unnamed. */
  | { readonly kind: "whole"; readonly outcome: FailedOutcome };

/** The answer to one search for the emails of a batch. */
export type SearchResult =
  /** Email id -> the provider's message id, for those found. */
  | { readonly kind: "searched"; readonly found: ReadonlyMap<string, string> }
  /** The search failed and found out nothing. */
  | {
      readonly kind: "failed";
      readonly outcome: Exclude<FailedOutcome, { kind: "rejected" | "senderRefused" | "keyReused" }>;
    };

/** The consequence of an answer for the circuit breaker. `unanswered` is a failure without an answer of the provider's own. */
export type ProviderHealth = (typeof healthBySeverity)[number];

const healthBySeverity = ["none", "success", "failure", "unanswered", "accountRefused"] as const;
const failuresBySeverity = ["accountRefused", "unavailable", "unknown", "throttled"] as const;

/** Judges the provider by the outcomes of one answer: the worst counts, unless it accepted an email. */
export function judgeProvider(outcomes: readonly Outcome[]): {
  readonly health: ProviderHealth;
  /** Why the provider itself failed, if it did. */
  readonly failure?: NonNullable<Settlement["failure"]>;
} {
  const failed = outcomes.filter((outcome) => outcome.kind !== "accepted");
  if (failed.length < outcomes.length) return { health: "success" };
  const signs = failed.map(signOf);
  const health = healthBySeverity.findLast((one) => signs.includes(one)) ?? "none";
  const faults = failed.filter((_, index) => signs[index] !== "success");
  const kind = failuresBySeverity.find((one) => faults.some((outcome) => outcome.kind === one));
  const worst = faults.find((outcome) => outcome.kind === kind);
  if (worst === undefined) return { health };
  return { health, failure: { reason: cutReason(worst.reason), own: !("own" in worst) || worst.own } };
}

/** A fault of the message or of the sender shows that the provider works. Throttling is for the rate limit. */
function signOf(outcome: FailedOutcome): ProviderHealth {
  switch (outcome.kind) {
    case "rejected":
    case "senderRefused":
    case "keyReused":
      return "success";
    case "accountRefused":
      return "accountRefused";
    case "unavailable":
      return outcome.own ? "failure" : "unanswered";
    case "unknown":
      if (outcome.isRefusal) return "success";
      return outcome.own ? "failure" : "unanswered";
    case "throttled":
      return "none";
  }
}
