// Claims: one transaction leases one batch to one worker, and is the durable record that the worker may send it. A claim
// writes nothing if it was answered before, or if nothing is due.

import type { Batch, ClaimedEmail, ClaimRequest, ClaimResult } from "../contract.ts";
import { aliveMs, isClockDoubted, lastStep } from "./clock_steps.ts";
import type { SqliteConnection } from "./connection.ts";
import { anyProvider, changeBatch, type DueList, dueLists, scheduledList } from "./lists.ts";
import { permitOf } from "./rates.ts";

/** Whether an operator has paused all claims. */
export function isPaused(db: SqliteConnection): boolean {
  return db.get`SELECT 1 FROM pauses` !== undefined;
}

/** Common to all claims. */
type Claim = Pick<ClaimRequest, "claimant" | "number" | "leaseMs"> &
  Partial<Pick<ClaimRequest, "credential" | "dueCountMax">>;

/** A lease lasts one more second for this many bytes of emails, as they are stored. */
const bytesPerSecond = 256 * 1024;

/** Reads only what this provider may take, so the backlog of another costs it nothing. */
export function claim(db: SqliteConnection, request: ClaimRequest): ClaimResult {
  const permit = permitOf(db, request);
  const find = (): string | ClaimResult => {
    // The record of its claimant has expired. A new batch would reuse an idempotency key for other emails.
    if (db.get`SELECT 1 FROM all_batches WHERE id = ${request.claimId}` !== undefined)
      return { kind: "spent" };
    if (isPaused(db)) return { kind: "paused" };
    if (permit?.isAvailable === false) return { kind: "limited", rate: permit.rate };
    const found = findBatch(db, request);
    if (typeof found === "string") permit?.take();
    return found;
  };
  const result = claimOnce(db, request, find);
  return permit && (result.kind === "batch" || result.kind === "empty")
    ? { ...result, rate: permit.rate }
    : result;
}

/** Claims a batch, of any provider, that is past the end of its doubt and that no worker holds. */
export function claimEnded(db: SqliteConnection, request: Claim): ClaimResult {
  return claimOnce(db, request, () => {
    if (isPaused(db)) return { kind: "paused" };
    const { atMs } = db.now;
    const ended = db.get<{ id: string }>`SELECT id, ends_at FROM all_batches
      WHERE ends_at <= ${atMs} AND (held = 0 OR due_at <= ${atMs})
      ORDER BY ends_at LIMIT 1`;
    if (ended === undefined || isClockDoubted(db)) return { kind: "empty", nextDueInMs: undefined };
    return leaseAgain(db, ended.id, request);
  });
}

/**
 * Answers a repeated claim as before.
 * @param find leases a batch and returns its id, or the result if there is none
 */
function claimOnce(db: SqliteConnection, by: Claim, find: () => string | ClaimResult): ClaimResult {
  const last = db.get<{ number: number; batch: string; lease: number }>`
    SELECT number, batch, lease FROM claimants WHERE claimant = ${by.claimant}`;
  if (last === undefined || by.number > last.number) {
    const found = find();
    if (typeof found !== "string") return found;
    const leased = readBatch(db, found, by);
    db.run`INSERT OR REPLACE INTO claimants (claimant, number, batch, lease, heard_at)
      VALUES (${by.claimant}, ${by.number}, ${found}, ${leased.batch.lease}, ${db.now.atMs})`;
    return { kind: "batch", ...leased };
  }
  const isHeld = db.get`SELECT 1 FROM all_batches
    WHERE id = ${last.batch} AND lease = ${last.lease} AND held = 1 AND due_at > ${db.now.atMs}`;
  if (by.number < last.number || isHeld === undefined) return { kind: "spent" };
  return { kind: "batch", ...readBatch(db, last.batch, by) };
}

