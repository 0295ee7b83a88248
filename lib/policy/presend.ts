// Before a batch's first request: which of its emails it is made of. Emails whose sender this provider refuses go to
// another without a request, and senders that it is not known to accept travel apart from those that it does. The bytes
// of a request never change after it was first made, so that only a batch that was never begun is touched.

import { isInDoubt, type DecodedBatch, type DecodedEmail } from "./batch.ts";
import { compose, type Decision, type Policy, type Verdict } from "./decision.ts";
import { isKnown, isRefused, type KnownSenders, strangersMax } from "./known_senders.ts";
import {
  handOver,
  leaveToMark,
  nextProvider,
  setApart,
  type DecisionInput,
  withRefusal,
} from "./email_fate.ts";

export interface Presend {
  /** What the request is made of; perhaps nothing. */
  readonly emails: readonly DecodedEmail[];
  /** What becomes of the others, before the request; undefined if there are none. */
  readonly decision: Decision | undefined;
}

/**
 * @param senders   what is remembered of them at the batch's provider
 * @param sendersMs now, by the clock of `senders`
 * @param nowMs     the store's time, Unix ms
 */
export function presend(
  batch: DecodedBatch,
  senders: KnownSenders,
  sendersMs: number,
  policy: Policy,
  nowMs: number,
): Presend {
  if (isInDoubt(batch)) return { emails: batch.emails, decision: undefined };
  const setting = { batch, policy, nowMs, random: 0 };
  const groups = Map.groupBy(batch.emails, (email) => groupOf(email, setting, senders, sendersMs));
  const of = (group: Group) => groups.get(group) ?? [];
  // One kind of sender in one request: the known ones, or the kind that has been due longest, so that none starves.
  const kind: Group | undefined = groups.has("here")
    ? "here"
    : [...groups.keys()].find((group) => group === "stranger" || group === "lastChance");
  const emails = kind === undefined ? [] : of(kind);
  const isLeft = (email: DecodedEmail) => !emails.includes(email);
  const verdicts: Verdict[] = [
    ...of("sent").map(leaveToMark),
    ...of("elsewhere").map((email) => handOver(email, setting)),
    ...[...of("stranger"), ...of("lastChance")]
      .filter(isLeft)
      .map((email) => setApart(email, Math.min(batch.pieceMax ?? strangersMax, strangersMax), setting)),
  ];
  if (verdicts.length === 0) return { emails, decision: undefined };
  const decision = compose({ provider: batch.provider, verdicts, health: "none" });
  if (emails.length === 0) return { emails, decision };
  return { emails, decision: { ...decision, settlement: { ...decision.settlement, keepsLease: true } } };
}

type Group = "here" | "stranger" | "lastChance" | "elsewhere" | "sent";

/**
 * Only the outcome of an attempt of its own ends an email: one that every other provider has refused, and that
 * this one refuses from memory alone, is sent nevertheless, apart from those that have nothing against them. At a
 * provider that answers for each email alone (which is one that can be searched) nobody is a stranger.
 */
function groupOf(
  { marked, from, history }: DecodedEmail,
  { batch, policy }: DecisionInput,
  senders: KnownSenders,
  sendersMs: number,
): Group {
  if (marked) return "sent";
  if (history.refusedBy.includes(batch.provider)) return "elsewhere";
  if (!isRefused(senders, from, sendersMs)) {
    return policy.search !== undefined || isKnown(senders, from, sendersMs) ? "here" : "stranger";
  }
  const next = nextProvider(withRefusal(history, batch.provider), policy.providers);
  return next === undefined ? "lastChance" : "elsewhere";
}
