// A partition as the consumer over all of them sees it: whether it can be asked, and what is known to be there.

import type { RedisConsumer } from "../consumer.ts";
import type { Lane } from "./lane.ts";

/** So long a partition is left out that refused a claim, or whose replicas lag, ms. */
const restMs = 1000;
/** So long nothing is expected where nothing was found, unless a wake-up comes, ms. */
const emptyMaxMs = 900;

/** Times are by `performance.now()`. */
export class ConsumedPartition {
  readonly consumer: RedisConsumer;
  readonly #lanes = new Map<string, Lane>();
  readonly #newLane: () => Lane;
  /** By search that found nothing: until when that holds, and when something is due. */
  readonly #empty = new Map<string, { readonly untilMs: number; readonly nextDueAtMs: number }>();
  /** Counts what may have made emails due: an answer to a question from before says nothing. */
  changes = 0;
  /** Why its last claim failed, if it did. */
  trouble: unknown;
  #restsUntilMs = 0;
  /** Emails that were still due after the last claim. */
  dueLeft = 0;

  constructor(consumer: RedisConsumer, newLane: () => Lane) {
    this.consumer = consumer;
    this.#newLane = newLane;
  }

  lane(claimant: string): Lane {
    const lane = this.#lanes.get(claimant) ?? this.#newLane();
    this.#lanes.set(claimant, lane);
    return lane;
  }

  /** Leaves the partition out for a while. */
  rest(): void {
    this.#restsUntilMs = performance.now() + restMs;
  }

  /** Whether the claimant can make a claim: one under way, perhaps waiting for replicas, is another's to wait for. */
  canClaim(claimant: string): boolean {
    return this.consumer.isConnected && performance.now() >= this.#restsUntilMs && !this.isAsked(claimant);
  }

  isAsked(claimant: string): boolean {
    return this.lane(claimant).asking !== undefined;
  }

  /** Emails may have become due. */
  markChanged(): void {
    this.changes += 1;
    this.#empty.clear();
  }

  /** Notes that a search that began at this number of changes found nothing. */
  markEmpty(search: string, changes: number, nextDueInMs = Infinity): void {
    if (changes !== this.changes) return;
    const nowMs = performance.now();
    const nextDueAtMs = nowMs + nextDueInMs;
    this.#empty.set(search, { untilMs: Math.min(nextDueAtMs, nowMs + emptyMaxMs), nextDueAtMs });
  }

  isEmpty(search: string | undefined): boolean {
    return performance.now() < (this.#empty.get(search ?? "")?.untilMs ?? 0);
  }

  /** When a search that found nothing will find something, as far as is known; else infinite. */
  nextDueAtMs(search: string | undefined): number {
    return this.#empty.get(search ?? "")?.nextDueAtMs ?? Infinity;
  }
}
