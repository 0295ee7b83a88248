// A claim under way, and a batch that was claimed, with the clocks by which the lease is measured.

import { leaseOutlasts } from "../policy/lease.ts";
import type { Batch } from "../queue/contract.ts";

/** Both clocks just before the claim was first sent. */
export interface Claim {
  /** A UUID, the id of a batch that it makes. */
  readonly id: string;
  /** Counts the claims of its claimant: asking again with it, after a lost answer, gives the same batch. */
  readonly number: number;
  /** By `performance.now()`. */
  readonly sentAtMs: number;
  /** Unix ms. */
  readonly sentAtWallMs: number;
}

export interface Claimed extends Claim {
  readonly batch: Batch;
  /** By `performance.now()`, when the answer came. */
  readonly answeredAtMs: number;
}

export function newClaim(number: number): Claim {
  return { id: Bun.randomUUIDv7(), number, sentAtMs: performance.now(), sentAtWallMs: Date.now() };
}

export function claimedBy(claim: Claim, batch: Batch): Claimed {
  return { ...claim, batch, answeredAtMs: performance.now() };
}

/** How long the batch is leased, ms: longer than was asked for if its emails are large. */
export function leaseOf({ batch }: Claimed): number {
  return batch.leaseEndsAtMs - batch.nowMs;
}

/** Whether its lease certainly lasts for `needMs` more, counted from before the claim was sent. */
export function outlasts({ sentAtMs, sentAtWallMs }: Claim, leaseMs: number, needMs: number): boolean {
  return leaseOutlasts({
    leaseMs,
    needMs,
    monotonicElapsedMs: performance.now() - sentAtMs,
    wallElapsedMs: Date.now() - sentAtWallMs,
  });
}
