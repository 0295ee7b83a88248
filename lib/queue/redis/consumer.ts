// The consumer on Redis: claims, settlements, housekeeping and wake-ups.

import { ClockWatch } from "../clock_watch.ts";
import { idempotencyMs, knownMinMs, StoreUnavailable } from "../contract.ts";
import type {
  Batch,
  ClaimRequest,
  ClaimResult,
  Consumer,
  PermitRequest,
  RateChange,
  Settlement,
  SharedRate,
  WorkerPresence,
} from "../contract.ts";
import { readClaim, readSettled, decodeStats, writeSettlement } from "./batch_codec.ts";
import { commandTimeoutMs, RedisConnection, type RedisStoreOptions } from "./connection.ts";
import { redisErrorText } from "./error_text.ts";
import { readFiles } from "./pieces.ts";
import { foreignFormat } from "./queue_format.ts";
import { type Script, scripts } from "./scripts.ts";
import { StoreWatch } from "./store_watch.ts";

/** Longest transfer of a reply, ms: that of a claim holds up to 4 MiB. A silent Redis is noticed long before. */
const replyTimeoutMs = 30_000;
/** Errors that remain after a repetition: a bug, or a key of the store that is not ours. */
const hopeless = /^(ERR|WRONGTYPE) /;

export interface RedisConsumerOptions extends RedisStoreOptions {
  /** How long the record of a sent email is kept, ms. */
  readonly retainMs: number;
  /** Added to the monotonic clock, ms; for tests. */
  readonly monotonicOffsetMs?: () => number;
}

/** Whether claims are paused in a partition, and how often that has changed. */
export interface Pause {
  readonly paused: boolean;
  readonly pauseVersion: number;
}

export class RedisConsumer implements Consumer {
  readonly compatible: Promise<void>;
  readonly #options: RedisConsumerOptions;
  readonly #retainMs: number;
  // A WAIT delays everything behind it on its connection, and settlements need none.
  readonly #claims: RedisConnection;
  readonly #settlements: RedisConnection;
  readonly #wakes: RedisConnection;
  /** Created for the first file. */
  #files: RedisConnection | undefined;
  readonly #store: StoreWatch;
  readonly #monotonicMs: () => number;
  readonly #clock: ClockWatch;
  readonly #callbacks: (() => void)[] = [];
  #isPaused = false;
  #workers = 1;
  #pause: Pause | undefined;

