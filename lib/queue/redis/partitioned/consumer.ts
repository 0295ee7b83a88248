// The consumer over several partitions.

import type {
  Batch,
  ClaimRequest,
  Consumer,
  PermitRequest,
  Settlement,
  WorkerPresence,
} from "../../contract.ts";
import { StoreUnavailable } from "../../contract.ts";
import { RedisConsumer, type RedisConsumerOptions } from "../consumer.ts";
import { partitionOf } from "../partition.ts";
import { PartitionedClaims, pauseOf } from "./claims.ts";
import { ConsumedPartition } from "./consumed_partition.ts";
import { HomeRates } from "./home_rates.ts";
import { Lane } from "./lane.ts";
import { mergeHealth, splitOptions, within } from "./partitions.ts";
import { gatherStats } from "./stats.ts";

/** Longest wait for a rate's home to note a change, ms. */
const changeMaxMs = 250;
/** How often an acceptance is noted in the other partitions, at most, ms. */
const noteEveryMs = 1000;

export class PartitionedConsumer implements Consumer {
  readonly compatible: Promise<void>;
  readonly #partitions: readonly ConsumedPartition[];
  readonly #claims: PartitionedClaims;
  readonly #rates: HomeRates;
  readonly #callbacks: (() => void)[] = [];
  /** By provider and credential: when an acceptance was last noted in the other partitions, by `performance.now()`. */
  readonly #notedAtMs = new Map<string, number>();

  constructor(options: RedisConsumerOptions) {
    this.#partitions = splitOptions(options).map((one, number, { length }) => {
      const partition = new ConsumedPartition(new RedisConsumer(one), () => new Lane(number, length));
      partition.consumer.onWake(() => {
        partition.markChanged();
        this.#wake();
      });
      return partition;
    });
    this.#claims = new PartitionedClaims(this.#partitions, () => this.#wake());
    this.#rates = new HomeRates(this.#partitions.map(({ consumer }) => consumer));
    this.compatible = Promise.race(this.#partitions.map(({ consumer }) => consumer.compatible));
  }

  async claim(request: ClaimRequest) {
    const { claimant, leaseMs, sources, shared, dueCountMax } = request;
    const search = [claimant, ...sources.toSorted(), shared].join(" ");
    const result = await this.#claims.claim({
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
    return this.#claims.claim({
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
    const change = () => within(this.#rates.change(key, rate), changeMaxMs);
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
    return this.#claims.isPaused;
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

  /** Writes a pause, or its end, to partitions that were not reached when it was made. */
  async #spreadPause(consumers: readonly RedisConsumer[]): Promise<void> {
    const newest = pauseOf(this.#partitions);
    if (newest === undefined) return;
    const lagging = consumers.filter(
      ({ pause }) =>
        pause !== undefined && (pause.pauseVersion !== newest.pauseVersion || pause.paused !== newest.paused),
    );
    // The next sweep tries again.
    await Promise.allSettled(lagging.map((one) => one.setPause(newest)));
  }
}
