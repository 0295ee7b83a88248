// Whether an email was accepted too late, counted from its acknowledgement, or from its `send_at` if that is later. Pure.

/** Longest allowed time until an email's first acceptance, ms. */
export interface Limits {
  readonly withinMs: number;
  /** The same for emails that shared a request with a poisoned one. */
  readonly withPoisonMs?: number;
}

/** A period without a promise: limits start at its end. */
export interface Excuse {
  readonly startMs: number;
  readonly endMs: number;
}

export interface Course {
  /** When it was acknowledged, or its `send_at` if that is later. */
  readonly fromMs: number;
  readonly acceptedMs: number;
  readonly hadPoisonBesideIt: boolean;
}

/** By how much the limit was exceeded, ms; 0 if it was met. */
export function lateBy(course: Course, limits: Limits, excuses: readonly Excuse[]): number {
  const { withinMs, withPoisonMs = withinMs } = limits;
  const limitMs = course.hadPoisonBesideIt ? withPoisonMs : withinMs;
  let { fromMs } = course;
  for (const { startMs, endMs } of excuses.toSorted((a, b) => a.startMs - b.startMs)) {
    if (startMs <= fromMs + limitMs) fromMs = Math.max(fromMs, endMs);
  }
  return Math.max(0, course.acceptedMs - fromMs - limitMs);
}
