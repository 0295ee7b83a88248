// What can come of one request to a provider. Adapters translate an API's answers into these; they decide
// nothing. Everything that follows from an outcome is in decide.ts.

/** What became of one email, or of every email in a request alike. */
export type Outcome =
  | { readonly kind: "accepted"; readonly providerMessageId: string }
  /**
   * The message's own fault: no provider will take it. `stable` says that the refusal depends on the message
   * alone, so that it would have been the same at every earlier try (400, 413, 422; never 406 or 451).
   */
  | { readonly kind: "rejected"; readonly reason: string; readonly stable: boolean }
  /**
   * This `from` at this provider: another provider may take it. `domain`, in lower case, is the domain that the
   * refusal names, if it names one.
   */
  | { readonly kind: "senderRefused"; readonly reason: string; readonly domain?: string }
  /** Everything at this provider: credentials, suspension, quota, configuration. */
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
   * The reply was lost or says nothing: it may have been accepted. `own` (here and in `unavailable`) is whether the
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

/** What a provider's headers say about its rate limit. */
export interface RateHint {
  /** Requests allowed per second. */
  readonly limitPerSecond?: number;
  /** Requests left in the current window. */
  readonly remaining?: number;
  /** Until the window starts anew, ms. */
  readonly resetMs?: number;
  /** Until the provider wants to hear from us again, ms. */
  readonly retryAfterMs?: number;
}

/** The answer to one request that sends a batch. */
export type SendResult =
  /** A readable 2xx that accounts for every email, in the order in which they were given. */
  | { readonly kind: "each"; readonly outcomes: readonly Outcome[] }
  /** One answer for the whole request. `rejected` and `senderRefused` mean that some email in it is at fault, unnamed. */
  | { readonly kind: "whole"; readonly outcome: Exclude<Outcome, { kind: "accepted" }> };

/** The answer to one search for the emails of a batch. */
export type SearchResult =
  /** The search was answered: email id -> the provider's message id, for those found. */
  | { readonly kind: "searched"; readonly found: ReadonlyMap<string, string> }
  /** It was not: this was no look. */
  | {
      readonly kind: "failed";
      readonly outcome: Exclude<Outcome, { kind: "accepted" | "rejected" | "senderRefused" | "keyReused" }>;
    };
