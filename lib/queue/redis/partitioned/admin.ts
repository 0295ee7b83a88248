// The admin interface over several partitions. What one partition holds is asked of that one; everything else is asked of
// all, and done where they answer. The others are named.

import type {
  Admin,
  DeadLetter,
  Health,
  Page,
  PartialAnswer,
  SeenEmail,
  Settlement,
  StoredBatch,
  StoredEmail,
  StoredKey,
} from "../../contract.ts";
import { PartitionUnreached, QueueMissing, StoreUnavailable } from "../../contract.ts";
import { type CheckOptions, checkRedis, RedisAdmin, type RedisAdminOptions } from "../admin.ts";
import { FormatMismatch } from "../queue_format.ts";
import { partitionOf } from "../partition.ts";
import { mergeStrictly, splitOptions, within } from "./partitions.ts";
import { mergeStats, newestPause, reasonOf, unreachedOf } from "./stats.ts";

/** Once one partition has answered, the others are waited for so long, ms. */
const openPatienceMs = 1000;

/** Statistics whose times {@link PartitionedAdmin.clear} still understands. */
const clocksMax = 100;

/** How many partitions must answer: otherwise a question rejects. */
type Needs = "all" | "any" | "none";

/** Where the next page begins in each partition, "" at its beginning. Those that are finished are left out. */
type Cursors = Map<number, string>;

/**
 * Resolves when partitions can be asked, though perhaps not all. Rejects with {@link StoreUnavailable} if none can, or if
 * the queue has another number of partitions, and with {@link QueueMissing} if there is no queue.
 */
export async function openPartitionedAdmin(options: RedisAdminOptions): Promise<Admin> {
  const partitions = splitOptions(options).map((one) => new RedisAdmin(one));
  try {
    await open(partitions);
  } catch (error) {
    for (const one of partitions) await one.close();
    throw error;
  }
  return new PartitionedAdmin(partitions);
}

async function open(partitions: readonly RedisAdmin[]): Promise<void> {
  const errors: unknown[] = [];
  const opened = partitions.map((one) =>
    one.open().catch((error: unknown) => {
      errors.push(error);
      throw error;
    }),
  );
  const isAnyOpen = await Promise.any(opened).then(
    () => true,
    () => false,
  );
  if (isAnyOpen) await within(Promise.allSettled(opened), openPatienceMs);
  const mismatch = errors.find((error) => error instanceof FormatMismatch);
  if (mismatch !== undefined) throw mismatch;
  if (!isAnyOpen) throw errors.find((error) => !(error instanceof QueueMissing)) ?? errors[0];
}

export async function checkPartitions(options: CheckOptions): Promise<Health> {
  const each = splitOptions(options);
  return mergeStrictly(await Promise.all(each.map((one) => checkRedis(one))));
}

class PartitionedAdmin implements Admin {
  readonly #partitions: readonly RedisAdmin[];
  /** By the time in statistics: the time of each partition's own clock at that moment. */
  readonly #clocks = new Map<number, ReadonlyMap<number, number>>();

  constructor(partitions: readonly RedisAdmin[]) {
    this.#partitions = partitions;
  }

  readFiles(id: string) {
    return this.#askOne(id, (admin) => admin.readFiles(id));
  }

  show(id: string) {
    return this.#askOne(id, (admin) => admin.show(id));
  }

  async stats() {
    const { reached, missed } = await this.#ask("any", (admin) => admin.stats());
    const stats = mergeStats(reached.map(({ value }) => value));
    this.#clocks.set(stats.nowMs, new Map(reached.map(({ number, value }) => [number, value.nowMs])));
    const [oldest] = this.#clocks.keys();
    if (this.#clocks.size > clocksMax) this.#clocks.delete(oldest!);
    return { ...stats, ...missed };
  }

  /** Each partition gives its part of a page, so that none is listed twice; they are merged by time. */
  async list(...[state, limit, from, order = "oldest"]: Parameters<Admin["list"]>): Promise<Page> {
    const cursors = this.#cursorsAt(from);
    const share = Math.max(1, Math.floor(limit / cursors.size));
    const { reached, missed } = await this.#ask(
      "any",
      (admin, number) => admin.list(state, share, cursors.get(number), order),
      [...cursors.keys()],
    );
    const sign = order === "oldest" ? 1 : -1;
    const parts = reached.toSorted((a, b) => sign * compare(a.value.emails[0], b.value.emails[0]));
    // With a limit below the number of partitions, some are left for the next page.
    const used = parts.slice(0, Math.max(1, Math.floor(limit / share)));
    const emails = used.flatMap(({ value }) => value.emails).toSorted((a, b) => sign * compare(a, b));
    return { emails, next: advance(cursors, { reached: used, missed }), ...missed };
  }

