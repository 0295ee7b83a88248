// What every email provider looks like to the worker. An adapter is built on the provider's official SDK; it
// translates answers into outcomes, never throws for an answer or a broken connection, and decides nothing.

import type { Email } from "../email/email.ts";
import type { RateHint, SearchResult, SendResult } from "../policy/request_outcome.ts";

/** One request's worth of emails. Its bytes are a function of this value alone, and part of the stored format. */
export interface Outgoing {
  /** The batch's id: the idempotency key where the provider has one. */
  readonly batchId: string;
  /** {@link Provider.context} as it was when the batch was made. */
  readonly context: string;
  readonly emails: readonly { readonly id: string; readonly email: Email }[];
}

export interface Provider {
  /** As in the registry. */
  readonly name: string;
  /** Most emails in one request. */
  readonly batchMax: number;
  /** Requests per second to begin with, until the provider's answers teach better. */
  readonly startRate: number;
  /** The most that the rate may grow to without the provider naming a limit, requests per second. */
  readonly maxRate: number;
  /**
   * Whatever a request depends on besides the emails (a message stream): stored with the batch when it is made. Of a
   * provider without `search` it depends on nothing, and what is stored are the domains that it is known to take.
   */
  readonly context: string;
  /**
   * Names the base URL and the credential without revealing them: 16 hex digits of a SHA-256; "" for a provider
   * without a credential.
   */
  readonly credential: string;
  send(outgoing: Outgoing, signal: AbortSignal): Promise<{ result: SendResult; rate: RateHint }>;
  /**
   * For a provider without idempotency keys: which of these emails has it accepted? Whoever has `search` is
   * never sent a batch in doubt again.
   */
  search?(outgoing: Outgoing, signal: AbortSignal): Promise<{ result: SearchResult; rate: RateHint }>;
  /** Whether it could be sent by now, as far as a request tells that sends nothing: reached, and the credential holds. */
  check(signal: AbortSignal): Promise<CheckResult>;
  /** For a provider with `search`: how long after doubt was recorded an empty search starts to count, ms. */
  readonly searchWaitMs?: number;
  /**
   * For a provider with `search`: the account that the credential belongs to, undefined if the provider did not name
   * it. An empty search counts only if it searched the account that the batch was sent from.
   */
  account?(signal: AbortSignal): Promise<string | undefined>;
}

/** `answered`: the API answered at all, be it with a refusal: JSON with a status under 500. */
export type CheckResult =
  | { readonly ok: true; readonly answered: boolean; readonly detail: string }
  /** In the provider's words, without anything personal. */
  | { readonly ok: false; readonly answered: boolean; readonly reason: string };
