// The worker's loop: picks a provider, claims a batch for it, and gives it to a free slot. Claims follow one
// another, so that shares are exact and an idle worker asks once; requests run side by side.

import { describe } from "../runtime/errors.ts";
import { createWakeup } from "./wakeup.ts";
import type { DeliveryContext } from "./delivery_context.ts";
import { deliver, handBack } from "./delivery.ts";
import { askQuestion } from "./provider_check.ts";
import { claimedBy, newClaim, outlasts } from "./lease_clock.ts";
import {
  returnPermit,
  type ProviderState,
  noteServed,
  type Opening,
  openingOf,
  takePermit,
  type Permit,
} from "./provider_state.ts";
import { charge, evenShares, pick } from "../policy/round_robin.ts";
import { type Batch, type ClaimResult, type ClaimSource, StoreUnavailable } from "../queue/contract.ts";

export interface DispatchSettings {
  /** Provider requests in flight. */
  readonly concurrency: number;
  /** From a batch's first claim to the end of its doubt, ms. */
  readonly doubtMs: number;
}

/** Stored bytes of a batch, but one email at least. */
const batchBytesMax = 4 * 1024 * 1024;
/** Longest sleep: a wake-up may be lost, ms. */
const pollMs = 1000;
/** Longest that emails wait for the permit of the provider whose turn it is, ms. */
const turnWaitMaxMs = 1000;
/** Due emails are counted up to this many. */
const dueCountMax = 5000;
/** Between two batches in doubt of a provider of weight 0, ms. */
const restMs = 50;
/** Before a store is asked again that did not answer, ms. */
const storePauseMs = 100;
/** Before a batch is claimed again that too few replicas knew of, ms. */
const replicaPauseMs = 1000;

export class Dispatcher {
  readonly #context: DeliveryContext;
  readonly #states: readonly ProviderState[];
  readonly #settings: DispatchSettings;
  readonly #inFlight = new Set<Promise<void>>();
  /** How many of these are emails in pieces or batches in doubt, which may hang. */
  #suspects = 0;
  readonly #wakeup = createWakeup();
  #shares = evenShares;
  /** Emails that were due and not taken by the last claim that took some. */
  #dueLeft = 0;
  #stopping = false;
  /** Why the store does not answer, while it does not. */
  #lost: string | undefined;
  #paused = false;
  readonly #stopped: Promise<void>;

  /** Begins at once. */
  constructor(context: DeliveryContext, states: readonly ProviderState[], settings: DispatchSettings) {
    this.#context = context;
    this.#states = states;
    this.#settings = settings;
    context.consumer.onWake(this.#wakeup.signal);
    this.#stopped = this.#run();
  }

  /** Stops claiming; resolves when everything in flight is settled. */
  async drain(): Promise<void> {
    this.#stopping = true;
    this.#wakeup.signal();
    await this.#stopped;
    await Promise.all(this.#inFlight);
  }

  async #run(): Promise<void> {
    while (!this.#stopping) {
      const sleepMs = this.#inFlight.size < this.#settings.concurrency ? await this.#round() : pollMs;
      if (sleepMs > 0 && !this.#stopping) await this.#wakeup.wait(Math.min(sleepMs, pollMs));
    }
  }

  /** One batch or one question. Returns how long to sleep then, ms. */
  async #round(): Promise<number> {
    const nowMs = performance.now();
    const openings = this.#states.map((state) => ({ state, opening: openingOf(state, nowMs) }));
    const isOpen = ({ atMs }: Opening) => atMs !== undefined && atMs <= nowMs;
    for (const { state, opening } of openings) {
      const permit = opening.kind === "question" && isOpen(opening) ? takePermit(state, nowMs) : undefined;
      if (permit !== undefined) this.#ask(state, permit);
    }
    // A slot is left for each other provider: one that hangs would take all of them.
    const most = Math.max(1, this.#settings.concurrency - (this.#states.length - 1));
    const admitted = openings.filter(
      ({ state, opening }) => opening.kind === "request" && state.inFlight < most,
    );
    const turn = this.#turnOf(admitted, nowMs);
    const open = admitted.filter(({ opening }) => isOpen(opening)).map(({ state }) => state);
    let sleepMs = sleepUntil(
      openings.map(({ opening }) => opening.atMs),
      nowMs,
    );
    for (const state of this.#inOrder(open, turn)) {
      const isTurn = turn === undefined || turn === state;
      const permit = takePermit(state, performance.now());
      if (permit === undefined) continue;
      if (permit.admitted.kind === "question") {
        // Its breaker has opened since this round began.
        this.#ask(state, permit);
        continue;
      }
      const outcome = await this.#claimFor(
        state,
        permit,
        isTurn,
        turn === undefined ? open : statesOf(admitted),
      );
      if (outcome.kind === "done") return outcome.sleepMs;
      sleepMs = Math.min(sleepMs, outcome.dueInMs);
    }
    return sleepMs;
  }

  #ask(state: ProviderState, permit: Permit): void {
    this.#occupy(askQuestion(this.#context, state, permit), false);
  }