  constructor(options: RedisConsumerOptions) {
    const { monotonicOffsetMs = () => 0 } = options;
    this.#options = options;
    this.#retainMs = Math.max(options.retainMs, knownMinMs);
    this.#claims = new RedisConnection(options, "claims", replyTimeoutMs);
    this.#settlements = new RedisConnection(options, "settlements");
    this.#wakes = new RedisConnection(options, "wakes");
    const { claim, permit, changeRate, settle, noteAcceptance, housekeeping, stats, pause, getPiece } =
      scripts;
    const ours = [claim, permit, changeRate, settle, noteAcceptance, housekeeping, stats, pause, getPiece];
    this.#store = new StoreWatch(this.#settlements, { ...options, scripts: ours, createsQueue: true });
    const claimsReady = new Promise<void>((resolve) => this.#claims.redis.once("ready", () => resolve()));
    this.compatible = Promise.all([this.#store.compatible, claimsReady]).then(() => {});
    this.#monotonicMs = () => performance.now() + monotonicOffsetMs();
    this.#clock = new ClockWatch(this.#monotonicMs);
    this.#listen();
  }

  readonly claim = (request: ClaimRequest) => this.#claim(request.leaseMs, request);

  claimEnded(request: Parameters<Consumer["claimEnded"]>[0]) {
    return this.#claim(request.leaseMs, { ...request, sources: ["ended"] });
  }

  /**
   * Whether a claim would lease something. Else its result, which may be a batch if it repeats one that was answered.
   * Takes no permit.
   */
  async look(request: ClaimRequest): Promise<ClaimResult | { kind: "due" }> {
    return this.#claim(request.leaseMs, { ...request, startPerSecond: undefined, only_looks: true });
  }

  /** For requests with a batch of another partition. */
  async changeRate(key: Omit<PermitRequest, "startPerSecond">, change: RateChange): Promise<void> {
    await this.#ask(this.#settlements, scripts.changeRate, [JSON.stringify({ ...change, ...key })]);
  }

  /** Workers that were alive at the last sweep, at least 1. */
  get workers(): number {
    return this.#workers;
  }

  async takePermit(request: PermitRequest) {
    const { reply } = await this.#ask(this.#settlements, scripts.permit, [JSON.stringify(request)]);
    return JSON.parse(String(reply)) as { readonly isTaken: boolean; readonly rate: SharedRate };
  }

  /** Uses a separate connection, so that claims and settlements do not wait for pieces. */
  async readFiles(id: string) {
    this.#files ??= new RedisConnection(this.#options, "files", replyTimeoutMs);
    const connection = this.#files;
    await connection.untilReady();
    return this.#judge(connection, readFiles(connection, id));
  }

  async settle(batch: Batch, settlement: Settlement) {
    const args = writeSettlement(batch, settlement, this.#retainMs);
    return readSettled((await this.#ask(this.#settlements, scripts.settle, args)).reply);
  }

  /** For an acceptance that was settled in another partition. */
  async noteAcceptance(provider: string, credential: string): Promise<void> {
    await this.#ask(this.#settlements, scripts.noteAcceptance, [`${provider} ${credential}`]);
  }

  async sweep(presence: WorkerPresence) {
    const look = await this.#sweep({});
    // A worker that knows how much time has passed records the step.
    if (look.step === "unknown") return;
    const limits = { retainMs: this.#retainMs, idempotencyMs };
    const text = presenceText(presence);
    const swept = await this.#sweep({ ...look, ...limits, worker: presence.worker, presence: text });
    this.#workers = Math.max(1, swept.workers ?? 1);
  }

  async stats() {
    return decodeStats((await this.#ask(this.#settlements, scripts.stats)).reply);
  }

  paused() {
    return this.#isPaused;
  }

  onWake(callback: () => void) {
    this.#callbacks.push(callback);
  }

  readonly health = () => this.#store.health();

  /** Whether claims and settlements can be made now. */
  get isConnected(): boolean {
    return [this.#claims, this.#settlements].every(({ redis }) => redis.status === "ready");
  }

  /** As last heard from this partition. */
  get pause(): Pause | undefined {
    return this.#pause;
  }

  /** Writes the state of the whole queue to this partition, which has an older one. */
  async setPause({ paused, pauseVersion }: Pause): Promise<void> {
    await this.#ask(this.#settlements, scripts.pause, [paused ? "1" : "0", String(pauseVersion)]);
    this.#pause = { paused, pauseVersion };
  }

  async close() {
    this.#store.stop();
    for (const connection of [this.#claims, this.#settlements, this.#wakes, this.#files]) connection?.close();
  }

  async #sweep(request: object) {
    const beganMs = this.#monotonicMs();
    const { reply } = await this.#ask(this.#settlements, scripts.housekeeping, [JSON.stringify(request)]);
    const { pause, ...clock } = JSON.parse(String(reply)) as SweepReply;
    this.#pause = pause;
    const moment = { beganMs, monotonicMs: beganMs, atMs: clock.nowMs };
    return { ...clock, step: this.#clock.look(clock.stampMs, moment) };
  }

  /**
   * Learns of a pause from a claim that it refused. One that is not refused says nothing: its answer may be from before a
   * pause that is known already, and would undo it everywhere.
   */
  #learnPause(pauseVersion: number): void {
    if (pauseVersion > (this.#pause?.pauseVersion ?? -1)) this.#pause = { paused: true, pauseVersion };
  }

  #listen(): void {
    const { redis, tag } = this.#wakes;
    const wake = () => {
      for (const callback of this.#callbacks) callback();
    };
    redis.on("ready", () => {
      redis.subscribe(`${tag}:wake`).then(wake, (error: unknown) => {
        // Without it, new emails are found by polling.
        this.#options.log.warn("wakeup-refused", { reason: redisErrorText(error) });
      });
    });
    redis.on("message", (_channel: string, message: string) => {
      // A pause or a resumption; anything else only wakes.
      const [, version, paused] = /^(\d+) ([01])$/.exec(message) ?? [];
      if (version !== undefined) this.#pause = { paused: paused === "1", pauseVersion: Number(version) };
      wake();
    });
    this.#settlements.redis.on("ready", wake);
  }

  async #ask(connection: RedisConnection, script: Script, args: string[] = [], replicas = 0) {
    return this.#judge(connection, connection.run(script, args, replicas, commandTimeoutMs / 2));
  }

  async #judge<Reply>(connection: RedisConnection, asked: Promise<Reply>): Promise<Reply> {
    try {
      return await asked;
    } catch (error) {
      const foreign = foreignFormat(error, connection.partitions);
      if (foreign !== undefined) this.#options.onFatal(foreign);
      const reason = foreign ?? redisErrorText(error);
      throw hopeless.test(reason) ? new Error(reason) : new StoreUnavailable(reason);
    }
  }

  async #claim(leaseMs: number, request: object): Promise<ClaimResult> {
    const { minReplicas } = this.#options;
    const sentAtMs = performance.now();
    const asked = await this.#ask(this.#claims, scripts.claim, [JSON.stringify(request)], minReplicas);
    const { result, pauseVersion } = readClaim(asked.reply);
    if (pauseVersion !== undefined) this.#learnPause(pauseVersion);
    if (result.kind !== "spent") this.#isPaused = result.kind === "paused";
    if (result.kind !== "batch" || asked.replicas >= minReplicas) return result;
    while (performance.now() - sentAtMs < leaseMs / 4) {
      const replicas = await this.#claims.redis.wait(minReplicas, commandTimeoutMs / 2).catch((error) => {
        throw new StoreUnavailable(redisErrorText(error));
      });
      if (replicas >= minReplicas) return result;
    }
    return { ...result, kind: "unreplicated" };
  }
}

interface SweepReply {
  readonly nowMs: number;
  readonly stampMs?: number;
  readonly workers?: number;
  readonly pause: Pause;
}

/** The text after the time in a worker's field of the key `workers`. */
function presenceText({ retryMaxMs, searchWaitMs, providers }: WorkerPresence): string {
  const served = Object.entries(providers).flatMap(([name, { credential, takesEmails }]) => [
    name,
    credential || "-",
    takesEmails ? 1 : 0,
  ]);
  return [retryMaxMs, searchWaitMs, ...served].join(" ");
}
