// What can go wrong in the sandbox, and the dice. `SANDBOX_FAULTS` is read by the schema of the settings.

/** Of a whole request: at most one befalls it. */
export const requestFaults = [
  "unavailable",
  "throttle",
  "refuse-account",
  "lose-request",
  "lose-answer",
  "hang",
] as const;
export type RequestFault = (typeof requestFaults)[number];

/** Of one email in a request: at most one befalls it. */
export const emailFaults = ["reject", "refuse-sender"] as const;
export type EmailFault = (typeof emailFaults)[number];

export interface SandboxFaults {
  /** 0 to 1. Those of a request add up to at most 1, and so do those of an email. */
  readonly chances: { readonly [name in RequestFault | EmailFault]?: number };
  /** How long a request takes before anything else comes of it, ms: evenly between the two. */
  readonly latency: { readonly minMs: number; readonly maxMs: number };
}

export const noFaults: SandboxFaults = { chances: {}, latency: { minMs: 0, maxMs: 0 } };

/**
 * Which of these befalls, if any.
 * @param random in [0, 1)
 */
export function drawFault<Name extends RequestFault | EmailFault>(
  names: readonly Name[],
  { chances }: SandboxFaults,
  random: number,
): Name | undefined {
  let left = random;
  return names.find((name) => (left -= chances[name] ?? 0) < 0);
}

/** @param random in [0, 1) */
export function drawLatencyMs({ latency: { minMs, maxMs } }: SandboxFaults, random: number): number {
  return minMs + (maxMs - minMs) * random;
}
