// The possible results of one request to a provider, and what they say about the provider. Adapters translate an API's answers
// into outcomes; they decide nothing. What follows for the emails is in decide.ts.

import type { Settlement } from "../queue/contract.ts";
import { cutReason } from "./history.ts";

/** The result for one email, or of every email in a request alike. */
export type Outcome =
  | { readonly kind: "accepted"; readonly providerMessageId: string }
  /**
   * The message's own fault: no provider will take it. `stable`: the refusal depends on the message alone, so that every
   * earlier attempt would have been refused too (400, 413, 422; never 406 or 451).
   */
  | { readonly kind: "rejected"; readonly reason: string; readonly stable: boolean }
  /**
   * This provider refuses this sender: another provider may take it. `domain`, in lower case, is the domain that the
   * refusal names, if it names one.
   */
  | { readonly kind: "senderRefused"; readonly reason: string; readonly domain?: string }
  /** The provider refuses everything of ours: credentials, suspension, quota, configuration. */
  | {
      readonly kind: "accountRefused";
      readonly reason: string;
      /** A quota is used up, which ends with time and is never an email's fault. */
      readonly isQuota?: true;
    }
  /** Too many requests, certainly not accepted. */
  | { readonly kind: "throttled"; readonly reason: string }
  /** Certainly not sent: never connected, or the API says that it is down. */
  | { readonly kind: "unavailable"; readonly reason: string; readonly own: boolean }
  /**
   * The answer was lost or cannot be read: it may have been accepted. `own` (here and in `unavailable`) is whether the
   * provider itself answered, in its own form: a gateway's answer, a timeout, a broken connection, an unreadable
   * answer, and a 2xx that does not account for every email are not.
   */
  | {
      readonly kind: "unknown";
      readonly reason: string;
      readonly own: boolean;
      /** An earlier request under the same key has not ended: nothing is wrong with its emails. */
      readonly isAtWork?: true;
    }
  /** The idempotency key was used with other bytes: an earlier request may have been accepted, and cannot be asked about. */
  | { readonly kind: "keyReused"; readonly reason: string };

export type OutcomeKind = Outcome["kind"];

/** An outcome other than an acceptance. */
export type FailedOutcome = Exclude<Outcome, { kind: "accepted" }>;

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
  /** The search was answered: email id -> the provider's message id, for those found. */
  | { readonly kind: "searched"; readonly found: ReadonlyMap<string, string> }
  /** It was not, and so found out nothing. */
  | {
      readonly kind: "failed";
      readonly outcome: Exclude<FailedOutcome, { kind: "rejected" | "senderRefused" | "keyReused" }>;
    };

/** The consequence of an answer for the circuit breaker. `unanswered` is a failure without an answer of the provider's own. */
export type ProviderHealth = (typeof healthBySeverity)[number];

const healthBySeverity = ["none", "success", "failure", "unanswered", "accountRefused"] as const;

/** The worst that any outcome of one answer says; but a provider that accepted an email is neither down nor refuses us. */
export function healthOf(outcomes: readonly Outcome[]): ProviderHealth {
  if (outcomes.some(({ kind }) => kind === "accepted")) return "success";
  const signs = outcomes.map(signOf);
  return healthBySeverity.findLast((health) => signs.includes(health)) ?? "none";
}

/** A fault of the message or of the sender shows that the provider works. Throttling is for the rate limit. */
function signOf(outcome: Outcome): ProviderHealth {
  switch (outcome.kind) {
    case "accepted":
    case "rejected":
    case "senderRefused":
    case "keyReused":
      return "success";
    case "accountRefused":
      return "accountRefused";
    case "unavailable":
    case "unknown":
      return outcome.own ? "failure" : "unanswered";
    case "throttled":
      return "none";
  }
}

/** Why the provider itself failed, if it did: of several emails with an outcome each, only if it accepted none. */
export function providerFailureOf(outcomes: readonly Outcome[]): Settlement["failure"] {
  if (outcomes.some(({ kind }) => kind === "accepted")) return undefined;
  for (const kind of ["accountRefused", "unavailable", "unknown", "throttled"] as const) {
    const failure = outcomes.find((outcome) => outcome.kind === kind);
    if (failure?.kind !== kind) continue;
    return { reason: cutReason(failure.reason), own: !("own" in failure) || failure.own };
  }
  return undefined;
}
