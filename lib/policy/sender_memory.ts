// A worker's memory of senders at one provider, and which emails of a batch therefore travel together. Addresses
// that the provider refused lately go to another without a request; senders of domains that it is not known to accept
// travel apart, since one refused sender may refuse a whole request.

import type { DecodedEmail } from "./batch.ts";
import type { DecisionInput, Separation, Verdict } from "./decision.ts";
import { giveBack, handOver, leaveToMark, othersFor } from "./decide_email.ts";

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
/** Most emails in one piece of unknown senders, so that they take turns with the others. */
export const strangersMax = 100;

/** @param answers addresses of the senders in one answer */
export function remember(
  senders: KnownSenders,
  { refused, accepted }: { readonly refused: readonly string[]; readonly accepted: readonly string[] },
  nowMs: number,
): KnownSenders {
  const refusedDomains = refused.map(domainOf);
  const domains = accepted.map(domainOf).filter((domain) => !refusedDomains.includes(domain));
  return {
    refused: renew(senders.refused, refused, [], nowMs),
    accepted: renew(senders.accepted, domains, refusedDomains, nowMs),
  };
}

/** Adds names; drops those in `dropped`, those whose time is over, and the oldest of too many. */
function renew(
  before: ReadonlyMap<string, number>,
  added: readonly string[],
  dropped: readonly string[],
  nowMs: number,
): ReadonlyMap<string, number> {
  // Renewed only when half of its time is over: with every answer would be too often.
  const isFresh = (name: string) => (before.get(name) ?? -Infinity) < nowMs + rememberedMs / 2;
  const fresh = new Set(added.filter(isFresh));
  if (fresh.size === 0 && !dropped.some((name) => before.has(name))) return before;
  const isKept = (name: string) => !fresh.has(name) && !dropped.includes(name);
  const kept = [...before].filter(([name, untilMs]) => untilMs > nowMs && isKept(name));
  const renewed = Array.from(fresh, (name): [string, number] => [name, nowMs + rememberedMs]);
  return new Map([...kept, ...renewed].slice(-rememberedMax));
}

export function domainOf(from: string): string {
  return from.slice(from.lastIndexOf("@") + 1).toLowerCase();
}

/**
 * The emails whose senders may share a request.
 * @param senders   those that are remembered at the batch's provider
 * @param sendersMs now, by the clock of `senders`
 */
export function separateSenders(input: DecisionInput, senders: KnownSenders, sendersMs: number): Separation {
  const { batch } = input;
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
  return { emails, verdicts };
}

/**
 * Only an attempt of its own ends an email: one that every other provider has refused, and this one only from memory, is
 * sent nevertheless, apart from the others. A provider that can be searched answers for each email alone, so it has no
 * strangers.
 */
function groupOf(
  email: DecodedEmail,
  input: DecisionInput,
  senders: KnownSenders,
  sendersMs: number,
): "here" | "stranger" | "lastChance" | "elsewhere" | "sent" {
  const { batch, policy } = input;
  const { from } = email.email;
  if (email.marked) return "sent";
  if (email.history.refusedBy.includes(batch.provider)) return "elsewhere";
  const isRemembered = (untilMs = -Infinity) => untilMs > sendersMs;
  if (isRemembered(senders.refused.get(from))) {
    return othersFor(email, input).length === 0 ? "lastChance" : "elsewhere";
  }
  if (policy.searchWaitMs !== undefined) return "here";
  return isRemembered(senders.accepted.get(domainOf(from))) ? "here" : "stranger";
}
