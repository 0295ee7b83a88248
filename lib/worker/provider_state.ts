// One provider as one worker sees it: whether it gets a request, how fast, whose emails it takes, and where its next
// claim looks first. How this state changes is decided in policy/.

import { describe } from "../runtime/errors.ts";
import { type DecodedBatch, isInDoubt } from "../policy/batch.ts";
import { admit, type Breaker, type BreakerEvent } from "../policy/breaker.ts";
import { closedBreaker, record, suspiciousBreaker } from "../policy/breaker.ts";
import type { Decision, DecisionInput, Policy, Question } from "../policy/decision.ts";
import { isLate } from "../policy/decide_email.ts";
import {
  adopted,
  heard,
  type KnownRate,
  learnRate,
  newRate,
  nextPermitAtMs,
  outpaced,
  paused,
} from "../policy/rate_limit.ts";
import type { RateHint } from "../policy/request_outcome.ts";
import { type KnownSenders, noSenders, remember } from "../policy/sender_memory.ts";
import { kindOf } from "../providers/failure_reason.ts";
import type { Provider } from "../providers/provider.ts";
import { type ClaimSource, type Consumer, type RateChange, type SharedRate } from "../queue/contract.ts";
import { StoreUnavailable } from "../queue/contract.ts";
import type { Claimant } from "../queue/claimant.ts";
import type { DeliveryContext } from "./delivery_context.ts";

/** Pause before another question if the store did not answer, ms. */
const storePauseMs = 1000;

/** The breaker's admission of one request. The claim for it takes the permit of the rate, which all workers share. */
export interface Admission {
  readonly state: ProviderState;
  /** The state of the breaker in which it was given. */
  readonly admitted: Breaker;
  /** The provider's answer to a question since it last failed. */
  readonly question: Question;
  /** By `performance.now()`. */
  readonly takenAtMs: number;
  /** As the queue knew it when it gave the permit. */
  readonly rate?: SharedRate | undefined;
}

export class ProviderState {
  readonly provider: Provider;
  readonly name: string;
  /** 0: nothing new, batches in doubt are still resolved. */
  readonly weight: number;
  /** One for each lane: each makes one claim at a time. */
  readonly claimants: Claimant[] = [];
  /** Lanes whose last claim may have leased a batch that this worker has not got, the one asked longest ago first. */
  readonly openLanes = new Set<number>();
  breaker: Breaker = closedBreaker;
  rate: KnownRate;
  senders: KnownSenders = noSenders;
  /** Where the next claim looks, in order: the source served last comes last. */
  sources: readonly ClaimSource[];
  /** Most new emails in one request: halved by each that fails, doubled by each that succeeds. */
  countMax: number;
  /** Emails that a full request carries, by the last claim: few if they are large. */
  carries: number;
  /** Requests under way. */
  inFlight = 0;
  /** With weight 0: no claim before then, by `performance.now()`. */
  restsUntilMs = 0;
  /** When the latest request began that the provider itself has answered, by `performance.now()`. */
  #answeredFromMs = -Infinity;
  /** When the latest request began in which it accepted an email, by `performance.now()`. */
  #acceptedFromMs = -Infinity;
  /** Its answer to the last question. */
  #question: Question = "none";
  /** The account that the credential belongs to, once the provider has named it. */
  #account: string | undefined;

  constructor(provider: Provider, weight: number) {
    const { startRate, batchMax } = provider;
    this.provider = provider;
    this.name = provider.name;
    this.weight = weight;
    this.rate = newRate(startRate);
    this.sources = weight === 0 ? ["batches"] : ["emails", "split", "batches"];
    this.countMax = batchMax;
    this.carries = batchMax;
  }

  /**
   * The kind of request that may begin, and when, by `performance.now()`; `Infinity`: not before a request under way is
   * answered.
   */
  openingAt(nowMs: number): { readonly kind: "request" | "question" | "nothing"; readonly atMs: number } {
    const { breaker } = this;
    const admitted = admit(breaker, nowMs);
    const atMs = Math.max(nextPermitAtMs(this.rate, nowMs), this.restsUntilMs);
    if (admitted !== undefined) return { kind: admitted.kind === "asking" ? "question" : "request", atMs };
    return { kind: "nothing", atMs: breaker.kind === "open" ? Math.max(atMs, breaker.untilMs) : Infinity };
  }

