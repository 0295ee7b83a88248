// The worker's loop: picks a provider, claims a batch for it, and gives it to a free slot. Claims are made one at a
// time, so that shares are exact and an idle worker asks the store once; but those of a backlog are made together, since
// a store that fsyncs answers all of them as soon as one. Requests run concurrently.

import { describe } from "../runtime/errors.ts";
import { permitsAtOnce } from "../policy/rate_limit.ts";
import { charge, inTurn, type Shares } from "../policy/round_robin.ts";
import type { ClaimResult, ClaimSource } from "../queue/contract.ts";
import type { Claim } from "../queue/claimant.ts";
import { Claims, dueCountMax, type PlannedClaim } from "./claims.ts";
import { Delivery } from "./delivery.ts";
import type { DeliveryContext } from "./delivery_context.ts";
import { FileMemory } from "./file_memory.ts";
import type { Admission, ProviderState } from "./provider_state.ts";

/** Longest sleep, since a wake-up may be lost, ms. */
const pollMs = 1000;
/** Longest that emails wait for the permit of the provider whose turn it is, ms. */
const turnWaitMaxMs = 1000;
/** Pause between two batches in doubt of a provider of weight 0, ms. */
const restMs = 50;
/** Pause before another claim if the store did not answer, ms. */
const storePauseMs = 100;
/** Delay of the next claim, and of the batch, if too few replicas hold a claim, ms. */
const replicaPauseMs = 1000;

/** Most bytes of stored files that are under way at once. A request takes about five times their size. */
const filesBytesMax = 48 * 1024 * 1024;
/** Most deliveries that are not settled, for each slot: they hold their batches in memory. */
const unsettledFactor = 4;

export class Dispatcher {
  readonly #context: DeliveryContext;
  readonly #claims: Claims;
  readonly #states: readonly ProviderState[];
  readonly #inFlight = new Set<Promise<void>>();
  /** Deliveries that are not settled, also without a slot. */
  readonly #unsettled = new Set<Promise<void>>();
  /** How many deliveries with a slot have pieces or batches in doubt, which may hang, or files, which are slow. */
  #suspects = 0;
  readonly #memory = new FileMemory(filesBytesMax);
  /** Ends the loop's sleep or, while it is awake, its next one. */
  #wakeup = Promise.withResolvers<void>();
  #shares: Shares = new Map();
  /** Emails that were still due after the last claim that took some. */
  #dueLeft = 0;
  #stopping = false;
  readonly #stopped: Promise<void>;

