// The rates of providers in a queue of several partitions. Each rate lies in one partition, its home, since a script can
// use no other. While the home does not answer, each worker goes on alone, with its part of the rate that it knew last.

import { changeRate, newBucket, type RateBucket, sharedRate, takePermit } from "../../rate_bucket.ts";
import type { ClaimRequest, ClaimResult, PermitRequest, RateChange, SharedRate } from "../../contract.ts";
import { StoreUnavailable } from "../../contract.ts";
import type { RedisConsumer } from "../consumer.ts";
import { partitionOf } from "../partition.ts";

type RateKey = Omit<PermitRequest, "startPerSecond">;

/** A partition as far as rates are concerned. */
export type RateHome = Pick<RedisConsumer, "isConnected" | "workers" | "takePermit" | "changeRate">;

type ClaimedPartition = RateHome & Pick<RedisConsumer, "claim" | "look">;

type Permit = Awaited<ReturnType<RateHome["takePermit"]>>;

/** Pause between two questions to a home that does not answer, ms. */
const restMs = 1000;

/** Times are by the clock of this process. */
interface KnownRate {
  /** As the home said last. While this worker goes on alone, with the permits that it took and what it learned since. */
  bucket: RateBucket;
  isAlone: boolean;
  /** No question to the home before then, while this worker goes on alone. */
  restsUntilMs: number;
}

export class HomeRates {
  readonly #partitions: readonly RateHome[];
  readonly #known = new Map<string, KnownRate>();
  readonly #nowMs: () => number;

  /** @param nowMs the clock of this process, which never steps */
  constructor(partitions: readonly RateHome[], nowMs = () => performance.now()) {
    this.#partitions = partitions;
    this.#nowMs = nowMs;
  }

  homeOf({ provider, credential }: RateKey): RateHome {
    return this.#partitions[partitionOf(`${provider} ${credential}`, this.#partitions.length)]!;
  }

  /** Notes what the home has said about a rate. */
  hear(request: PermitRequest, { nextInMs, limitPerSecond, ...rate }: SharedRate): void {
    const nowMs = this.#nowMs();
    const known = this.#knownOf(request);
    known.isAlone = false;
    // When the next permit falls due is the home's to know, but a pause holds also if the home is gone.
    const times = { nextAtMs: nowMs, blockedFromMs: nowMs, blockedUntilMs: nowMs + nextInMs };
    known.bucket = { ...rate, limitPerSecond, ...times };
  }

  /**
   * Makes a claim in a partition. At home the claim takes the permit itself. Elsewhere the permit is taken first, and
   * before that the claim looks whether it would find something, since every worker polls every partition.
   * @param isDue emails are known to be due there
   */
  async claim(partition: ClaimedPartition, request: ClaimRequest, isDue: boolean): Promise<ClaimResult> {
    const { startPerSecond } = request;
    if (startPerSecond === undefined) return partition.claim(request);
    const asked = { ...request, startPerSecond };
    if (this.homeOf(request) === partition) {
      const result = await partition.claim(request);
      if ("rate" in result && result.rate !== undefined) this.hear(asked, result.rate);
      return result;
    }
    const found = isDue ? { kind: "due" as const } : await partition.look(request);
    if (found.kind !== "due") return this.addTo(found, request);
    const { isTaken, rate } = await this.take(asked);
    if (!isTaken) return { kind: "limited", rate };
    // If this is not answered, the permit counts as used.
    const result = await partition.claim({ ...request, startPerSecond: undefined });
    if (!("batch" in result)) await this.change(request, { kind: "unused" });
    return this.addTo(result, request);
  }

  /** Takes a permit at home, or of this worker's part. */
  async take(request: PermitRequest): Promise<Permit> {
    const home = this.homeOf(request);
    const known = this.#knownOf(request);
    if (known.isAlone) void this.#askAgain(request);
    else if (home.isConnected) {
      try {
        const permit = await home.takePermit(request);
        this.hear(request, permit.rate);
        return permit;
      } catch (error) {
        if (!(error instanceof StoreUnavailable)) throw error;
        known.restsUntilMs = this.#nowMs() + restMs;
      }
    }
    return this.#takeAlone(known);
  }

  /** Carries out a change at home, if that answers: what was learned is learned again, and a lost permit costs little. */
  async change(key: RateKey, change: RateChange): Promise<void> {
    const home = this.homeOf(key);
    const known = this.#known.get(nameOf(key));
    if (known !== undefined) {
      // The next permit of this worker's part falls due later than one of the whole rate could.
      const { nextAtMs } = known.bucket;
      known.bucket = { ...changeRate(known.bucket, change, this.#nowMs()), nextAtMs };
    }
    if (!home.isConnected || (known?.isAlone ?? false)) return;
    try {
      await home.changeRate(key, change);
    } catch (error) {
      if (!(error instanceof StoreUnavailable)) throw error;
    }
  }

  /** Adds the rate, as this worker knows it, to the result of a claim. */
  addTo(result: ClaimResult, key: RateKey): ClaimResult {
    const known = this.#known.get(nameOf(key));
    if (known === undefined || result.kind === "spent" || result.kind === "paused") return result;
    return { ...result, rate: sharedRate(known.bucket, this.#nowMs()) };
  }

  #takeAlone(known: KnownRate) {
    const nowMs = this.#nowMs();
    known.isAlone = true;
    const { bucket } = known;
    const workers = Math.max(1, ...this.#partitions.map((one) => one.workers));
    const part = { ...bucket, perSecond: bucket.perSecond / workers };
    const isTaken = sharedRate(part, nowMs).nextInMs === 0;
    const after = isTaken ? takePermit(part, nowMs) : part;
    known.bucket = { ...after, perSecond: bucket.perSecond };
    const { nextInMs } = sharedRate(after, nowMs);
    return { isTaken, rate: { ...sharedRate(known.bucket, nowMs), nextInMs } };
  }

  /** Nobody waits for the answer. The permit is not used. */
  async #askAgain(request: PermitRequest): Promise<void> {
    const home = this.homeOf(request);
    const known = this.#knownOf(request);
    if (!home.isConnected || this.#nowMs() < known.restsUntilMs) return;
    known.restsUntilMs = Infinity;
    try {
      const { isTaken, rate } = await home.takePermit(request);
      this.hear(request, rate);
      if (isTaken) await this.change(request, { kind: "unused" });
    } catch {
      // It is asked again later.
    }
    known.restsUntilMs = this.#nowMs() + restMs;
  }

  #knownOf(request: PermitRequest): KnownRate {
    const name = nameOf(request);
    const bucket = newBucket(request.startPerSecond);
    const known = this.#known.get(name) ?? { bucket, isAlone: false, restsUntilMs: -Infinity };
    this.#known.set(name, known);
    return known;
  }
}

const nameOf = ({ provider, credential }: RateKey) => `${provider} ${credential}`;
