// Which emails a provider accepted too late, counted from the moment when they were acknowledged. Pure.

/** How long an email may take from its acknowledgement until a provider has accepted it, ms. */
export interface Limits {
  readonly withinMs: number;
  /** Of those that were in a request that failed because of another email in it. */
  readonly withPoisonMs?: number;
}

/** While it lasts, nothing is promised: limits count from its end. */
export interface Excuse {
  readonly startMs: number;
  readonly endMs: number;
}

export interface Course {
  readonly acknowledgedMs: number;
  readonly acceptedMs: number;
  readonly hadPoisonBesideIt: boolean;
}

/** How much too late it was accepted, ms; 0: in time. */
export function lateBy(course: Course, limits: Limits, excuses: readonly Excuse[]): number {
  const { withinMs, withPoisonMs = withinMs } = limits;
  const limitMs = course.hadPoisonBesideIt ? withPoisonMs : withinMs;
  let fromMs = course.acknowledgedMs;
  for (const { startMs, endMs } of excuses.toSorted((a, b) => a.startMs - b.startMs)) {
    if (startMs <= fromMs + limitMs) fromMs = Math.max(fromMs, endMs);
  }
  return Math.max(0, course.acceptedMs - fromMs - limitMs);
}
