// What becomes of one email once what happened to it is certain, or once nobody will find out any more. That it is
// still uncertain is never decided email by email: that is doubt.ts.

import { addAttempt, type AttemptEnd } from "./attempts.ts";
import { backoffMs } from "./backoff.ts";
import type { OpenBatch, OpenEmail } from "./batch.ts";
import type { Death, Policy, Verdict } from "./decision.ts";
import { asDead, encodeHistory, encodeRecord, type History, withNotes } from "./history.ts";
import type { Outcome } from "./outcome.ts";
import type { Parts } from "./split.ts";

/** All that a verdict depends on besides the email and what happened to it. */
export interface Setting {
  readonly batch: OpenBatch;
  readonly policy: Policy;
  /** The store's time, Unix ms. */
  readonly nowMs: number;
  /** In [0, 1). One for a whole decision: emails that failed together come back together, as one batch. */
  readonly random: number;
}

export type CertainOutcome = Exclude<Outcome, { kind: "unknown" }>;

/**
 * After a certain outcome.
 * @param accountWorks the same answer accepted another email. What it says of the account then does not hold for
 *   all: the breaker stays closed, and so this email has to wait like any that failed.
 */
export function verdictOf(
  email: OpenEmail,
  outcome: CertainOutcome,
  accountWorks: boolean,
  setting: Setting,
): Verdict {
  if (outcome.kind === "accepted") return sent(email, outcome.providerMessageId, "accepted", setting);
  if (email.marked) return leftToMark(email);
  const { kind, reason } = outcome;
  const history = tried(email, kind, reason, setting);
  switch (kind) {
    case "rejected":
      return dies(email, history, { cause: "rejected", reason, counts: ["rejected"] });
    case "senderRefused":
      return { ...refused(email, history, reason, setting), refusedSender: email.from };
    case "accountRefused":
      if (endsNow(email, setting)) return dies(email, history, { cause: "gaveUp", reason });
      return accountWorks ? later(email, history, setting) : due(email, history, 0, setting);
    case "throttled":
      return due(email, history, 0, setting);
    case "unavailable":
      return endsNow(email, setting)
        ? dies(email, history, { cause: "gaveUp", reason })
        : later(email, history, setting);
    case "keyReused":
      return dies(email, { ...history, doubted: true }, { cause: "keyReused", reason });
  }
}

/** Accepted, as an answer or a search (`end`) says. */
export function sent(
  email: OpenEmail,
  providerMessageId: string,
  end: "accepted" | "recalled",
  setting: Setting,
): Verdict {
  const { batch, nowMs } = setting;
  const record = encodeRecord({
    batchId: batch.id,
    provider: batch.provider,
    providerMessageId,
    atMs: nowMs,
    history: tried(email, end, undefined, setting),
  });
  return { fate: { id: email.id, kind: "sent", record }, counts: ["accepted"], acceptedSender: email.from };
}

/**
 * Doubt ends without an answer: sent again rather than lost. At once the first time; later times back off, so that
 * an email which ends in doubt at every attempt arrives a few times too often, not thousands of times.
 */
export function doubtEnded(email: OpenEmail, end: "notFound" | "doubtEnded", setting: Setting): Verdict {
  if (email.marked) return leftToMark(email);
  const history = end === "doubtEnded" ? tried(email, end, undefined, setting) : inherited(email, setting);
  const { tries } = history;
  return {
    ...due(
      email,
      { ...history, doubted: true, tries: tries + 1 },
      tries === 0 ? 0 : backoff(tries, setting),
      setting,
    ),
    mayBeDuplicate: true,
  };
}

/** Given back as it was, after `delayMs`. Only from a batch that was never begun. */
export function givenBack(email: OpenEmail, delayMs: number, setting: Setting): Verdict {
  if (email.marked) return leftToMark(email);
  return { ...due(email, inherited(email, setting), delayMs, setting), counts: [] };
}

/** Into new batches, a part each; `reason` as the answer to the whole gave it, none if there was no request. */
export function splitUp(parts: Parts, reason: string | undefined, setting: Setting): Verdict[] {
  return parts.flatMap((emails, index) =>
    emails.map((email) => {
      if (email.marked) return leftToMark(email);
      const history =
        reason === undefined ? inherited(email, setting) : tried(email, "split", reason, setting);
      const batchId = setting.policy.newBatchIds[index as 0 | 1];
      return {
        fate: { id: email.id, kind: "rebatched", batchId, history: encodeHistory(history) },
        counts: [],
      } satisfies Verdict;
    }),
  );
}

