// The admin interface of the embedded queue. Nothing here creates a queue, or brings an older file up to date.

import { type Admin, type DeleteAnswer, knownMinMs, type QueueStats, StoreUnavailable } from "../contract.ts";
import { anyProvider, dueLists, isPaused } from "./claim.ts";
import { lastStep } from "./clock_steps.ts";
import type { SqliteConnection } from "./connection.ts";
import { listKeys, rememberKeys } from "./keys.ts";
import { listEmails, showEmail } from "./list.ts";
import { adopt, isMoving, moved, setMoving } from "./move.ts";
import { count, type Leaving, readConditions, release, retire } from "./settle.ts";
import { fullText, Store, type StoreOptions } from "./store.ts";
import { wake } from "./wakeup.ts";

export interface SqliteAdminOptions extends Omit<StoreOptions, "onFatal"> {
  /** How long the id of a deleted email stays known, ms. */
  readonly retainMs: number;
}

/** A clock that loses no more than this has not stepped, ms. */
const clockToleranceMs = 500;

/** Rejects with {@link StoreUnavailable} if the file cannot be opened, and with `QueueMissing` if there is none. */
export async function openSqliteAdmin(options: SqliteAdminOptions): Promise<Admin> {
  // Whatever makes the file unusable also fails the command that meets it.
  const store = new Store({ ...options, onFatal: () => {} });
  await store.open();
  const retainMs = Math.max(options.retainMs, knownMinMs);
  let lastStats: { readonly nowMs: number; readonly monotonicMs: number } | undefined;

  /** After a step back, what is submitted has the times of what was submitted before it. */
  function checkClock(submittedTillMs: number, nowMs: number): void {
    const passedMs = lastStats?.nowMs === submittedTillMs ? store.monotonicMs() - lastStats.monotonicMs : 0;
    if (nowMs < submittedTillMs + passedMs - clockToleranceMs || nowMs < submittedTillMs)
      throw new StoreUnavailable("clear: the store's clock has stepped back since");
  }

  /** Writes, and has workers look at once for what is due now. */
  async function writeAndWake<T>(body: Parameters<typeof store.write<T>>[0]): Promise<T> {
    const result = await store.write(body);
    wake(options.folder);
    return result;
  }

  /** Writes what makes the queue longer: the last of the disk is for delivery. */
  async function addWithRoom<T>(bytes: number, body: Parameters<typeof store.write<T>>[0]): Promise<T> {
    if (!store.hasRoomFor(bytes)) throw new StoreUnavailable(fullText);
    return store.write(body);
  }

  return {
    show: (id) => store.transact((db) => showEmail(db, id)),
    readFiles: async () => undefined,
    async stats() {
      const stats = await store.transact((db) => readStats(db, store.roomBytes()));
      lastStats = { nowMs: stats.nowMs, monotonicMs: store.monotonicMs() };
      return stats;
    },
    list: (state, limit, from, order = "oldest") =>
      store.transact((db) => listEmails(db, state, { limit, from, order })),
    retry: (emails, counts) => writeAndWake((db) => retry(db, emails, counts)),
    release: (batch, settlement) => writeAndWake((db) => release(db, batch, settlement, retainMs)),
    delete: (ids, seenHistories, isMoved) =>
      store.write((db) => {
        const remains = isMoved === true ? moved : undefined;
        return ids.map((id, i) => remove(db, { id, remains }, seenHistories?.[i], retainMs));
      }),
    clear: (limit, submittedTillMs, from) =>
      store.write((db) => {
        checkClock(submittedTillMs, db.now.atMs);
        return clear(db, { limit, submittedTillMs, from }, retainMs);
      }),
    async setPaused(paused) {
      await writeAndWake((db) =>
        paused
          ? db.run`INSERT INTO pauses (one, since) VALUES (1, ${db.now.atMs}) ON CONFLICT DO NOTHING`
          : db.run`DELETE FROM pauses`,
      );
      return {};
    },
    setMoving: (moving) => store.write((db) => setMoving(db, moving)),
    listKeys: (limit, from, lifeMinMs) => store.transact((db) => listKeys(db, limit, from, lifeMinMs)),
    rememberKeys: (keys) => addWithRoom(JSON.stringify(keys).length, (db) => rememberKeys(db, keys)),
    adopt: (letters) => {
      const bytes = letters.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0);
      return addWithRoom(bytes, (db) => letters.map((letter) => adopt(db, letter)));
    },
    health: async () => store.health(),
    async close() {
      store.close();
    },
  };
}

/** Skips emails that are not dead any more, or have died again since they were seen, and all during a move. */
function retry(
  db: SqliteConnection,
  emails: Parameters<Admin["retry"]>[0],
  counts: Readonly<Record<string, number>>,
): string[] {
  if (isMoving(db)) return [];
  const retried = emails.filter(
    ({ id, seenHistory, history }) =>
      db.run`UPDATE places
        SET died_at = NULL, due_at = ${db.now.atMs}, provider = ${anyProvider}, history = ${history}
        WHERE id = ${id} AND died_at IS NOT NULL AND history = ${seenHistory}` === 1,
  );
  count(db, counts, retried.length);
  return retried.map(({ id }) => id);
}