/** Leases a batch that is due, or a new one, from the first source that has one. Returns its id. */
function findBatch(db: SqliteConnection, request: ClaimRequest): string | ClaimResult {
  const { provider, shared, countMax, sources } = request;
  const { atMs } = db.now;
  const lists = dueLists(db).filter(
    ({ only, pieceMax }) => only === provider || (only === anyProvider && (shared || pieceMax !== undefined)),
  );
  let nextDueAtMs = Infinity;
  for (const source of sources) {
    if (source === "batches") {
      const due = dueBatch(db, request);
      if (due !== undefined) return leaseAgain(db, due, request);
      const next = db.get<{ at: number }>`SELECT due_at AS at FROM all_batches
        WHERE provider = ${provider} AND due_at > ${atMs} ORDER BY due_at LIMIT 1`;
      nextDueAtMs = Math.min(nextDueAtMs, next?.at ?? Infinity);
    } else if (countMax > 0) {
      const ours = lists.filter(({ pieceMax }) => (pieceMax === undefined) === (source === "emails"));
      const [first] = ours.toSorted((a, b) => a.firstDueAtMs - b.firstDueAtMs);
      if (first === undefined) continue;
      const { firstDueAtMs, pieceMax } = first;
      const alike = ours.filter((list) => list.pieceMax === pieceMax);
      if (firstDueAtMs <= atMs) return createBatch(db, request, alike, pieceMax);
      nextDueAtMs = Math.min(nextDueAtMs, firstDueAtMs);
    }
  }
  return { kind: "empty", nextDueInMs: nextDueAtMs === Infinity ? undefined : nextDueAtMs - atMs };
}

/**
 * The batch that has been due longest. Its time is among the columns, or SQLite would read and sort all that are due.
 * Leaves out a batch in doubt whose first credential another live worker has.
 */
function dueBatch(db: SqliteConnection, { provider, credential }: ClaimRequest): string | undefined {
  const { atMs } = db.now;
  return db.get<{ id: string }>`SELECT id, due_at FROM all_batches AS batches
    WHERE provider = ${provider} AND due_at <= ${atMs} AND (
      (doubt_since IS NULL AND held = 0) OR credential = ${credential} OR NOT EXISTS (
        SELECT 1 FROM workers WHERE heard_at > ${atMs - aliveMs}
          AND presence ->> ('$.providers.' || batches.provider || '.credential') = batches.credential))
    ORDER BY due_at, id LIMIT 1`?.id;
}

/** Leases a new batch of the oldest emails in these lists. Its id is that of the claim. */
function createBatch(
  db: SqliteConnection,
  request: ClaimRequest,
  lists: readonly DueList[],
  pieceMax: number | undefined,
): string {
  const { claimId, provider, countMax, bytesMax, context, credential, doubtMs } = request;
  const { atMs } = db.now;
  const emailsMax = Math.min(countMax, pieceMax ?? Infinity);
  const due = lists.flatMap(({ name, columns }) =>
    db
      .all<{ id: string; dueAtMs: number; size: number }>(
        `SELECT id, ${columns.at} AS dueAtMs, size FROM places
          WHERE ${columns.at} IS NOT NULL AND ${columns.list} = ? AND ${columns.at} <= ?
          ORDER BY ${columns.at}, id LIMIT ?`,
        name,
        atMs,
        emailsMax,
      )
      .map((row) => ({ ...row, columns })),
  );
  const taken: typeof due = [];
  let bytes = 0;
  for (const one of due.toSorted((a, b) => a.dueAtMs - b.dueAtMs).slice(0, emailsMax)) {
    if (taken.length > 0 && bytes + one.size > bytesMax) break;
    bytes += one.size;
    taken.push(one);
  }
  const isHidden = taken.some(({ columns }) => columns.isHidden);
  const leaseMs = leaseMsOf(request, bytes);
  db.run(
    `INSERT INTO ${isHidden ? "hidden_batches" : "batches"}
      (id, provider, lease, timed_lease, lease_ms, held, due_at, ends_at, lapsed, context, notes, piece_max, credential)
    VALUES (?, ?, 1, 1, ?, 1, ?, ?, 0, ?, '', ?, ?)`,
    claimId,
    provider,
    leaseMs,
    atMs + leaseMs,
    atMs + doubtMs,
    context,
    pieceMax ?? null,
    credential,
  );
  const noList = isHidden ? "hidden_list = iif(hidden_list IS NULL, NULL, ''), hidden_at = NULL," : "";
  db.run(
    `UPDATE places SET due_at = NULL, provider = NULL, ${noList} batch = ?, position = taken.key
    FROM json_each(?) AS taken WHERE places.id = taken.value`,
    claimId,
    JSON.stringify(taken.map(({ id }) => id)),
  );
  return claimId;
}

