// The decision about a batch, as a value for the worker to carry out, and what a decision is made from.

import type { EmailFate, Settlement } from "../queue/contract.ts";
import type { DecodedBatch, DecodedEmail } from "./batch.ts";
import { judgeProvider, type Outcome, type ProviderHealth } from "./request_outcome.ts";
import type { SearchResult, SendResult } from "./request_outcome.ts";

/** The settings that decisions depend on. */
export interface RetrySettings {
  /** Backoff, ms. */
  readonly retryBaseMs: number;
  readonly retryMaxMs: number;
  /** Since submission, `send_at` or an operator's last retry, ms: after it a failure may end an email, see decide_email.ts. */
  readonly giveUpAfterMs: number;
  /** Since doubt was recorded, ms: after it a batch of several emails may be split, see decide_in_doubt.ts. */
  readonly doubtSplitAfterMs: number;
  /** Those that this worker or another serves, in order of preference. */
  readonly providers: readonly string[];
}

/** These settings, and what is known about the batch's provider. */
export interface Policy extends RetrySettings {
  /** Since doubt was recorded, ms: from then on an empty search counts. Undefined if the provider cannot be searched. */
  readonly searchWaitMs: number | undefined;
  /** Whether the provider takes an email with files in one request with others. */
  readonly batchesFiles: boolean;
  /** Digest of the credential that the request is made with. */
  readonly credential: string;
  /** The provider's account that the credential belongs to, if this worker has asked. */
  readonly account?: string;
  readonly question: Question;
}

/**
 * The answer to a question that sends nothing, asked just before the request. `ok`: the provider knows the credential.
 * `answered`: it answered, but refused. `none`: it did not answer, or was not asked.
 */
export type Question = "none" | "answered" | "ok";

/** All that is decided from, besides what happened to the batch. */
export interface DecisionInput {
  readonly batch: DecodedBatch;
  readonly policy: Policy;
  /** The store's time, Unix ms: the claim's plus what has elapsed since. */
  readonly nowMs: number;
  /** In [0, 1). One for a whole decision: emails that failed together come back together, as one batch. */
  readonly random: number;
}

/** The result of handling a claimed batch. */
export type Result =
  | SendResult
  | SearchResult
  /** The time for its doubt is over: no request was made. */
  | { readonly kind: "ended" }
  /** There is evidence that one of its emails is at fault: no request was made. */
  | { readonly kind: "split" }
  /** No request was ever made with this batch, and none can be. */
  | { readonly kind: "neverBegun" }
  /** The files of these emails are missing or damaged in the store: no request was made. */
  | { readonly kind: "filesLost"; readonly ids: ReadonlySet<string> }
  /** Never begun under this lease: handed back, and not to be claimed again for `delayMs`. */
  | { readonly kind: "untouched"; readonly delayMs: number };

/** One email that becomes a dead letter, for the log. */
export interface Death {
  readonly id: string;
  readonly cause: "rejected" | "refusedByAll" | "gaveUp" | "keyReused" | "unreadable";
  /** The outcome of its last attempt. */
  readonly reason: string;
  /** It may have been sent. */
  readonly outcomeUnknown: boolean;
}

/** The decision about one email. */
export interface Verdict {
  readonly fate: EmailFate;
  /** Names of counters, without the provider. */
  readonly counts: readonly string[];
  readonly death?: Death;
  readonly refusedSender?: string;
  readonly acceptedSender?: string;
  readonly mayBeDuplicate?: boolean;
}

/** The emails that stay in a batch, and what becomes of the others. */
export interface Separation {
  readonly emails: readonly DecodedEmail[];
  readonly verdicts: readonly Verdict[];
}

/** The decisions about the emails of a batch. */
export interface Ruling {
  readonly verdicts: readonly Verdict[];
  /** Applies to the emails without a verdict. */
  readonly rest?: Settlement["rest"];
  /** Added to the counts of the verdicts. */
  readonly counts?: Readonly<Record<string, number>>;
}

export interface Decision {
  readonly settlement: Settlement;
  /** Emails that may have been accepted before and are sent again, or were. */
  readonly possibleDuplicates: readonly string[];
  readonly health: ProviderHealth;
  readonly throttled: boolean;
  readonly dead: readonly Death[];
  /** Senders that this provider has refused, and accepted, to be remembered. */
  readonly refusedSenders: readonly string[];
  readonly acceptedSenders: readonly string[];
}

/** Puts a decision together. @param outcomes of the request, if there was one */
export function compose(
  { verdicts, rest, counts = {} }: Ruling,
  { batch: { provider }, policy: { credential } }: DecisionInput,
  outcomes: readonly Outcome[] = [],
): Decision {
  const fates: EmailFate[] = [];
  const dead: Death[] = [];
  const possibleDuplicates: string[] = [];
  const refusedSenders = new Set<string>();
  const acceptedSenders = new Set<string>();
  const totals: Record<string, number> = { ...counts };
  for (const { fate, counts: names, death, mayBeDuplicate, refusedSender, acceptedSender } of verdicts) {
    fates.push(fate);
    for (const name of names) totals[name] = (totals[name] ?? 0) + 1;
    if (death !== undefined) dead.push(death);
    if (mayBeDuplicate === true) possibleDuplicates.push(fate.id);
    if (refusedSender !== undefined) refusedSenders.add(refusedSender);
    if (acceptedSender !== undefined) acceptedSenders.add(acceptedSender);
  }
  const counted = Object.entries(totals)
    .filter(([, count]) => count > 0)
    .map(([name, count]) => [`${name}:${provider}`, count] as const);
  const { health, failure } = judgeProvider(outcomes);
  return {
    settlement: {
      fates,
      ...(rest !== undefined && { rest }),
      counts: {
        ...Object.fromEntries(counted),
        ...(possibleDuplicates.length > 0 && { possible_duplicates: possibleDuplicates.length }),
      },
      credential,
      ...(failure !== undefined && { failure }),
    },
    possibleDuplicates,
    health,
    throttled: outcomes.some(({ kind }) => kind === "throttled"),
    dead,
    refusedSenders: [...refusedSenders],
    acceptedSenders: [...acceptedSenders],
  };
}
