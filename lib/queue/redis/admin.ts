// The admin interface on Redis: what an operator asks of the queue.

import { idempotencyMs, knownMinMs, QueueMissing, StoreUnavailable } from "../contract.ts";
import type {
  Admin,
  AdoptAnswer,
  DeadLetter,
  DeleteAnswer,
  Health,
  KeyPage,
  SeenEmail,
  Settlement,
  StoredBatch,
  StoredEmail,
  StoredKey,
} from "../contract.ts";
import { countPieces, piecesKeptMs, piecesOf } from "../file_pieces.ts";
import { readSettled, decodeStats, writeSettlement } from "./batch_codec.ts";
import { RedisConnection, type RedisStoreOptions, type ScriptArgument } from "./connection.ts";
import { redisErrorText, shortfallText } from "./error_text.ts";
import { readFiles } from "./pieces.ts";
import { FormatMismatch, foreignFormat } from "./queue_format.ts";
import { type Script, scripts } from "./scripts.ts";
import { StoreWatch } from "./store_watch.ts";

export type CheckOptions = Omit<RedisStoreOptions, "onFatal">;

export interface RedisAdminOptions extends CheckOptions {
  /** How long the id of a deleted email stays known, ms. */
  readonly retainMs: number;
}

/** Longest wait for the store to answer at all, ms. */
const openTimeoutMs = 5000;
/** Longest transfer of a whole answer, ms: it holds up to 4 MiB and one email. */
const answerTimeoutMs = 30_000;
const replicaTimeoutMs = 1000;
const noBytes = new Uint8Array();
/** Longest wait for the store to become ready, and between two looks at it, ms. */
const healthTimeoutMs = 1000;
const healthPauseMs = 10;

/**
 * Resolves when the store can be asked; rejects with {@link StoreUnavailable} if it cannot, and with
 * {@link QueueMissing} if no queue has this prefix.
 */
export async function openRedisAdmin(options: RedisAdminOptions): Promise<Admin> {
  const admin = new RedisAdmin(options);
  try {
    await admin.open();
  } catch (error) {
    await admin.close();
    throw error;
  }
  return admin;
}

export class RedisAdmin implements Admin {
  readonly #connection: RedisConnection;
  readonly #options: CheckOptions;
  readonly #retainMs: number;

  constructor(options: RedisAdminOptions) {
    this.#connection = new RedisConnection(options, "operator", answerTimeoutMs);
    this.#options = options;
    this.#retainMs = Math.max(options.retainMs, knownMinMs);
  }

