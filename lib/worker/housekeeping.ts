// What one worker does once a second besides delivering: it ends the doubt of batches whose time is over, whatever
// provider they belong to and whether anybody still knows it, and has the store swept.

import { type Claim, claimedBy, newClaim } from "./lease_clock.ts";
import { describe } from "../runtime/errors.ts";
import type { DeliveryContext } from "./delivery_context.ts";
import { endDoubt, handBack } from "./delivery.ts";
import type { ProviderState } from "./provider_state.ts";
import { StoreUnavailable, type WorkerPresence } from "../queue/contract.ts";

const everyMs = 1000;
/** Batches whose doubt is ended in one round. */
const endedMax = 20;

export interface Housekeeper {
  /** Resolves when the round under way has ended. */
  stop(): Promise<void>;
}

export function startHousekeeping(context: DeliveryContext, states: readonly ProviderState[]): Housekeeper {
  const { worker, consumer, settings, log } = context;
  const presence: WorkerPresence = {
    worker,
    retryMaxMs: settings.retryMaxMs,
    searchWaitMs: settings.searchWaitMs,
    providers: Object.fromEntries(
      states.map(({ provider: { name, credential }, weight }) => [
        name,
        { credential, takesEmails: weight > 0 },
      ]),
    ),
  };
  let claims = 0;
  /** One whose answer was lost. */
  let lost: Claim | undefined;
  let stopping = false;
  let timer: Timer | undefined;
  let round = Promise.resolve();

  function schedule(): void {
    timer = setTimeout(() => {
      round = tidy()
        .catch((error: unknown) => {
          if (!(error instanceof StoreUnavailable)) log.error("housekeeping-failed", describe(error));
        })
        .then(() => {
          if (!stopping) schedule();
        });
    }, everyMs);
  }

  async function tidy(): Promise<void> {
    await consumer.sweep(presence);
    for (let ended = 0; ended < endedMax && !stopping; ended += 1) {
      const claim = lost ?? newClaim((claims += 1));
      lost = claim;
      const result = await consumer.claimEnded({
        claimant: `${worker}:housekeeping`,
        number: claim.number,
        leaseMs: settings.leaseMs,
      });
      lost = undefined;
      if (result.kind === "unreplicated") await handBack(context, claimedBy(claim, result.batch), 0);
      if (result.kind !== "batch") return;
      await endDoubt(context, claimedBy(claim, result.batch));
    }
  }

  schedule();
  return {
    async stop() {
      stopping = true;
      clearTimeout(timer);
      await round;
    },
  };
}
