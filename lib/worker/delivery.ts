// The delivery of a claimed batch until its settlement. Decide, then act: what follows from an answer is decided in
// policy/, and carried out by one settlement.

import { describe } from "../runtime/errors.ts";
import { decodeBatch, type DecodedBatch, isInDoubt } from "../policy/batch.ts";
import { decide, nextStep } from "../policy/decide.ts";
import type { Decision, Policy, Result } from "../policy/decision.ts";
import type { RateHint, SearchResult, SendResult } from "../policy/request_outcome.ts";
import { presend } from "../policy/senders.ts";
import type { Provider } from "../providers/provider.ts";
import { type Batch, type Settled, type Settlement, StoreUnavailable } from "../queue/contract.ts";
import { type Claim, outlasts } from "./claim.ts";
import { type DeliveryContext, loggable, reportDead, type RequestOutcome } from "./delivery_context.ts";
import type { Permit, ProviderState } from "./provider_state.ts";

/** Before a settlement is repeated for the first time, and at most, ms. */
const pauseMinMs = 50;
const pauseMaxMs = 1000;
/** A request may take a second longer for each so many stored bytes. */
const bytesPerSecond = 256 * 1024;
/** Time that a settlement may take, on top of the request, before the lease expires, ms. */
const settleMarginMs = 1000;

export class Delivery {
  readonly #context: DeliveryContext;
  readonly #claim: Claim;
  readonly #batch: Batch;
  readonly #answeredAtMs = performance.now();
  /** The rest of the batch: some of its emails may leave it before its first request. */
  #open: DecodedBatch;

  /** @param batch as the answer to this claim gave it just now */
  constructor(context: DeliveryContext, claim: Claim, batch: Batch) {
    this.#context = context;
    this.#claim = claim;
    this.#batch = batch;
    this.#open = decodeBatch(batch);
  }

