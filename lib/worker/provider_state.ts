// One provider as one worker sees it: whether it is worth a request, how fast, whose emails it takes, and where its next
// claim looks first. The state is this worker's own; what changes it is in policy/.

import {
  type Admitted,
  admit,
  type Breaker,
  closedBreaker,
  onAccountRefused,
  onAsked,
  onFailure,
  onNone,
  onSuccess,
  onUnanswered,
  suspiciousBreaker,
} from "../policy/breaker.ts";
import type { Decision, Policy } from "../policy/decision.ts";
import type { RateHint } from "../policy/request_outcome.ts";
import {
  returnPermitTo,
  newRate,
  nextPermitAtMs,
  onAnswer,
  onThrottled,
  type Rate,
  takePermitAt,
} from "../policy/rate_limit.ts";
import { noSenders, remember, type KnownSenders } from "../policy/known_senders.ts";
import type { Claim } from "./lease_clock.ts";
import type { Provider } from "../providers/provider.ts";
import type { ClaimSource, Consumer } from "../queue/contract.ts";

export interface ProviderState {
  readonly provider: Provider;
  /** 0: nothing new, batches in doubt are still resolved. */
  readonly weight: number;
  breaker: Breaker;
  rate: Rate;
  senders: KnownSenders;
  /** Where the next claim looks, in order: the source served last comes last. */
  sources: readonly ClaimSource[];
  /** Most new emails in one request: fewer while requests of new emails fail. */
  countMax: number;
  /** Emails that a request carries while more are due, by the last claim: of large ones it is few. */
  carries: number;
  /** Deliveries under way. */
  inFlight: number;
  /** Claims made so far. */
  claims: number;
  /** One whose answer was lost: the next asks for the same, and its lease counts from the first. */
  claim: Claim | undefined;
  /** Of weight 0: it is not asked again before, by `performance.now()`. */
  restsUntilMs: number;
  /** When the latest request began that the provider itself has answered, by `performance.now()`. */
  answeredFromMs: number;
  /** When the latest request began in which it accepted an email, by `performance.now()`. */
  acceptedFromMs: number;
  /** What it answered to the last question. */
  question: Policy["question"];
  /** The account that the credential belongs to, once the provider has named it. */
  account: string | undefined;
}

/** The right to one request. */
export interface Permit {
  readonly admitted: Admitted;
  /** What the provider answered to a question since it last failed. */
  readonly question: Policy["question"];
  /** By `performance.now()`. */
  readonly takenAtMs: number;
}

/** A change of the breaker, for the log. */
export type Change = "opened" | "closed";

export function createProviderState(provider: Provider, weight: number): ProviderState {
  const { startRate, maxRate, batchMax } = provider;
  return {
    provider,
    weight,
    breaker: closedBreaker,
    rate: newRate({ startPerSecond: startRate, maxPerSecond: maxRate, nowMs: performance.now() }),
    senders: noSenders,
    sources: weight === 0 ? ["batches"] : ["emails", "split", "batches"],
    countMax: batchMax,
    carries: batchMax,
    inFlight: 0,
    claims: 0,
    claim: undefined,
    restsUntilMs: 0,
    answeredFromMs: -Infinity,
    acceptedFromMs: -Infinity,
    question: "none",
    account: undefined,
  };
}

/** Providers that failed without an answer of their own when the queue last heard of them are asked before anything is sent. */
export async function askFirst(
  states: readonly ProviderState[],
  consumer: Pick<Consumer, "conditions">,
): Promise<void> {
  // A store that does not answer now says so at the first claim.
  const conditions = await consumer
    .conditions()
    .catch(() => ({}) as Awaited<ReturnType<Consumer["conditions"]>>);
  for (const state of states) {
    if (conditions[state.provider.name]?.isUnanswered) state.breaker = suspiciousBreaker(performance.now());
  }
}

/** What may begin, and when, by `performance.now()`; `atMs` is undefined until a request under way is answered. */
export interface Opening {
  readonly kind: "request" | "question" | "nothing";
  readonly atMs: number | undefined;
}

export function openingOf(state: ProviderState, nowMs: number): Opening {
  const { admission } = admit(state.breaker, canAsk(state), nowMs);
  const tokenAtMs = Math.max(nextPermitAtMs(state.rate, nowMs), state.restsUntilMs);
  if (admission.kind === "question") return { kind: "question", atMs: tokenAtMs };
  if (admission.kind !== "refused") return { kind: "request", atMs: tokenAtMs };
  const { untilMs } = admission;
  return { kind: "nothing", atMs: untilMs === undefined ? undefined : Math.max(tokenAtMs, untilMs) };
}

/** Undefined if nothing may begin now. */
export function takePermit(state: ProviderState, nowMs: number): Permit | undefined {
  const { breaker, admission } = admit(state.breaker, canAsk(state), nowMs);
  if (admission.kind === "refused") return undefined;
  const rate = takePermitAt(state.rate, nowMs);
  if (rate === undefined) return undefined;
  const wasAsked = state.breaker.kind === "halfOpen" && state.breaker.cause === "unanswered" && canAsk(state);
  state.breaker = breaker;
  state.rate = rate;
  return { admitted: admission, question: wasAsked ? state.question : "none", takenAtMs: nowMs };
}

