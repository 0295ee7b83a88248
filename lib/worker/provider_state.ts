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
  giveBack,
  newRate,
  nextTokenAtMs,
  onAnswer,
  onThrottled,
  type Rate,
  take,
} from "../policy/rate_limit.ts";
import { noSenders, remember, type Senders } from "../policy/known_senders.ts";
import type { Claim } from "./lease_clock.ts";
import type { Provider } from "../providers/provider.ts";
import type { ClaimSource, Work } from "../queue/contract.ts";

export interface Lane {
  readonly provider: Provider;
  /** 0: nothing new, batches in doubt are still resolved. */
  readonly weight: number;
  breaker: Breaker;
  rate: Rate;
  senders: Senders;
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
export interface Ticket {
  readonly admitted: Admitted;
  /** What the provider answered to a question since it last failed. */
  readonly question: Policy["question"];
  /** By `performance.now()`. */
  readonly takenAtMs: number;
}

/** A change of the breaker, for the log. */
export type Change = "opened" | "closed";

export function openLane(provider: Provider, weight: number): Lane {
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
export async function askFirst(lanes: readonly Lane[], work: Pick<Work, "conditions">): Promise<void> {
  // A store that does not answer now says so at the first claim.
  const conditions = await work.conditions().catch(() => ({}) as Awaited<ReturnType<Work["conditions"]>>);
  for (const lane of lanes) {
    if (conditions[lane.provider.name]?.isUnanswered) lane.breaker = suspiciousBreaker(performance.now());
  }
}

/** What may begin, and when, by `performance.now()`; `atMs` is undefined until a request under way is answered. */
export interface Opening {
  readonly kind: "request" | "question" | "nothing";
  readonly atMs: number | undefined;
}

export function openingOf(lane: Lane, nowMs: number): Opening {
  const { admission } = admit(lane.breaker, canAsk(lane), nowMs);
  const tokenAtMs = Math.max(nextTokenAtMs(lane.rate, nowMs), lane.restsUntilMs);
  if (admission.kind === "question") return { kind: "question", atMs: tokenAtMs };
  if (admission.kind !== "shut") return { kind: "request", atMs: tokenAtMs };
  const { untilMs } = admission;
  return { kind: "nothing", atMs: untilMs === undefined ? undefined : Math.max(tokenAtMs, untilMs) };
}

/** Undefined if nothing may begin now. */
export function takeTicket(lane: Lane, nowMs: number): Ticket | undefined {
  const { breaker, admission } = admit(lane.breaker, canAsk(lane), nowMs);
  if (admission.kind === "shut") return undefined;
  const rate = take(lane.rate, nowMs);
  if (rate === undefined) return undefined;
  const wasAsked = lane.breaker.kind === "halfOpen" && lane.breaker.cause === "unanswered" && canAsk(lane);
  lane.breaker = breaker;
  lane.rate = rate;
  return { admitted: admission, question: wasAsked ? lane.question : "none", takenAtMs: nowMs };
}

const canAsk = ({ provider }: Lane) => provider.check !== undefined;

/** There was no request after all. */
export function giveTicketBack(lane: Lane, { admitted }: Ticket): void {
  lane.breaker = onNone(lane.breaker, admitted, performance.now());
  lane.rate = giveBack(lane.rate);
}

/** There was a request, but its answer could not be read: the breaker learns nothing from it. */
export function dropTicket(lane: Lane, { admitted }: Ticket): void {
  lane.breaker = onNone(lane.breaker, admitted, performance.now());
}

/** The next claim begins with the source after this one. */
export function noteServed(lane: Lane, source: ClaimSource): void {
  const at = lane.sources.indexOf(source) + 1;
  lane.sources = [...lane.sources.slice(at), ...lane.sources.slice(0, at)];
}

/** What the answer to a question teaches. Returns how the breaker changed, if it did. */
export function learnFromQuestion(
  lane: Lane,
  { admitted }: Ticket,
  question: Policy["question"],
): Change | undefined {
  const before = lane.breaker;
  const answered = question !== "none";
  lane.question = question;
  lane.breaker = onAsked(before, admitted, answered, performance.now(), Math.random());
  return changeOf(before, lane.breaker);
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
  lane: Lane,
  { admitted, takenAtMs }: Ticket,
  decision: Pick<Decision, "health" | "throttled" | "refusedSenders" | "acceptedSenders">,
  hint: RateHint,
  about: { readonly name: string; readonly isNew: boolean },
): Change | undefined {
  const nowMs = performance.now();
  const before = lane.breaker;
  const { health } = decision;
  if (decision.throttled) lane.rate = onThrottled(lane.rate, hint, takenAtMs, nowMs, Math.random());
  else if (health !== "failure" && health !== "unanswered")
    lane.rate = onAnswer(lane.rate, hint, takenAtMs, nowMs);
  if (health !== "unanswered") lane.answeredFromMs = Math.max(lane.answeredFromMs, takenAtMs);
  if (decision.acceptedSenders.length > 0) lane.acceptedFromMs = Math.max(lane.acceptedFromMs, takenAtMs);
  if (about.isNew) lane.countMax = nextCountMax(lane, health);
  switch (health) {
    case "success":
      lane.breaker = onSuccess(lane.breaker, admitted);
      break;
    case "failure":
      lane.breaker = onFailure(
        lane.breaker,
        admitted,
        `failed ${about.name}`,
        nowMs,
        Math.random(),
        about.isNew,
      );
      break;
    case "unanswered":
      // A request that began later was answered: the provider is there, and something is wrong with this one.
      lane.breaker =
        lane.answeredFromMs > takenAtMs
          ? onFailure(lane.breaker, admitted, `unanswered ${about.name}`, nowMs, Math.random(), about.isNew)
          : onUnanswered(lane.breaker, admitted, nowMs, Math.random(), about.isNew);
      break;
    case "accountRefused":
      lane.breaker = afterAccountRefusal(lane, { admitted, takenAtMs }, about, nowMs);
      break;
    case "none":
      lane.breaker = onNone(lane.breaker, admitted, nowMs);
      break;
  }
  const { refusedSenders: refused, acceptedSenders: accepted } = decision;
  lane.senders = remember(lane.senders, { refused, accepted }, nowMs);
  return changeOf(before, lane.breaker);
}

/**
 * If a request that began later was accepted, the account works, and something is wrong with this one. Emails that were
 * refused before say nothing new of the account: they do not shut it for longer.
 */
function afterAccountRefusal(
  { breaker, acceptedFromMs }: Lane,
  { admitted, takenAtMs }: Pick<Ticket, "admitted" | "takenAtMs">,
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
function nextCountMax({ countMax, provider }: Lane, health: Decision["health"]): number {
  if (health === "failure" || health === "unanswered") return Math.max(1, Math.floor(countMax / 2));
  return health === "success" ? Math.min(provider.batchMax, countMax * 2) : countMax;
}