  async retry(...[emails, counts]: Parameters<Admin["retry"]>) {
    const each = await this.#askEach("none", emails, idOf, (admin, some) => admin.retry(some, counts));
    return each.flatMap(({ value }) => value);
  }

  async withdraw(emails: readonly SeenEmail[]) {
    const each = await this.#askEach("none", emails, idOf, (admin, some) => admin.withdraw(some));
    return each.flatMap(({ value }) => value);
  }

  release(batch: StoredBatch, settlement: Settlement) {
    return this.#askOne(batch.id, (admin) => admin.release(batch, settlement));
  }

  async delete(ids: readonly string[], seenHistories?: readonly string[], isMoved?: boolean) {
    const asked = ids.map((id, i) => ({ id, history: seenHistories?.[i] ?? "" }));
    const each = await this.#askEach("none", asked, idOf, (admin, some) => {
      const histories = seenHistories && some.map(({ history }) => history);
      return admin.delete(some.map(idOf), histories, isMoved);
    });
    const answers = answersIn(each);
    return asked.map((one) => answers.get(one) ?? "unreached");
  }

  async clear(limit: number, submittedTillMs: number, from?: string) {
    const clocks = this.#clocks.get(submittedTillMs);
    const { values, ...rest } = await this.#askForPages("any", limit, from, (admin, share, cursor, number) =>
      admin.clear(share, clocks?.get(number) ?? submittedTillMs, cursor),
    );
    return { deleted: values.reduce((sum, { deleted }) => sum + deleted, 0), ...rest };
  }

  /** The newest version holds everywhere: workers write it to a partition that is not reached now. */
  async setPaused(paused: boolean) {
    const { reached } = await this.#ask("any", (admin) => admin.stats());
    const stats = reached.map(({ value }) => value);
    const newest = newestPause(stats);
    // A time, so that it is newer than that of an unknown pause in a partition that is not reached.
    const next = Math.max(newest.pauseVersion + 1, ...stats.map(({ nowMs }) => nowMs));
    const version = newest.paused === paused && newest.pauseVersion > 0 ? newest.pauseVersion : next;
    return (await this.#ask("any", (admin) => admin.setPaused(paused, version))).missed;
  }

  async setMoving(moving: boolean) {
    await this.#ask("all", (admin) => admin.setMoving(moving));
  }

  async listKeys(limit: number, from?: string, lifeMinMs?: number) {
    const { values, next } = await this.#askForPages("all", limit, from, (admin, share, cursor) =>
      admin.listKeys(share, cursor, lifeMinMs),
    );
    return { keys: values.flatMap(({ keys }) => keys), next };
  }

  async rememberKeys(keys: readonly StoredKey[]) {
    const keyOf = ({ key }: StoredKey) => key;
    const each = await this.#askEach("all", keys, keyOf, (admin, some) => admin.rememberKeys(some));
    const sum = (field: "added" | "conflicts") => each.reduce((all, { value }) => all + value[field], 0);
    return { added: sum("added"), conflicts: sum("conflicts") };
  }

  async adopt(letters: readonly DeadLetter[]) {
    const answers = answersIn(await this.#askEach("all", letters, idOf, (admin, some) => admin.adopt(some)));
    return letters.map((letter) => answers.get(letter)!);
  }

  async health() {
    return mergeStrictly(await Promise.all(this.#partitions.map((one) => one.health())));
  }

  async close() {
    await Promise.all(this.#partitions.map((one) => one.close()));
  }

  async #askOne<Answer>(id: string, ask: (admin: RedisAdmin) => Promise<Answer>): Promise<Answer> {
    const number = partitionOf(id, this.#partitions.length);
    try {
      return await ask(this.#partitions[number]!);
    } catch (error) {
      throw new PartitionUnreached(`partition ${number}: ${reasonOf(error)}`);
    }
  }

  /** @param numbers of the partitions to ask; default: all */
  async #ask<Answer>(
    needs: Needs,
    ask: (admin: RedisAdmin, number: number) => Promise<Answer>,
    numbers: readonly number[] = [...this.#partitions.keys()],
  ) {
    const answers = await Promise.allSettled(numbers.map((number) => ask(this.#partitions[number]!, number)));
    const reached = answers.flatMap((answer, i) =>
      answer.status === "fulfilled" ? [{ number: numbers[i]!, value: answer.value }] : [],
    );
    const missed = unreachedOf(answers, numbers);
    const [first] = missed.unreached ?? [];
    if (first !== undefined && needs === "all")
      throw new StoreUnavailable(`partition ${first.partition}: ${first.reason}`);
    if (reached.length === 0 && needs === "any")
      throw new StoreUnavailable(first?.reason ?? "no partition answers");
    return { reached, missed };
  }

  /** Asks each partition about those that belong to it. */
  async #askEach<One, Answer>(
    needs: Needs,
    all: readonly One[],
    nameOf: (one: One) => string,
    ask: (admin: RedisAdmin, some: readonly One[]) => Promise<Answer>,
  ) {
    const byPartition = Map.groupBy(all, (one) => partitionOf(nameOf(one), this.#partitions.length));
    const numbers = [...byPartition.keys()];
    const { reached } = await this.#ask(
      needs,
      (admin, number) => ask(admin, byPartition.get(number)!),
      numbers,
    );
    return reached.map(({ number, value }) => ({ some: byPartition.get(number)!, value }));
  }

  /** Asks for the next pages of all partitions, or of as many as the limit, which they share. */
  async #askForPages<Answer extends { readonly next: string | undefined }>(
    needs: Needs,
    limit: number,
    from: string | undefined,
    ask: (admin: RedisAdmin, share: number, cursor: string, number: number) => Promise<Answer>,
  ) {
    const cursors = this.#cursorsAt(from);
    const numbers = [...cursors.keys()].slice(0, limit);
    const share = Math.floor(limit / numbers.length);
    const pages = await this.#ask(
      needs,
      (admin, number) => ask(admin, share, cursors.get(number)!, number),
      numbers,
    );
    return {
      values: pages.reached.map(({ value }) => value),
      next: advance(cursors, pages),
      ...pages.missed,
    };
  }

  #cursorsAt(from: string | undefined): Cursors {
    if (from === undefined) return new Map(this.#partitions.map((_, number) => [number, ""]));
    return new Map(JSON.parse(from) as [number, string][]);
  }
}

interface Pages {
  readonly reached: readonly {
    readonly number: number;
    readonly value: { readonly next: string | undefined };
  }[];
  readonly missed: PartialAnswer;
}

/** Where the pages after these begin, as an opaque text. A partition that was not reached is left out from now on. */
function advance(cursors: Cursors, { reached, missed }: Pages): string | undefined {
  for (const { partition } of missed.unreached ?? []) cursors.delete(partition);
  for (const { number, value } of reached) {
    if (value.next === undefined) cursors.delete(number);
    else cursors.set(number, value.next);
  }
  return cursors.size === 0 ? undefined : JSON.stringify([...cursors]);
}

const idOf = ({ id }: { readonly id: string }) => id;

/** By what was asked about: its answer. */
function answersIn<One, Answer>(
  each: readonly { readonly some: readonly One[]; readonly value: readonly Answer[] }[],
): Map<One, Answer> {
  return new Map(each.flatMap(({ some, value }) => some.map((one, i) => [one, value[i]!] as const)));
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
