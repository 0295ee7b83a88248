// One slot of the worker: what happens to a batch from its claim to its settlement. Decide, then act: what
// follows from an answer is decided in policy/, and carried out by one settlement.

import { describe } from "../runtime/errors.ts";
import { decodeEmail } from "../email/email.ts";
import { type Claimed, leaseOf, outlasts } from "./lease_clock.ts";
import type {
  DeliveryContext,
  DeliveryObserver,
  DeliverySettings,
  RequestOutcome,
} from "./delivery_context.ts";
import { dropPermit, returnPermit, type ProviderState, learn, type Permit } from "./provider_state.ts";
import { inform } from "./provider_check.ts";
import { isInDoubt, nextStep, decodeBatch, type DecodedBatch } from "../policy/batch.ts";
import { decide } from "../policy/decide.ts";
import { isDueToSplit } from "../policy/in_doubt.ts";
import type { Decision, Policy, Result } from "../policy/decision.ts";
import { asDead, encodeHistory, noHistory } from "../policy/history.ts";
import type { RateHint } from "../policy/request_outcome.ts";
import { presend } from "../policy/presend.ts";
import type { Outgoing, Provider } from "../providers/provider.ts";
import {
  type Batch,
  type EmailFate,
  type Settled,
  type Settlement,
  StoreUnavailable,
} from "../queue/contract.ts";
import { loggable, failureReasonOf, reportChange, reportDead } from "./delivery_log.ts";

/** From an unknown answer of a provider that can be searched to the first look, ms. */
const firstLookMs = 1000;
/** Before a settlement is repeated for the first time, ms. */
const firstPauseMs = 50;
/** A request may take a second longer for each so many stored bytes. */
const bytesPerSecond = 256 * 1024;
/** What a settlement may take, on top of the request, before the lease runs out, ms. */
const settleMarginMs = 1000;

/**
 * Delivers a claimed batch: a request or a search, and a settlement. Never rejects: what cannot be settled stays
 * leased, and is claimed again when the lease runs out.
 */
export async function deliver(
  context: DeliveryContext,
  state: ProviderState,
  permit: Permit,
  claimed: Claimed,
): Promise<void> {
  const { log } = context;
  const { batch } = claimed;
  const about = { batch: batch.id, provider: batch.provider, count: batch.emails.length };
  if (batch.leaseExpired) log.warn("lease-expired", about);
  let permitState: "unused" | "used" | "answered" = "unused";
  try {
    // A reply that is another's would hand one provider's batch to the other.
    if (batch.provider !== state.provider.name) throw new Error(`claimed for ${batch.provider}`);
    const read = readBatch(batch);
    if (read === undefined) return void (await carryOut(context, claimed, setAside(context, claimed)));
    const prepared = await prepare(context, state, permit, claimed, read.open);
    if (prepared === undefined) return;

    const { open, step, policy } = prepared;
    const outgoing = only(read.outgoing, open);
    permitState = "used";
    const startMs = performance.now();
    const timeoutMs = requestTimeoutMs(context.settings, batch);
    const { result, rate } = await request(context, state.provider, outgoing, step, timeoutMs);
    context.observer?.requested({
      provider: batch.provider,
      request: step,
      outcome: outcomeOf(result),
      elapsedMs: performance.now() - startMs,
    });
    const decision = decide(open, result, policy, nowOf(claimed), Math.random());
    const isNew = !isInDoubt(open) && open.pieceMax === undefined;
    const change = learn(state, permit, decision, rate, { name: open.emails[0]?.id ?? batch.id, isNew });
    permitState = "answered";
    if (change !== undefined) reportChange(log, state, change, failureReasonOf(result));
    if (decision.settlement.rest !== undefined && !isInDoubt(open)) {
      log.warn("batch-in-doubt", { ...about, reason: loggable(failureReasonOf(result)) });
    }
    await carryOut(context, claimed, decision);
  } catch (error) {
    // A bug, or a store that refuses what it should not: the lease keeps the batch until another try.
    log.error("delivery-failed", { batch: batch.id, ...describe(error) });
  } finally {
    if (permitState === "unused") returnPermit(state, permit);
    else if (permitState === "used") dropPermit(state, permit);
  }
}

/** Settles a batch whose doubt is over, of whatever provider. */
export function endDoubt(context: DeliveryContext, claimed: Claimed): Promise<void> {
  return settleWithout(context, claimed, { kind: "ended" });
}

/** Gives back a batch of which nothing was begun. */
export function handBack(context: DeliveryContext, claimed: Claimed, delayMs: number): Promise<void> {
  return settleWithout(context, claimed, { kind: "untouched", delayMs });
}

