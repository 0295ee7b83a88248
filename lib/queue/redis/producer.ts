// The producer on Redis: one script call for each group of a group commit. One call is in progress at a time: with two,
// groups are smaller, and everything is slower at 8, 32 and 128 connections.

import { type CommitResult, type Committed, GroupCommit, type GroupCommitOptions } from "../group_commit.ts";
import {
  idempotencyMs,
  movingText,
  type Producer,
  type ProducerWatcher,
  type Submission,
  type SubmitResult,
} from "../contract.ts";
import { countPieces, sizeOf } from "../file_pieces.ts";
import { PieceWriter } from "../piece_writer.ts";
import { decodeStats } from "./batch_codec.ts";
import { commandTimeoutMs, RedisConnection, silenceMs, type RedisStoreOptions } from "./connection.ts";
import { isFinalRefusal, redisErrorText, shortfallText } from "./error_text.ts";
import { RedisPieces } from "./pieces.ts";
import { foreignFormat } from "./queue_format.ts";
import { scripts } from "./scripts.ts";
import { StoreWatch } from "./store_watch.ts";

/** Most emails and text in one script call, during which Redis does nothing else. */
const emailsMax = 256;
const charsMax = 1024 * 1024;
/** A write larger than `charsMax` gets another second for so many bytes: any usable disk writes faster. */
const bytesPerSecond = 4 * 1024 * 1024;
/** Pause before a write that Redis refused for a while is repeated, ms. */
const againMs = 50;

/** Temporary refusals that a script meets before it has done anything, and that a WAIT after it never meets. */
const untouched = /^(NOQUEUE|TRYAGAIN|MOVED|ASK|CLUSTERDOWN)/;

export interface RedisProducerOptions
  extends RedisStoreOptions, ProducerWatcher, Pick<GroupCommitOptions, "handOver"> {
  /** Called whenever the store has become ready. */
  readonly onReady?: () => void;
}

export class RedisProducer implements Producer {
  readonly #options: RedisProducerOptions;
  readonly #connection: RedisConnection;
  readonly #store: StoreWatch;
  readonly #writer: GroupCommit;
  readonly #pieces: RedisPieces;
  readonly #pieceWriter: PieceWriter;

  constructor(options: RedisProducerOptions) {
    this.#options = options;
    this.#connection = new RedisConnection(options, "server");
    this.#pieces = new RedisPieces(options);
    this.#pieceWriter = new PieceWriter(this.#pieces, options.log);
    this.#writer = new GroupCommit({
      emailsMax,
      charsMax,
      againMs,
      readiness: () => this.#store.state,
      commit: (group) => this.#commit(group),
      handOver: (submission, deadlineMs) =>
        this.#pieceWriter.hasBegun(submission) ? undefined : options.handOver?.(submission, deadlineMs),
      onGroup: options.onGroup,
      log: options.log,
    });
    this.#store = new StoreWatch(this.#connection, {
      ...options,
      scripts: [scripts.submit, scripts.putPiece, scripts.dropPieces],
      createsQueue: true,
      onVerified: () => {
        this.#writer.flush();
        options.onReady?.();
      },
    });
    this.#connection.redis.on("close", this.#writer.flush);
  }

  submit(submission: Submission, deadlineMs: number): Promise<SubmitResult> {
    return this.#pieceWriter.submit(submission, deadlineMs, this.#writer.submit);
  }

  /** Whether the store will probably take a submission, with its files, immediately. */
  takes(submission: Submission, deadlineMs: number): boolean {
    const isBusy = this.#pieceWriter.isBusy(submission.files ?? [], deadlineMs);
    return !isBusy && this.#writer.takes(submission, deadlineMs);
  }

  /** Hands over what waits, if it can: call this when another partition becomes ready. */
  readonly flush = (): void => this.#writer.flush();

  async stats() {
    return decodeStats((await this.#connection.run(scripts.stats)).reply);
  }

  readonly health = () => this.#store.health();

  async close() {
    this.#store.stop();
    this.#writer.close();
    this.#pieceWriter.close();
    this.#pieces.close();
    this.#connection.close();
  }

  async #commit(group: readonly Submission[]): Promise<Committed> {
    const { minReplicas, filesMaxBytes = "" } = this.#options;
    const bytes = group.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0);
    const extraMs = Math.max(0, ((bytes - charsMax) / bytesPerSecond) * 1000);
    const waitMs = Math.round((commandTimeoutMs + extraMs) / 2);
    this.#extendTimeouts(extraMs);
    try {
      const keys = JSON.stringify(group.map(({ idempotency }) => idempotency ?? false));
      const args = [
        idempotencyMs,
        keys,
        describeHidden(group),
        filesMaxBytes,
        ...group.flatMap(({ id, text }) => [id, text]),
      ];
      const { reply, replicas } = await this.#connection.run(scripts.submit, args, minReplicas, waitMs);
      if (!Array.isArray(reply)) throw new Error("the reply belongs to another command");
      if (replicas >= minReplicas) return { kind: "done", results: readResults(group, reply) };
      return { kind: "again", reason: shortfallText(replicas, minReplicas) };
    } catch (error) {
      const foreign = foreignFormat(error, this.#connection.partitions);
      if (foreign !== undefined) {
        this.#options.onFatal(foreign);
        return { kind: "failed", reason: foreign };
      }
      const reason = redisErrorText(error);
      if (isFinalRefusal(reason)) return { kind: "failed", reason };
      return { kind: "again", reason, isUntouched: untouched.test(reason) };
    } finally {
      this.#extendTimeouts(0);
    }
  }

  /**
   * For this write, and for checks of durability that wait behind it on the same connection: ioredis reads its options
   * with every command.
   */
  #extendTimeouts(extraMs: number): void {
    const { options } = this.#connection.redis;
    options.commandTimeout = commandTimeoutMs + extraMs;
    options.socketTimeout = silenceMs + extraMs;
  }
}

/** The argument of submit.lua about hidden emails. */
function describeHidden(group: readonly Submission[]): string {
  const each = group.map(({ isHidden = false, sendAtMs, files }) => {
    if (files === undefined) return isHidden && { sendAtMs };
    const bytes = sizeOf(files);
    return { sendAtMs, pieces: countPieces(bytes), bytes };
  });
  return each.some((one) => one !== false) ? JSON.stringify(each) : "";
}

/** `reply` names the emails that were not simply queued: number, id or another answer of submit.lua, number, … */
function readResults(group: readonly Submission[], reply: readonly (string | number)[]) {
  const results = group.map(({ id }): CommitResult => ({
    kind: "stored",
    id,
    repeated: false,
  }));
  for (let i = 0; i < reply.length; i += 2) {
    results[Number(reply[i]) - 1] = readResult(String(reply[i + 1]));
  }
  return results;
}

function readResult(answer: string): CommitResult {
  if (answer === "") return { kind: "conflict" };
  if (answer === "full") return { kind: "filesFull" };
  if (answer === "missing") return { kind: "piecesMissing" };
  if (answer === "moving") return { kind: "failed", reason: movingText };
  return { kind: "stored", id: answer, repeated: true };
}
