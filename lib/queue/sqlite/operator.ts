// What an operator asks of the queue.

import { envelopeLine } from "../../email.ts";
import { type EmailState, knownMinMs, type Operator, type StoredEmail, StoreUnavailable } from "../queue.ts";
import type { Connection } from "./connection.ts";
import { leave } from "./leave.ts";
import { openStore, type StoreOptions } from "./store.ts";

export interface OperatorOptions extends Omit<StoreOptions, "onFatal"> {
  /** How long the id of a deleted email stays known, ms. */
  readonly retainMs: number;
}

/** Longest wait for the file while another process holds it, ms. */
const openTimeoutMs = 5000;

/** Rejects with {@link StoreUnavailable} if the file cannot be opened. */
export async function openSqliteOperator(options: OperatorOptions): Promise<Operator> {
  const unusable = Promise.withResolvers<never>();
  const store = openStore({
    ...options,
    onFatal: (reason) => unusable.reject(new StoreUnavailable(reason)),
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
  return {
    show: (id) => store.read((db) => show(db, id, store.nowMs())),
    stats: () => store.read((db) => stats(db, store.nowMs())),
    delete: (id) =>
      store.writePatiently((db) => {
        const place = db.get<{ batch: string | null }>("SELECT batch FROM places WHERE id = ?", id);
        if (place === undefined) return "unknown";
        if (place.batch !== null) return "in-batch";
        leave(db, id, undefined, store.nowMs() + Math.max(options.retainMs, knownMinMs));
        return "deleted";
      }),
    async close() {
      store.close();
    },
  };
}

interface Place {
  readonly text: string;
  readonly history: string;
  readonly due_at: number | null;
  readonly died_at: number | null;
  readonly mark_remains: string | null;
  readonly held: number | null;
  readonly lease_ends_at: number | null;
  readonly doubt_since: number | null;
}

function show(db: Connection, id: string, atMs: number): StoredEmail | undefined {
  const sent = db.get<{ batch: string | null; remains: string }>(
    "SELECT batch, remains FROM sent WHERE id = ?",
    id,
  );
  if (sent !== undefined) {
    if (sent.batch !== null) return sentEmail(id, sent.remains);
    return { id, state: "deleted", text: undefined, history: "", record: undefined };
  }
  const place = db.get<Place>(
    `SELECT emails.text, places.history, places.due_at, places.died_at, places.mark_remains,
       batches.held, batches.due_at AS lease_ends_at, batches.doubt_since
     FROM places JOIN emails ON emails.id = places.id LEFT JOIN batches ON batches.id = places.batch
     WHERE places.id = ?`,
    id,
  );
  if (place === undefined) return undefined;
  if (place.mark_remains !== null) return sentEmail(id, place.mark_remains);
  return { id, state: stateOf(place, atMs), text: place.text, history: place.history, record: undefined };
}

function sentEmail(id: string, remains: string): StoredEmail {
  const record = remains.slice(remains.indexOf("\n") + 1);
  return { id, state: "sent", text: envelopeLine(remains), history: "", record };
}

function stateOf({ due_at, died_at, held, lease_ends_at, doubt_since }: Place, atMs: number): EmailState {
  if (died_at !== null) return "dead";
  if (due_at !== null) return due_at > atMs ? "retrying" : "waiting";
  const hasLapsed = held === 1 && lease_ends_at !== null && lease_ends_at <= atMs;
  return doubt_since !== null || hasLapsed ? "in-doubt" : "sending";
}

function stats(db: Connection, atMs: number): Awaited<ReturnType<Operator["stats"]>> {
  const count = (sql: string, ...parameters: number[]) =>
    db.get<{ count: number }>(sql, ...parameters)?.count ?? 0;
  const inBatches = (doubtful: 0 | 1) =>
    count(
      `SELECT count(*) AS count FROM batches JOIN places ON places.batch = batches.id
       WHERE (batches.doubt_since IS NOT NULL OR (batches.held = 1 AND batches.due_at <= ?)) = ?`,
      atMs,
      doubtful,
    );
  const counters = db.all<{ name: string; count: number }>("SELECT name, count FROM counters");
  return {
    states: {
      waiting: count("SELECT count(*) AS count FROM places WHERE due_at IS NOT NULL AND due_at <= ?", atMs),
      retrying: count("SELECT count(*) AS count FROM places WHERE due_at IS NOT NULL AND due_at > ?", atMs),
      sending: inBatches(0),
      "in-doubt": inBatches(1),
      dead: count("SELECT count(*) AS count FROM places WHERE died_at IS NOT NULL"),
      sent: count("SELECT count(*) AS count FROM sent WHERE batch IS NOT NULL"),
    },
    counters: Object.fromEntries(counters.map(({ name, count: value }) => [name, value])),
  };
}
