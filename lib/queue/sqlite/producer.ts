// The producer of the embedded queue: one transaction for each group of a group commit.

import {
  movingText,
  type Producer,
  type ProducerWatcher,
  type Submission,
  type SubmitResult,
} from "../contract.ts";
import { type Committed, GroupCommit } from "../group_commit.ts";
import { isBusy, type SqliteConnection, sqliteErrorText } from "./connection.ts";
import { addUse, lifeOf, usesOf } from "./keys.ts";
import { anyProvider, noBatch, scheduledList } from "./lists.ts";
import { isMoving } from "./move.ts";
import { readStats } from "./stats.ts";
import { busyNoteMs, busyPauseMs, busyText, fullText, Store, type StoreOptions } from "./store.ts";
import { wake } from "./wakeup.ts";

/** Most emails and UTF-16 units in a transaction: meanwhile no other process writes, and this one does nothing else. */
const emailsMax = 256;
const charsMax = 1024 * 1024;

export function openSqliteProducer(options: StoreOptions & ProducerWatcher): Producer {
  const { folder, onGroup, log } = options;
  const store = new Store(options);
  let busySinceMs: number | undefined;
  const readiness = () => store.readiness();
  const writer = new GroupCommit({
    emailsMax,
    charsMax,
    againMs: busyPauseMs,
    readiness,
    commit,
    onGroup,
    log,
  });
  void store.opened.then(writer.flush);
  store.watch();

  async function commit(group: readonly Submission[]): Promise<Committed> {
    const bytes = group.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0);
    if (!store.hasRoomFor(bytes)) return { kind: "failed", reason: fullText };
    try {
      const results = store.writeOnce((db) => submitAll(db, group));
      busySinceMs = undefined;
      wake(folder);
      return { kind: "done", results };
    } catch (error) {
      if (!isBusy(error)) return { kind: "failed", reason: sqliteErrorText(error) };
      busySinceMs ??= performance.now();
      const isLong = performance.now() - busySinceMs > busyNoteMs;
      return { kind: "again", reason: isLong ? busyText : undefined };
    }
  }

  return {
    submit: writer.submit,
    stats: () => store.transact((db) => readStats(db, store.roomBytes())),
    health: () => store.health(),
    async close() {
      writer.close();
      store.close();
    },
  };
}

function submitAll(db: SqliteConnection, group: readonly Submission[]): SubmitResult[] {
  const { atMs } = db.now;
  const known = knownIds(db, group);
  const added: Submission[] = [];
  const results = group.map((one): SubmitResult => {
    const { id, idempotency } = one;
    // It is not queued again, whatever became of it.
    if (known.has(id)) return { kind: "stored", id, repeated: true };
    const answer = idempotency && useKey(db, id, idempotency, one.sendAtMs);
    if (answer !== undefined) return answer;
    known.add(id);
    added.push(one);
    return { kind: "stored", id, repeated: false };
  });
  addPlain(
    db,
    added.filter((one) => !isHidden(one, atMs)),
  );
  for (const one of added) if (isHidden(one, atMs)) addHidden(db, one);
  return results;
}

/** Whether the previous release must not be given it. That release knows no list of scheduled emails. */
function isHidden({ isNew = false, sendAtMs = 0 }: Submission, atMs: number): boolean {
  return isNew || sendAtMs > atMs;
}

/**
 * One statement makes the places of all. In one for each email, SQLite copies every page that the trigger on `places`
 * may have to restore: a third of the CPU time of a submission.
 */
function addPlain(db: SqliteConnection, added: readonly Submission[]): void {
  if (added.length === 0) return;
  const { atMs } = db.now;
  const { last } = db.get<{ last: number }>`SELECT coalesce(max(rowid), 0) AS last FROM emails`!;
  db.insert(
    "emails (id, submitted_at, text)",
    added.map(({ id, text }) => [id, atMs, text]),
  );
  db.run`INSERT INTO places (id, size, due_at, provider)
    SELECT id, octet_length(text), ${atMs}, ${anyProvider} FROM emails WHERE rowid > ${last}`;
}

function addHidden(db: SqliteConnection, { id, text, sendAtMs = 0 }: Submission): void {
  const { atMs } = db.now;
  const [list, dueAtMs] = sendAtMs > atMs ? [scheduledList, Math.ceil(sendAtMs)] : [anyProvider, atMs];
  db.run`INSERT INTO emails (id, submitted_at, text) VALUES (${id}, ${atMs}, ${text})`;
  db.run`INSERT INTO places (id, size, batch, position, hidden_list, hidden_at)
    VALUES (${id}, ${Buffer.byteLength(text)}, ${noBatch}, 0, ${list}, ${dueAtMs})`;
}

function knownIds(db: SqliteConnection, group: readonly Submission[]): Set<string> {
  const ids = JSON.stringify(group.map(({ id }) => id));
  const known = db.all<{ id: string }>`SELECT value AS id FROM json_each(${ids})
    WHERE value IN (SELECT id FROM emails) OR value IN (SELECT id FROM sent)`;
  return new Set(known.map(({ id }) => id));
}

/** Records that this email has the key, or returns an answer. A use that is present is valid: only sweeps remove it. */
function useKey(
  db: SqliteConnection,
  id: string,
  { key, fingerprint, token }: NonNullable<Submission["idempotency"]>,
  sendAtMs: number | undefined,
): SubmitResult | undefined {
  const uses = usesOf(db, key);
  const isOwn = uses.some((use) => use.token === token);
  const same = uses.find((use) => use.fingerprint === fingerprint);
  if (same === undefined && (isOwn || uses.some((use) => use.token === null))) return { kind: "conflict" };
  if (same === undefined && isMoving(db)) return { kind: "failed", reason: movingText };
  // Also if another token submitted this email: from now on this one may not use the key for another email.
  if (!isOwn) {
    const { id: firstId, expires_at, send_at } = same ?? { id, ...lifeOf(db, sendAtMs) };
    addUse(db, key, { id: firstId, fingerprint, token, expires_at, send_at });
  }
  return same && { kind: "stored", id: same.id, repeated: true };
}
