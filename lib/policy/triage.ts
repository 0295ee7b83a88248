// Before a batch's first request: emails whose sender this provider refuses go to another without one, and domains that
// it is not known to take are kept apart. The bytes of a request never change after it was first made, so that only a
// batch that was never begun is touched; and it is settled as a whole, what can be sent going on in a new batch.

import { isInDoubt, type OpenBatch, type OpenEmail } from "./batch.ts";
import { compose, type Decision, type Policy, type Verdict } from "./decision.ts";
import { domainOf, isRefused, keepsApart, type Senders } from "./senders.ts";
import { byDomain, type Parts } from "./split.ts";
import { handedOver, leftToMark, nextProvider, splitUp, withRefusal } from "./verdict.ts";

export type Triage =
  /** As it is. */
  | { readonly kind: "send" }
  /** Not at all: this instead. */
  | { readonly kind: "settle"; readonly decision: Decision };

/**
 * @param senders   what is remembered of them at the batch's provider
 * @param sendersMs now, by the clock of `senders`
 * @param nowMs     the store's time, Unix ms
 */
export function triage(
  batch: OpenBatch,
  senders: Senders,
  sendersMs: number,
  policy: Policy,
  nowMs: number,
): Triage {
  const setting = { batch, policy, nowMs, random: 0 };
  if (isInDoubt(batch)) {
    // By the same rule whoever held it would have parted it, and so has made no request: that is no doubt.
    const neverBegun = hasOnlyLapsed(batch) ? strangersApart(batch, batch.emails, policy) : undefined;
    if (neverBegun === undefined) return { kind: "send" };
    return settle(splitUp(neverBegun, undefined, setting), batch);
  }
  const groups = Map.groupBy(batch.emails, (email) => lane(email, batch, policy, senders, sendersMs));
  const elsewhere = groups.get("elsewhere") ?? [];
  const lastChance = groups.get("lastChance") ?? [];
  const here = groups.get("here") ?? [];
  const sent = groups.get("sent") ?? [];
  const parts: Parts | undefined =
    lastChance.length > 0 && here.length > 0
      ? [here, lastChance]
      : strangersApart(batch, [...here, ...lastChance], policy);
  if (sent.length === 0 && elsewhere.length === 0 && parts === undefined) return { kind: "send" };
  const verdicts = [
    ...sent.map(leftToMark),
    ...elsewhere.map((email) => handedOver(email, setting)),
    ...splitUp(parts ?? [[...here, ...lastChance], []], undefined, setting),
  ];
  return settle(verdicts, batch);
}

/** In the hands of workers that keep strangers apart, and without a request, as far as anybody has told. */
function hasOnlyLapsed({ context, notes }: OpenBatch): boolean {
  return keepsApart(context) && notes.attempts.kept.every(({ outcome }) => outcome === "lapsed");
}

function settle(verdicts: readonly Verdict[], { provider }: OpenBatch): Triage {
  return { kind: "settle", decision: compose({ provider, verdicts, health: "none" }) };
}

/**
 * A refusal of one sender's domain refuses the whole request. After an answer that was lost it says nothing of the first
 * try, and nobody can ask a provider without a search: the batch stays in doubt for most of a day. So that such a
 * domain takes no other's emails with it, a request holds several only if each was known, when the batch was made, as
 * one whose emails this provider takes. That stands in the batch's context, so that every worker decides alike.
 */
function strangersApart(
  { context }: OpenBatch,
  emails: readonly OpenEmail[],
  { recall }: Policy,
): Parts | undefined {
  if (recall !== undefined) return undefined;
  const known = new Set(context.split(" "));
  const strangers = emails.filter(({ from }) => !known.has(domainOf(from)));
  if (strangers.length === 0) return undefined;
  if (strangers.length === emails.length) return byDomain(emails);
  return [emails.filter((email) => !strangers.includes(email)), strangers];
}

/**
 * Only the outcome of an attempt of its own ends an email: one that every other provider has refused, and that
 * this one refuses from memory alone, is sent nevertheless, apart from those that have nothing against them.
 */
function lane(
  { marked, from, history }: OpenEmail,
  { provider }: OpenBatch,
  { providers }: Policy,
  senders: Senders,
  sendersMs: number,
): "here" | "elsewhere" | "lastChance" | "sent" {
  if (marked) return "sent";
  if (history.refusedBy.includes(provider)) return "elsewhere";
  if (!isRefused(senders, from, sendersMs)) return "here";
  const next = nextProvider(withRefusal(history, provider), providers);
  return next === undefined ? "lastChance" : "elsewhere";
}
