// A claim under way, and how long its lease certainly lasts. Nothing begins under a lease that could expire before the
// answer: another worker would then hold the same batch.

/** Both clocks are read just before the claim is first sent. */
export interface Claim {
  /** A UUID, the id of a batch that it makes. */
  readonly id: string;
  /** Counts the claims of its claimant: repeated with it, after a lost answer, the claim gives the same batch. */
  readonly number: number;
  /** By `performance.now()`. */
  readonly sentAtMs: number;
  /** Unix ms. */
  readonly sentAtWallMs: number;
}

/** Numbers the claims of one claimant. */
export class Claimant {
  readonly #createId: () => string;
  #count = 0;
  #unanswered: Claim | undefined;

  constructor(createId: () => string = Bun.randomUUIDv7) {
    this.#createId = createId;
  }

  /** The last claim was not answered. */
  get isUnanswered(): boolean {
    return this.#unanswered !== undefined;
  }

  /** Sends a claim: again the one whose answer was lost while its lease could still be used, else a new one. */
  async claim<T>(
    leaseMs: number,
    send: (claim: Claim, isRepeated: boolean) => Promise<T>,
  ): Promise<{ readonly claim: Claim; readonly result: T }> {
    let claim = this.#unanswered;
    const isRepeated = claim !== undefined && outlasts(claim, leaseMs, 0);
    if (claim === undefined || !isRepeated) {
      this.#count += 1;
      const clocks = { sentAtMs: performance.now(), sentAtWallMs: Date.now() };
      claim = { id: this.#createId(), number: this.#count, ...clocks };
    }
    this.#unanswered = claim;
    const result = await send(claim, isRepeated);
    this.#unanswered = undefined;
    return { claim, result };
  }
}

/**
 * Whether the lease of this claim certainly outlasts what is about to begin. Elapsed time counts from before the claim
 * was sent, by the clock that says more: the monotonic one may stand still while a machine sleeps, the wall clock may be
 * set back.
 */
export function outlasts(
  { sentAtMs, sentAtWallMs }: Claim,
  leaseMs: number,
  needMs: number,
  nowMs = performance.now(),
  nowWallMs = Date.now(),
): boolean {
  return leaseMs - Math.max(nowMs - sentAtMs, nowWallMs - sentAtWallMs) > needMs;
}
