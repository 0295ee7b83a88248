// The producer of the embedded queue: one transaction for each group of a group commit.

import { movingText, type Producer, type ProducerWatcher, type Submission } from "../contract.ts";
import { sizeOf } from "../file_pieces.ts";
import { type CommitResult, GroupCommit } from "../group_commit.ts";
import { PieceWriter } from "../piece_writer.ts";
import { isBusy, type SqliteConnection, sqliteErrorText } from "./connection.ts";
import { dropPieces, hasPieces, putPiece } from "./files.ts";
import { addUse, expiryOf, usesOf } from "./keys.ts";
import { anyProvider, hiddenPlaceFor, placeHidden } from "./lists.ts";
import { isMoving } from "./move.ts";
import { readStats } from "./stats.ts";
import { busyNoteMs, busyPauseMs, busyText, fullText, Store, type StoreOptions } from "./store.ts";
import { wake } from "./wakeup.ts";

/** Most emails and UTF-16 units in a transaction: meanwhile no other process writes, and this one does nothing else. */
const emailsMax = 256;
const charsMax = 1024 * 1024;

export function openSqliteProducer(options: StoreOptions & ProducerWatcher): Producer {
  const { folder, onGroup, log, filesMaxBytes = Infinity } = options;
  const store = new Store(options);
  let busySinceMs: number | undefined;
  const readiness = () => store.readiness();
  const writer = new GroupCommit({
    emailsMax,
    charsMax,
    againMs: busyPauseMs,
    readiness,
    commit: async (group) => {
      const bytes = group.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0);
      const committed = write(bytes, (db) => submitAll(db, group, filesMaxBytes));
      if (committed.kind !== "done") return committed;
      wake(folder);
      return { kind: "done", results: committed.result };
    },
    onGroup,
    log,
  });
  const pieces = new PieceWriter(
    {
      againMs: busyPauseMs,
      put: async (id, number, piece, bytesLeft) => write(bytesLeft, (db) => putPiece(db, id, number, piece)),
      drop: (id) => void store.write((db) => dropPieces(db, id)).catch(() => {}),
    },
    log,
  );
  void store.opened.then(writer.flush);
  store.watch();

  /** Runs one transaction that adds this many bytes to the queue. */
  function write<T>(bytes: number, body: (db: SqliteConnection) => T) {
    if (!store.hasRoomFor(bytes)) return { kind: "failed", reason: fullText } as const;
    try {
      const result = store.writeOnce(body);
      busySinceMs = undefined;
      return { kind: "done", result } as const;
    } catch (error) {
      if (!isBusy(error)) return { kind: "failed", reason: sqliteErrorText(error) } as const;
      busySinceMs ??= performance.now();
      const isLong = performance.now() - busySinceMs > busyNoteMs;
      return { kind: "again", reason: isLong ? busyText : undefined } as const;
    }
  }

  return {
    submit: (submission, deadlineMs) => pieces.submit(submission, deadlineMs, writer.submit),
    stats: () => store.transact((db) => readStats(db, store.roomBytes())),
    health: () => store.health(),
    async close() {
      pieces.close();
      writer.close();
      store.close();
    },
  };
}

function submitAll(
  db: SqliteConnection,
  group: readonly Submission[],
  filesMaxBytes: number,
): CommitResult[] {
  const known = knownIds(db, group);
  const plain: Submission[] = [];
  const results = group.map((one): CommitResult => {
    const { id } = one;
    // It is not queued again, whatever became of it.
    if (known.has(id)) return { kind: "stored", id, repeated: true };
    const answer = useKey(db, one, filesMaxBytes);
    if (answer !== undefined) return answer;
    known.add(id);
    if (one.isHidden === true) addHidden(db, one);
    else plain.push(one);
    return { kind: "stored", id, repeated: false };
  });
  addPlain(db, plain);
  return results;
}

/**
 * One statement inserts the places of all emails. With one statement per email, SQLite copies every page that the trigger on
 * `places` may have to restore, which takes a third of the CPU time of a submission.
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

function addHidden(db: SqliteConnection, { id, text, files, sendAtMs = 0 }: Submission): void {
  const { atMs } = db.now;
  const [list, dueAtMs] = hiddenPlaceFor(sendAtMs, atMs);
  db.run`INSERT INTO emails (id, submitted_at, text) VALUES (${id}, ${atMs}, ${text})`;
  placeHidden(db, { id, text, fileBytes: files && sizeOf(files) }, list, dueAtMs);
}

/** Why an unknown email cannot be stored with its files; undefined if it can. */
function refuseFiles(
  db: SqliteConnection,
  { id, files }: Submission,
  filesMaxBytes: number,
): CommitResult | undefined {
  if (files === undefined) return undefined;
  const bytes = sizeOf(files);
  const { held } = db.get<{ held: number }>`SELECT file_bytes AS held FROM tally`!;
  if (held + bytes > filesMaxBytes) return { kind: "filesFull" };
  return hasPieces(db, id, bytes) ? undefined : { kind: "piecesMissing" };
}

function knownIds(db: SqliteConnection, group: readonly Submission[]): Set<string> {
  const ids = JSON.stringify(group.map(({ id }) => id));
  const known = db.all<{ id: string }>`SELECT value AS id FROM json_each(${ids})
    WHERE value IN (SELECT id FROM emails) OR value IN (SELECT id FROM sent)`;
  return new Set(known.map(({ id }) => id));
}

/**
 * Records that this email has its key, if it has one. Returns an answer if it is not to be queued. A use that is present is
 * valid: only sweeps remove it.
 */
function useKey(
  db: SqliteConnection,
  submission: Submission,
  filesMaxBytes: number,
): CommitResult | undefined {
  const { id, idempotency, sendAtMs } = submission;
  if (idempotency === undefined) return refuseFiles(db, submission, filesMaxBytes);
  const { key, fingerprint, token } = idempotency;
  const uses = usesOf(db, key);
  const isOwn = uses.some((use) => use.token === token);
  const same = uses.find((use) => use.fingerprint === fingerprint);
  if (same === undefined) {
    if (isOwn) return { kind: "conflict" };
    if (isMoving(db)) return { kind: "failed", reason: movingText };
    const refusal = refuseFiles(db, submission, filesMaxBytes);
    if (refusal !== undefined) return refusal;
  }
  // Also if another token submitted this email: from now on this one may not use the key for another email.
  if (!isOwn) {
    const { id: firstId, expires_at } = same ?? { id, expires_at: expiryOf(db, sendAtMs) };
    addUse(db, key, { id: firstId, fingerprint, token, expires_at });
  }
  return same && { kind: "stored", id: same.id, repeated: true };
}
