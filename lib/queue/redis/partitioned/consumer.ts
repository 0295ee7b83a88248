// The consumer over several partitions. Claims go from one partition to the next. One that cannot be asked costs nothing,
// and one that answers late holds up only its own claims.

import type {
  Batch,
  ClaimRequest,
  ClaimResult,
  Consumer,
  PermitRequest,
  Settlement,
  WorkerPresence,
} from "../../contract.ts";
import { StoreUnavailable } from "../../contract.ts";
import { type Pause, RedisConsumer, type RedisConsumerOptions } from "../consumer.ts";
import { partitionOf } from "../partition.ts";
import { ConsumedPartition } from "./consumed_partition.ts";
import { HomeRates } from "./home_rates.ts";
import { Lane, type LaneAnswer, type SendClaim } from "./lane.ts";
import { mergeHealth, splitOptions, within } from "./partitions.ts";
import { gatherStats, newestPause } from "./stats.ts";

/** Longest wait for the answer to a claim before the next partition is asked, ms. */
const patienceMs = 250;
/** How often an acceptance is noted in the other partitions, at most, ms. */
const noteEveryMs = 1000;
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

export class PartitionedConsumer implements Consumer {
  readonly compatible: Promise<void>;
  readonly #partitions: readonly ConsumedPartition[];
  readonly #rates: HomeRates;
  readonly #callbacks: (() => void)[] = [];
  /** By claimant: the partition after the one that gave it a batch last. */
  readonly #next = new Map<string, number>();
  /** By provider and credential: when an acceptance was last noted in the other partitions, by `performance.now()`. */
  readonly #notedAtMs = new Map<string, number>();
  #isPaused = false;

