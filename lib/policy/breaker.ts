// Whether a provider is worth a request. It shuts after failures in a row, for a growing time, then lets one small
// probe through at a time. Only requests that were admitted since its last change have a say in the next, and each
// admission is answered exactly once.

import { shutMs } from "./backoff.ts";

export type Breaker =
  | { readonly kind: "closed"; readonly generation: number; readonly failures: number; readonly turn: Turn }
  | {
      readonly kind: "open";
      readonly generation: number;
      readonly untilMs: number;
      /** Times in a row that it opened, for the same cause. */
      readonly opened: number;
      readonly forAccount: boolean;
      readonly turn: Turn;
    }
  | {
      readonly kind: "halfOpen";
      readonly generation: number;
      readonly opened: number;
      readonly forAccount: boolean;
      readonly probing: boolean;
      readonly turn: Turn;
    };

/** Where the next probe looks first: a batch in doubt may fail for reasons of its own, and so may a new email. */
export type Turn = "batches" | "emails";

export type Admission =
  | { readonly kind: "closed"; readonly generation: number }
  /** One small batch. */
  | { readonly kind: "probe"; readonly generation: number; readonly first: Turn }
  /** Until then at least; undefined: until the probe that is under way is answered. */
  | { readonly kind: "shut"; readonly untilMs: number | undefined };

export type Admitted = Exclude<Admission, { kind: "shut" }>;

/** Failures in a row that open it. */
const failuresMax = 5;
const openBaseMs = 1_000;
const openMaxMs = 60_000;
/** Credentials, suspensions and quotas change when people change them. */
const accountBaseMs = 60_000;
const accountMaxMs = 3_600_000;

export const closedBreaker: Breaker = { kind: "closed", generation: 0, failures: 0, turn: "batches" };

/** May a request begin? The state holds as the new one only if it does. Times in ms, of one clock throughout. */
export function admit(breaker: Breaker, nowMs: number): { breaker: Breaker; admission: Admission } {
  switch (breaker.kind) {
    case "closed":
      return { breaker, admission: { kind: "closed", generation: breaker.generation } };
    case "open": {
      if (nowMs < breaker.untilMs) return { breaker, admission: { kind: "shut", untilMs: breaker.untilMs } };
      const { opened, forAccount, turn } = breaker;
      return probe({
        kind: "halfOpen",
        generation: breaker.generation,
        opened,
        forAccount,
        probing: false,
        turn,
      });
    }
    case "halfOpen":
      return breaker.probing ? { breaker, admission: { kind: "shut", untilMs: undefined } } : probe(breaker);
  }
}

/** The provider answered as one that works. */
export function onSuccess(breaker: Breaker, admitted: Admitted): Breaker {
  if (isStale(breaker, admitted)) return breaker;
  switch (breaker.kind) {
    case "closed":
      return { ...breaker, failures: 0 };
    case "open":
      return breaker;
    case "halfOpen":
      return { kind: "closed", generation: breaker.generation + 1, failures: 0, turn: breaker.turn };
  }
}

/** It was down, or nobody knows what it did. `random` in [0, 1). */
export function onFailure(breaker: Breaker, admitted: Admitted, nowMs: number, random: number): Breaker {
  if (isStale(breaker, admitted)) return breaker;
  switch (breaker.kind) {
    case "closed": {
      const failures = breaker.failures + 1;
      return failures < failuresMax ? { ...breaker, failures } : open(breaker, false, nowMs, random);
    }
    case "open":
      return breaker;
    case "halfOpen":
      return open(breaker, false, nowMs, random);
  }
}

/** It refuses everything of ours. `random` in [0, 1). */
export function onAccountRefused(
  breaker: Breaker,
  admitted: Admitted,
  nowMs: number,
  random: number,
): Breaker {
  if (isStale(breaker, admitted)) return breaker;
  return open(breaker, true, nowMs, random);
}

/** There was no request after all, or its answer says nothing about the provider. */
export function onNone(breaker: Breaker, admitted: Admitted): Breaker {
  if (isStale(breaker, admitted) || breaker.kind !== "halfOpen") return breaker;
  return { ...breaker, probing: false };
}

function probe(breaker: Extract<Breaker, { kind: "halfOpen" }>): { breaker: Breaker; admission: Admission } {
  // A new generation for each probe, so that an answer given twice cannot stand for the next one's.
  const generation = breaker.generation + 1;
  return {
    breaker: {
      ...breaker,
      generation,
      probing: true,
      turn: breaker.turn === "batches" ? "emails" : "batches",
    },
    admission: { kind: "probe", generation, first: breaker.turn },
  };
}

function open(breaker: Breaker, forAccount: boolean, nowMs: number, random: number): Breaker {
  const before = breaker.kind !== "closed" && breaker.forAccount === forAccount ? breaker.opened : 0;
  const [baseMs, maxMs] = forAccount ? [accountBaseMs, accountMaxMs] : [openBaseMs, openMaxMs];
  return {
    kind: "open",
    generation: breaker.generation + 1,
    untilMs: nowMs + shutMs({ times: before, baseMs, maxMs, random }),
    opened: before + 1,
    forAccount,
    turn: breaker.turn,
  };
}

function isStale(breaker: Breaker, { generation }: Admitted): boolean {
  return generation !== breaker.generation;
}
