// The way into the embedded queue: one transaction for each group of a group commit.

import { type Committed, type GroupCommitOptions, openGroupCommit } from "../group_commit.ts";
import { idempotencyMs, type Producer, type Submission, type SubmitResult } from "../contract.ts";
import { type SqliteConnection, sqliteErrorText, isBusy } from "./connection.ts";
import { anyProvider } from "./due_lists.ts";
import { busyNoteMs, busyPauseMs, fullText, openStore, type StoreOptions } from "./transactions.ts";
import { openWaker } from "./wakeup.ts";

/** Emails and text in one transaction: no other process writes meanwhile, and this one does nothing else. */
const emailsMax = 256;
const charsMax = 1024 * 1024;

export interface SqliteProducerOptions extends StoreOptions {
  /** As of a group commit. */
  readonly onGroup?: GroupCommitOptions["onGroup"];
}

export function openSqliteProducer(options: SqliteProducerOptions): Producer {
  const { folder, onGroup, log } = options;
  const store = openStore(options);
  const waker = openWaker(folder);
  let busySinceMs: number | undefined;
  const writer = openGroupCommit({
    emailsMax,
    charsMax,
    againMs: busyPauseMs,
    readiness: store.readiness,
    commit,
    onGroup,
    log,
  });
  void store.opened.then(writer.flush);

  async function commit(group: readonly Submission[]): Promise<Committed> {
    const bytes = group.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0);
    if (!store.hasRoomFor(bytes)) return { kind: "failed", reason: fullText };
    try {
      const results = store.write((db) => submit(db, group, store.nowMs()));
      busySinceMs = undefined;
      waker.touch();
      return { kind: "done", results };
    } catch (error) {
      if (!isBusy(error)) return { kind: "failed", reason: sqliteErrorText(error) };
      busySinceMs ??= performance.now();
      const isLong = performance.now() - busySinceMs > busyNoteMs;
      return { kind: "again", reason: isLong ? "another process holds the queue's file" : undefined };
    }
  }

  return {
    submit: writer.submit,
    health: store.health,
    async close() {
      writer.close();
      waker.close();
      store.close();
    },
  };
}

/** Every place where an id may be known is looked into, at the first try too. */
function submit(db: SqliteConnection, group: readonly Submission[], atMs: number): SubmitResult[] {
  return group.map((one) => submitOne(db, one, atMs));
}

function submitOne(db: SqliteConnection, { id, text, idempotency }: Submission, atMs: number): SubmitResult {
  const { known } = db.get<{ known: number }>(
    `SELECT EXISTS (SELECT 1 FROM places WHERE id = ?1) OR EXISTS (SELECT 1 FROM sent WHERE id = ?1) AS known`,
    id,
  )!;
  if (known === 1) return { kind: "stored", id, repeated: true };
  if (idempotency !== undefined) {
    const answer = useKey(db, id, idempotency, atMs);
    if (answer !== undefined) return answer;
  }
  db.run("INSERT INTO emails (id, submitted_at, text) VALUES (?, ?, ?)", id, atMs, text);
  db.run(
    "INSERT INTO places (id, size, due_at, provider) VALUES (?1, octet_length(?2), ?3, ?4)",
    id,
    text,
    atMs,
    anyProvider,
  );
  return { kind: "stored", id, repeated: false };
}

interface KeyUse {
  readonly id: string;
  readonly fingerprint: string;
  /** Null of the release before, which refused the key to every token then. */
  readonly token: string | null;
  readonly expires_at: number;
}

/** Records that this email has the key, unless an answer is returned. What is present is valid: only sweeps remove it. */
function useKey(
  db: SqliteConnection,
  id: string,
  { key, fingerprint, token }: NonNullable<Submission["idempotency"]>,
  atMs: number,
): SubmitResult | undefined {
  const uses = db.all<KeyUse>(
    `SELECT id, fingerprint, token, expires_at FROM idempotency WHERE key = ?1
     UNION ALL SELECT id, fingerprint, token, expires_at FROM idempotency_uses WHERE key = ?1`,
    key,
  );
  const own = uses.some((use) => use.token === token);
  const same = uses.find((use) => use.fingerprint === fingerprint);
  const record = (table: "idempotency" | "idempotency_uses", first: string, expiresAtMs: number) =>
    db.run(
      `INSERT INTO ${table} (key, token, id, fingerprint, expires_at) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
      key,
      token,
      first,
      fingerprint,
      expiresAtMs,
    );
  if (same !== undefined) {
    // This token has used the key by now, and may not use it for another email.
    if (!own) record("idempotency_uses", same.id, same.expires_at);
    return { kind: "stored", id: same.id, repeated: true };
  }
  if (own || uses.some((use) => use.token === null)) return { kind: "conflict" };
  record(uses.length === 0 ? "idempotency" : "idempotency_uses", id, atMs + idempotencyMs);
  return undefined;
}