const canAsk = ({ provider }: ProviderState) => provider.check !== undefined;

/** There was no request after all. */
export function returnPermit(state: ProviderState, { admitted }: Permit): void {
  state.breaker = onNone(state.breaker, admitted, performance.now());
  state.rate = returnPermitTo(state.rate);
}

/** There was a request, but its answer could not be read: the breaker learns nothing from it. */
export function dropPermit(state: ProviderState, { admitted }: Permit): void {
  state.breaker = onNone(state.breaker, admitted, performance.now());
}

/** The next claim begins with the source after this one. */
export function noteServed(state: ProviderState, source: ClaimSource): void {
  const at = state.sources.indexOf(source) + 1;
  state.sources = [...state.sources.slice(at), ...state.sources.slice(0, at)];
}

/** What the answer to a question teaches. Returns how the breaker changed, if it did. */
export function learnFromQuestion(
  state: ProviderState,
  { admitted }: Permit,
  question: Policy["question"],
): Change | undefined {
  const before = state.breaker;
  const answered = question !== "none";
  state.question = question;
  state.breaker = onAsked(before, admitted, answered, performance.now(), Math.random());
  return changeOf(before, state.breaker);
}

/** One unanswered request may be an email's fault: the change is reported once the question goes unanswered too. */
function changeOf(before: Breaker, after: Breaker): Change | undefined {
  if (before === after || before.kind === after.kind) return undefined;
  if (after.kind === "open") return after.isDown ? "opened" : undefined;
  return after.kind === "closed" && before.kind !== "closed" && before.isDown ? "closed" : undefined;
}

/**
 * What the answer to a request teaches. Returns how the breaker changed, if it did.
 * @param about the batch: a name for the breaker, and whether it is new, neither a piece nor in doubt
 */
export function learn(
  state: ProviderState,
  { admitted, takenAtMs }: Permit,
  decision: Pick<Decision, "health" | "throttled" | "refusedSenders" | "acceptedSenders">,
  hint: RateHint,
  about: { readonly name: string; readonly isNew: boolean },
): Change | undefined {
  const nowMs = performance.now();
  const before = state.breaker;
  const { health } = decision;
  if (decision.throttled) state.rate = onThrottled(state.rate, hint, takenAtMs, nowMs, Math.random());
  else if (health !== "failure" && health !== "unanswered")
    state.rate = onAnswer(state.rate, hint, takenAtMs, nowMs);
  if (health !== "unanswered") state.answeredFromMs = Math.max(state.answeredFromMs, takenAtMs);
  if (decision.acceptedSenders.length > 0) state.acceptedFromMs = Math.max(state.acceptedFromMs, takenAtMs);
  if (about.isNew) state.countMax = nextCountMax(state, health);
  switch (health) {
    case "success":
      state.breaker = onSuccess(state.breaker, admitted);
      break;
    case "failure":
      state.breaker = onFailure(
        state.breaker,
        admitted,
        `failed ${about.name}`,
        nowMs,
        Math.random(),
        about.isNew,
      );
      break;
    case "unanswered":
      // A request that began later was answered: the provider is there, and something is wrong with this one.
      state.breaker =
        state.answeredFromMs > takenAtMs
          ? onFailure(state.breaker, admitted, `unanswered ${about.name}`, nowMs, Math.random(), about.isNew)
          : onUnanswered(state.breaker, admitted, nowMs, Math.random(), about.isNew);
      break;
    case "accountRefused":
      state.breaker = afterAccountRefusal(state, { admitted, takenAtMs }, about, nowMs);
      break;
    case "none":
      state.breaker = onNone(state.breaker, admitted, nowMs);
      break;
  }
  const { refusedSenders: refused, acceptedSenders: accepted } = decision;
  state.senders = remember(state.senders, { refused, accepted }, nowMs);
  return changeOf(before, state.breaker);
}

/**
 * If a request that began later was accepted, the account works, and something is wrong with this one. Emails that were
 * refused before say nothing new of the account: they do not shut it for longer.
 */
function afterAccountRefusal(
  { breaker, acceptedFromMs }: ProviderState,
  { admitted, takenAtMs }: Pick<Permit, "admitted" | "takenAtMs">,
  about: { readonly name: string; readonly isNew: boolean },
  nowMs: number,
): Breaker {
  const isClosed = breaker.kind === "closed";
  if (acceptedFromMs > takenAtMs || (isClosed && !about.isNew))
    return onFailure(breaker, admitted, `refused ${about.name}`, nowMs, Math.random(), about.isNew);
  if (!about.isNew) return onNone(breaker, admitted, nowMs);
  return onAccountRefused(breaker, admitted, nowMs, Math.random());
}

/** Halved by each failure, doubled by each success. */
function nextCountMax({ countMax, provider }: ProviderState, health: Decision["health"]): number {
  if (health === "failure" || health === "unanswered") return Math.max(1, Math.floor(countMax / 2));
  return health === "success" ? Math.min(provider.batchMax, countMax * 2) : countMax;
}
