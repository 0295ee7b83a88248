// One provider as one worker sees it: whether it is worth a request, how fast, whose emails it takes, and where its next
// claim looks first. The state is this worker's own; what changes it is in policy/.

import {
  type Admitted,
  admit,
  type Breaker,
  closedBreaker,
  onAccountRefused,
  onFailure,
  onNone,
  onSuccess,
} from "../policy/breaker.ts";
import type { Decision } from "../policy/decision.ts";
import type { RateHint } from "../policy/outcome.ts";
import { giveBack, newRate, nextTokenAtMs, onAnswer, onThrottled, type Rate, take } from "../policy/rate.ts";
import { noSenders, remember, type Senders } from "../policy/senders.ts";
import type { Claim } from "./claim.ts";
import type { Provider } from "../providers/provider.ts";

export interface Lane {
  readonly provider: Provider;
  /** 0: nothing new, batches in doubt are still resolved. */
  readonly weight: number;
  breaker: Breaker;
  rate: Rate;
  senders: Senders;
  first: "batches" | "emails";
  /** One whose answer was lost: the next asks for the same, and its lease counts from the first. */
  claim: Claim | undefined;
  /** Of weight 0: it is not asked again before, by `performance.now()`. */
  restsUntilMs: number;
}

/** The right to one request. */
export interface Ticket {
  readonly admitted: Admitted;
  /** By `performance.now()`. */
  readonly takenAtMs: number;
}

export function openLane(provider: Provider, weight: number): Lane {
  const { startRate, maxRate } = provider;
  return {
    provider,
    weight,
    breaker: closedBreaker,
    rate: newRate({ startPerSecond: startRate, maxPerSecond: maxRate, nowMs: performance.now() }),
    senders: noSenders,
    first: "batches",
    claim: undefined,
    restsUntilMs: 0,
  };
}

/** From when a request may begin, by `performance.now()`; undefined while that depends on one under way. */
export function opensAtMs(lane: Lane, nowMs: number): number | undefined {
  const { admission } = admit(lane.breaker, nowMs);
  const tokenAtMs = nextTokenAtMs(lane.rate, nowMs);
  if (admission.kind !== "shut") return tokenAtMs;
  return admission.untilMs === undefined ? undefined : Math.max(tokenAtMs, admission.untilMs);
}

/** Undefined if no request may begin now. */
export function takeTicket(lane: Lane, nowMs: number): Ticket | undefined {
  const { breaker, admission } = admit(lane.breaker, nowMs);
  if (admission.kind === "shut") return undefined;
  const rate = take(lane.rate, nowMs);
  if (rate === undefined) return undefined;
  lane.breaker = breaker;
  lane.rate = rate;
  return { admitted: admission, takenAtMs: nowMs };
}

/** There was no request after all. */
export function giveTicketBack(lane: Lane, { admitted }: Ticket): void {
  lane.breaker = onNone(lane.breaker, admitted);
  lane.rate = giveBack(lane.rate);
}

/** What the answer to a request teaches. Returns how the breaker changed, if it did. */
export function learn(
  lane: Lane,
  { admitted, takenAtMs }: Ticket,
  decision: Pick<Decision, "health" | "throttled" | "failedAgain" | "refusedSenders" | "acceptedSenders">,
  hint: RateHint,
): "opened" | "closed" | undefined {
  const nowMs = performance.now();
  const before = lane.breaker.kind;
  if (decision.throttled) lane.rate = onThrottled(lane.rate, hint, takenAtMs, nowMs, Math.random());
  else if (decision.health !== "failure") lane.rate = onAnswer(lane.rate, hint, takenAtMs, nowMs);
  switch (decision.health) {
    case "success":
      lane.breaker = onSuccess(lane.breaker, admitted);
      break;
    case "failure":
      lane.breaker = onFailure(lane.breaker, admitted, nowMs, Math.random());
      break;
    case "accountRefused":
      lane.breaker = onAccountRefused(lane.breaker, admitted, nowMs, Math.random());
      break;
    case "none":
      lane.breaker = onNone(lane.breaker, admitted);
      break;
  }
  lane.first = decision.failedAgain ? "emails" : "batches";
  const { refusedSenders: refused, acceptedSenders: accepted } = decision;
  lane.senders = remember(lane.senders, { refused, accepted }, nowMs);
  if (lane.breaker.kind === before) return undefined;
  if (lane.breaker.kind === "open") return "opened";
  return lane.breaker.kind === "closed" ? "closed" : undefined;
}