  /** Starts the loop. */
  constructor(context: DeliveryContext, states: readonly ProviderState[]) {
    this.#context = context;
    this.#claims = new Claims(context);
    this.#states = states;
    context.consumer.onWake(() => this.#wakeup.resolve());
    this.#stopped = this.#run();
  }

  /** Stops claiming; resolves when everything in flight is settled. */
  async drain(): Promise<void> {
    this.#stopping = true;
    this.#wakeup.resolve();
    await this.#stopped;
    await Promise.all([...this.#inFlight, ...this.#unsettled]);
  }

  async #run(): Promise<void> {
    const { concurrency } = this.#context.settings;
    while (!this.#stopping) {
      const sleepMs = this.#inFlight.size < concurrency ? await this.#round() : pollMs;
      if (sleepMs <= 0 || this.#stopping) continue;
      const timer = setTimeout(this.#wakeup.resolve, Math.min(sleepMs, pollMs));
      await this.#wakeup.promise;
      clearTimeout(timer);
      this.#wakeup = Promise.withResolvers();
    }
  }

  /** Claims one batch, and asks the questions that are due. Returns how long to sleep then, ms. */
  async #round(): Promise<number> {
    const nowMs = performance.now();
    const openings = this.#states.map((state) => ({ state, ...state.openingAt(nowMs) }));
    const most = this.#slotsMax;
    const requests = openings.filter(({ state, kind }) => kind === "request" && state.inFlight < most);
    const admitted = requests.map(({ state }) => state);
    const open = requests.filter(({ atMs }) => atMs <= nowMs).map(({ state }) => state);
    const questions = openings.filter(({ kind, atMs }) => kind === "question" && atMs <= nowMs);
    // Those of weight 0 have little to do, so they come before the others, but pause after each claim.
    const idlers = open.filter(({ weight }) => weight === 0);
    const order = [...questions.map(({ state }) => state), ...idlers, ...inTurn(this.#shares, open)];
    const turn = this.#turnOf(admitted, nowMs);
    const waits = openings.flatMap(({ atMs }) => (atMs > nowMs ? [atMs - nowMs] : []));
    let sleepMs = Math.min(pollMs, ...waits);
    for (const state of order) {
      const admission = state.admit(performance.now());
      if (admission === undefined) continue;
      if (admission.admitted.kind === "asking") {
        this.#occupy(state.probe(this.#context, admission), false);
        continue;
      }
      const claim = {
        admission,
        lane: state.firstLane,
        sources: this.#sourcesFor(admission),
        shared: turn === undefined || turn === state,
        eligible: turn === undefined ? open : admitted,
      };
      // Where shares decide who is next, one batch follows the other.
      const isNext = turn === undefined || admitted.length === 1;
      const claims = isNext ? [claim, ...this.#further(claim, most)] : [claim];
      const steps = await Promise.all(claims.map((one) => this.#claimWith(one)));
      const last = steps.filter(({ endsRound }) => endsRound);
      if (last.length > 0) return Math.min(...last.map((step) => step.sleepMs));
      sleepMs = Math.min(sleepMs, ...steps.map((step) => step.sleepMs));
    }
    return sleepMs;
  }

  /**
   * The claims that are made together with this one: for as many full batches as are known to be due and fit into free
   * slots. They look only for new emails.
   * @param most requests that the provider may have under way
   */
  #further(claim: PlannedClaim, most: number): PlannedClaim[] {
    const { state } = claim.admission;
    if (state.weight === 0) return [];
    const { concurrency } = this.#context.settings;
    const full = Math.floor(this.#dueLeft / state.carries);
    const count = Math.min(full, concurrency - this.#inFlight.size, permitsAtOnce(state.rate));
    const lanes = Array.from({ length: concurrency }, (_, lane) => lane).filter(
      (lane) => lane !== claim.lane,
    );
    return lanes.slice(0, Math.max(0, count - 1)).flatMap((lane) => {
      const admission = state.inFlight < most ? state.admit(performance.now()) : undefined;
      return admission === undefined ? [] : { ...claim, admission, lane, sources: ["emails"] };
    });
  }

  /**
   * The provider whose turn it is, if new emails should wait for its next permit; batches form meanwhile. Undefined if
   * any provider with a permit may take them, because the wait would be too long, or because more is due than the
   * providers carry at their weights.
   */
  #turnOf(admitted: readonly ProviderState[], nowMs: number): ProviderState | undefined {
    const [turn] = inTurn(this.#shares, admitted);
    if (turn === undefined || turn.openingAt(nowMs).atMs > nowMs + turnWaitMaxMs) return undefined;
    // Emails that the providers carry in a second at their weights: whichever reaches its limit first decides.
    const total = admitted.reduce((sum, { weight }) => sum + weight, 0);
    const each = admitted
      .filter(({ weight }) => weight > 0)
      .map(({ rate, carries, weight }) => (rate.perSecond * carries * total) / weight);
    return this.#dueLeft > Math.min(dueCountMax - 1, ...each) ? undefined : turn;
  }

  /** @returns whether nothing more is claimed in this round, and how long to sleep after it, ms */
  async #claimWith(
    planned: PlannedClaim,
  ): Promise<{ readonly endsRound: boolean; readonly sleepMs: number }> {
    const { admission, shared, eligible } = planned;
    const { state } = admission;
    if (planned.sources.length === 0) {
      state.release(admission);
      return { endsRound: false, sleepMs: Infinity };
    }
    const claimed = await this.#claims.make(planned);
    if (claimed === undefined) {
      state.release(admission);
      return { endsRound: true, sleepMs: storePauseMs };
    }
    const { result } = claimed;
    const claim = ("claim" in result && result.claim) || claimed.claim;
    if ("rate" in result) state.hear(result.rate, result.kind === "limited");
    if (state.weight === 0) {
      const isIdle = result.kind === "empty" || result.kind === "paused";
      state.restsUntilMs = performance.now() + (isIdle ? pollMs : restMs);
    }
    if (result.kind === "batch" && !this.#stopping) {
      this.#deliver({ ...admission, rate: result.rate }, claim, result, eligible);
      return { endsRound: true, sleepMs: 0 };
    }
    state.release(admission);
    switch (result.kind) {
      case "empty":
        if (shared) this.#dueLeft = 0;
        return { endsRound: false, sleepMs: result.nextDueInMs ?? Infinity };
      case "limited":
        // Others have taken the permits. It may be the turn of another provider now.
        return { endsRound: true, sleepMs: 0 };
      case "spent":
        return { endsRound: true, sleepMs: 0 };
      case "paused":
        // Goes on with the other providers: a claim that one of them has to repeat is still answered.
        return { endsRound: false, sleepMs: Infinity };
      case "batch":
      case "unreplicated": {
        const { kind, batch } = result;
        if (kind === "unreplicated") this.#context.log.warn("claim-unreplicated", { batch: batch.id });
        const delayMs = kind === "unreplicated" ? replicaPauseMs : 0;
        const delivery = new Delivery(this.#context, claim, batch);
        const done = delivery.handBack(delayMs, state.provider.credential);
        this.#occupy(this.#slotOf(delivery, done), false);
        return { endsRound: true, sleepMs: "isPartial" in result ? 0 : delayMs };
      }
    }
  }

  #deliver(
    admission: Admission,
    claim: Claim,
    { batch, dueLeft }: Extract<ClaimResult, { kind: "batch" }>,
    eligible: readonly ProviderState[],
  ): void {
    const { state } = admission;
    const made = batch.pieceMax === undefined ? "emails" : "split";
    const source = batch.id === claim.id ? made : "batches";
    // The next claim begins with the source after this one.
    const at = state.sources.indexOf(source) + 1;
    state.sources = [...state.sources.slice(at), ...state.sources.slice(0, at)];
    // Emails count when a batch is made of them, not when that batch is claimed again.
    if (source !== "batches") {
      this.#dueLeft = dueLeft;
      state.carries = dueLeft > 0 && source === "emails" ? batch.emails.length : state.provider.batchMax;
      this.#shares = charge(this.#shares, eligible, batch.provider, batch.emails.length);
    }
    const delivery = new Delivery(this.#context, claim, batch);
    // While suspects have all of their slots, files among new emails leave the batch and wait apart.
    const takesFiles = source !== "emails" || !this.#isSuspectsFull;
    const isSuspect = source !== "emails" || (takesFiles && delivery.carriesFiles(state.provider));
    const done = delivery.run(admission, { memory: this.#memory, takesFiles });
    this.#occupy(this.#slotOf(delivery, done), isSuspect);
  }

  /** Most slots of one provider. A slot is left for each other provider; otherwise one that hangs would take all. */
  get #slotsMax(): number {
    return Math.max(1, this.#context.settings.concurrency - (this.#states.length - 1));
  }

  /** Suspects never take the last slot of a provider that has several. */
  get #isSuspectsFull(): boolean {
    const { concurrency } = this.#context.settings;
    return concurrency > 1 && this.#suspects >= Math.max(1, this.#slotsMax - 1);
  }

  /**
   * Pieces and batches in doubt, which may hang, never take every slot. A probe normally takes new emails first. If it
   * is blind, or if it can be a search, which puts nothing more in doubt, it takes a batch in doubt first.
   */
  #sourcesFor({ state, admitted }: Admission): readonly ClaimSource[] {
    const { sources, provider } = state;
    if (this.#isSuspectsFull) return sources.filter((one) => one === "emails");
    if (admitted.kind !== "halfOpen") return sources;
    const order: readonly ClaimSource[] =
      admitted.isBlind || provider.search !== undefined
        ? ["batches", "emails", "split"]
        : ["emails", ...sources.filter((one) => one !== "emails")];
    return order.filter((one) => sources.includes(one));
  }

  /**
   * The time for which a delivery has its slot. It gives the slot up when only its settlement is left, unless too many
   * deliveries wait for theirs.
   */
  #slotOf(delivery: Delivery, done: Promise<void>): Promise<void> {
    if (this.#unsettled.size >= unsettledFactor * this.#context.settings.concurrency) return done;
    const settled = done.finally(() => this.#unsettled.delete(settled));
    this.#unsettled.add(settled);
    return Promise.race([settled, delivery.released]);
  }

  #occupy(slot: Promise<void>, isSuspect: boolean): void {
    if (isSuspect) this.#suspects += 1;
    const settled = slot
      .catch((error: unknown) => this.#context.log.error("delivery-failed", describe(error)))
      .finally(() => {
        if (isSuspect) this.#suspects -= 1;
        this.#inFlight.delete(settled);
        this.#wakeup.resolve();
      });
    this.#inFlight.add(settled);
  }
}
