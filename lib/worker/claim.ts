// A claim under way, and a batch that was claimed, with the clocks by which the lease is measured.

import type { Batch } from "../queue/queue.ts";

/** Both clocks just before the claim was first sent. */
export interface Claim {
  /** A UUID; asking again with it, after a lost answer, gives the same batch. */
  readonly id: string;
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

export function newClaim(): Claim {
  return { id: Bun.randomUUIDv7(), sentAtMs: performance.now(), sentAtWallMs: Date.now() };
}

export function claimedBy(claim: Claim, batch: Batch): Claimed {
  return { ...claim, batch, answeredAtMs: performance.now() };
}

/** How long ago the claim was first sent, ms, by the clock that has moved more: one may stand still, or be set. */
export function ageMs({ sentAtMs, sentAtWallMs }: Claim): number {
  return Math.max(performance.now() - sentAtMs, Date.now() - sentAtWallMs);
}