  constructor(options: RedisConsumerOptions) {
    this.#partitions = splitOptions(options).map((one, number, { length }) => {
      const partition = new ConsumedPartition(new RedisConsumer(one), () => new Lane(number, length));
      partition.consumer.onWake(() => {
        partition.markChanged();
        this.#wake();
      });
      return partition;
    });
    this.#rates = new HomeRates(this.#partitions.map(({ consumer }) => consumer));
    this.compatible = Promise.race(this.#partitions.map(({ consumer }) => consumer.compatible));
  }

  async claim(request: ClaimRequest) {
    const { claimant, leaseMs, sources, shared, dueCountMax } = request;
    const search = [claimant, ...sources.toSorted(), shared].join(" ");
    const result = await this.#claim({
      claimant,
      leaseMs,
      search,
      send:
        (partition) =>
        async ({ id, number }, isRepeated) => {
          const { changes } = partition;
          // A repeated claim has to ask first what it has leased: without a permit it would ask for nothing.
          const isDue = shared && sources.includes("emails") && partition.dueLeft > 0 && !isRepeated;
          const numbered = { ...request, claimId: id, number };
          const result = await this.#rates.claim(partition.consumer, numbered, isDue);
          if (result.kind === "empty") {
            partition.markEmpty(search, changes, result.nextDueInMs);
            if (shared) partition.dueLeft = 0;
          }
          if (result.kind !== "batch") return result;
          partition.dueLeft = result.dueLeft;
          const connected = this.#partitions.filter(({ consumer }) => consumer.isConnected);
          const dueLeft = connected.reduce((sum, one) => sum + one.dueLeft, 0);
          return { ...result, dueLeft: Math.min(dueLeft, dueCountMax) };
        },
    });
    return result.kind === "empty" ? this.#rates.addTo(result, request) : result;
  }

  claimEnded({ claimant, leaseMs }: Parameters<Consumer["claimEnded"]>[0]) {
    return this.#claim({
      claimant,
      leaseMs,
      send:
        ({ consumer }) =>
        ({ number }) =>
          consumer.claimEnded({ claimant, number, leaseMs }),
    });
  }

  takePermit(request: PermitRequest) {
    return this.#rates.take(request);
  }

  readFiles(id: string) {
    return this.#partitions[partitionOf(id, this.#partitions.length)]!.consumer.readFiles(id);
  }

  async settle(batch: Batch, settlement: Settlement) {
    const partition = this.#partitions[partitionOf(batch.id, this.#partitions.length)]!;
    try {
      const settled = await this.#settleIn(partition.consumer, batch, settlement);
      // A repeated settlement does not hold the lease any more, and its acceptance is an old one.
      if (settled.leaseHeld) this.#noteAcceptance(partition.consumer, batch, settlement);
      return settled;
    } finally {
      partition.markChanged();
    }
  }

  async #settleIn(consumer: RedisConsumer, batch: Batch, settlement: Settlement) {
    const { rate, ...rest } = settlement;
    const key = { provider: batch.provider, credential: rate?.credential ?? "" };
    if (rate === undefined || this.#rates.homeOf(key) === consumer) return consumer.settle(batch, settlement);
    const change = () => within(this.#rates.change(key, rate), patienceMs);
    const learned = rate.kind === "learned" ? change() : undefined;
    const [settled] = await Promise.all([consumer.settle(batch, rest), learned]);
    // A permit goes back once, however often the settlement is repeated.
    if (rate.kind === "unused" && settled.leaseHeld) await change();
    return settled;
  }

  /**
   * Notes in the other partitions that an email was accepted: a batch in doubt there may wait for this to be split, and
   * its claim reads only its own partition. At once or not at all: later it would prove less.
   */
  #noteAcceptance(from: RedisConsumer, { provider }: Batch, { fates, credential = "" }: Settlement): void {
    const name = `${provider} ${credential}`;
    const nowMs = performance.now();
    const isRecent = nowMs - (this.#notedAtMs.get(name) ?? -Infinity) < noteEveryMs;
    if (isRecent || credential === "" || !fates.some(({ kind }) => kind === "sent")) return;
    this.#notedAtMs.set(name, nowMs);
    for (const { consumer } of this.#partitions) {
      // The next acceptance is noted too.
      if (consumer !== from && consumer.isConnected)
        consumer.noteAcceptance(provider, credential).catch(() => {});
    }
  }

  /** Rejects only if no partition could be swept: one that is down hinders no other. */
  async sweep(presence: WorkerPresence) {
    const connected = this.#partitions
      .map(({ consumer }) => consumer)
      .filter(({ isConnected }) => isConnected);
    const swept = await Promise.allSettled(connected.map((one) => one.sweep(presence)));
    await this.#spreadPause(connected);
    if (swept.some(({ status }) => status === "fulfilled")) return;
    const [failed] = swept;
    throw failed?.status === "rejected" ? failed.reason : new StoreUnavailable("no partition is connected");
  }

  stats() {
    return gatherStats(this.#partitions.map(({ consumer }) => consumer.stats()));
  }

  paused() {
    return this.#isPaused;
  }

  onWake(callback: () => void) {
    this.#callbacks.push(callback);
  }

  health() {
    return mergeHealth(this.#partitions.map(({ consumer }) => consumer.health()));
  }

  async close() {
    await Promise.all(this.#partitions.map(({ consumer }) => consumer.close()));
  }

  #wake(): void {
    for (const callback of this.#callbacks) callback();
  }

  get #pause(): Pause | undefined {
    const known = this.#partitions.flatMap(({ consumer: { pause } }) => pause ?? []);
    return known.length === 0 ? undefined : newestPause(known);
  }

  /** Writes a pause, or its end, to partitions that were not reached when it was made. */
  async #spreadPause(consumers: readonly RedisConsumer[]): Promise<void> {
    const newest = this.#pause;
    if (newest === undefined) return;
    const lagging = consumers.filter(
      ({ pause }) =>
        pause !== undefined && (pause.pauseVersion !== newest.pauseVersion || pause.paused !== newest.paused),
    );
    // The next sweep tries again.
    await Promise.allSettled(lagging.map((one) => one.setPause(newest)));
  }

  async #claim(ask: Ask): Promise<ClaimResult> {
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
    const pause = this.#pause;
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
      // What another partition may lease to this claimant meanwhile must not wait for the end of a pause.
      const isLate = this.#partitions.some((one) => one.isAsked(claimant));
      const { nextInMs } = answer.result.rate;
      const rate = { ...answer.result.rate, nextInMs: isLate ? Math.min(nextInMs, limitedMaxMs) : nextInMs };
      return { kind: "limited", rate };
    }
    if (!("batch" in answer.result)) return undefined;
    const { claim, result } = answer;
    this.#next.set(claimant, (this.#partitions.indexOf(partition) + 1) % this.#partitions.length);
    this.#isPaused = this.#pause?.paused === true;
    if (result.kind === "batch") return { ...result, claim };
    partition.rest();
    return { ...result, claim, isPartial: true };
  }

  /** The result of a claim for which no partition leased a batch. */
  #summarize({ search }: Ask): ClaimResult {
    const connected = this.#partitions.filter(({ consumer }) => consumer.isConnected);
    if (connected.length === 0) throw new StoreUnavailable("no partition is connected");
    if (connected.every(({ trouble }) => trouble !== undefined)) throw connected[0]!.trouble;
    this.#isPaused = this.#pause?.paused === true;
    if (this.#isPaused) return { kind: "paused" };
    const nextDueAtMs = Math.min(...connected.map((partition) => partition.nextDueAtMs(search)));
    if (nextDueAtMs === Infinity) return { kind: "empty", nextDueInMs: undefined };
    return { kind: "empty", nextDueInMs: Math.max(0, nextDueAtMs - performance.now()) };
  }
}
