// The claims of a worker: what they ask for, and what their answers say about the store.

import { describe } from "../runtime/errors.ts";
import { type Claim, Claimant } from "../queue/claimant.ts";
import { type ClaimResult, type ClaimSource, StoreUnavailable } from "../queue/contract.ts";
import type { DeliveryContext } from "./delivery_context.ts";
import type { Admission, ProviderState } from "./provider_state.ts";

/** Most stored bytes of a batch, unless it is a single email. */
const batchBytesMax = 4 * 1024 * 1024;
/** Due emails are counted up to this many. */
export const dueCountMax = 5000;

export interface PlannedClaim {
  readonly admission: Admission;
  /** Numbers the claims that a provider has under way. */
  readonly lane: number;
  readonly sources: readonly ClaimSource[];
  /** Whether the provider may take emails that others may take too. */
  readonly shared: boolean;
  /** The providers that could have taken the emails. */
  readonly eligible: readonly ProviderState[];
}

export class Claims {
  readonly #context: DeliveryContext;
  /** Why the store does not answer; undefined while it does. */
  #lost: string | undefined;
  #paused = false;

  constructor(context: DeliveryContext) {
    this.#context = context;
  }

  /** Returns undefined if the store did not answer. */
  async make({
    admission: { state, admitted },
    lane,
    sources,
    shared,
  }: PlannedClaim): Promise<{ readonly claim: Claim; readonly result: ClaimResult } | undefined> {
    const { consumer, log, settings, worker } = this.#context;
    const { leaseMs, doubtTimeoutMs: doubtMs } = settings;
    const { name, credential, context, startRate: startPerSecond } = state.provider;
    const claimant = (state.claimants[lane] ??= new Claimant());
    const request = {
      claimant: lane === 0 ? `${worker}:${name}` : `${worker}:${name}:${lane}`,
      provider: name,
      credential,
      sources,
      shared,
      countMax: admitted.kind === "halfOpen" ? 1 : state.countMax,
      bytesMax: batchBytesMax,
      leaseMs,
      doubtMs,
      context,
      dueCountMax,
      startPerSecond,
    };
    state.openLanes.delete(lane);
    try {
      const claimed = await claimant.claim(leaseMs, ({ id, number }) =>
        consumer.claim({ ...request, claimId: id, number }),
      );
      if (claimed.result.mayHaveLeased === true) state.openLanes.add(lane);
      if (this.#lost !== undefined) log.info("store-restored");
      this.#lost = undefined;
      // Logged once, however many claims are refused.
      const wasPaused = this.#paused;
      this.#paused = consumer.paused();
      if (this.#paused && !wasPaused) log.info("claims-paused");
      if (wasPaused && !this.#paused) log.info("claims-resumed");
      return claimed;
    } catch (error) {
      state.openLanes.add(lane);
      const reason = error instanceof StoreUnavailable ? error.message : describe(error).reason;
      if (reason !== this.#lost) log.error("store-lost", { reason });
      this.#lost = reason;
      return undefined;
    }
  }
}