  async open(): Promise<void> {
    await reach(this.#connection);
    await this.stats();
  }

  readFiles(id: string) {
    return this.#judge(readFiles(this.#connection, id));
  }

  async show(id: string) {
    const [, email] = await this.#ask<string[]>(scripts.list, "id", id);
    return email === undefined ? undefined : (JSON.parse(email) as StoredEmail);
  }

  async stats() {
    return decodeStats(await this.#ask(scripts.stats));
  }

  async list(...[state, limit, from = "", order = "oldest"]: Parameters<Admin["list"]>) {
    const [next = "", ...emails] = await this.#ask<string[]>(scripts.list, state, limit, order, from);
    return { emails: emails.map((json) => JSON.parse(json) as StoredEmail), next: next || undefined };
  }

  retry(...[emails, counts]: Parameters<Admin["retry"]>) {
    const args = emails.flatMap(({ sendAtMs = "", ...email }) => [...seen(email), sendAtMs]);
    return this.#askDurably<string[]>(scripts.retry, JSON.stringify(counts), ...args);
  }

  withdraw(emails: readonly SeenEmail[]) {
    return this.#askDurably<string[]>(scripts.withdraw, ...emails.flatMap(seen));
  }

  async release(batch: StoredBatch, settlement: Settlement) {
    // Only a lease that expired without a settlement leaves a batch held.
    const held = batch.leaseExpired ? "1" : "0";
    const args = writeSettlement({ ...batch, emails: [] }, settlement, this.#retainMs, held);
    const { leaseHeld } = readSettled(await this.#askDurably(scripts.settle, ...args));
    const { redis, tag } = this.#connection;
    // A hint: workers find due emails by themselves within a second.
    await redis.publish(`${tag}:wake`, "").catch(() => {});
    return leaseHeld;
  }

  delete(ids: readonly string[], seenHistories: readonly string[] = [], isMoved = false) {
    const args = [this.#retainMs, seenHistories.length, isMoved ? 1 : 0, ...seenHistories, ...ids];
    return this.#askDurably<DeleteAnswer[]>(scripts.delete, ...args);
  }

  async clear(limit: number, submittedTillMs: number, from = "") {
    const args = [this.#retainMs, limit, submittedTillMs, from];
    const [deleted, next] = await this.#askDurably<[number, string]>(scripts.clear, ...args);
    return { deleted, next: next || undefined };
  }

  /** @param version of several partitions; default: the next one */
  async setPaused(paused: boolean, version?: number) {
    await this.#askDurably(scripts.pause, paused ? 1 : 0, version ?? "");
    return {};
  }

  async setMoving(moving: boolean) {
    await this.#askDurably(scripts.move, moving ? 1 : 0);
  }

  async listKeys(limit: number, from = "", lifeMinMs = -Infinity) {
    const args = [limit, from, Math.max(Math.floor(lifeMinMs), Number.MIN_SAFE_INTEGER)];
    const reply = await this.#askDurably<[number, string, ...string[]]>(scripts.listKeys, ...args);
    return readKeys(reply);
  }

  async rememberKeys(keys: readonly StoredKey[]) {
    const args = [JSON.stringify(keys), idempotencyMs];
    const [added, conflicts] = await this.#askDurably<[number, number]>(scripts.rememberKeys, ...args);
    return { added, conflicts };
  }

  async adopt(letters: readonly DeadLetter[]) {
    const args: (string | number)[] = [];
    for (const { id, submittedAtMs, diedAtMs, history, text, isHidden, contents = noBytes } of letters) {
      for (const [number, piece] of [...piecesOf([contents])].entries())
        await this.#ask(scripts.putPiece, id, number, piecesKeptMs, piece);
      args.push(id, submittedAtMs, diedAtMs, history, text, isHidden ? 1 : 0);
      args.push(countPieces(contents.length), contents.length);
    }
    return this.#askDurably<AdoptAnswer[]>(scripts.adopt, ...args);
  }

  health() {
    return judgeStore(this.#connection, this.#options);
  }

  async close() {
    this.#connection.close();
  }

  async #ask<Reply>(script: Script, ...args: ScriptArgument[]): Promise<Reply> {
    return (await this.#run(script, args, 0)).reply as Reply;
  }

  /** As a submission: rejects unless enough replicas hold what the script has written. It may be repeated. */
  async #askDurably<Reply>(script: Script, ...args: ScriptArgument[]): Promise<Reply> {
    const { minReplicas } = this.#options;
    const { reply, replicas } = await this.#run(script, args, minReplicas);
    if (replicas >= minReplicas) return reply as Reply;
    throw new StoreUnavailable(shortfallText(replicas, minReplicas));
  }

  #run(script: Script, args: readonly ScriptArgument[], replicas: number) {
    return this.#judge(this.#connection.run(script, args, replicas, replicaTimeoutMs));
  }

  async #judge<Reply>(asked: Promise<Reply>): Promise<Reply> {
    try {
      return await asked;
    } catch (error) {
      if (redisErrorText(error).startsWith("NOQUEUE")) throw new QueueMissing("there is no queue");
      const foreign = foreignFormat(error, this.#connection.partitions);
      throw foreign === undefined ? new StoreUnavailable(redisErrorText(error)) : new FormatMismatch(foreign);
    }
  }
}

const seen = ({ id, seenHistory, history }: SeenEmail) => [id, seenHistory, history];

/** Reads the reply of list_keys.lua. */
function readKeys([nowMs, next, ...rest]: readonly [number, string, ...string[]]): KeyPage {
  const keys: StoredKey[] = [];
  for (let i = 0; i < rest.length; i += 2) {
    const words = rest[i + 1]!.split(" ");
    const uses: StoredKey["uses"][number][] = [];
    for (let j = 0; j + 3 < words.length; j += 4) {
      const [expiresAtMs, id = "", fingerprint = "", token] = words.slice(j, j + 4);
      const lifeMs = Number(expiresAtMs) - nowMs;
      uses.push({ id, fingerprint, token: token === "-" ? "" : token!, lifeMs });
    }
    keys.push({ key: rest[i]!, uses });
  }
  return { keys, next: next || undefined };
}

/** As {@link Admin.health}, for a Redis that may have no queue. */
export async function checkRedis(options: CheckOptions): Promise<Health> {
  const connection = new RedisConnection(options, "operator");
  try {
    await reach(connection);
    return await judgeStore(connection, options);
  } catch (error) {
    if (error instanceof StoreUnavailable) return { ok: false, reason: error.message };
    throw error;
  } finally {
    connection.close();
  }
}

/** As a server finds it, whose scripts it has to run. */
async function judgeStore(connection: RedisConnection, options: CheckOptions): Promise<Health> {
  const watched = { ...options, scripts: [scripts.submit], createsQueue: false, onFatal() {} };
  const watch = new StoreWatch(connection, watched);
  try {
    const endMs = performance.now() + healthTimeoutMs;
    while (watch.state.kind === "pending" && performance.now() < endMs) await Bun.sleep(healthPauseMs);
    const { state } = watch;
    if (state.kind !== "refused" || state.fixes.length === 0) return watch.health();
    return { ok: false, reason: `${state.reason} (fix: ${state.fixes.join("; ")})` };
  } finally {
    watch.stop();
  }
}

/** Whether waiting cannot help: `REDIS_URL` has the wrong form, user, password, database or name. */
const isFinal =
  /(^|: )((WRONGPASS|NOAUTH|NOPERM) |ERR (invalid )?DB index|ERR SELECT)|: use rediss?[+:]|knows no primary/;

async function reach(connection: RedisConnection): Promise<void> {
  const endMs = performance.now() + openTimeoutMs;
  while (connection.redis.status !== "ready") {
    const { trouble } = connection;
    if (isFinal.test(trouble)) throw new StoreUnavailable(trouble);
    if (performance.now() > endMs) {
      throw new StoreUnavailable(`not reached within ${openTimeoutMs} ms: ${trouble}`);
    }
    await Bun.sleep(healthPauseMs);
  }
}
