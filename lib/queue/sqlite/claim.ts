// Claims: one batch is leased to one worker, in one step that is also the durable record of the hand-over.

import type { Batch, ClaimedEmail, ClaimRequest, ClaimResult, Operator } from "../queue.ts";
import { knownMinMs } from "../queue.ts";
import type { Connection } from "./connection.ts";
import { anyProvider } from "./providers.ts";

interface BatchRow {
  readonly id: string;
  readonly provider: string;
  readonly lease: number;
  readonly held: number;
  readonly due_at: number;
  readonly ends_at: number | null;
  readonly doubt_since: number | null;
  readonly lapsed: number;
  readonly context: string;
  readonly notes: string;
}

type Answered = Extract<ClaimResult, { kind: "batch" | "spent" }>;
type DoubtClaimed = Awaited<ReturnType<Operator["claimDoubt"]>>;

export function batchOf(db: Connection, id: string): BatchRow | undefined {
  return db.get<BatchRow>("SELECT * FROM batches WHERE id = ?", id);
}

/**
 * What can be said without a write: the answer that this claim had before, or that there is nothing to take.
 * Undefined if a batch can be had.
 */
export function glance(
  db: Connection,
  { claimId, provider, countMax }: Pick<ClaimRequest, "claimId" | "provider" | "countMax">,
  atMs: number,
): ClaimResult | undefined {
  const before = answeredBefore(db, claimId, atMs) ?? pausedAnswer(db);
  if (before !== undefined) return before;
  const dueAtMs = nextDue(db, provider, countMax > 0);
  if (dueAtMs !== undefined && dueAtMs <= atMs) return undefined;
  return { kind: "empty", nextDueInMs: dueAtMs === undefined ? undefined : dueAtMs - atMs };
}

/** Looks only into what this provider may take, so that another's backlog costs it nothing. */
export function claim(db: Connection, request: ClaimRequest, atMs: number): ClaimResult {
  const seen = glance(db, request, atMs);
  if (seen !== undefined) return seen;
  const { claimId, provider, leaseMs, first } = request;
  const takeBatch = () => {
    const due = db.get<{ id: string }>(
      "SELECT id FROM batches WHERE provider = ? AND due_at <= ? ORDER BY due_at, id LIMIT 1",
      provider,
      atMs,
    );
    return due?.id;
  };
  const takeEmails = () => newBatch(db, request, atMs);
  const batch = first === "batches" ? (takeBatch() ?? takeEmails()) : (takeEmails() ?? takeBatch());
  if (batch === undefined) throw new Error("claim: due, and not to be found");
  lease(db, { batch, claimId, atMs, leaseMs, doubtMs: request.doubtMs });
  return leased(db, batch, atMs);
}

/** An operator has stopped all claims. */
export function isPaused(db: Connection): boolean {
  return db.get("SELECT 1 FROM pauses") !== undefined;
}

function pausedAnswer(db: Connection): ClaimResult | undefined {
  return isPaused(db) ? { kind: "paused" } : undefined;
}

/** A batch, of any provider, whose doubt has ended and that nobody holds. */
function endedBatch(db: Connection, atMs: number): string | undefined {
  return db.get<{ id: string }>(
    `SELECT id FROM batches
     WHERE ends_at IS NOT NULL AND ends_at <= ?1 AND (held = 0 OR due_at <= ?1) ORDER BY ends_at LIMIT 1`,
    atMs,
  )?.id;
}

/** What can be said without a write: as {@link glance}, for {@link claimEnded}. */
export function glanceEnded(db: Connection, claimId: string, atMs: number): ClaimResult | undefined {
  const before = answeredBefore(db, claimId, atMs) ?? pausedAnswer(db);
  if (before !== undefined) return before;
  return endedBatch(db, atMs) === undefined ? { kind: "empty", nextDueInMs: undefined } : undefined;
}

export function claimEnded(
  db: Connection,
  { claimId, leaseMs }: { claimId: string; leaseMs: number },
  atMs: number,
): ClaimResult {
  const seen = glanceEnded(db, claimId, atMs);
  if (seen !== undefined) return seen;
  const batch = endedBatch(db, atMs);
  if (batch === undefined) throw new Error("claim: ended, and not to be found");
  lease(db, { batch, claimId, atMs, leaseMs, doubtMs: 0 });
  return leased(db, batch, atMs);
}

/** For an operator, also while all claims are stopped. */
export function claimDoubt(
  db: Connection,
  { claimId, emailId, leaseMs }: { claimId: string; emailId: string; leaseMs: number },
  atMs: number,
): DoubtClaimed {
  const before = answeredBefore(db, claimId, atMs);
  // What it took is settled, or another's.
  if (before !== undefined) return before.kind === "batch" ? before : { kind: "busy" };
  const place = db.get<{ batch: string | null }>("SELECT batch FROM places WHERE id = ?", emailId);
  if (place === undefined) {
    const hasLeft = db.get("SELECT 1 FROM sent WHERE id = ?", emailId) !== undefined;
    return { kind: hasLeft ? "not-in-doubt" : "unknown" };
  }
  const batch = place.batch === null ? undefined : batchOf(db, place.batch);
  if (batch === undefined) return { kind: "not-in-doubt" };
  const isHeld = batch.held === 1 && batch.due_at > atMs;
  const hasLapsed = batch.held === 1 && !isHeld;
  if (batch.doubt_since === null && !hasLapsed) return { kind: "not-in-doubt" };
  if (isHeld) return { kind: "busy" };
  lease(db, { batch: batch.id, claimId, atMs, leaseMs, doubtMs: 0 });
  return leased(db, batch.id, atMs);
}

