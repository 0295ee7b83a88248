// What an answer says about its provider, for the breaker. A fault of the message or of the sender says that the
// provider works.

import { cutReason } from "./attempts.ts";
import type { Result, ProviderHealth } from "./decision.ts";
import type { Settlement } from "../queue/contract.ts";
import type { Outcome } from "./request_outcome.ts";

/** Of all the outcomes in one answer. One acceptance outweighs the rest: whoever accepts is neither down nor shut to us. */
export function healthOf(outcomes: readonly Outcome[]): ProviderHealth {
  let worst: ProviderHealth = "none";
  for (const outcome of outcomes) {
    const sign = signOfOne(outcome);
    if (outcome.kind === "accepted") return sign;
    if (weights[sign] > weights[worst]) worst = sign;
  }
  return worst;
}

/** A throttled provider is neither down nor well: the rate limiter deals with it. */
function signOfOne(outcome: Outcome): ProviderHealth {
  switch (outcome.kind) {
    case "accepted":
    case "rejected":
    case "senderRefused":
    case "keyReused":
      return "success";
    case "accountRefused":
      return "accountRefused";
    case "unavailable":
    case "unknown":
      return outcome.own ? "failure" : "unanswered";
    case "throttled":
      return "none";
  }
}

const weights: Readonly<Record<ProviderHealth, number>> = {
  none: 0,
  success: 1,
  failure: 2,
  unanswered: 3,
  accountRefused: 4,
};

/** The worst first. */
const failures = ["accountRefused", "unavailable", "unknown", "throttled"] as const;

/** Why the provider itself failed at a request, if it did: of several emails with an answer each, only if it took none. */
export function failedOutcomeOf(result: Result): Settlement["failure"] {
  const outcomes = outcomesOf(result);
  if (outcomes.some(({ kind }) => kind === "accepted")) return undefined;
  for (const wanted of failures) {
    const failed = outcomes.find((outcome) => outcome.kind === wanted);
    if (failed?.kind !== wanted) continue;
    return { reason: cutReason(failed.reason), own: "own" in failed ? failed.own : true };
  }
  return undefined;
}

function outcomesOf(result: Result): readonly Outcome[] {
  if (result.kind === "send") {
    return result.result.kind === "each" ? result.result.outcomes : [result.result.outcome];
  }
  if (result.kind === "search" && result.result.kind === "failed") return [result.result.outcome];
  return [];
}