/** Refused by this provider, without a request: another is asked, or, if every one has refused it, it is dead. */
export function handedOver(email: OpenEmail, setting: Setting): Verdict {
  const reason = "the provider refuses this sender";
  const history = tried(email, "handedOver", reason, setting);
  const verdict = refusedHere(email, history, reason, setting);
  return verdict.death === undefined ? { ...verdict, counts: ["handed_over"] } : verdict;
}

/** The first provider that may still take it. */
export function nextProvider(history: History, providers: readonly string[]): string | undefined {
  return providers.find((name) => !history.refusedBy.includes(name));
}

/** `history`, with `provider` among those that refused. */
export function withRefusal(history: History, provider: string): History {
  if (history.refusedBy.includes(provider)) return history;
  return { ...history, refusedBy: [...history.refusedBy, provider] };
}

function refused(email: OpenEmail, history: History, reason: string, setting: Setting): Verdict {
  const verdict = refusedHere(email, history, reason, setting);
  const late = verdict.death === undefined && isLate(email, setting);
  const ended = late
    ? dies(email, withRefusal(history, setting.batch.provider), { cause: "gaveUp", reason })
    : verdict;
  return { ...ended, counts: [...ended.counts, "rejected"] };
}

function refusedHere(email: OpenEmail, before: History, reason: string, setting: Setting): Verdict {
  const history = withRefusal(before, setting.batch.provider);
  const next = nextProvider(history, setting.policy.providers);
  if (next === undefined) return dies(email, history, { cause: "refusedByAll", reason });
  const fate = {
    id: email.id,
    kind: "due",
    delayMs: 0,
    only: next,
    history: encodeHistory(history),
  } as const;
  return { fate, counts: ["retried"] };
}

/**
 * Accepted elsewhere while it was in this batch. The store ends it as sent whatever the fate says; of the fates,
 * this is the one that would not send it again.
 */
export function leftToMark(email: OpenEmail): Verdict {
  return { fate: { id: email.id, kind: "dead", history: encodeHistory(email.history) }, counts: [] };
}

function dies(
  email: OpenEmail,
  history: History,
  { cause, reason, counts = [] }: { cause: Death["cause"]; reason: string; counts?: readonly string[] },
): Verdict {
  return {
    fate: {
      id: email.id,
      kind: "dead",
      history: encodeHistory(asDead(history, `${causes[cause]}${reason}`)),
    },
    counts: [...counts, "dead"],
    death: { id: email.id, cause, reason, outcomeUnknown: history.doubted },
  };
}

/** How the reason of a dead letter begins, after what says that its outcome is unknown. */
const causes: Readonly<Record<Death["cause"], string>> = {
  rejected: "",
  refusedByAll: "refused by every provider: ",
  gaveUp: "gave up: ",
  keyReused: "",
};

/** After backoff, the failure counted. */
function later(email: OpenEmail, history: History, setting: Setting): Verdict {
  const tries = history.tries + 1;
  return due(email, { ...history, tries }, backoff(tries, setting), setting);
}

/** Any provider may take it; one that is the last not to have refused it is named, to save the others a claim. */
function due(email: OpenEmail, history: History, delayMs: number, { policy }: Setting): Verdict {
  const left = policy.providers.filter((name) => !history.refusedBy.includes(name));
  const only = left.length === 1 && history.refusedBy.length > 0 ? left[0] : undefined;
  return {
    fate: {
      id: email.id,
      kind: "due",
      delayMs,
      ...(only !== undefined && { only }),
      history: encodeHistory(history),
    },
    counts: ["retried"],
  };
}

function backoff(attempt: number, { policy, random }: Setting): number {
  return backoffMs({ attempt, baseMs: policy.retryBaseMs, maxMs: policy.retryMaxMs, random });
}

/**
 * Whether a failure of the provider's, not of the email's, ends it. While a provider is shut its probes fail, one
 * email each: an outage of every provider must not end emails one by one.
 */
function endsNow(email: OpenEmail, setting: Setting): boolean {
  return !setting.policy.isProbe && isLate(email, setting);
}

function isLate({ submittedAtMs, history }: OpenEmail, { policy, nowMs }: Setting): boolean {
  return nowMs - (history.replayedAtMs ?? submittedAtMs) >= policy.giveUpAfterMs;
}

/** What the email went through before, with what this batch went through while in doubt. */
function inherited(email: OpenEmail, { batch }: Setting): History {
  return withNotes(email.history, batch.notes);
}

function tried(email: OpenEmail, end: AttemptEnd, reason: string | undefined, setting: Setting): History {
  const { batch, nowMs } = setting;
  const attempt = {
    provider: batch.provider,
    atMs: nowMs,
    outcome: end,
    ...(reason !== undefined && { reason }),
  };
  const history = inherited(email, setting);
  return { ...history, attempts: addAttempt(history.attempts, attempt) };
}
