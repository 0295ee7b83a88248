// The delivery of a claimed batch, from the claim to its settlement. Decide, then act: policy/ decides what follows
// from an answer, and one settlement carries it out.

import { describe } from "../runtime/errors.ts";
import { longTurn } from "../runtime/turns.ts";
import { decodeBatch, type DecodedBatch, firstDueAtMs, isInDoubt } from "../policy/batch.ts";
import { decide, nextStep } from "../policy/decide_batch.ts";
import type { Decision, DecisionInput, Policy, Result } from "../policy/decision.ts";
import type { RateHint, SearchResult, SendResult } from "../policy/request_outcome.ts";
import { carriesFiles, presend } from "../policy/presend.ts";
import { fileBytes, requestTimes } from "../policy/request_budget.ts";
import { kindOf } from "../providers/failure_reason.ts";
import type { OutgoingEmail, Provider } from "../providers/provider.ts";
import { type Batch, type Settled, type Settlement, StoreUnavailable } from "../queue/contract.ts";
import { type Claim, outlasts } from "../queue/claimant.ts";
import { type DeliveryContext, reportDead } from "./delivery_context.ts";
import type { FileMemory } from "./file_memory.ts";
import { readFiles } from "./file_reader.ts";
import type { Admission } from "./provider_state.ts";

/** The first and the longest pause before a settlement is repeated, ms. */
const pauseMinMs = 50;
const pauseMaxMs = 1000;
/** Delay of a batch whose files could not be read from the store, ms. */
const filesPauseMs = 1000;

const untouched: Result = { kind: "untouched", delayMs: 0 };

type Answer = { readonly result: SendResult | SearchResult; readonly rate: RateHint };

export class Delivery {
  readonly #context: DeliveryContext;
  readonly #claim: Claim;
  readonly #batch: Batch;
  readonly #answeredAtMs = performance.now();
  /** Names the batch in the log. */
  readonly #about: { readonly batch: string; readonly provider: string };
  /** The batch without the emails that left it before its first request. */
  #open: DecodedBatch;
  #policy: Policy;
  readonly #released = Promise.withResolvers<void>();
  /** The use of the permit that the claim took. */
  #rate: Settlement["rate"];

  /** @param batch as this claim has just returned it */
  constructor(context: DeliveryContext, claim: Claim, batch: Batch) {
    const { settings } = context;
    this.#context = context;
    this.#claim = claim;
    this.#batch = batch;
    this.#about = { batch: batch.id, provider: batch.provider };
    this.#open = decodeBatch(batch);
    const providers = [...new Set([...settings.providers, ...batch.servedProviders])];
    const unknown = {
      searchWaitMs: undefined,
      batchesFiles: true,
      credential: "",
      question: "none",
    } as const;
    this.#policy = { ...settings, providers, ...unknown };
  }