async function settleWithout(context: DeliveryContext, claimed: Claimed, result: Result): Promise<void> {
  const { batch } = claimed;
  const open = readBatch(batch)?.open;
  const policy = policyOf(context.settings, batch);
  const decision =
    open === undefined
      ? setAside(context, claimed)
      : decide(open, result, policy, nowOf(claimed), Math.random());
  await carryOut(context, claimed, decision);
}

/** What came of a request. */
type Asked = Extract<Result, { kind: "send" | "search" }>;

interface Prepared {
  /** What is left of the batch for the request. */
  readonly open: DecodedBatch;
  readonly step: "send" | "search";
  readonly policy: Policy;
}

/** Settles the emails that the request leaves out; undefined if there is no request. */
async function prepare(
  context: DeliveryContext,
  state: ProviderState,
  permit: Permit,
  claimed: Claimed,
  batch: DecodedBatch,
): Promise<Prepared | undefined> {
  const { settings } = context;
  const policy = policyOf(settings, claimed.batch, state, permit);
  const handBackAll = async (open: DecodedBatch) => {
    const result: Result = { kind: "untouched", delayMs: 0 };
    await carryOut(context, claimed, decide(open, result, policy, nowOf(claimed), Math.random()));
    return undefined;
  };
  const step = nextStep(batch, state.provider.search !== undefined, nowOf(claimed));
  const isStarted = isInDoubt(batch);
  if (step === "wait" || (state.weight === 0 && !isStarted)) return handBackAll(batch);
  if (step === "send" && isDueToSplit(batch, policy, nowOf(claimed))) {
    await carryOut(context, claimed, decide(batch, { kind: "split" }, policy, nowOf(claimed), Math.random()));
    return undefined;
  }
  const { emails, decision } = presend(batch, state.senders, performance.now(), policy, nowOf(claimed));
  if (decision !== undefined) {
    const { leaseHeld } = await carryOut(context, claimed, decision);
    if (!leaseHeld || emails.length === 0) return undefined;
  }
  const open = { ...batch, emails };
  const informed = await inform(context, state, open, step, policy, nowOf(claimed));
  const leaseMs = leaseOf(claimed);
  const needMs = requestTimeoutMs(settings, claimed.batch) + Math.min(settleMarginMs, leaseMs / 4);
  return outlasts(claimed, leaseMs, needMs) ? { open, step, policy: informed } : handBackAll(open);
}

/** Longest that a request with this batch may take, ms. */
function requestTimeoutMs({ providerTimeoutMs }: DeliverySettings, { emails }: Batch): number {
  const bytes = emails.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0);
  return providerTimeoutMs + 1000 * Math.floor(bytes / bytesPerSecond);
}

/** Without the emails that have left the batch before its request. */
function only(outgoing: Outgoing, { emails }: DecodedBatch): Outgoing {
  if (emails.length === outgoing.emails.length) return outgoing;
  const ids = new Set(emails.map(({ id }) => id));
  return { ...outgoing, emails: outgoing.emails.filter(({ id }) => ids.has(id)) };
}

async function request(
  { log }: DeliveryContext,
  provider: Provider,
  outgoing: Outgoing,
  kind: "send" | "search",
  timeoutMs: number,
): Promise<{ result: Asked; rate: RateHint }> {
  const signal = AbortSignal.timeout(timeoutMs);
  try {
    if (kind === "search" && provider.search !== undefined) {
      const { result, rate } = await provider.search(outgoing, signal);
      return { result: { kind, result }, rate };
    }
    const { result, rate } = await provider.send(outgoing, signal);
    return { result: { kind: "send", result }, rate };
  } catch (error) {
    // Adapters do not throw. If one does all the same, nobody knows how far the request got.
    log.error("provider-failed", { provider: provider.name, batch: outgoing.batchId, ...describe(error) });
    const outcome = { kind: "unknown", reason: "the adapter failed", own: false } as const;
    const result: Asked =
      kind === "search"
        ? { kind, result: { kind: "failed", outcome } }
        : { kind, result: { kind: "whole", outcome } };
    return { result, rate: {} };
  }
}

/** Settles, and says what an operator has to know. */
async function carryOut(
  context: DeliveryContext,
  claimed: Claimed,
  { settlement, dead, possibleDuplicates }: Decision,
): Promise<Settled> {
  const { log, observer } = context;
  const { batch } = claimed;
  const about = { batch: batch.id, provider: batch.provider };
  const decidedAtMs = nowOf(claimed);
  const settled = await settle(context, batch, settlement);
  log.debug("batch-settled", { ...about, leaseHeld: settled.leaseHeld, ...settlement.counts });
  const fates = new Map(settlement.fates.map(({ id, kind }) => [id, kind]));
  for (const { id } of batch.emails) {
    const fate = fates.get(id) ?? (settlement.keepsLease ? "kept" : "in-doubt");
    if (settled.leaseHeld || fate === "sent") log.debug("email-settled", { ...about, id, fate });
  }
  if (observer !== undefined) tellAccepted(observer, batch, settlement, decidedAtMs);
  for (const id of settled.duplicates) log.error("duplicate", { ...about, id });
  if (!settled.leaseHeld) {
    log.warn("lease-lost", about);
    return settled;
  }
  reportDead(log, about, dead);
  for (const { cause } of dead) observer?.died(batch.provider, cause);
  for (const id of possibleDuplicates) log.warn("possible-duplicate", { ...about, id });
  return settled;
}

