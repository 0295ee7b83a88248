// The admin interface over several partitions. What one partition holds is asked of that one; everything else is asked of
// all, and done where they answer. The others are named.

import type {
  Admin,
  AdoptAnswer,
  DeadLetter,
  DeleteAnswer,
  Health,
  Page,
  Settlement,
  StoredBatch,
  StoredEmail,
  StoredKey,
} from "../../contract.ts";
import { PartitionUnreached, QueueMissing, StoreUnavailable } from "../../contract.ts";
import { type CheckOptions, checkRedis, RedisAdmin, type RedisAdminOptions } from "../admin.ts";
import { FormatMismatch } from "../queue_format.ts";
import { partitionOf } from "../partition.ts";
import { type Cursors, moveCursor, readCursors, writeCursors } from "./cursors.ts";
import { mergeStrictly, splitOptions, within } from "./partitions.ts";
import { mergeStats, newestPause, reasonOf, unreachedOf } from "./stats.ts";

/** Once one partition has answered, the others are waited for so long, ms. */
const openPatienceMs = 1000;

/** Statistics whose times {@link PartitionedAdmin.clear} still understands. */
const clocksMax = 100;

type PartitionAdmins = readonly RedisAdmin[];

/**
 * Resolves when partitions can be asked, though perhaps not all. Rejects with {@link StoreUnavailable} if none can, or if
 * the queue has another number of partitions, and with {@link QueueMissing} if there is no queue.
 */
export async function openPartitionedAdmin(options: RedisAdminOptions): Promise<Admin> {
  const partitions = splitOptions({ ...options, onFatal() {} }).map((one) => new RedisAdmin(one));
  try {
    await open(partitions);
  } catch (error) {
    for (const one of partitions) await one.close();
    throw error;
  }
  return new PartitionedAdmin(partitions);
}

async function open(partitions: PartitionAdmins): Promise<void> {
  const errors: unknown[] = [];
  const opened = partitions.map(async (one) => {
    await one.open().catch((error: unknown) => {
      errors.push(error);
      throw error;
    });
  });
  const isAnyOpen = await Promise.any(opened).then(
    () => true,
    () => false,
  );
  if (isAnyOpen) await within(Promise.allSettled(opened), openPatienceMs);
  const mismatch = errors.find((error) => error instanceof FormatMismatch);
  if (mismatch !== undefined) throw mismatch;
  if (!isAnyOpen) throw errors.find((error) => !(error instanceof QueueMissing)) ?? errors[0];
}

/** See `checkRedis`. */
export async function checkPartitions(options: CheckOptions): Promise<Health> {
  const each = splitOptions({ ...options, onFatal() {} });
  return mergeStrictly(await Promise.all(each.map((one) => checkRedis(one))));
}

class PartitionedAdmin implements Admin {
  readonly #partitions: PartitionAdmins;
  /** By the time in statistics: the time of each partition's own clock at that moment. */
  readonly #clocks = new Map<number, ReadonlyMap<number, number>>();

  constructor(partitions: PartitionAdmins) {
    this.#partitions = partitions;
  }

  show(id: string) {
    return this.#askOne(id, (admin) => admin.show(id));
  }

  async stats() {
    const { reached, missed } = await this.#askAll((admin) => admin.stats());
    const stats = mergeStats(reached.map(({ value }) => value));
    this.#clocks.set(stats.nowMs, new Map(reached.map(({ number, value }) => [number, value.nowMs])));
    const [oldest] = this.#clocks.keys();
    if (this.#clocks.size > clocksMax) this.#clocks.delete(oldest!);
    return { ...stats, ...missed };
  }

  /** Each partition gives its part of a page, so that none is listed twice; they are merged by time. */
  async list(...[state, limit, from, order = "oldest"]: Parameters<Admin["list"]>): Promise<Page> {
    const cursors = readCursors(from) ?? this.#beginnings();
    const numbers = [...cursors.keys()];
    const share = Math.max(1, Math.floor(limit / numbers.length));
    const { reached, missed } = await this.#askAll(
      (admin, number) => admin.list(state, share, cursors.get(number) || undefined, order),
      numbers,
    );
    const sign = order === "oldest" ? 1 : -1;
    const parts = reached.toSorted((a, b) => sign * compare(a.value.emails[0], b.value.emails[0]));
    // With a limit below the number of partitions, some are left for the next page.
    const used = parts.slice(0, Math.max(1, Math.floor(limit / share)));
    for (const { partition } of missed.unreached ?? []) cursors.delete(partition);
    for (const { number, value } of used) moveCursor(cursors, number, value.next);
    const emails = used.flatMap(({ value }) => value.emails).toSorted((a, b) => sign * compare(a, b));
    return { emails, next: writeCursors(cursors), ...missed };
  }

