// The admin interface of the embedded queue. Nothing here creates a queue, or brings an older file up to date.

import { type Admin, type DeleteAnswer, knownMinMs, StoreUnavailable } from "../contract.ts";
import { piecesOf } from "../file_pieces.ts";
import type { SqliteConnection } from "./connection.ts";
import { dropPieces, putPiece, readFiles } from "./files.ts";
import { listKeys, rememberKeys } from "./keys.ts";
import { listEmails, showEmail } from "./list.ts";
import { anyProvider, deadList, hiddenColumns, hiddenPlaceFor, noBatch, plainColumns } from "./lists.ts";
import { adopt, isMoving, moved, setMoving, wasMoved, withdraw } from "./move.ts";
import { count, type Leaving, release, retire } from "./settle.ts";
import { readStats } from "./stats.ts";
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
    readFiles: (id) => readFiles(store, id),
    async stats() {
      const stats = await store.transact((db) => readStats(db, store.roomBytes()));
      lastStats = { nowMs: stats.nowMs, monotonicMs: store.monotonicMs() };
      return stats;
    },
    list: (state, limit, from, order = "oldest") =>
      store.transact((db) => listEmails(db, state, { limit, from, order })),
    retry: (emails, counts) => writeAndWake((db) => retry(db, emails, counts)),
    withdraw: (emails) => store.write((db) => withdraw(db, emails)),
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
    async adopt(letters) {
      for (const { id, contents } of letters) {
        const pieces = [...piecesOf(contents === undefined ? [] : [contents])];
        for (const [number, piece] of pieces.entries())
          await addWithRoom(piece.length, (db) => putPiece(db, id, number, piece));
      }
      const bytes = letters.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0);
      return addWithRoom(bytes, (db) =>
        letters.map((letter) => {
          const answer = adopt(db, letter);
          dropPieces(db, letter.id);
          return answer;
        }),
      );
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
  const { atMs } = db.now;
  const retried = emails.filter(({ id, seenHistory, history, sendAtMs = 0 }) => {
    const [list, dueAtMs] = hiddenPlaceFor(sendAtMs, atMs);
    return (
      db.run`UPDATE places
        SET died_at = NULL, due_at = ${atMs}, provider = ${anyProvider}, history = ${history}
        WHERE id = ${id} AND died_at IS NOT NULL AND history = ${seenHistory}` === 1 ||
      db.run`UPDATE places SET hidden_list = ${list}, hidden_at = ${dueAtMs}, history = ${history}
        WHERE id = ${id} AND hidden_list = ${deadList} AND history = ${seenHistory}` === 1
    );
  });
  count(db, counts, retried.length);
  return retried.map(({ id }) => id);
}

/** @param seenHistory if only the dead letter that was seen with it is meant */
function remove(
  db: SqliteConnection,
  { id, remains }: Pick<Leaving, "id" | "remains">,
  seenHistory: string | undefined,
  retainMs: number,
): DeleteAnswer {
  const place = db.get<{ batch: string | null; isDead: number; history: string }>`
    SELECT nullif(batch, ${noBatch}) AS batch, died_at IS NOT NULL OR hidden_list IS ${deadList} AS isDead, history
    FROM places WHERE id = ${id}`;
  if (place === undefined) return remains === moved && wasMoved(db, id) ? "deleted" : "unknown";
  const isSeen = place.isDead === 1 && place.history === seenHistory;
  if (seenHistory !== undefined && !isSeen) return "changed";
  if (place.batch !== null) return "in-batch";
  retire(db, [{ id, remains }], retainMs);
  return "deleted";
}

/** Walks the emails in the order of an index, so that each that stays is passed once: first the plain, then the hidden. */
function clear(
  db: SqliteConnection,
  { limit, submittedTillMs, from }: { limit: number; submittedTillMs: number; from: string | undefined },
  retainMs: number,
): Awaited<ReturnType<Admin["clear"]>> {
  const [walk = "plain", ...given] = from?.split(" ") ?? [];
  const walks = { plain: plainColumns, hidden: hiddenColumns };
  let position = given;
  let left = limit;
  let deleted = 0;
  for (const [name, columns] of Object.entries(walks)) {
    if (name === "plain" && walk === "hidden") continue;
    const passed = walkEmails(db, columns, position, left);
    const submitted = passed.filter(({ submittedAtMs }) => submittedAtMs <= submittedTillMs);
    retire(
      db,
      submitted.map(({ id }) => ({ id })),
      retainMs,
    );
    deleted += submitted.length;
    const last = passed.length < left ? undefined : passed.at(-1);
    if (last !== undefined) return { deleted, next: `${name} ${last.atMs} ${last.id} ${last.list}` };
    left -= passed.length;
    position = [];
  }
  return { deleted, next: undefined };
}

/** The next emails that wait, by the index of these columns. */
function walkEmails(
  db: SqliteConnection,
  { list, at }: typeof plainColumns | typeof hiddenColumns,
  [atMs = "-1", after = "", from = anyProvider]: readonly string[],
  limit: number,
) {
  return db.all<{ list: string; atMs: number; id: string; submittedAtMs: number }>(
    `SELECT places.${list} AS list, places.${at} AS atMs, places.id, submitted_at AS submittedAtMs
    FROM places CROSS JOIN emails ON emails.id = places.id
    WHERE ${at} IS NOT NULL AND ${list} <> ? AND (${list}, ${at}, places.id) > (?, ?, ?)
    ORDER BY ${list}, ${at}, places.id LIMIT ?`,
    deadList,
    from,
    Number(atMs),
    after,
    limit,
  );
}
