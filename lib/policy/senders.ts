// A worker's memory of senders at one provider, and which emails of a batch therefore travel together. Addresses
// that the provider refused lately go to another without a request; senders of domains that it is not known to accept
// travel apart, since one refused sender may refuse a whole request. The bytes of a request never change after it was
// first made, so that only a batch that was never begun is touched.

import { type DecodedBatch, type DecodedEmail, isInDoubt } from "./batch.ts";
import { compose, type Decision, type DecisionInput, type Policy, type Verdict } from "./decision.ts";
import { giveBack, handOver, leaveToMark, othersFor } from "./email_fate.ts";

/** Each is a name -> until when it is remembered, ms by the caller's clock. */
export interface KnownSenders {
  /** Addresses. */
  readonly refused: ReadonlyMap<string, number>;
  /** Domains. */
  readonly accepted: ReadonlyMap<string, number>;
}

export const noSenders: KnownSenders = { refused: new Map(), accepted: new Map() };

/** Long enough to spare requests, short enough for a domain that is verified meanwhile. */
const rememberedMs = 600_000;
/** Clients may make up senders without end. */
const rememberedMax = 1000;
/** Most emails in one piece of senders that are not known to be accepted, so that they take turns with the others. */
export const strangersMax = 100;

/** @param answers addresses of the senders in one answer */
export function remember(
  senders: KnownSenders,
  { refused, accepted }: { readonly refused: readonly string[]; readonly accepted: readonly string[] },
  nowMs: number,
): KnownSenders {
  const refusedDomains = refused.map(domainOf);
  const domains = [...new Set(accepted.map(domainOf))].filter((domain) => !refusedDomains.includes(domain));
  const others = refusedDomains.some((name) => senders.accepted.has(name))
    ? new Map([...senders.accepted].filter(([name]) => !refusedDomains.includes(name)))
    : senders.accepted;
  return { refused: add(senders.refused, refused, nowMs), accepted: add(others, domains, nowMs) };
}

/** Adds names and drops those whose time is over, or the oldest. */
function add(
  before: ReadonlyMap<string, number>,
  names: readonly string[],
  nowMs: number,
): ReadonlyMap<string, number> {
  // Renewed only when half of its time is over: with every answer would be too often.
  const fresh = names.filter((name) => (before.get(name) ?? -Infinity) < nowMs + rememberedMs / 2);
  if (fresh.length === 0) return before;
  const kept = [...before].filter(([name, untilMs]) => untilMs > nowMs && !fresh.includes(name));
  const added = fresh.map((name): [string, number] => [name, nowMs + rememberedMs]);
  return new Map([...kept, ...added].slice(-rememberedMax));
}

export function isRefused({ refused }: KnownSenders, from: string, nowMs: number): boolean {
  return (refused.get(from) ?? -Infinity) > nowMs;
}

/** Whether the provider has accepted an email of this sender's domain lately. */
export function isKnown({ accepted }: KnownSenders, from: string, nowMs: number): boolean {
  return (accepted.get(domainOf(from)) ?? -Infinity) > nowMs;
}

export function domainOf(from: string): string {
  return from.slice(from.lastIndexOf("@") + 1).toLowerCase();
}

/**
 * Chooses the emails of a batch that its first request is made of, perhaps none.
 * @param senders   what is remembered of them at the batch's provider
 * @param sendersMs now, by the clock of `senders`
 * @param nowMs     the store's time, Unix ms
 * @returns `decision` is what becomes of the others, before the request; undefined if there are none
 */
export function presend(
  batch: DecodedBatch,
  senders: KnownSenders,
  sendersMs: number,
  policy: Policy,
  nowMs: number,
): { readonly emails: readonly DecodedEmail[]; readonly decision: Decision | undefined } {
  if (isInDoubt(batch)) return { emails: batch.emails, decision: undefined };
  const input = { batch, policy, nowMs, random: 0 };
  const groups = Map.groupBy(batch.emails, (email) => groupOf(email, input, senders, sendersMs));
  const { here = [], stranger = [], lastChance = [], elsewhere = [], sent = [] } = Object.fromEntries(groups);
  // One kind of sender in one request: the known ones, or the kind that has been due longest, so that none starves.
  const oldest = batch.emails.find((email) => stranger.includes(email) || lastChance.includes(email));
  const unknown = oldest !== undefined && stranger.includes(oldest) ? stranger : lastChance;
  const emails = here.length > 0 ? here : unknown;
  const pieceMax = Math.min(batch.pieceMax ?? strangersMax, strangersMax);
  const apart = [stranger, lastChance].filter((group) => group !== emails).flat();
  const verdicts: Verdict[] = [
    ...sent.map(leaveToMark),
    ...elsewhere.map((email) => handOver(email, input)),
    ...apart.map((email) => giveBack(email, { delayMs: 0, pieceMax }, input)),
  ];
  if (verdicts.length === 0) return { emails, decision: undefined };
  const decision = compose({ verdicts }, input);
  if (emails.length === 0) return { emails, decision };
  return { emails, decision: { ...decision, settlement: { ...decision.settlement, keepsLease: true } } };
}

/**
 * Only the outcome of an attempt of its own ends an email: one that every other provider has refused, and that
 * this one refuses from memory alone, is sent nevertheless, apart from those that have nothing against them. At a
 * provider that answers for each email alone (which is one that can be searched) nobody is a stranger.
 */
function groupOf(
  { marked, email: { from }, history }: DecodedEmail,
  input: DecisionInput,
  senders: KnownSenders,
  sendersMs: number,
): "here" | "stranger" | "lastChance" | "elsewhere" | "sent" {
  const { batch, policy } = input;
  if (marked) return "sent";
  if (history.refusedBy.includes(batch.provider)) return "elsewhere";
  if (isRefused(senders, from, sendersMs)) {
    return othersFor(history, input).length === 0 ? "lastChance" : "elsewhere";
  }
  return policy.searchWaitMs !== undefined || isKnown(senders, from, sendersMs) ? "here" : "stranger";
}
