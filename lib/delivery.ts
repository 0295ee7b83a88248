// One slot of the worker: what happens to a batch from its claim to its settlement. Decide, then act: what
// follows from an answer is decided in policy/, and carried out by one settlement.

import { decodeEmail } from "./email.ts";
import { giveTicketBack, type Lane, learn, type Ticket } from "./lane.ts";
import type { Log } from "./log.ts";
import { nextStep, openBatch, type OpenBatch } from "./policy/batch.ts";
import { decide } from "./policy/decide.ts";
import type { Decision, Policy, Result } from "./policy/decision.ts";
import { asDead, encodeHistory, noHistory } from "./policy/history.ts";
import { leaseOutlasts } from "./policy/lease.ts";
import type { RateHint } from "./policy/outcome.ts";
import { triage } from "./policy/triage.ts";
import type { Outgoing, Provider } from "./providers/provider.ts";
import {
  type Batch,
  type EmailFate,
  type Settled,
  type Settlement,
  StoreUnavailable,
  type Work,
} from "./queue/queue.ts";

export interface DeliverySettings {
  readonly providerTimeoutMs: number;
  readonly leaseMs: number;
  readonly retryBaseMs: number;
  readonly retryMaxMs: number;
  readonly giveUpAfterMs: number;
  readonly searchWaitMs: number;
  /** Names of those with positive weight, in order of preference. */
  readonly providers: readonly string[];
}

export interface Deliverer {
  readonly work: Work;
  readonly settings: DeliverySettings;
  readonly log: Log;
}

/** A batch, and the two clocks just before its claim was first sent. */
export interface Claimed {
  readonly batch: Batch;
  readonly sentAtMs: number;
  readonly sentAtWallMs: number;
  /** By `performance.now()`, when its answer came. */
  readonly answeredAtMs: number;
}

/** From an unknown answer of a provider that can be searched to the first look, ms. */
const firstLookMs = 1000;
/** What a settlement may take, on top of the request, before the lease runs out, ms. */
const settleMarginMs = 1000;

/**
 * Delivers a claimed batch: a request or a search, and a settlement. Never rejects: what cannot be settled stays
 * leased, and is claimed again when the lease runs out.
 */
export async function deliver(
  deliverer: Deliverer,
  lane: Lane,
  ticket: Ticket,
  claimed: Claimed,
): Promise<void> {
  const { batch } = claimed;
  let ticketUsed = false;
  try {
    const open = openOrSetAside(batch);
    if (open.kind === "setAside") {
      deliverer.log.error("email-unreadable", { batch: batch.id, count: open.unreadable });
      await settle(deliverer, batch, open.settlement);
      return;
    }
    const attempt = begin(deliverer, lane, claimed, open.batch);
    if (attempt.kind === "decided") {
      await carryOut(deliverer, batch, attempt.decision);
      return;
    }
    ticketUsed = true;
    const { result, rate } = await request(deliverer, lane.provider, batch, attempt.kind);
    const decision = decide(
      open.batch,
      result,
      policyOf(deliverer, lane.provider),
      nowOf(claimed),
      Math.random(),
    );
    const change = learn(lane, ticket, decision, rate);
    if (change !== undefined) report(deliverer.log, lane, change, result);
    await carryOut(
      deliverer,
      batch,
      decision,
      open.batch.doubtSinceMs === undefined ? reasonOf(result) : undefined,
    );
  } catch (error) {
    // A bug, or a store that refuses what it should not: the lease keeps the batch until another try.
    deliverer.log.error("delivery-failed", { batch: batch.id, reason: String(error) });
  } finally {
    if (!ticketUsed) giveTicketBack(lane, ticket);
  }
}

/** Settles a batch whose doubt is over, of whatever provider. */
export async function endDoubt(deliverer: Deliverer, claimed: Claimed): Promise<void> {
  const policy = policyOf(deliverer, undefined);
  const decision = decide(openBatch(claimed.batch), { kind: "ended" }, policy, nowOf(claimed), Math.random());
  await carryOut(deliverer, claimed.batch, decision);
}

/** Gives back a batch of which nothing was begun. */
export async function handBack(deliverer: Deliverer, claimed: Claimed, delayMs: number): Promise<void> {
  const result: Result = { kind: "untouched", delayMs };
  const policy = policyOf(deliverer, undefined);
  const decision = decide(openBatch(claimed.batch), result, policy, nowOf(claimed), Math.random());
  await carryOut(deliverer, claimed.batch, decision);
}

type Attempt =
  | { readonly kind: "send" | "recall" }
  /** Without a request. */
  | { readonly kind: "decided"; readonly decision: Decision };

function begin(deliverer: Deliverer, lane: Lane, claimed: Claimed, batch: OpenBatch): Attempt {
  const { settings } = deliverer;
  const policy = policyOf(deliverer, lane.provider);
  const nowMs = nowOf(claimed);
  const without = (result: Result): Attempt => ({
    kind: "decided",
    decision: decide(batch, result, policy, nowMs, Math.random()),
  });

  const step = nextStep(batch, lane.provider.recall !== undefined, nowMs);
  if (step === "end") return without({ kind: "ended" });
  const sorted = triage(batch, lane.senders, performance.now(), policy, nowMs);
  if (sorted.kind === "settle") return { kind: "decided", decision: sorted.decision };
  const lasts = leaseOutlasts({
    leaseMs: settings.leaseMs,
    needMs: settings.providerTimeoutMs + Math.min(settleMarginMs, settings.leaseMs / 4),
    monotonicElapsedMs: performance.now() - claimed.sentAtMs,
    wallElapsedMs: Date.now() - claimed.sentAtWallMs,
  });
  return lasts ? { kind: step } : without({ kind: "untouched", delayMs: 0 });
}

