// What one worker does once a second besides delivering: it ends the doubt of batches whose time is over, whatever
// provider they belong to and whether anybody still knows it, and has the store swept.

import { claimedBy, newClaim } from "./claim.ts";
import type { Deliverer } from "./deliverer.ts";
import { endDoubt, handBack } from "./delivery.ts";
import { StoreUnavailable } from "../queue/queue.ts";

const everyMs = 1000;
/** Batches whose doubt is ended in one round. */
const endedMax = 20;

export interface Housekeeper {
  /** Resolves when the round under way has ended. */
  stop(): Promise<void>;
}

export function startHousekeeping(deliverer: Deliverer): Housekeeper {
  const { work, settings, log } = deliverer;
  let stopping = false;
  let timer: Timer | undefined;
  let round = Promise.resolve();

  function schedule(): void {
    timer = setTimeout(() => {
      round = tidy()
        .catch((error: unknown) => {
          if (!(error instanceof StoreUnavailable))
            log.error("housekeeping-failed", { reason: String(error) });
        })
        .then(() => {
          if (!stopping) schedule();
        });
    }, everyMs);
  }

  async function tidy(): Promise<void> {
    await work.sweep({ worker: "", retryMaxMs: settings.retryMaxMs, searchWaitMs: 0, providers: {} });
    for (let ended = 0; ended < endedMax && !stopping; ended += 1) {
      const claim = newClaim();
      const result = await work.claimEnded({ claimant: claim.id, number: 1, leaseMs: settings.leaseMs });
      if (result.kind === "unreplicated") await handBack(deliverer, claimedBy(claim, result.batch), 0);
      if (result.kind !== "batch") return;
      await endDoubt(deliverer, claimedBy(claim, result.batch));
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
