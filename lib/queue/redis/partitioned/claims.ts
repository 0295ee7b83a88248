// Claims over several partitions, which go from one partition to the next. One that cannot be asked costs nothing, and one
// that answers late holds up only its own claims.

import { type ClaimResult, StoreUnavailable } from "../../contract.ts";
import type { Pause } from "../consumer.ts";
import type { ConsumedPartition } from "./consumed_partition.ts";
import type { LaneAnswer, SendClaim } from "./lane.ts";
import { within } from "./partitions.ts";
import { newestPause } from "./stats.ts";

/** Longest wait for the answer to a claim before the next partition is asked, ms. */
const patienceMs = 250;
/** Longest wait for a permit while an answer is late, ms. */
const limitedMaxMs = 1000;

/** A claim as all partitions are asked. */
interface Ask {
  readonly claimant: string;
  readonly leaseMs: number;
  /** Where nothing was found, the same search finds nothing for a while. Undefined: always ask. */
  readonly search?: string;
  readonly send: (partition: ConsumedPartition) => SendClaim;
}

/** The newest pause or resumption that any partition knows. */
export function pauseOf(partitions: readonly ConsumedPartition[]): Pause | undefined {
  const known = partitions.flatMap(({ consumer: { pause } }) => pause ?? []);
  return known.length === 0 ? undefined : newestPause(known);
}

export class PartitionedClaims {
  readonly #partitions: readonly ConsumedPartition[];
  readonly #wake: () => void;
  /** By claimant: the partition after the one that gave it a batch last. */
  readonly #next = new Map<string, number>();
  /** Whether claims were paused at the last claim. */
  isPaused = false;

  /** @param wake called once a late answer is there for the next claim */
  constructor(partitions: readonly ConsumedPartition[], wake: () => void) {
    this.#partitions = partitions;
    this.#wake = wake;
  }

  async claim(ask: Ask): Promise<ClaimResult> {
    const result = await this.#search(ask);
    return this.#partitions.some((partition) => partition.lane(ask.claimant).isOpen)
      ? { ...result, mayHaveLeased: true }
      : result;
  }

  async #search(ask: Ask): Promise<ClaimResult> {
    const { claimant, leaseMs, send } = ask;
    const asked: ConsumedPartition[] = [];
    for (const partition of this.#candidates(ask)) {
      const lane = partition.lane(claimant);
      lane.ask(leaseMs, send(partition));
      asked.push(partition);
      const leased = await this.#takeWithin(patienceMs, asked, ask);
      if (leased !== undefined) return leased;
      // A late answer is taken by the next claim.
      void lane.asking?.then(() => this.#wake());
    }
    // Late answers are worth waiting for only as long as no other partition could get emails.
    while (asked.some((partition) => partition.isAsked(claimant)) && this.#usable(claimant).length === 0) {
      const leased = await this.#takeWithin(Infinity, asked, ask);
      if (leased !== undefined) return leased;
    }
    return this.#summarize(ask);
  }

  /** The partitions to ask, in turn; first those that may have leased a batch to this claimant already. */
  #candidates({ claimant, search }: Ask): ConsumedPartition[] {
    const first = this.#next.get(claimant) ?? 0;
    const inTurn = [...this.#partitions.slice(first), ...this.#partitions.slice(0, first)];
    const isBegun = (partition: ConsumedPartition) => {
      const { hasAnswer, isUnanswered } = partition.lane(claimant);
      return hasAnswer || (isUnanswered && partition.canClaim(claimant));
    };
    const begun = inTurn.filter(isBegun);
    const others = inTurn.filter((partition) => !isBegun(partition) && partition.canClaim(claimant));
    const pause = pauseOf(this.#partitions);
    // While claims are paused, a repeated claim is still answered, and one other claim finds out about the end.
    if (pause?.paused === true)
      return [...begun, ...others.filter(({ consumer }) => consumer.pause === pause).slice(0, 1)];
    return [...begun, ...others.filter((partition) => !partition.isEmpty(search))];
  }

  /** The partitions that would answer now, or have answered that nothing is due. */
  #usable(claimant: string): ConsumedPartition[] {
    return this.#partitions.filter((one) => one.canClaim(claimant) && one.trouble === undefined);
  }

  /** The batch that one of these partitions has leased to the claimant, or that no permit is left; if one answers in time. */
  async #takeWithin(ms: number, asked: readonly ConsumedPartition[], { claimant, leaseMs }: Ask) {
    const isLate = asked.flatMap((partition) => partition.lane(claimant).asking ?? []);
    const hasAnswer = asked.some((partition) => partition.lane(claimant).hasAnswer);
    if (!hasAnswer && isLate.length > 0) await within(Promise.race(isLate), ms);
    let limited: ClaimResult | undefined;
    for (const partition of asked) {
      const result = this.#read(partition, claimant, partition.lane(claimant).take(leaseMs));
      if (result?.kind === "limited") limited = result;
      else if (result !== undefined) return result;
    }
    return limited;
  }

  /** The batch in an answer, if there is one; or that no permit is left. */
  #read(
    partition: ConsumedPartition,
    claimant: string,
    answer: LaneAnswer | undefined,
  ): ClaimResult | undefined {
    if (answer === undefined) return undefined;
    partition.trouble = answer.kind === "failed" ? answer.error : undefined;
    if (answer.kind === "failed") partition.rest();
    if (answer.kind === "failed") return undefined;
    if (answer.result.kind === "limited") {
      // A batch that another partition may lease to this claimant meanwhile must not wait for the end of a pause.
      const isLate = this.#partitions.some((one) => one.isAsked(claimant));
      const { nextInMs } = answer.result.rate;
      const rate = { ...answer.result.rate, nextInMs: isLate ? Math.min(nextInMs, limitedMaxMs) : nextInMs };
      return { kind: "limited", rate };
    }
    if (!("batch" in answer.result)) return undefined;
    const { claim, result } = answer;
    this.#next.set(claimant, (this.#partitions.indexOf(partition) + 1) % this.#partitions.length);
    this.isPaused = pauseOf(this.#partitions)?.paused === true;
    if (result.kind === "batch") return { ...result, claim };
    partition.rest();
    return { ...result, claim, isPartial: true };
  }

  /** The result of a claim for which no partition leased a batch. */
  #summarize({ search }: Ask): ClaimResult {
    const connected = this.#partitions.filter(({ consumer }) => consumer.isConnected);
    if (connected.length === 0) throw new StoreUnavailable("no partition is connected");
    if (connected.every(({ trouble }) => trouble !== undefined)) throw connected[0]!.trouble;
    this.isPaused = pauseOf(this.#partitions)?.paused === true;
    if (this.isPaused) return { kind: "paused" };
    const nextDueAtMs = Math.min(...connected.map((partition) => partition.nextDueAtMs(search)));
    if (nextDueAtMs === Infinity) return { kind: "empty", nextDueInMs: undefined };
    return { kind: "empty", nextDueInMs: Math.max(0, nextDueAtMs - performance.now()) };
  }
}
