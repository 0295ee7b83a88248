// The worker's housekeeping, once a second: it ends the doubt of batches whose time is over, also for providers that no
// worker knows any more, and has the store swept.

import { setTimeout as sleep } from "node:timers/promises";
import { describe } from "../runtime/errors.ts";
import { StoreUnavailable, type WorkerPresence } from "../queue/contract.ts";
import { Claimant } from "../queue/claimant.ts";
import { Delivery } from "./delivery.ts";
import type { DeliveryContext } from "./delivery_context.ts";
import type { ProviderState } from "./provider_state.ts";

const everyMs = 1000;
/** Batches whose doubt is ended in one round. */
const endedMax = 20;

export class Housekeeper {
  readonly #context: DeliveryContext;
  readonly #presence: WorkerPresence;
  readonly #claimant = new Claimant();
  /** Settlements under way, also those that the store does not answer. */
  readonly #unsettled = new Set<Promise<void>>();
  readonly #stopping = new AbortController();
  readonly #stopped: Promise<void>;

  /** Begins at once. */
  constructor(context: DeliveryContext, states: readonly ProviderState[]) {
    const { retryMaxMs, searchWaitMs } = context.settings;
    const served = states.map(({ name, provider: { credential }, weight }) => {
      return [name, { credential, takesEmails: weight > 0 }] as const;
    });
    this.#context = context;
    this.#presence = {
      worker: context.worker,
      retryMaxMs,
      searchWaitMs,
      providers: Object.fromEntries(served),
    };
    this.#stopped = this.#run();
  }

  /** Resolves when the round under way has ended, and everything is settled. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#stopped;
    await Promise.all(this.#unsettled);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    for (;;) {
      await sleep(everyMs, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      await this.#round().catch(this.#report);
    }
  }

  readonly #report = (error: unknown): void => {
    if (!(error instanceof StoreUnavailable)) this.#context.log.error("housekeeping-failed", describe(error));
  };

  /** Does not wait for a settlement that the store does not answer: with several partitions, the others go on. */
  async #settle(delivery: Delivery, done: Promise<void>): Promise<void> {
    const settled = done.catch(this.#report).finally(() => this.#unsettled.delete(settled));
    this.#unsettled.add(settled);
    await Promise.race([settled, delivery.released]);
  }

  async #round(): Promise<void> {
    const { worker, consumer, settings } = this.#context;
    await consumer.sweep(this.#presence);
    for (let ended = 0; ended < endedMax && !this.#stopping.signal.aborted; ended += 1) {
      if (this.#unsettled.size >= endedMax) return;
      const { leaseMs } = settings;
      const claimed = await this.#claimant.claim(leaseMs, ({ number }) =>
        consumer.claimEnded({ claimant: `${worker}:housekeeping`, number, leaseMs }),
      );
      const { result } = claimed;
      if (result.kind !== "batch" && result.kind !== "unreplicated") return;
      const delivery = new Delivery(this.#context, result.claim ?? claimed.claim, result.batch);
      if (result.kind === "unreplicated") return this.#settle(delivery, delivery.handBack(0));
      await this.#settle(delivery, delivery.endDoubt());
    }
  }
}