  async retry(...[emails, counts]: Parameters<Admin["retry"]>) {
    const { reached } = await this.#askEach(
      emails,
      ({ id }) => id,
      (admin, some) => admin.retry(some, counts),
    );
    return reached.flatMap(({ value }) => value);
  }

  release(batch: StoredBatch, settlement: Settlement) {
    return this.#askOne(batch.id, (admin) => admin.release(batch, settlement));
  }

  async delete(ids: readonly string[], seenHistories?: readonly string[], isMoved?: boolean) {
    const asked = ids.map((id, i) => ({ id, i, history: seenHistories?.[i] ?? "" }));
    const answers = ids.map((): DeleteAnswer => "unreached");
    const { reached } = await this.#askEach(
      asked,
      ({ id }) => id,
      async (admin, some) => {
        const histories = seenHistories === undefined ? undefined : some.map(({ history }) => history);
        const given = await admin.delete(
          some.map(({ id }) => id),
          histories,
          isMoved,
        );
        return some.map(({ i }, j) => [i, given[j]!] as const);
      },
    );
    for (const [i, answer] of reached.flatMap(({ value }) => value)) answers[i] = answer;
    return answers;
  }

  async clear(limit: number, submittedTillMs: number, from?: string) {
    const clocks = this.#clocks.get(submittedTillMs);
    const cursors = readCursors(from) ?? this.#beginnings();
    const numbers = [...cursors.keys()].slice(0, limit);
    const { reached, missed } = await this.#askAll(
      (admin, number) =>
        admin.clear(
          Math.floor(limit / numbers.length),
          clocks?.get(number) ?? submittedTillMs,
          cursors.get(number) || undefined,
        ),
      numbers,
    );
    for (const { partition } of missed.unreached ?? []) cursors.delete(partition);
    for (const { number, value } of reached) moveCursor(cursors, number, value.next);
    const deleted = reached.reduce((sum, { value }) => sum + value.deleted, 0);
    return { deleted, next: writeCursors(cursors), ...missed };
  }

  pause() {
    return this.#setPaused(true);
  }

  resume() {
    return this.#setPaused(false);
  }

  async beginMove() {
    await this.#askEvery((admin) => admin.beginMove());
  }

  async cancelMove() {
    await this.#askEvery((admin) => admin.cancelMove());
  }

  async listKeys(limit: number, from?: string, lifeMinMs?: number) {
    const cursors = readCursors(from) ?? this.#beginnings();
    const numbers = [...cursors.keys()].slice(0, limit);
    const share = Math.floor(limit / numbers.length);
    const pages = await this.#askEvery(
      (admin, number) => admin.listKeys(share, cursors.get(number) || undefined, lifeMinMs),
      numbers,
    );
    for (const { number, value } of pages) moveCursor(cursors, number, value.next);
    return { keys: pages.flatMap(({ value }) => value.keys), next: writeCursors(cursors) };
  }

  async rememberKeys(keys: readonly StoredKey[]) {
    const byPartition = this.#divide(keys, ({ key }) => key);
    const answers = await this.#askEvery(
      (admin, number) => admin.rememberKeys(byPartition.get(number)!),
      [...byPartition.keys()],
    );
    const sum = (field: "added" | "conflicts") => answers.reduce((all, { value }) => all + value[field], 0);
    return { added: sum("added"), conflicts: sum("conflicts") };
  }

  async adopt(letters: readonly DeadLetter[]) {
    const byPartition = this.#divide(letters, ({ id }) => id);
    const answers = await this.#askEvery(
      (admin, number) => admin.adopt(byPartition.get(number)!),
      [...byPartition.keys()],
    );
    const byId = new Map<string, AdoptAnswer>();
    for (const { number, value } of answers) {
      for (const [i, { id }] of byPartition.get(number)!.entries()) byId.set(id, value[i]!);
    }
    return letters.map(({ id }) => byId.get(id)!);
  }

  async health() {
    return mergeStrictly(await Promise.all(this.#partitions.map((one) => one.health())));
  }

  async close() {
    await Promise.all(this.#partitions.map((one) => one.close()));
  }

  /** The newest version holds everywhere: workers write it to a partition that is not reached now. */
  async #setPaused(paused: boolean) {
    const { reached } = await this.#askAll((admin) => admin.stats());
    const stats = reached.map(({ value }) => value);
    const newest = newestPause(stats);
    // A time, so that it is newer than that of an unknown pause in a partition that is not reached.
    const next = Math.max(newest.pauseVersion + 1, ...stats.map(({ nowMs }) => nowMs));
    const version = newest.paused === paused && newest.pauseVersion > 0 ? newest.pauseVersion : next;
    return (await this.#askAll((admin) => admin.setPause(paused, version))).missed;
  }

  async #askOne<Answer>(id: string, ask: (admin: RedisAdmin) => Promise<Answer>): Promise<Answer> {
    const number = partitionOf(id, this.#partitions.length);
    try {
      return await ask(this.#partitions[number]!);
    } catch (error) {
      throw new PartitionUnreached(`partition ${number}: ${reasonOf(error)}`);
    }
  }

  /**
   * Rejects if none answers, unless that is to be tolerated.
   * @param numbers of the partitions to ask; default: all
   */
  async #askAll<Answer>(
    ask: (admin: RedisAdmin, number: number) => Promise<Answer>,
    numbers: readonly number[] = [...this.#partitions.keys()],
    isTolerant = false,
  ) {
    const answers = await Promise.allSettled(numbers.map((number) => ask(this.#partitions[number]!, number)));
    const reached = answers.flatMap((answer, i) =>
      answer.status === "fulfilled" ? [{ number: numbers[i]!, value: answer.value }] : [],
    );
    const missed = unreachedOf(answers, numbers);
    if (reached.length === 0 && !isTolerant) {
      throw new StoreUnavailable(missed.unreached?.[0]?.reason ?? "no partition answers");
    }
    return { reached, missed };
  }

  #beginnings(): Cursors {
    return new Map(this.#partitions.map((_, number) => [number, ""]));
  }

  /** As {@link #askAll}, but rejects if one does not answer: a move is complete, or is repeated. */
  async #askEvery<Answer>(
    ask: (admin: RedisAdmin, number: number) => Promise<Answer>,
    numbers?: readonly number[],
  ) {
    const { reached, missed } = await this.#askAll(ask, numbers, true);
    const [first] = missed.unreached ?? [];
    if (first !== undefined) throw new StoreUnavailable(`partition ${first.partition}: ${first.reason}`);
    return reached;
  }

  #divide<One>(all: readonly One[], idOf: (one: One) => string): Map<number, One[]> {
    return Map.groupBy(all, (one) => partitionOf(idOf(one), this.#partitions.length));
  }

  /** Asks each partition about those that belong to it. */
  #askEach<One, Answer>(
    all: readonly One[],
    idOf: (one: One) => string,
    ask: (admin: RedisAdmin, some: readonly One[]) => Promise<Answer>,
  ) {
    const byPartition = this.#divide(all, idOf);
    return this.#askAll(
      (admin, number) => ask(admin, byPartition.get(number)!),
      [...byPartition.keys()],
      true,
    );
  }
}

/** The time by which an email is listed, or where the store does not say, its id, which begins with a time. */
function compare(a: StoredEmail | undefined, b: StoredEmail | undefined): number {
  if (a === undefined || b === undefined) return Number(a === undefined) - Number(b === undefined);
  const [x, y] = [timeOf(a), timeOf(b)];
  if (x !== undefined && y !== undefined && x !== y) return x - y;
  return a.id < b.id ? -1 : 1;
}

function timeOf({ state, atMs, batch }: StoredEmail): number | undefined {
  return atMs ?? (state === "in-doubt" ? (batch?.doubtSinceMs ?? batch?.dueAtMs) : batch?.dueAtMs);
}