function leaseMsOf(by: Claim, bytes: number): number {
  return Math.round(by.leaseMs) + 1000 * Math.floor(bytes / bytesPerSecond);
}

/** Leases a batch that exists. If the previous lease expired without a settlement, it is in doubt from now on. */
function leaseAgain(db: SqliteConnection, batch: string, by: Claim): string {
  const { atMs } = db.now;
  const size = db.get<{ bytes: number | null }>`SELECT sum(size) AS bytes FROM places WHERE batch = ${batch}`;
  const leaseMs = leaseMsOf(by, size?.bytes ?? 0);
  changeBatch(
    db,
    (table) => `UPDATE ${table} SET
      lease = lease + 1,
      timed_lease = lease + 1,
      lease_ms = ?,
      doubt_since = CASE WHEN held = 1 THEN coalesce(doubt_since, ?) ELSE doubt_since END,
      lapsed = held,
      held = 1,
      due_at = ?
    WHERE id = ?`,
    leaseMs,
    atMs,
    atMs + leaseMs,
    batch,
  );
  return batch;
}

type BatchRow = Pick<Batch, "id" | "provider" | "lease" | "leaseEndsAtMs" | "doubtEndsAtMs" | "context"> &
  Pick<Batch, "notes" | "credential" | "acceptances"> & {
    readonly doubt_since: number | null;
    readonly lapsed: number;
    readonly piece_max: number | null;
  };

function readBatch(db: SqliteConnection, id: string, by: Claim): { batch: Batch; dueLeft: number } {
  const { atMs } = db.now;
  const row = db.get<BatchRow>`
    SELECT id, provider, lease, due_at AS leaseEndsAtMs, ends_at AS doubtEndsAtMs, context, notes, credential,
      doubt_since, lapsed, piece_max, coalesce((SELECT count FROM acceptances AS a
        WHERE a.provider = batches.provider AND a.credential = coalesce(${by.credential ?? null}, batches.credential)
      ), 0) AS acceptances
    FROM all_batches AS batches WHERE id = ${id}`;
  if (row === undefined) throw new Error(`claim: no batch ${id}`);
  const { doubt_since, lapsed, piece_max, ...same } = row;
  const emails = db.all<Omit<ClaimedEmail, "marked"> & { marked: number }>`
    SELECT places.id, coalesce(text, '') AS text, coalesce(submitted_at, 0) AS submittedAtMs, history,
      mark_batch IS NOT NULL AS marked
    FROM places LEFT JOIN emails ON emails.id = places.id WHERE batch = ${id} ORDER BY position`;
  const due = db.get<{ left: number }>`SELECT count(*) AS left FROM (
    SELECT 1 FROM places WHERE due_at IS NOT NULL AND provider = ${anyProvider} AND due_at <= ${atMs}
    UNION ALL SELECT 1 FROM places
      WHERE hidden_at IS NOT NULL AND hidden_list IN (${anyProvider}, ${scheduledList}) AND hidden_at <= ${atMs}
    LIMIT ${by.dueCountMax ?? 0})`!;
  const batch: Batch = {
    ...same,
    nowMs: atMs,
    doubtSinceMs: doubt_since ?? undefined,
    leaseExpired: lapsed === 1,
    pieceMax: piece_max ?? undefined,
    servedProviders: db.all<{ provider: string }>`SELECT provider FROM served`.map((one) => one.provider),
    clockSteppedAtMs: lastStep(db)?.atMs,
    emails: emails.map((email) => ({ ...email, marked: email.marked === 1 })),
  };
  return { batch, dueLeft: due.left };
}