  /**
   * The provider that emails wait for, if its next permit is near; batches form meanwhile. Undefined if any provider
   * with a permit may take them: its next permit is too far off, or more is due than all carry at their weights.
   */
  #turnOf(
    admitted: readonly { readonly state: ProviderState; readonly opening: Opening }[],
    nowMs: number,
  ): ProviderState | undefined {
    const chosen = pick(this.#shares, weighted(statesOf(admitted)));
    const turn = admitted.find(({ state }) => state.provider.name === chosen?.name);
    if (turn?.opening.atMs === undefined || turn.opening.atMs > nowMs + turnWaitMaxMs) return undefined;
    return this.#dueLeft > carried(statesOf(admitted)) ? undefined : turn.state;
  }

  /** Those of weight 0 have little to do, so they are asked first, but with rests; then by shares. */
  #inOrder(open: readonly ProviderState[], turn: ProviderState | undefined): ProviderState[] {
    const order = open.filter(({ weight }) => weight === 0);
    for (let left = open.filter(({ weight }) => weight > 0); left.length > 0;) {
      const chosen = pick(this.#shares, weighted(left));
      const state =
        left.find((one) => one === turn) ??
        left.find(({ provider }) => provider.name === chosen?.name) ??
        left[0]!;
      order.push(state);
      left = left.filter((other) => other !== state);
    }
    return order;
  }

  /** @param shared whether the provider may take emails that others may take too */
  async #claimFor(
    state: ProviderState,
    permit: Permit,
    shared: boolean,
    eligible: readonly ProviderState[],
  ): Promise<{ kind: "done"; sleepMs: number } | { kind: "empty"; dueInMs: number }> {
    const sources = this.#sourcesFor(state, permit);
    if (sources.length === 0) {
      returnPermit(state, permit);
      return { kind: "empty", dueInMs: Infinity };
    }
    // One whose answer was lost is repeated, while something could still be begun under its lease.
    if (state.claim === undefined || !outlasts(state.claim, this.#context.settings.leaseMs, 0))
      state.claim = newClaim((state.claims += 1));
    const { claim } = state;
    const result = await this.#claimOnce(state, permit, sources, shared);
    if (result === undefined) {
      returnPermit(state, permit);
      return { kind: "done", sleepMs: storePauseMs };
    }
    state.claim = undefined;
    if (state.weight === 0) {
      const isIdle = result.kind === "empty" || result.kind === "paused";
      state.restsUntilMs = performance.now() + (isIdle ? pollMs : restMs);
    }
    if (result.kind === "batch" && !this.#stopping) {
      const { batch } = result;
      const source = sourceOf(batch, claim.id);
      noteServed(state, source);
      // Emails are counted once, when they leave the queue: not when their batch comes again.
      if (source !== "batches") {
        this.#dueLeft = result.dueLeft;
        state.carries =
          this.#dueLeft > 0 && source === "emails" ? batch.emails.length : state.provider.batchMax;
        this.#shares = charge(this.#shares, weighted(eligible), batch.provider, batch.emails.length);
      }
      state.inFlight += 1;
      const delivery = deliver(this.#context, state, permit, claimedBy(claim, batch));
      this.#occupy(
        delivery.finally(() => (state.inFlight -= 1)),
        source !== "emails",
      );
      return { kind: "done", sleepMs: 0 };
    }
    returnPermit(state, permit);
    switch (result.kind) {
      case "empty":
        if (shared) this.#dueLeft = 0;
        return { kind: "empty", dueInMs: result.nextDueInMs ?? Infinity };
      case "spent":
        return { kind: "done", sleepMs: 0 };
      case "paused":
        // The other providers are asked all the same: one may have a claim to repeat, and that is still answered.
        return { kind: "empty", dueInMs: Infinity };
      case "batch":
        this.#occupy(handBack(this.#context, claimedBy(claim, result.batch), 0), false);
        return { kind: "done", sleepMs: 0 };
      case "unreplicated":
        this.#context.log.warn("claim-unreplicated", { batch: result.batch.id });
        this.#occupy(handBack(this.#context, claimedBy(claim, result.batch), replicaPauseMs), false);
        return { kind: "done", sleepMs: replicaPauseMs };
    }
  }

  /**
   * Pieces and batches in doubt, which may hang, never take every slot. A probe is a new email, if there is one; but a
   * batch in doubt first where that is searched for, which puts nothing more in doubt, and where the probe is blind.
   */
  #sourcesFor({ sources, provider }: ProviderState, { admitted }: Permit): readonly ClaimSource[] {
    if (this.#settings.concurrency > 1 && this.#suspects >= this.#settings.concurrency - 1)
      return sources.filter((one) => one === "emails");
    if (admitted.kind !== "probe") return sources;
    const order: readonly ClaimSource[] =
      admitted.isBlind || provider.search !== undefined
        ? ["batches", "emails", "split"]
        : ["emails", ...sources.filter((one) => one !== "emails")];
    return order.filter((one) => sources.includes(one));
  }

  /** Undefined if the store did not answer. */
  async #claimOnce(
    { provider, countMax, claim }: ProviderState,
    { admitted }: Permit,
    sources: readonly ClaimSource[],
    shared: boolean,
  ): Promise<ClaimResult | undefined> {
    try {
      const result = await this.#context.consumer.claim({
        claimId: claim!.id,
        claimant: `${this.#context.worker}:${provider.name}`,
        number: claim!.number,
        provider: provider.name,
        credential: provider.credential,
        sources,
        shared,
        countMax: admitted.kind === "probe" ? 1 : countMax,
        bytesMax: batchBytesMax,
        leaseMs: this.#context.settings.leaseMs,
        doubtMs: this.#settings.doubtMs,
        context: provider.context,
        dueCountMax,
      });
      if (this.#lost !== undefined) this.#context.log.info("store-restored");
      this.#lost = undefined;
      this.#notePause();
      return result;
    } catch (error) {
      const reason = error instanceof StoreUnavailable ? error.message : describe(error).reason;
      if (reason !== this.#lost) this.#context.log.error("store-lost", { reason });
      this.#lost = reason;
      return undefined;
    }
  }

  /** Said once, however often a claim is refused. */
  #notePause(): void {
    if (this.#context.consumer.paused() === this.#paused) return;
    this.#paused = this.#context.consumer.paused();
    if (this.#paused) this.#context.log.info("claims-paused");
    else this.#context.log.info("claims-resumed");
  }

  #occupy(slot: Promise<void>, isSuspect: boolean): void {
    if (isSuspect) this.#suspects += 1;
    const settled = slot
      .catch((error: unknown) => this.#context.log.error("delivery-failed", describe(error)))
      .finally(() => {
        if (isSuspect) this.#suspects -= 1;
        this.#inFlight.delete(settled);
        this.#wakeup.signal();
      });
    this.#inFlight.add(settled);
  }
}

const statesOf = (openings: readonly { readonly state: ProviderState }[]) =>
  openings.map(({ state }) => state);

const weighted = (states: readonly ProviderState[]) =>
  states.flatMap(({ provider, weight }) => (weight > 0 ? [{ name: provider.name, weight }] : []));

/** Emails that these carry in a second at their weights: the one that is first at its limit decides. */
function carried(states: readonly ProviderState[]): number {
  const total = states.reduce((sum, { weight }) => sum + weight, 0);
  const each = states
    .filter(({ weight }) => weight > 0)
    .map(({ rate, carries, weight }) => (rate.ratePerSecond * carries * total) / weight);
  return Math.min(dueCountMax - 1, ...each);
}

function sourceOf(batch: Batch, claimId: string): ClaimSource {
  if (batch.id !== claimId) return "batches";
  return batch.pieceMax === undefined ? "emails" : "split";
}

function sleepUntil(times: readonly (number | undefined)[], nowMs: number): number {
  const waits = times.flatMap((atMs) => (atMs !== undefined && atMs > nowMs ? [atMs - nowMs] : []));
  return Math.min(pollMs, ...waits);
}
