// Whether a process could do its job now, and why not. Pure: the time comes in as an argument. Each reason begins with
// a word from a short list, which docs/monitoring.md explains.

import type { Breaker } from "../policy/breaker.ts";
import type { Health, QueueStats } from "../queue/contract.ts";
import { waitMaxMs } from "./stats_cache.ts";

export interface Readiness {
  /** An operator has paused all deliveries: the process is ready, but idle. Undefined if the store did not answer. */
  readonly paused: boolean | undefined;
  readonly reasons: readonly string[];
  /** Conditions that become a reason if one more thing fails; undefined if there are none. */
  readonly warnings?: readonly string[];
  /** Only of a worker: each provider of positive weight as this worker finds it. */
  readonly providers?: Readonly<Record<string, ProviderWord>>;
}

export type ProviderWord = "works" | "refuses our account" | "does not work";

export interface ProcessStatus {
  readonly health: Health;
  /** Undefined if the store did not answer in time. */
  readonly stats: QueueStats | undefined;
  /** Why the next connections may fail; undefined while enough descriptors are left. */
  readonly shortage?: string | undefined;
  /** The store's own words, if it refused to answer. */
  readonly refusal?: string | undefined;
}

export interface ServerStatus extends ProcessStatus {
  readonly stopping: boolean;
  /** Why the next submission would be refused, if it would. */
  readonly overload: string | undefined;
}

export interface WorkerStatus extends ProcessStatus {
  readonly stopping: boolean;
  /** The store has been reached, and is one that this version understands. */
  readonly started: boolean;
  readonly states: readonly {
    readonly provider: { readonly name: string };
    readonly weight: number;
    readonly breaker: Breaker;
  }[];
  /** By the clock of the breakers, ms. */
  readonly nowMs: number;
}

/** Most bytes that one write of submissions may add to the store: with less room, it may be refused. */
const roomMinBytes = 1024 * 1024;
/** Doubt ends within seconds, or after one more lease. So long after that, ms, something prevents it. */
const overdueMs = 10 * 60 * 1000;
/** A step of the store's clock makes any doubt look old, but is noticed within this time, ms. */
const noticedMs = 10_000;

export function serverReadiness(status: ServerStatus): Readiness {
  const { stopping, overload, stats, shortage } = status;
  const isFull = stats?.bytesMax !== undefined && stats.bytesMax - stats.bytesUsed < roomMinBytes;
  const full = `store: less than ${roomMinBytes / 1024 / 1024} MiB is left of what it may use`;
  return {
    paused: stats?.paused,
    ...warningsOf(status),
    reasons: present(
      stopping && "stopping: no new connection is accepted",
      storeReason(status) ?? (isFull && full),
      overload !== undefined && `overload: ${overload}`,
      shortage !== undefined && `descriptors: ${shortage}`,
    ),
  };
}

/** Remembers for how long a doubt has looked overdue. */
export class WorkerReadiness {
  readonly #limits: { readonly doubtMs: number; readonly leaseMs: number };
  #overdueSinceMs: number | undefined;

  /** @param limits from a batch's first claim to the end of its doubt, and of a lease, ms */
  constructor(limits: { readonly doubtMs: number; readonly leaseMs: number }) {
    this.#limits = limits;
  }

  judge(status: WorkerStatus): Readiness {
    const { stopping, started, stats, shortage, nowMs } = status;
    const states = status.states.filter(({ weight }) => weight > 0);
    const words = states.map(({ provider, breaker }) => [provider.name, wordOf(breaker)] as const);
    const areAllDown = states.every(({ breaker }) => isDown(breaker, stats, nowMs));
    return {
      paused: stats?.paused,
      ...warningsOf(status),
      reasons: present(
        stopping && "stopping: nothing new is claimed",
        storeReason(status) ?? (!started && "starting: the store has not been reached yet"),
        shortage !== undefined && `descriptors: ${shortage}`,
        areAllDown && `providers: ${words.map((word) => word.join(" ")).join(", ")}`,
        this.#doubtReason(stats, nowMs),
      ),
      providers: Object.fromEntries(words),
    };
  }

  #doubtReason(stats: QueueStats | undefined, nowMs: number): string | undefined {
    const { doubtMs, leaseMs } = this.#limits;
    const sinceMs = stats?.paused ? undefined : stats?.oldestDoubtSinceMs;
    const ageMs = stats === undefined || sinceMs === undefined ? 0 : stats.nowMs - sinceMs;
    // For an hour after a step of its clock the store ends no doubt, so its age says nothing.
    const isOverdue = stats?.clockStep === undefined && ageMs > doubtMs + leaseMs + overdueMs;
    this.#overdueSinceMs = isOverdue ? (this.#overdueSinceMs ?? nowMs) : undefined;
    if (this.#overdueSinceMs === undefined || nowMs - this.#overdueSinceMs < noticedMs) return undefined;
    return `doubt: a batch has been in doubt for ${hours(ageMs)} h, which should end after ${hours(doubtMs)} h`;
  }
}

function warningsOf({ health }: ProcessStatus): Pick<Readiness, "warnings"> {
  if (!health.ok || health.warning === undefined) return {};
  return { warnings: [`store: ${health.warning}`] };
}

function storeReason({ health, stats, refusal }: ProcessStatus): string | undefined {
  if (!health.ok) return `store: ${health.reason}`;
  if (stats !== undefined) return undefined;
  return `store: ${refusal ?? `no answer within ${waitMaxMs / 1000} s`}`;
}

/**
 * Once its pause is over, a provider is tried with the next email. While nothing is left to deliver it does not count as
 * down: a worker whose neighbor has delivered the rest would look broken for as long as it is quiet.
 */
function isDown(breaker: Breaker, stats: QueueStats | undefined, nowMs: number): boolean {
  if (breaker.kind === "closed" || !breaker.isDown) return false;
  if (breaker.kind === "open" && nowMs < breaker.untilMs) return true;
  if (stats === undefined) return true;
  const { waiting, retrying, sending, "in-doubt": inDoubt } = stats.states;
  return waiting + retrying + sending + inDoubt > 0;
}

/** A provider that is being tried again still counts as it was found last. */
function wordOf(breaker: Breaker): ProviderWord {
  if (breaker.kind === "closed" || !breaker.isDown) return "works";
  return breaker.cause === "account" ? "refuses our account" : "does not work";
}

function present(...reasons: (string | false | undefined)[]): string[] {
  return reasons.filter((reason) => typeof reason === "string");
}

function hours(ms: number): string {
  return (ms / 3_600_000).toFixed(1);
}