  /** The store's time, Unix ms, as far as this process can tell: never ahead of it. */
  get #nowMs(): number {
    return this.#batch.nowMs + Math.floor(performance.now() - this.#answeredAtMs);
  }

  /**
   * A request or a search, and a settlement. Never rejects: what cannot be settled stays leased, and is claimed again when
   * the lease has expired.
   */
  async run(state: ProviderState, permit: Permit): Promise<void> {
    const { log } = this.#context;
    const batch = this.#batch;
    const about = { ...this.#about, count: batch.emails.length };
    if (batch.leaseExpired) log.warn("lease-expired", about);
    let isUsed = false;
    try {
      // A reply that is another's would give one provider's batch to the other.
      if (batch.provider !== state.name) throw new Error(`claimed for ${batch.provider}`);
      const prepared = await this.#prepare(state, permit);
      if (prepared === undefined) return;

      const { step, policy } = prepared;
      isUsed = true;
      const { result, rate } = await this.#request(state.provider, step);
      const decision = this.#decide(result, policy);
      state.learn(this.#context, permit, this.#open, decision, rate);
      const { rest, failure } = decision.settlement;
      if (rest !== undefined && !isInDoubt(batch)) {
        log.warn("batch-in-doubt", { ...about, reason: loggable(failure?.reason) });
      }
      await this.#carryOut(decision);
    } catch (error) {
      // A bug, or a store that refuses what it should not: the lease keeps the batch until another try.
      log.error("delivery-failed", { batch: batch.id, ...describe(error) });
    } finally {
      state.release(permit, isUsed);
    }
  }

  /** Settles a batch whose doubt is over, of whatever provider. */
  async endDoubt(): Promise<void> {
    await this.#carryOut(this.#decide({ kind: "ended" }, this.#policy()));
  }

  /** Gives back a batch of which nothing was begun. */
  async handBack(delayMs: number): Promise<void> {
    await this.#carryOut(this.#decide({ kind: "untouched", delayMs }, this.#policy()));
  }

  /** Settles the emails that the request leaves out; undefined if there is no request. */
  async #prepare(
    state: ProviderState,
    permit: Permit,
  ): Promise<{ readonly step: "send" | "search"; readonly policy: Policy } | undefined> {
    const policy = this.#policy(state, permit);
    const step = nextStep(this.#open, policy, state.weight > 0, this.#nowMs);
    if (typeof step !== "string") return void (await this.#carryOut(this.#decide(step, policy)));
    const { emails, decision } = presend(this.#open, state.senders, performance.now(), policy, this.#nowMs);
    if (decision !== undefined) {
      const { leaseHeld } = await this.#carryOut(decision);
      if (!leaseHeld || emails.length === 0) return undefined;
      this.#open = { ...this.#open, emails };
    }
    const informed = await state.inform(this.#context, this.#open, step, policy, this.#nowMs);
    const leaseMs = this.#batch.leaseEndsAtMs - this.#batch.nowMs;
    const needMs = this.#requestTimeoutMs() + Math.min(settleMarginMs, leaseMs / 4);
    if (!outlasts(this.#claim, leaseMs, needMs)) return void (await this.handBack(0));
    return { step, policy: informed };
  }

  /** Longest that a request with this batch may take, ms. */
  #requestTimeoutMs(): number {
    const bytes = this.#batch.emails.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0);
    return this.#context.settings.providerTimeoutMs + 1000 * Math.floor(bytes / bytesPerSecond);
  }

  async #request(
    provider: Provider,
    request: "send" | "search",
  ): Promise<{ result: SendResult | SearchResult; rate: RateHint }> {
    const { log, observer } = this.#context;
    const { id, context, emails } = this.#open;
    const outgoing = { batchId: id, context, emails };
    const startMs = performance.now();
    const signal = AbortSignal.timeout(this.#requestTimeoutMs());
    let answer: { result: SendResult | SearchResult; rate: RateHint };
    try {
      answer = await (request === "search" && provider.search !== undefined
        ? provider.search(outgoing, signal)
        : provider.send(outgoing, signal));
    } catch (error) {
      // Adapters do not throw. If one does all the same, nobody knows how far the request got.
      log.error("provider-failed", { provider: provider.name, batch: id, ...describe(error) });
      const outcome = { kind: "unknown", reason: "the adapter failed", own: false } as const;
      answer = { result: { kind: request === "search" ? "failed" : "whole", outcome }, rate: {} };
    }
    const elapsedMs = performance.now() - startMs;
    observer?.requested({ provider: provider.name, request, outcome: outcomeOf(answer.result), elapsedMs });
    return answer;
  }

  /** Settles, and reports what an operator has to know. */
  async #carryOut({ settlement, dead, possibleDuplicates }: Decision): Promise<Settled> {
    const { log, observer } = this.#context;
    const about = this.#about;
    const decidedAtMs = this.#nowMs;
    const settled = await this.#settle(settlement);
    const { leaseHeld, duplicates } = settled;
    log.debug("batch-settled", { ...about, leaseHeld, ...settlement.counts });
    const fates = new Map(settlement.fates.map(({ id, kind }) => [id, kind]));
    for (const id of [...this.#open.emails.map((email) => email.id), ...this.#open.unreadable]) {
      const fate = fates.get(id) ?? (settlement.keepsLease ? "kept" : "in-doubt");
      if (leaseHeld || fate === "sent") log.debug("email-settled", { ...about, id, fate });
    }
    // Whosever the lease was: an acceptance counts in any case.
    const accepted = this.#open.emails.filter(({ id }) => fates.get(id) === "sent");
    const agesMs = accepted.map(({ submittedAtMs }) => decidedAtMs - submittedAtMs);
    if (agesMs.length > 0) observer?.accepted(about.provider, agesMs);
    for (const id of duplicates) log.error("duplicate", { ...about, id });
    if (leaseHeld) {
      reportDead(this.#context, about, dead);
      for (const id of possibleDuplicates) log.warn("possible-duplicate", { ...about, id });
    } else {
      log.warn("lease-lost", about);
    }
    return settled;
  }

  /** Repeats until the store has answered, however long that takes: an acceptance counts after the lease too. */
  async #settle(settlement: Settlement): Promise<Settled> {
    const { consumer, log } = this.#context;
    for (let pauseMs = pauseMinMs; ; pauseMs = Math.min(2 * pauseMs, pauseMaxMs)) {
      try {
        return await consumer.settle(this.#batch, settlement);
      } catch (error) {
        if (!(error instanceof StoreUnavailable)) throw error;
        if (pauseMs === pauseMinMs)
          log.warn("settlement-repeated", { batch: this.#batch.id, reason: error.message });
        await Bun.sleep(pauseMs);
      }
    }
  }

  #decide(result: Result, policy: Policy): Decision {
    return decide(this.#open, result, policy, this.#nowMs, Math.random());
  }

  #policy(state?: ProviderState, permit?: Permit): Policy {
    const { settings } = this.#context;
    return {
      ...settings,
      providers: [...new Set([...settings.providers, ...this.#batch.servedProviders])],
      searchWaitMs: state?.provider.search === undefined ? undefined : settings.searchWaitMs,
      credential: state?.provider.credential ?? "",
      question: permit?.question ?? "none",
    };
  }

  get #about() {
    const { id: batch, provider } = this.#batch;
    return { batch, provider };
  }
}

function outcomeOf(result: SendResult | SearchResult): RequestOutcome {
  if ("outcome" in result) return result.outcome.kind;
  return result.kind === "each" ? "answered" : "searched";
}