  /** Where the next claim is made. */
  get firstLane(): number {
    const [lane = 0] = this.openLanes;
    return lane;
  }

  /** Undefined if nothing may begin now. */
  admit(nowMs: number): Admission | undefined {
    const before = this.breaker;
    const admitted = admit(before, nowMs);
    if (admitted === undefined || nextPermitAtMs(this.rate, nowMs) > nowMs) return undefined;
    const wasAsked = before.kind === "halfOpen" && before.cause === "unanswered";
    this.breaker = admitted;
    this.inFlight += 1;
    return { state: this, admitted, question: wasAsked ? this.#question : "none", takenAtMs: nowMs };
  }

  /** Remembers the rate that the queue has told. */
  hear(rate: SharedRate | undefined, isOutpaced = false): void {
    if (rate === undefined) return;
    const nowMs = performance.now();
    this.rate = isOutpaced ? outpaced(this.rate, rate, nowMs, Math.random()) : heard(this.rate, rate, nowMs);
  }

  /** The queue has carried out a change of the rate. */
  adopt(change: RateChange): void {
    if (change.kind === "learned") this.rate = adopted(this.rate, change, performance.now());
  }

  /** Ends an admission. If its permit went back to the queue, it can be asked for at once. */
  release({ admitted }: Admission, isUnused = false): void {
    const nowMs = performance.now();
    this.inFlight -= 1;
    this.breaker = record(this.breaker, admitted, { kind: "none" }, nowMs, 0);
    if (isUnused) this.rate = { ...this.rate, nextAtMs: nowMs };
  }

  /** Learns from the answer to a request with this batch. Returns what the other workers have to know about the rate. */
  learn(
    context: DeliveryContext,
    { admitted, takenAtMs, rate }: Admission,
    batch: DecodedBatch,
    decision: Decision,
    hint: RateHint,
  ): RateChange | undefined {
    const nowMs = performance.now();
    // Neither a piece nor in doubt.
    const isNew = !isInDoubt(batch) && batch.pieceMax === undefined;
    const { health, refusedSenders: refused, acceptedSenders: accepted, settlement } = decision;
    const hasFailed = health === "failure" || health === "unanswered";
    if (health !== "unanswered") this.#answeredFromMs = Math.max(this.#answeredFromMs, takenAtMs);
    if (accepted.length > 0) this.#acceptedFromMs = Math.max(this.#acceptedFromMs, takenAtMs);
    if (isNew && hasFailed) this.countMax = Math.max(1, Math.floor(this.countMax / 2));
    if (isNew && health === "success") this.countMax = Math.min(this.provider.batchMax, this.countMax * 2);
    this.senders = remember(this.senders, { refused, accepted }, nowMs);
    // If a request that began later was answered, or accepted, then the provider is there, or the account works, and
    // something is wrong with this request. Emails that were refused with the account before say nothing new about it.
    const isRefused = health === "accountRefused";
    const isLone =
      (health === "unanswered" && this.#answeredFromMs > takenAtMs) ||
      (isRefused && (this.#acceptedFromMs > takenAtMs || (this.breaker.kind === "closed" && !isNew)));
    const name = `${health} ${batch.emails[0]?.id ?? batch.id}`;
    const kind = isRefused && !isNew ? "none" : health;
    const event = { kind: isLone ? "failure" : kind, name, isNew } as const;
    this.#record(context, admitted, event, settlement.failure?.reason);
    const { throttled: isThrottled } = decision;
    if (rate === undefined || (hasFailed && !isThrottled)) return undefined;
    const about = { isThrottled, maxPerSecond: this.provider.maxRate, random: Math.random() };
    const change = learnRate(rate, hint, about);
    this.rate = paused(this.rate, change.pauseMs, nowMs);
    return change;
  }

  /** Reports when the provider is known to be down, and when it works again. */
  #record(
    { log }: DeliveryContext,
    admitted: Breaker,
    event: BreakerEvent,
    reason: string | undefined,
  ): void {
    const nowMs = performance.now();
    const before = this.breaker;
    const after = record(before, admitted, event, nowMs, Math.random());
    this.breaker = after;
    if (before.kind === after.kind) return;
    if (after.kind === "open" && after.isDown) {
      const forMs = Math.round(after.untilMs - nowMs);
      log.warn("breaker-opened", { provider: this.name, forMs, reason: kindOf(reason) });
    } else if (after.kind === "closed" && before.kind !== "closed" && before.isDown) {
      log.info("breaker-closed", { provider: this.name });
    }
  }

  /** Asks the provider whether it works, for the breaker, if there is a permit. */
  async probe(context: DeliveryContext, admission: Admission): Promise<void> {
    const { startRate, credential } = this.provider;
    const request = { provider: this.name, credential, startPerSecond: startRate };
    try {
      const permit = await context.consumer.takePermit(request).catch(ifUnavailable);
      if (permit === undefined) this.rate = paused(this.rate, storePauseMs, performance.now());
      this.hear(permit?.rate);
      if (!permit?.isTaken) return;
      const { question, reason } = await this.#ask(context, context.settings.providerTimeoutMs);
      this.#question = question;
      const kind = question === "none" ? "unanswered" : "success";
      this.#record(context, admission.admitted, { kind }, reason);
    } finally {
      this.release(admission);
    }
  }

  /**
   * Asks the provider what the decision will depend on. Before the first search: which account is searched, since another
   * account finds out nothing. Before a request whose failure may end an email: whether the provider works.
   */
  async inform(context: DeliveryContext, input: DecisionInput, step: "send" | "search"): Promise<Policy> {
    const { batch, policy } = input;
    const { providerTimeoutMs, leaseMs } = context.settings;
    // The lease must last for the request too. It is at least twice as long as one.
    const timeoutMs = Math.min(providerTimeoutMs, leaseMs / 5);
    if (step === "search") {
      this.#account ??= (await this.#ask(context, timeoutMs)).account;
      return this.#account === undefined ? policy : { ...policy, account: this.#account };
    }
    const [only, ...others] = batch.emails;
    if (only === undefined || others.length > 0 || !isLate(only, input)) return policy;
    return { ...policy, question: (await this.#ask(context, timeoutMs)).question };
  }

  /** A request that sends nothing: whether the provider answers, and whether it knows the credential. */
  async #ask(
    { log, observer }: DeliveryContext,
    timeoutMs: number,
  ): Promise<{ question: Question; reason?: string; account?: string | undefined }> {
    const { provider, name } = this;
    const startMs = performance.now();
    const result = await provider.check(AbortSignal.timeout(timeoutMs)).catch((error: unknown) => {
      log.error("provider-failed", { provider: name, ...describe(error) });
      return { ok: false, answered: false, reason: "the adapter failed" } as const;
    });
    const elapsedMs = performance.now() - startMs;
    const outcome = result.answered ? "answered" : "unanswered";
    observer?.requested({ provider: name, request: "check", outcome, elapsedMs });
    if (result.ok) return { question: "ok", account: result.account };
    return { question: result.answered ? "answered" : "none", reason: result.reason };
  }
}

/** A store that does not answer is reported by claims, and by its health. */
function ifUnavailable(error: unknown): undefined {
  if (!(error instanceof StoreUnavailable)) throw error;
}

/** Providers that last failed without an answer of their own, as the queue knows, are asked before anything is sent. */
export async function askFirst(
  states: readonly ProviderState[],
  consumer: Pick<Consumer, "stats">,
): Promise<void> {
  // A store that does not answer now is reported at the first claim.
  const stats = await consumer.stats().catch(() => undefined);
  for (const state of states) {
    if (stats?.providers[state.name]?.isUnanswered) state.breaker = suspiciousBreaker(performance.now());
  }
}
