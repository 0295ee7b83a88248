// Whether a lease lasts long enough for a request. Nothing is begun under a lease that could run out before the
// answer: another worker would then hold the same batch.

/**
 * True if the lease certainly outlasts what is about to begin. Both elapsed times run from before the claim was
 * sent, not from its answer. The larger of them counts: the monotonic clock may stand still while a machine
 * sleeps, the wall clock may be set back.
 */
export function leaseOutlasts({
  leaseMs,
  needMs,
  monotonicElapsedMs,
  wallElapsedMs,
}: {
  leaseMs: number;
  needMs: number;
  monotonicElapsedMs: number;
  wallElapsedMs: number;
}): boolean {
  return leaseMs - Math.max(monotonicElapsedMs, wallElapsedMs) > needMs;
}