/** @param seenHistory if only the dead letter that was seen with it is meant */
function remove(
  db: SqliteConnection,
  leaving: Pick<Leaving, "id" | "remains">,
  seenHistory: string | undefined,
  retainMs: number,
): DeleteAnswer {
  const { id } = leaving;
  const place = db.get<{ batch: string | null; died_at: number | null; history: string }>`
    SELECT batch, died_at, history FROM places WHERE id = ${id}`;
  if (place === undefined) return "unknown";
  const isSeen = place.died_at !== null && place.history === seenHistory;
  if (seenHistory !== undefined && !isSeen) return "changed";
  if (place.batch !== null) return "in-batch";
  retire(db, [leaving], retainMs);
  return "deleted";
}

/** Walks the emails in the order of the index, so that each that stays is passed once. */
function clear(
  db: SqliteConnection,
  { limit, submittedTillMs, from }: { limit: number; submittedTillMs: number; from: string | undefined },
  retainMs: number,
): Awaited<ReturnType<Admin["clear"]>> {
  const [atMs = "", after = "", provider = anyProvider] = from?.split(" ") ?? ["-1"];
  const waiting = db.all<{ provider: string; due_at: number; id: string; submitted_at: number }>`
    SELECT places.provider, places.due_at, places.id, submitted_at
    FROM places CROSS JOIN emails ON emails.id = places.id
    WHERE due_at IS NOT NULL AND (provider, due_at, places.id) > (${provider}, ${Number(atMs)}, ${after})
    ORDER BY provider, due_at, places.id LIMIT ${limit}`;
  const submitted = waiting.filter(({ submitted_at }) => submitted_at <= submittedTillMs);
  retire(
    db,
    submitted.map(({ id }) => ({ id })),
    retainMs,
  );
  const last = waiting.length < limit ? undefined : waiting.at(-1);
  return { deleted: submitted.length, next: last && `${last.due_at} ${last.id} ${last.provider}` };
}

/** @param roomBytes what the disk can take besides; undefined if it does not say */
export function readStats(db: SqliteConnection, roomBytes: number | undefined): QueueStats {
  const { atMs } = db.now;
  const { placed, dead, sent } = db.get<Record<"placed" | "dead" | "sent", number>>`SELECT * FROM tally`!;
  const { batched, inDoubt } = db.get<Record<"batched" | "inDoubt", number>>`
    SELECT count(*) AS batched,
      count(*) FILTER (WHERE doubt_since IS NOT NULL OR held = 1 AND batches.due_at <= ${atMs}) AS inDoubt
    FROM batches CROSS JOIN places ON batch = batches.id`!;
  const oldest = db.get<Record<"dueAtMs" | "doubtSinceMs", number | null>>`
    SELECT min(due_at) AS dueAtMs,
      min(coalesce(doubt_since, iif(held = 1 AND due_at <= ${atMs}, due_at, NULL))) AS doubtSinceMs
    FROM batches`!;
  const lists = dueLists(db);
  const oldestDueAtMs = Math.min(oldest.dueAtMs ?? Infinity, ...lists.map((list) => list.firstDueAtMs));
  const due = placed - dead - batched;
  const retrying = countRetrying(db, due);
  const counters = db.all<{ name: string; count: number }>`SELECT name, count FROM counters`;
  const { size, pages, free } = db.get<Record<"size" | "pages" | "free", number>>`
    SELECT page_size AS size, page_count AS pages, freelist_count AS free
    FROM pragma_page_size, pragma_page_count, pragma_freelist_count`!;
  return {
    nowMs: atMs,
    states: {
      scheduled: 0,
      waiting: due - retrying,
      retrying,
      sending: batched - inDoubt,
      "in-doubt": inDoubt,
      dead,
      sent,
    },
    fileBytes: 0,
    counters: Object.fromEntries(counters.map(({ name, count: value }) => [name, value])),
    providers: readConditions(db),
    oldestDueAtMs: oldestDueAtMs <= atMs ? oldestDueAtMs : undefined,
    oldestDoubtSinceMs: oldest.doubtSinceMs ?? undefined,
    paused: isPaused(db),
    moving: isMoving(db),
    clockStep: lastStep(db),
    bytesUsed: (pages - free) * size,
    bytesMax: roomBytes === undefined ? undefined : pages * size + Math.max(0, roomBytes),
  };
}

/**
 * How many of the `due` emails that wait are due later. What is retrying becomes waiting without a write, so that no
 * tally tells them apart. To count a million rows takes 100 ms, in which this process does nothing else: the fewer of
 * the two are counted.
 */
function countRetrying(db: SqliteConnection, due: number): number {
  const countUpTo = (countMax: number, isLater: boolean) => {
    let sum = 0;
    for (const { name } of dueLists(db)) {
      const rows = db.get<{ count: number }>(
        `SELECT count(*) AS count FROM (SELECT 1 FROM places
           WHERE due_at IS NOT NULL AND provider = ? AND due_at ${isLater ? ">" : "<="} ? LIMIT ?)`,
        name,
        db.now.atMs,
        countMax - sum,
      );
      sum += rows?.count ?? 0;
    }
    return sum;
  };
  for (let countMax = 1000; ; countMax *= 8) {
    const later = countUpTo(countMax, true);
    if (later < countMax) return later;
    const now = countUpTo(countMax, false);
    if (now < countMax) return due - now;
  }
}
