// What is decided about a batch, as a value for the worker to carry out, and what a decision is made from.

import type { EmailFate, Settlement } from "../queue/contract.ts";
import type { SearchResult, SendResult } from "./request_outcome.ts";

/** The settings that decisions depend on. */
export interface Policy {
  /** Backoff, ms. */
  readonly retryBaseMs: number;
  readonly retryMaxMs: number;
  /** Since submission or the last replay, ms: after it, a failure may end an email, see email_fate.ts. */
  readonly giveUpAfterMs: number;
  /** Of the batch's provider, if it can be asked what it has accepted. */
  readonly search: SearchPolicy | undefined;
  /** Those that this worker or another serves, in order of preference. */
  readonly providers: readonly string[];
  /** Digest of the credential that the request was made with. */
  readonly credential: string;
  /** Which of the provider's accounts that credential belongs to, if this worker has asked. */
  readonly account?: string;
  /** From when doubt was recorded, ms: a batch of several emails may then be split, see in_doubt.ts. */
  readonly splitAfterMs: number;
  /**
   * What came of a question that sends nothing, asked just before the request. `ok`: the provider knows the credential.
   * `answered`: it answered, but refused. `none`: it did not answer, or was not asked.
   */
  readonly question: "none" | "answered" | "ok";
}

export interface SearchPolicy {
  /** After doubt was recorded, ms: from then on, a search that finds nothing is believed. */
  readonly searchWaitMs: number;
  /** From an unknown answer to the first look, ms. */
  readonly firstLookMs: number;
}

/** What happened to a claimed batch. */
export type Result =
  | { readonly kind: "send"; readonly result: SendResult }
  | { readonly kind: "search"; readonly result: SearchResult }
  /** The time for its doubt is over: no request was made. */
  | { readonly kind: "ended" }
  /** There is evidence that one of its emails is at fault: no request was made. */
  | { readonly kind: "split" }
  /** Never begun under this lease: handed back, and not to be claimed again for so long. */
  | { readonly kind: "untouched"; readonly delayMs: number };

/** What the breaker should be told. `unanswered` is a failure without an answer of the provider's own. */
export type ProviderHealth = "success" | "failure" | "unanswered" | "accountRefused" | "none";

/** One email that becomes a dead letter, for the log. */
export interface Death {
  readonly id: string;
  readonly cause: "rejected" | "refusedByAll" | "gaveUp" | "keyReused";
  /** As an attempt keeps it. */
  readonly reason: string;
  /** It may have been sent. */
  readonly outcomeUnknown: boolean;
}

export interface Decision {
  readonly settlement: Settlement;
  /** Emails whose doubt ended without an answer, and that will be sent again. */
  readonly possibleDuplicates: readonly string[];
  readonly health: ProviderHealth;
  readonly throttled: boolean;
  readonly dead: readonly Death[];
  /** Senders that this provider has refused, and taken, to be remembered. */
  readonly refusedSenders: readonly string[];
  readonly acceptedSenders: readonly string[];
}

/** What is decided about one email. */
export interface Verdict {
  readonly fate: EmailFate;
  /** Names of counters, without the provider. */
  readonly counts: readonly string[];
  readonly death?: Death;
  readonly refusedSender?: string;
  readonly acceptedSender?: string;
  readonly mayBeDuplicate?: true;
}

/** Puts a decision together. `counts` are added to those of the verdicts. */
export function compose({
  provider,
  verdicts,
  rest,
  counts = {},
  health,
  throttled = false,
}: {
  provider: string;
  verdicts: readonly Verdict[];
  rest?: Settlement["rest"];
  counts?: Readonly<Record<string, number>>;
  health: ProviderHealth;
  throttled?: boolean;
}): Decision {
  const possibleDuplicates = verdicts.filter((verdict) => verdict.mayBeDuplicate).map(({ fate }) => fate.id);
  const totals: Record<string, number> = {};
  const add = (name: string, count: number) => {
    if (count > 0) totals[name] = (totals[name] ?? 0) + count;
  };
  for (const verdict of verdicts) for (const name of verdict.counts) add(`${name}:${provider}`, 1);
  for (const [name, count] of Object.entries(counts)) add(`${name}:${provider}`, count);
  add("possible_duplicates", possibleDuplicates.length);
  return {
    settlement: {
      fates: verdicts.map(({ fate }) => fate),
      ...(rest !== undefined && { rest }),
      counts: totals,
    },
    possibleDuplicates,
    health,
    throttled,
    dead: verdicts.flatMap(({ death }) => (death === undefined ? [] : [death])),
    refusedSenders: unique(verdicts.map(({ refusedSender }) => refusedSender)),
    acceptedSenders: unique(verdicts.map(({ acceptedSender }) => acceptedSender)),
  };
}

function unique(names: readonly (string | undefined)[]): string[] {
  return [...new Set(names.filter((name) => name !== undefined))];
}