/** The answer to a claim that was answered before: the same batch, while it is still leased under it. */
function answeredBefore(db: Connection, claimId: string, atMs: number): Answered | undefined {
  const answered = db.get<{ batch: string; lease: number }>(
    "SELECT batch, lease FROM claims WHERE id = ?",
    claimId,
  );
  if (answered !== undefined) {
    const batch = batchOf(db, answered.batch);
    const isOurs = batch?.lease === answered.lease && batch.held === 1 && batch.due_at > atMs;
    return isOurs ? leased(db, answered.batch, atMs) : { kind: "spent" };
  }
  // Long spent, and forgotten: to take it for new would put other emails under a key that was used.
  return batchOf(db, claimId) === undefined ? undefined : { kind: "spent" };
}

/** When the next thing is due that this provider may take, Unix ms. */
function nextDue(db: Connection, provider: string, takesEmails: boolean): number | undefined {
  const batch = db.get<{ at: number | null }>(
    "SELECT min(due_at) AS at FROM batches WHERE provider = ?",
    provider,
  );
  const places = takesEmails ? [anyProvider, provider] : [];
  const emails = places.map((one) =>
    db.get<{ at: number | null }>(
      "SELECT min(due_at) AS at FROM places WHERE due_at IS NOT NULL AND provider = ?",
      one,
    ),
  );
  const times = [batch, ...emails].flatMap((row) => row?.at ?? []);
  return times.length === 0 ? undefined : Math.min(...times);
}

/** Puts the oldest that this provider may take into a batch under the claim's own id. */
function newBatch(db: Connection, request: ClaimRequest, atMs: number): string | undefined {
  const { claimId, provider, context } = request;
  const ids = choose(db, request, atMs);
  if (ids.length === 0) return undefined;
  db.run(
    `INSERT INTO batches (id, provider, lease, held, due_at, lapsed, context, notes)
     VALUES (?, ?, 0, 0, ?, 0, ?, '')`,
    claimId,
    provider,
    atMs,
    context,
  );
  ids.forEach((id, position) => {
    db.run(
      "UPDATE places SET due_at = NULL, provider = NULL, batch = ?, position = ? WHERE id = ?",
      claimId,
      position,
      id,
    );
  });
  return claimId;
}

function choose(
  db: Connection,
  { provider, countMax, bytesMax }: Pick<ClaimRequest, "provider" | "countMax" | "bytesMax">,
  atMs: number,
): string[] {
  if (countMax === 0) return [];
  const due = [anyProvider, provider].flatMap((one) =>
    db.all<{ id: string; due_at: number; size: number }>(
      `SELECT id, due_at, size FROM places
       WHERE due_at IS NOT NULL AND provider = ? AND due_at <= ? ORDER BY due_at, id LIMIT ?`,
      one,
      atMs,
      countMax,
    ),
  );
  const ids: string[] = [];
  let bytes = 0;
  for (const { id, size } of due.toSorted((a, b) => a.due_at - b.due_at).slice(0, countMax)) {
    bytes += size;
    if (ids.length > 0 && bytes > bytesMax) break;
    ids.push(id);
  }
  return ids;
}

/** A lease that ran out without a settlement is doubt from now on. */
function lease(
  db: Connection,
  one: { batch: string; claimId: string; atMs: number; leaseMs: number; doubtMs: number },
): void {
  const { batch, claimId, atMs, leaseMs, doubtMs } = one;
  db.run(
    `UPDATE batches SET
       lease = lease + 1,
       doubt_since = CASE WHEN held = 1 THEN coalesce(doubt_since, ?2) ELSE doubt_since END,
       lapsed = held,
       held = 1,
       ends_at = coalesce(ends_at, ?2 + ?3),
       due_at = ?2 + ?4
     WHERE id = ?1`,
    batch,
    atMs,
    doubtMs,
    leaseMs,
  );
  db.run(
    "INSERT INTO claims (id, batch, lease, expires_at) SELECT ?1, id, lease, ?3 FROM batches WHERE id = ?2",
    claimId,
    batch,
    atMs + Math.max(2 * leaseMs, knownMinMs),
  );
}

function leased(db: Connection, id: string, atMs: number): { kind: "batch"; batch: Batch } {
  const row = batchOf(db, id);
  if (row === undefined) throw new Error(`claim: no batch ${id}`);
  const emails = db.all<{ id: string; text: string; at: number; history: string; marked: number }>(
    `SELECT places.id, coalesce(emails.text, '') AS text, coalesce(emails.submitted_at, 0) AS at,
       places.history, places.mark_batch IS NOT NULL AS marked
     FROM places LEFT JOIN emails ON emails.id = places.id
     WHERE places.batch = ? ORDER BY places.position`,
    id,
  );
  const batch: Batch = {
    id,
    provider: row.provider,
    lease: row.lease,
    nowMs: atMs,
    leaseEndsAtMs: row.due_at,
    doubtEndsAtMs: row.ends_at ?? atMs,
    doubtSinceMs: row.doubt_since ?? undefined,
    lapsed: row.lapsed === 1,
    context: row.context,
    notes: row.notes,
    emails: emails.map(({ id: email, text, at, history, marked }): ClaimedEmail => ({
      id: email,
      text,
      submittedAtMs: at,
      history,
      marked: marked === 1,
    })),
  };
  return { kind: "batch", batch };
}