/** Whosever the lease was: an acceptance counts in any case. */
function tellAccepted(
  observer: DeliveryObserver,
  batch: Batch,
  { fates }: Settlement,
  decidedAtMs: number,
): void {
  const sent = new Set(fates.flatMap(({ id, kind }) => (kind === "sent" ? [id] : [])));
  if (sent.size === 0) return;
  const accepted = batch.emails.filter(({ id }) => sent.has(id));
  observer.accepted(
    batch.provider,
    accepted.map(({ submittedAtMs }) => decidedAtMs - submittedAtMs),
  );
}

/** Repeats until the store has answered, however long that takes: an acceptance counts after the lease too. */
async function settle(
  { consumer, log }: DeliveryContext,
  batch: Batch,
  settlement: Settlement,
): Promise<Settled> {
  for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(2 * pauseMs, 1000)) {
    try {
      return await consumer.settle(batch, settlement);
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) throw error;
      if (pauseMs === firstPauseMs)
        log.warn("settlement-repeated", { batch: batch.id, reason: error.message });
      await Bun.sleep(pauseMs);
    }
  }
}

function policyOf(settings: DeliverySettings, batch: Batch, state?: ProviderState, permit?: Permit): Policy {
  const { retryBaseMs, retryMaxMs, giveUpAfterMs, searchWaitMs, doubtSplitAfterMs, providers } = settings;
  return {
    retryBaseMs,
    retryMaxMs,
    giveUpAfterMs,
    search: state?.provider.search === undefined ? undefined : { searchWaitMs, firstLookMs },
    providers: [...new Set([...providers, ...batch.servedProviders])],
    credential: state?.provider.credential ?? "",
    splitAfterMs: doubtSplitAfterMs,
    question: permit?.question ?? "none",
  };
}

/** The store's time, as far as this process can tell: never ahead of it. */
function nowOf({ batch, answeredAtMs }: Claimed): number {
  return batch.nowMs + Math.floor(performance.now() - answeredAtMs);
}

function outcomeOf({ result }: Asked): RequestOutcome {
  switch (result.kind) {
    case "each":
      return "answered";
    case "searched":
      return "searched";
    case "whole":
    case "failed":
      return result.outcome.kind;
  }
}

/**
 * An email that cannot be read would hold up its neighbours for ever. It becomes a dead letter, as it is; they go
 * back to waiting, since the request cannot be made as it was.
 */
function setAside({ settings, log, observer }: DeliveryContext, claimed: Claimed): Decision {
  const { batch } = claimed;
  const readable = batch.emails.filter((email) => isReadable(batch, email));
  const unreadable = batch.emails.filter((email) => !readable.includes(email));
  const open = decodeBatch({ ...batch, notes: "", emails: readable });
  const inDoubt = isInDoubt(open);
  const result: Result = inDoubt ? { kind: "ended" } : { kind: "untouched", delayMs: 0 };
  const decision = decide(open, result, policyOf(settings, batch), nowOf(claimed), Math.random());
  const history = encodeHistory(asDead({ ...noHistory, doubted: inDoubt }, "cannot be read from the store"));
  const { settlement } = decision;
  for (const { id } of unreadable) {
    log.error("email-unreadable", { batch: batch.id, provider: batch.provider, id, outcomeUnknown: inDoubt });
    observer?.died(batch.provider, "unreadable");
  }
  return {
    ...decision,
    settlement: {
      ...settlement,
      fates: [
        ...settlement.fates,
        ...unreadable.map(({ id }) => ({ id, kind: "dead", history }) satisfies EmailFate),
      ],
      counts: { ...settlement.counts, [`dead:${batch.provider}`]: unreadable.length },
    },
  };
}

function isReadable(batch: Batch, email: Batch["emails"][number]): boolean {
  return readBatch({ ...batch, notes: "", emails: [email] }) !== undefined;
}

/** The batch as policy and as the provider see it; undefined if something in it cannot be read. */
function readBatch(batch: Batch): { open: DecodedBatch; outgoing: Outgoing } | undefined {
  try {
    const emails = batch.emails.map(({ id, text }) => ({ id, email: decodeEmail(text) }));
    return { open: decodeBatch(batch), outgoing: { batchId: batch.id, context: batch.context, emails } };
  } catch {
    return undefined;
  }
}
