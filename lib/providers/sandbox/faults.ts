// The faults that the sandbox can inject, and how one is drawn. The settings parse `SANDBOX_FAULTS` into this form.

/** Faults of a whole request: at most one is drawn for each. */
export const requestFaults = [
  "unavailable",
  "throttle",
  "refuse-account",
  "lose-request",
  "lose-answer",
  "hang",
] as const;

/** Faults of one email in a request: at most one is drawn for each. */
export const emailFaults = ["reject", "refuse-sender"] as const;

export type SandboxFault = (typeof requestFaults | typeof emailFaults)[number];

export interface SandboxFaults {
  /** Probabilities, 0 to 1. Those of a request add up to at most 1, and so do those of an email. */
  readonly chances: { readonly [name in SandboxFault]?: number };
  /** Delay of every request, in ms: uniform between the two. */
  readonly latency: { readonly minMs: number; readonly maxMs: number };
}

export const noFaults: SandboxFaults = { chances: {}, latency: { minMs: 0, maxMs: 0 } };

/**
 * One of these faults, each with its probability, or undefined for none.
 * @param random in [0, 1)
 */
export function drawFault<Name extends SandboxFault>(
  names: readonly Name[],
  { chances }: SandboxFaults,
  random: number,
): Name | undefined {
  let left = random;
  return names.find((name) => (left -= chances[name] ?? 0) < 0);
}