  /** Whether the delivery's request has files. */
  carriesFiles({ batchesFiles }: Provider): boolean {
    return carriesFiles(this.#open, batchesFiles);
  }

  /**
   * Resolves when it needs its slot no longer: the provider has answered, or nothing is left to do but to repeat a
   * settlement that the store did not answer.
   */
  get released(): Promise<void> {
    return this.#released.promise;
  }

  /** The input of a decision now. `nowMs` estimates the store's time, and is never ahead of it. */
  get #input(): DecisionInput {
    const nowMs = this.#batch.nowMs + Math.floor(performance.now() - this.#answeredAtMs);
    return { batch: this.#open, policy: this.#policy, nowMs, random: Math.random() };
  }

  /**
   * Makes a request or a search, and settles the batch. Never rejects: a batch that cannot be settled stays leased, and
   * is claimed again when the lease has expired.
   * @param takesFiles whether the request may have files
   */
  async run(
    admission: Admission,
    { memory, takesFiles }: { readonly memory: FileMemory; readonly takesFiles: boolean },
  ): Promise<void> {
    const { log } = this.#context;
    const { state } = admission;
    const { credential } = state.provider;
    const batch = this.#batch;
    const about = { ...this.#about, count: batch.emails.length };
    if (batch.leaseExpired) log.warn("lease-expired", about);
    this.#rate = { kind: "unused", credential };
    let isReleased = false;
    const release = () => {
      if (!isReleased) state.release(admission, this.#rate?.kind === "unused");
      isReleased = true;
    };
    void this.released.then(release);
    try {
      // A mixed-up reply would give one provider's batch to the other.
      if (batch.provider !== state.name) throw new Error(`claimed for ${batch.provider}`);
      const step = await this.#prepare(admission, takesFiles);
      if (step === undefined) return;
      const answer = await this.#attempt(state.provider, step, memory);
      if (!("result" in answer)) return void (await this.#carryOut(decide(answer, this.#input)));

      const { result, rate } = answer;
      const decision = decide(result, this.#input);
      const change = state.learn(this.#context, admission, this.#open, decision, rate);
      this.#rate = change && { ...change, credential };
      const { rest, failure } = decision.settlement;
      if (rest !== undefined && !isInDoubt(batch)) {
        log.warn("batch-in-doubt", { ...about, reason: kindOf(failure?.reason) });
      }
      this.#released.resolve();
      await this.#carryOut(decision);
      if (change !== undefined) state.adopt(change);
    } catch (error) {
      // A bug, or a store that refuses a valid settlement: the batch stays leased, and is claimed again later.
      log.error("delivery-failed", { batch: batch.id, ...describe(error) });
    } finally {
      release();
    }
  }

  /** Settles a batch whose doubt is over. It may belong to any provider. */
  async endDoubt(): Promise<void> {
    await this.#carryOut(decide({ kind: "ended" }, this.#input));
  }

  /**
   * Gives back a batch without having made a request.
   * @param credential that of the permit, if the claim took one
   */
  async handBack(delayMs: number, credential?: string): Promise<void> {
    if (credential !== undefined) this.#rate = { kind: "unused", credential };
    await this.#carryOut(decide({ kind: "untouched", delayMs }, this.#input));
  }

  /** Settles the emails that the request leaves out. Returns undefined if there is no request to make. */
  async #prepare(
    { state, question }: Admission,
    takesFiles: boolean,
  ): Promise<"send" | "search" | undefined> {
    const { credential, search, batchesFiles } = state.provider;
    const searchWaitMs = search === undefined ? undefined : this.#context.settings.searchWaitMs;
    this.#policy = { ...this.#policy, searchWaitMs, batchesFiles, credential, question };
    const step = nextStep(this.#input, state.weight > 0);
    if (typeof step !== "string") return void (await this.#carryOut(decide(step, this.#input)));
    const { emails, decision } = presend(this.#input, state.senders, performance.now(), takesFiles);
    if (decision !== undefined) {
      const { leaseHeld } = await this.#carryOut(decision);
      if (!leaseHeld || emails.length === 0) return undefined;
      this.#open = { ...this.#open, emails };
    }
    this.#policy = await state.inform(this.#context, this.#input, step);
    return step;
  }

  /** Makes the request, or returns why it cannot be made now. */
  async #attempt(provider: Provider, step: "send" | "search", memory: FileMemory): Promise<Answer | Result> {
    // A search carries no files.
    const bytes = step === "send" ? this.#open.emails.reduce((sum, one) => sum + fileBytes(one.email), 0) : 0;
    const texts = this.#batch.emails.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0);
    const { providerTimeoutMs } = this.#context.settings;
    const leaseMs = this.#batch.leaseEndsAtMs - this.#batch.nowMs;
    // Files travel in base64.
    const { timeoutMs, needMs } = requestTimes(texts + (4 / 3) * bytes, { providerTimeoutMs, leaseMs });
    const free = bytes === 0 ? () => {} : await memory.take(bytes, leaseMs - needMs);
    if (free === undefined) return untouched;
    try {
      const { emails: open } = this.#open;
      const read = bytes === 0 ? undefined : await readFiles(this.#context.consumer, open);
      if (read !== undefined && read.lost.size > 0) return { kind: "filesLost", ids: read.lost };
      // To encode ten megabytes takes a few dozen milliseconds.
      if (read !== undefined) await longTurn();
      if (!outlasts(this.#claim, leaseMs, needMs)) return untouched;
      return await this.#request(provider, step, read?.emails ?? open, timeoutMs);
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) throw error;
      this.#context.log.warn("files-unread", { ...this.#about, reason: error.message });
      return { kind: "untouched", delayMs: filesPauseMs };
    } finally {
      free();
    }
  }

  async #request(
    provider: Provider,
    request: "send" | "search",
    emails: readonly OutgoingEmail[],
    timeoutMs: number,
  ): Promise<Answer> {
    const { log, observer } = this.#context;
    const { id, context } = this.#open;
    const outgoing = { batchId: id, context, emails };
    const startMs = performance.now();
    const signal = AbortSignal.timeout(timeoutMs);
    let answer: Answer;
    try {
      answer = await (request === "search" && provider.search !== undefined
        ? provider.search(outgoing, signal)
        : provider.send(outgoing, signal));
    } catch (error) {
      // Adapters do not throw. If one does nevertheless, nobody knows how far the request got.
      log.error("provider-failed", { provider: provider.name, batch: id, ...describe(error) });
      const outcome = { kind: "unknown", reason: "the adapter failed", own: false } as const;
      answer = { result: { kind: request === "search" ? "failed" : "whole", outcome }, rate: {} };
    }
    const { result } = answer;
    const kind = result.kind === "each" ? "answered" : "searched";
    const outcome = "outcome" in result ? result.outcome.kind : kind;
    const elapsedMs = performance.now() - startMs;
    observer?.requested({ provider: provider.name, request, outcome, elapsedMs });
    return answer;
  }

  /** Settles the batch, and logs what an operator has to know. */
  async #carryOut({ settlement, dead, possibleDuplicates }: Decision): Promise<Settled> {
    const { log, observer } = this.#context;
    const about = this.#about;
    const { emails, unreadable } = this.#open;
    const { nowMs } = this.#input;
    // Emails that leave the batch before its first request do not settle its permit.
    const isOver = !settlement.keepsLease || settlement.fates.length >= emails.length + unreadable.length;
    const settled = await this.#settle(
      isOver && this.#rate ? { ...settlement, rate: this.#rate } : settlement,
      isOver,
    );
    const { leaseHeld, duplicates } = settled;
    log.debug("batch-settled", { ...about, leaseHeld, ...settlement.counts });
    const fates = new Map(settlement.fates.map(({ id, kind }) => [id, kind]));
    for (const id of [...emails.map((email) => email.id), ...unreadable]) {
      const fate = fates.get(id) ?? (settlement.keepsLease ? "kept" : "in-doubt");
      if (leaseHeld || fate === "sent") log.debug("email-settled", { ...about, id, fate });
    }
    // An acceptance counts even if the lease was lost.
    const accepted = emails.filter(({ id }) => fates.get(id) === "sent");
    const agesMs = accepted.map((email) => nowMs - firstDueAtMs(email));
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

  /** Repeats until the store answers, however long that takes: an acceptance counts even after the lease. */
  async #settle(settlement: Settlement, isOver: boolean): Promise<Settled> {
    const { consumer, log } = this.#context;
    for (let pauseMs = pauseMinMs; ; pauseMs = Math.min(2 * pauseMs, pauseMaxMs)) {
      try {
        return await consumer.settle(this.#batch, settlement);
      } catch (error) {
        if (!(error instanceof StoreUnavailable)) throw error;
        if (isOver) this.#released.resolve();
        if (pauseMs === pauseMinMs)
          log.warn("settlement-repeated", { batch: this.#batch.id, reason: error.message });
        await Bun.sleep(pauseMs);
      }
    }
  }
}
