// Whether a process could do its job now, and why not. Pure: what it goes by comes in, and the reasons go out. Each
// begins with a word out of a short list, which README.md explains.

import type { Breaker } from "../policy/breaker.ts";
import type { Health, QueueStats } from "../queue/contract.ts";
import { deadlineMs } from "./stats_cache.ts";

export interface Readiness {
  readonly reasons: readonly string[];
  /** An operator has stopped all deliveries: as ready as ever, but idle. Undefined if the store did not say. */
  readonly paused: boolean | undefined;
  /** Of a worker: how each provider of positive weight is to it. */
  readonly providers?: Readonly<Record<string, ProviderWord>>;
}

export type ProviderWord = "works" | "refuses our account" | "does not work";

export interface StoreStatus {
  readonly health: Health;
  /** Undefined if the store did not say in time. */
  readonly stats: QueueStats | undefined;
  /** Why the next connections may fail; undefined while enough descriptors are left. */
  readonly shortage?: string | undefined;
  /** The store's own words, if it refused to be asked. */
  readonly refusal?: string | undefined;
}

export interface ServerStatus extends StoreStatus {
  readonly stopping: boolean;
  /** Why no further submission is taken at the moment, while none is. */
  readonly overload: string | undefined;
}

export interface WorkerStatus extends StoreStatus {
  readonly stopping: boolean;
  /** The store has been found to be one that this version understands. */
  readonly started: boolean;
  /** Those of positive weight. */
  readonly providers: readonly { readonly name: string; readonly breaker: Breaker }[];
  /** By the clock of the breakers, ms. */
  readonly nowMs: number;
  /** From a batch's first claim to the end of its doubt, ms. */
  readonly doubtMs: number;
  readonly leaseMs: number;
  /** For how long {@link isDoubtOverdue} has been seen to hold, by the clock of the breakers, ms; default: for ever. */
  readonly overdueForMs?: number;
}

/** What one write of submissions may take of the store at most, bytes: with less left, it may be refused. */
const roomMinBytes = 1024 * 1024;
/** Doubt is ended within seconds, unless a lease has to run out first. This much later, ms, something prevents it. */
const overdueMs = 10 * 60 * 1000;
/** A step of the store's clock, which makes any doubt look old, is noticed by then, ms. */
const noticedMs = 10_000;

export function serverReadiness(signs: ServerStatus): Readiness {
  const { stopping, overload, stats } = signs;
  const reasons: string[] = [];
  if (stopping) reasons.push("stopping: no new connection is taken");
  const store = storeReason(signs) ?? (stats !== undefined && isFull(stats) ? fullReason : undefined);
  if (store !== undefined) reasons.push(store);
  if (overload !== undefined) reasons.push(`overload: ${overload}`);
  if (signs.shortage !== undefined) reasons.push(`descriptors: ${signs.shortage}`);
  return { reasons, paused: stats?.paused };
}

export function workerReadiness(signs: WorkerStatus): Readiness {
  const { stopping, started, stats, doubtMs } = signs;
  const reasons: string[] = [];
  if (stopping) reasons.push("stopping: nothing new is claimed");
  const store = storeReason(signs);
  if (store !== undefined) reasons.push(store);
  else if (!started) reasons.push("starting: the store is not known yet");
  if (signs.shortage !== undefined) reasons.push(`descriptors: ${signs.shortage}`);
  if (isShut(signs)) {
    const names = signs.providers.map(({ name, breaker }) => `${name} ${wordOf(breaker)}`);
    reasons.push(`providers: ${names.join(", ")}`);
  }
  if (isDoubtOverdue(signs) && (signs.overdueForMs ?? Infinity) >= noticedMs) {
    const ageMs = doubtAgeMs(stats);
    reasons.push(
      `doubt: a batch has been in doubt for ${hours(ageMs)} h, which should end after ${hours(doubtMs)} h`,
    );
  }
  const providers = Object.fromEntries(signs.providers.map(({ name, breaker }) => [name, wordOf(breaker)]));
  return { reasons, paused: stats?.paused, providers };
}

/** For an hour after a step of its clock the store ends no doubt, so that its age says nothing. */
export function isDoubtOverdue({
  stats,
  doubtMs,
  leaseMs,
}: Pick<WorkerStatus, "stats" | "doubtMs" | "leaseMs">): boolean {
  return stats?.clockStep === undefined && doubtAgeMs(stats) > doubtMs + leaseMs + overdueMs;
}

function doubtAgeMs(stats: QueueStats | undefined): number {
  if (stats?.oldestDoubtSinceMs === undefined || stats.paused) return 0;
  return stats.nowMs - stats.oldestDoubtSinceMs;
}

function storeReason({ health, stats, refusal }: StoreStatus): string | undefined {
  if (!health.ok) return `store: ${health.reason}`;
  if (stats !== undefined) return undefined;
  return `store: ${refusal ?? `no answer within ${deadlineMs / 1000} s`}`;
}

const fullReason = `store: less than ${roomMinBytes / 1024 / 1024} MiB is left of what it may use`;

function isFull({ bytesUsed, bytesMax }: QueueStats): boolean {
  return bytesMax !== undefined && bytesMax - bytesUsed < roomMinBytes;
}

/**
 * No provider is known to work. One whose pause is over may be tried, and is known again as soon as there is an email
 * to try it with: while nothing is left to deliver, it does not count as shut. Otherwise a worker whose neighbour has
 * delivered the rest would stand as broken for as long as it is quiet.
 */
function isShut({ providers, stats, nowMs }: WorkerStatus): boolean {
  const { waiting = 0, retrying = 0, sending = 0, "in-doubt": inDoubt = 0 } = stats?.states ?? {};
  const isIdle = stats !== undefined && waiting + retrying + sending + inDoubt === 0;
  return providers.every(({ breaker }) => {
    if (breaker.kind === "closed" || !breaker.isDown) return false;
    return (breaker.kind === "open" && nowMs < breaker.untilMs) || !isIdle;
  });
}

/** One that is tried again, or that may be, still counts as it was found last. */
function wordOf(breaker: Breaker): ProviderWord {
  if (breaker.kind === "closed" || !breaker.isDown) return "works";
  return breaker.cause === "account" ? "refuses our account" : "does not work";
}

function hours(ms: number): string {
  return (ms / 3_600_000).toFixed(1);
}
