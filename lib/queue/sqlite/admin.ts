// What an operator asks of the queue.

import { type Cleared, type DeleteAnswer, knownMinMs, type Admin } from "../contract.ts";
import { QueueMissing, StoreUnavailable } from "../contract.ts";
import { claimInDoubt } from "./claim.ts";
import type { SqliteConnection } from "./connection.ts";
import { retire } from "./retention.ts";
import { listEmails } from "./list.ts";
import { anyProvider } from "./due_lists.ts";
import { count, settle } from "./settle.ts";
import { showEmail } from "./show.ts";
import { readQueueStats } from "./stats.ts";
import { openStore, type StoreOptions } from "./transactions.ts";
import { openWaker } from "./wakeup.ts";

export interface SqliteAdminOptions extends Omit<StoreOptions, "onFatal" | "onMissing"> {
  /** How long the id of a deleted email stays known, ms. */
  readonly retainMs: number;
}

/** A clock that loses no more than this has not stepped, ms. */
const clockToleranceMs = 500;
/** Longest wait for the file while another process holds it, ms. */
const openTimeoutMs = 5000;

/**
 * Makes nothing, and brings no file up to date. Rejects with {@link StoreUnavailable} if the file cannot be opened, and
 * with {@link QueueMissing} without one.
 */
export async function openSqliteAdmin(options: SqliteAdminOptions): Promise<Admin> {
  const unusable = Promise.withResolvers<never>();
  const store = openStore({
    ...options,
    onFatal: (reason) => unusable.reject(new StoreUnavailable(reason)),
    onMissing: () => unusable.reject(new QueueMissing("there is no queue")),
  });
  let timer: Timer | undefined;
  const tooLate = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const state = store.readiness();
      reject(new StoreUnavailable(state.kind === "ready" ? "not opened" : state.reason));
    }, openTimeoutMs);
  });
  try {
    await Promise.race([store.opened, unusable.promise, tooLate]);
  } catch (error) {
    store.close();
    throw error;
  } finally {
    clearTimeout(timer);
  }
  const waker = openWaker(options.folder, "r+");
  const retainMs = Math.max(options.retainMs, knownMinMs);

  let lastLook: { readonly nowMs: number; readonly monotonicMs: number } | undefined;
  /** What is submitted after a step back has the times of what was submitted before it. */
  function checkClock(submittedTillMs: number, nowMs: number): void {
    const passedMs = lastLook?.nowMs === submittedTillMs ? store.monotonicMs() - lastLook.monotonicMs : 0;
    if (nowMs < submittedTillMs + passedMs - clockToleranceMs || nowMs < submittedTillMs)
      throw new StoreUnavailable("clear: the store's clock has stepped back since");
  }

  /** Workers look at once what there is for them now. */
  async function writeAndWake<T>(body: (db: SqliteConnection) => T): Promise<T> {
    const result = await store.writePatiently(body);
    waker.touch();
    return result;
  }

  return {
    show: (id) => store.read((db) => showEmail(db, id, store.nowMs())),
    async stats() {
      const numbers = await store.read((db) => readQueueStats(db, store.nowMs(), store.roomBytes()));
      lastLook = { nowMs: numbers.nowMs, monotonicMs: store.monotonicMs() };
      return numbers;
    },
    list: (state, limit, from, order = "oldest") =>
      store.read((db) => listEmails(db, state, { limit, from, order, atMs: store.nowMs() })),
    retry: (emails, counts) => writeAndWake((db) => replay(db, emails, counts, store.nowMs())),
    claimInDoubt: (request) => store.writePatiently((db) => claimInDoubt(db, request, store.nowMs())),
    settle: (batch, settlement) =>
      writeAndWake((db) => settle(db, batch, settlement, store.nowMs(), retainMs)),
    delete: (ids, seenHistories) =>
      store.writePatiently((db) =>
        ids.map((id, i) => remove(db, id, seenHistories?.[i], store.nowMs() + retainMs)),
      ),
    clear: (limit, submittedTillMs, from) =>
      store.writePatiently((db) => {
        const nowMs = store.nowMs();
        checkClock(submittedTillMs, nowMs);
        return clear(db, { limit, submittedTillMs, from }, nowMs + retainMs);
      }),
    pause: () =>
      store.writePatiently((db) => {
        db.run("INSERT INTO pauses (one, since) VALUES (1, ?) ON CONFLICT DO NOTHING", store.nowMs());
      }),
    resume: () =>
      writeAndWake((db) => {
        db.run("DELETE FROM pauses");
      }),
    health: async () => store.health(),
    async close() {
      waker.close();
      store.close();
    },
  };
}

/** What is not dead any more, or has died again since it was seen, is left alone. */
function replay(
  db: SqliteConnection,
  emails: Parameters<Admin["retry"]>[0],
  counts: Readonly<Record<string, number>>,
  atMs: number,
): string[] {
  const replayed: string[] = [];
  for (const { id, seenHistory, history } of emails) {
    const seen = db.get<{ history: string }>(
      "SELECT history FROM places WHERE id = ? AND died_at IS NOT NULL",
      id,
    );
    if (seen?.history !== seenHistory) continue;
    db.run(
      "UPDATE places SET died_at = NULL, due_at = ?, provider = ?, history = ? WHERE id = ?",
      atMs,
      anyProvider,
      history,
      id,
    );
    replayed.push(id);
  }
  if (replayed.length > 0) {
    for (const [name, by] of Object.entries(counts)) count(db, name, by * replayed.length);
  }
  return replayed;
}

/** @param seenHistory if it is meant only as the dead letter that it was seen as */
function remove(
  db: SqliteConnection,
  id: string,
  seenHistory: string | undefined,
  expiresAtMs: number,
): DeleteAnswer {
  const place = db.get<{ batch: string | null; died_at: number | null; history: string }>(
    "SELECT batch, died_at, history FROM places WHERE id = ?",
    id,
  );
  if (place === undefined) return "unknown";
  const isMeant = seenHistory === undefined || (place.died_at !== null && place.history === seenHistory);
  if (!isMeant) return "changed";
  if (place.batch !== null) return "in-batch";
  retire(db, id, undefined, expiresAtMs);
  return "deleted";
}

interface Waiting {
  readonly provider: string;
  readonly due_at: number;
  readonly id: string;
  readonly submitted_at: number;
}

/** In the order of the index, so that what stays is passed once. */
function clear(
  db: SqliteConnection,
  { limit, submittedTillMs, from }: { limit: number; submittedTillMs: number; from: string | undefined },
  expiresAtMs: number,
): Cleared {
  const [atMs = "", after = "", provider = anyProvider] = from?.split(" ") ?? ["-1"];
  const some = db.all<Waiting>(
    `SELECT places.provider, places.due_at, places.id, emails.submitted_at
     FROM places CROSS JOIN emails ON emails.id = places.id
     WHERE places.due_at IS NOT NULL AND (places.provider, places.due_at, places.id) > (?, ?, ?)
     ORDER BY places.provider, places.due_at, places.id LIMIT ?`,
    provider,
    Number(atMs),
    after,
    limit,
  );
  const meant = some.filter(({ submitted_at }) => submitted_at <= submittedTillMs);
  for (const { id } of meant) retire(db, id, undefined, expiresAtMs);
  const last = some.length < limit ? undefined : some.at(-1);
  return { deleted: meant.length, next: last && `${last.due_at} ${last.id} ${last.provider}` };
}
