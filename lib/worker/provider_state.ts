// One provider as one worker sees it: whether it gets a request, how fast, whose emails it takes, and where its next
// claim looks first. How this state changes is decided in policy/.

import { describe } from "../runtime/errors.ts";
import { type DecodedBatch, isInDoubt } from "../policy/batch.ts";
import { admit, type Breaker, type BreakerEvent } from "../policy/breaker.ts";
import { closedBreaker, record, suspiciousBreaker } from "../policy/breaker.ts";
import type { Decision, DecisionInput, Policy, Question } from "../policy/decision.ts";
import { isLate } from "../policy/decide_email.ts";
import { learnRate, newRate, nextPermitAtMs, type Rate } from "../policy/rate_limit.ts";
import { returnPermit, takePermit } from "../policy/rate_limit.ts";
import type { RateHint } from "../policy/request_outcome.ts";
import { type KnownSenders, noSenders, remember } from "../policy/sender_memory.ts";
import { kindOf } from "../providers/failure_reason.ts";
import type { Provider } from "../providers/provider.ts";
import type { ClaimSource, Consumer } from "../queue/contract.ts";
import { Claimant } from "./claim.ts";
import type { DeliveryContext } from "./delivery_context.ts";

/** The right to one request. */
export interface Permit {
  readonly state: ProviderState;
  /** The state of the breaker in which it was given. */
  readonly admitted: Breaker;
  /** The provider's answer to a question since it last failed. */
  readonly question: Question;
  /** By `performance.now()`. */
  readonly takenAtMs: number;
}

export class ProviderState {
  readonly provider: Provider;
  readonly name: string;
  /** 0: nothing new, batches in doubt are still resolved. */
  readonly weight: number;
  readonly claimant = new Claimant();
  breaker: Breaker = closedBreaker;
  rate: Rate;
  senders: KnownSenders = noSenders;
  /** Where the next claim looks, in order: the source served last comes last. */
  sources: readonly ClaimSource[];
  /** Most new emails in one request: halved by each that fails, doubled by each that succeeds. */
  countMax: number;
  /** Emails that a full request carries, by the last claim: few if they are large. */
  carries: number;
  /** Permits that are taken: requests under way. */
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
    const { startRate, maxRate, batchMax } = provider;
    this.provider = provider;
    this.name = provider.name;
    this.weight = weight;
    this.rate = newRate({ startPerSecond: startRate, maxPerSecond: maxRate, nowMs: performance.now() });
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

  /** Undefined if nothing may begin now. */
  takePermit(nowMs: number): Permit | undefined {
    const before = this.breaker;
    const admitted = admit(before, nowMs);
    const rate = takePermit(this.rate, nowMs);
    if (admitted === undefined || rate === undefined) return undefined;
    const wasAsked = before.kind === "halfOpen" && before.cause === "unanswered";
    this.breaker = admitted;
    this.rate = rate;
    this.inFlight += 1;
    return { state: this, admitted, question: wasAsked ? this.#question : "none", takenAtMs: nowMs };
  }

  /** Ends a permit. One that was not used makes room for another request. */
  release({ admitted }: Permit, wasUsed: boolean): void {
    this.inFlight -= 1;
    this.breaker = record(this.breaker, admitted, { kind: "none" }, performance.now(), 0);
    if (!wasUsed) this.rate = returnPermit(this.rate);
  }

  /** Learns from the answer to a request with this batch. */
  learn(
    context: DeliveryContext,
    { admitted, takenAtMs }: Permit,
    batch: DecodedBatch,
    decision: Decision,
    hint: RateHint,
  ): void {
    const nowMs = performance.now();
    // Neither a piece nor in doubt.
    const isNew = !isInDoubt(batch) && batch.pieceMax === undefined;
    const { health, refusedSenders: refused, acceptedSenders: accepted, settlement } = decision;
    const hasFailed = health === "failure" || health === "unanswered";
    const about = { isThrottled: decision.throttled, takenAtMs, nowMs, random: Math.random() };
    if (decision.throttled || !hasFailed) this.rate = learnRate(this.rate, hint, about);
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

  /** Asks the provider whether it works, for the breaker. */
  async probe(context: DeliveryContext, permit: Permit): Promise<void> {
    const { question, reason } = await this.#ask(context, context.settings.providerTimeoutMs);
    this.#question = question;
    const kind = question === "none" ? "unanswered" : "success";
    this.#record(context, permit.admitted, { kind }, reason);
    this.release(permit, true);
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