async function request(
  { settings, log }: Deliverer,
  provider: Provider,
  batch: Batch,
  kind: "send" | "recall",
): Promise<{ result: Result; rate: RateHint }> {
  const signal = AbortSignal.timeout(settings.providerTimeoutMs);
  const outgoing: Outgoing = {
    batchId: batch.id,
    context: batch.context,
    emails: batch.emails.map(({ id, text }) => ({ id, email: decodeEmail(text) })),
  };
  try {
    if (kind === "recall" && provider.recall !== undefined) {
      const { result, rate } = await provider.recall(outgoing, signal);
      return { result: { kind, result }, rate };
    }
    const { result, rate } = await provider.send(outgoing, signal);
    return { result: { kind: "send", result }, rate };
  } catch (error) {
    // Adapters do not throw. If one does all the same, nobody knows how far the request got.
    log.error("provider-failed", { provider: provider.name, batch: batch.id, reason: String(error) });
    const outcome = { kind: "unknown", reason: "the adapter failed" } as const;
    const result: Result =
      kind === "recall"
        ? { kind, result: { kind: "failed", outcome } }
        : { kind, result: { kind: "whole", outcome } };
    return { result, rate: {} };
  }
}

/** Settles, and says what an operator has to know. `doubtReason` is given if this is how doubt began. */
async function carryOut(
  deliverer: Deliverer,
  batch: Batch,
  { settlement, dead, possibleDuplicates }: Decision,
  doubtReason?: string,
): Promise<void> {
  const { log } = deliverer;
  const about = { batch: batch.id, provider: batch.provider };
  const settled = await settle(deliverer, batch, settlement);
  log.debug("batch-settled", { ...about, fenced: settled.fenced, ...settlement.counts });
  for (const id of settled.duplicates) log.error("duplicate", { ...about, id });
  if (!settled.fenced) {
    log.warn("lease-lost", about);
    return;
  }
  if (settlement.rest !== undefined && doubtReason !== undefined) {
    log.warn("batch-in-doubt", { ...about, count: batch.emails.length, reason: doubtReason });
  }
  for (const { id, cause, outcomeUnknown } of dead)
    log.error("dead-letter", { ...about, id, cause, outcomeUnknown });
  for (const id of possibleDuplicates) log.warn("possible-duplicate", { ...about, id });
}

/** Repeats until the store has answered, however long that takes: an acceptance counts after the lease too. */
async function settle({ work, log }: Deliverer, batch: Batch, settlement: Settlement): Promise<Settled> {
  for (let pauseMs = 50; ; pauseMs = Math.min(2 * pauseMs, 1000)) {
    try {
      return await work.settle(batch, settlement);
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) throw error;
      log.debug("settle-repeated", { batch: batch.id, reason: error.message });
      await Bun.sleep(pauseMs);
    }
  }
}

function policyOf({ settings }: Deliverer, provider: Provider | undefined): Policy {
  const { retryBaseMs, retryMaxMs, giveUpAfterMs, searchWaitMs, providers } = settings;
  return {
    retryBaseMs,
    retryMaxMs,
    giveUpAfterMs,
    recall: provider?.recall === undefined ? undefined : { searchWaitMs, firstLookMs },
    providers,
    newBatchIds: [Bun.randomUUIDv7(), Bun.randomUUIDv7()],
  };
}

/** The store's time, as far as this process can tell: never ahead of it. */
function nowOf({ batch, answeredAtMs }: Claimed): number {
  return batch.nowMs + Math.floor(performance.now() - answeredAtMs);
}

function reasonOf(result: Result): string | undefined {
  if (result.kind === "send" && result.result.kind === "whole") return result.result.outcome.reason;
  if (result.kind === "recall" && result.result.kind === "failed") return result.result.outcome.reason;
  return undefined;
}

function report(log: Log, { provider, breaker }: Lane, change: "opened" | "closed", result: Result): void {
  if (change === "closed") {
    log.info("provider-back", { provider: provider.name });
    return;
  }
  const forMs = breaker.kind === "open" ? Math.round(breaker.untilMs - performance.now()) : undefined;
  log.warn("provider-shut", { provider: provider.name, forMs, reason: reasonOf(result) });
}

type Opened =
  | { readonly kind: "open"; readonly batch: OpenBatch }
  | { readonly kind: "setAside"; readonly settlement: Settlement; readonly unreadable: number };

/** An email that cannot be read would hold up its neighbours for ever: it becomes a dead letter, as it is. */
function openOrSetAside(batch: Batch): Opened {
  try {
    return { kind: "open", batch: openBatch(batch) };
  } catch {
    let unreadable = 0;
    const fates = batch.emails.map((email): EmailFate => {
      const { id, history } = email;
      try {
        openBatch({ ...batch, emails: [email] });
        return { id, kind: "due", delayMs: 0, history };
      } catch {
        unreadable += 1;
        return {
          id,
          kind: "dead",
          history: encodeHistory(asDead(noHistory, "cannot be read from the store")),
        };
      }
    });
    return { kind: "setAside", settlement: { fates, counts: { unreadable } }, unreadable };
  }
}
