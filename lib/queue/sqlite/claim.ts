// Claims: one batch is leased to one worker, in one step that is also the durable record of the hand-over.

import type { Batch, ClaimedEmail, ClaimRequest, ClaimResult, Admin } from "../contract.ts";
import { isClockDoubted, lastStep } from "./clock.ts";
import type { SqliteConnection } from "./connection.ts";
import { anyProvider, listName, pieceSizesFor } from "./due_lists.ts";
import { isServedElsewhere } from "./live_workers.ts";

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
  readonly piece_max: number | null;
  readonly credential: string;
}

/** Whose claim it is, and which. */
interface Numbered {
  readonly claimant: string;
  readonly number: number;
}

type Answered = Extract<ClaimResult, { kind: "batch" | "spent" }>;
type DoubtClaimed = Awaited<ReturnType<Admin["claimInDoubt"]>>;

/** What a claim may take: a batch, or emails of these lists. */
type Found =
  | { readonly batch: string }
  | { readonly lists: readonly string[]; readonly countMax: number; readonly pieceMax: number | undefined };

/** Due batches that a claim looks at, for one that it may take. */
const lookedAtMax = 1000;
/** Stored bytes of emails for which a lease is a second longer. */
const bytesPerSecond = 256 * 1024;

export function batchOf(db: SqliteConnection, id: string): BatchRow | undefined {
  return db.get<BatchRow>("SELECT * FROM batches WHERE id = ?", id);
}

/**
 * Answers without a write if this claim was answered before or nothing is due for it. Undefined if there is something.
 */
export function peekClaim(
  db: SqliteConnection,
  request: ClaimRequest,
  atMs: number,
): ClaimResult | undefined {
  const before = answeredToClaim(db, request, atMs);
  if (before !== undefined) return before;
  if (find(db, request, atMs) !== undefined) return undefined;
  return { kind: "empty", nextDueInMs: nextDueIn(db, request, atMs) };
}

/** Looks only into what this provider may take, so that another's backlog costs it nothing. */
export function claim(db: SqliteConnection, request: ClaimRequest, atMs: number): ClaimResult {
  const before = answeredToClaim(db, request, atMs);
  if (before !== undefined) return before;
  const found = find(db, request, atMs);
  if (found === undefined) return { kind: "empty", nextDueInMs: nextDueIn(db, request, atMs) };
  const batch = "batch" in found ? found.batch : newBatch(db, request, found, atMs);
  lease(db, { batch, by: request, atMs, leaseMs: request.leaseMs, doubtMs: request.doubtMs });
  return { ...leased(db, batch, atMs, request.credential), dueLeft: dueLeft(db, request, atMs) };
}

function answeredToClaim(db: SqliteConnection, request: ClaimRequest, atMs: number): ClaimResult | undefined {
  const before = answeredBefore(db, request, atMs, request.credential);
  if (before?.kind === "batch") return { ...before, dueLeft: dueLeft(db, request, atMs) };
  if (before !== undefined) return before;
  // Its claimant is forgotten: to take it for new would put other emails under a key that was used.
  if (batchOf(db, request.claimId) !== undefined) return { kind: "spent" };
  return pausedAnswer(db);
}

/** In the order of the sources. */
function find(db: SqliteConnection, request: ClaimRequest, atMs: number): Found | undefined {
  for (const source of request.sources) {
    const found = source === "batches" ? findBatch(db, request, atMs) : findEmails(db, request, source, atMs);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The one that is due longest, and that is not left to a worker that has its credential. */
function findBatch(
  db: SqliteConnection,
  { provider, credential }: ClaimRequest,
  atMs: number,
): Found | undefined {
  const first = (count: number) =>
    db.all<Pick<BatchRow, "id" | "credential" | "doubt_since" | "held">>(
      `SELECT id, credential, doubt_since, held FROM batches
       WHERE provider = ? AND due_at <= ? ORDER BY due_at, id LIMIT ?`,
      provider,
      atMs,
      count,
    );
  const isOurs = (one: Pick<BatchRow, "credential" | "doubt_since" | "held">) =>
    (one.doubt_since === null && one.held === 0) ||
    one.credential === "" ||
    one.credential === credential ||
    !isServedElsewhere(db, provider, one.credential, atMs);
  const [next] = first(1);
  if (next === undefined) return undefined;
  const batch = isOurs(next) ? next : first(lookedAtMax).find(isOurs);
  return batch && { batch: batch.id };
}

/** The lists whose first email is due longest: those for all, and those for this provider, of the same size. */
function findEmails(
  db: SqliteConnection,
  { provider, shared, countMax }: ClaimRequest,
  source: "emails" | "split",
  atMs: number,
): Found | undefined {
  if (countMax === 0) return undefined;
  const candidates = source === "emails" ? [emailLists(provider, shared)] : pieceLists(db, provider);
  let found: Found | undefined;
  let oldestMs = Infinity;
  for (const { lists, pieceMax } of candidates) {
    const firstMs = firstDue(db, lists, -1) ?? Infinity;
    if (firstMs > atMs || firstMs >= oldestMs) continue;
    oldestMs = firstMs;
    found = { lists, pieceMax, countMax: Math.min(countMax, pieceMax ?? Infinity) };
  }
  return found;
}

function emailLists(provider: string, shared: boolean) {
  return { lists: shared ? [anyProvider, provider] : [provider], pieceMax: undefined };
}

function pieceLists(db: SqliteConnection, provider: string) {
  return pieceSizesFor(db, provider).map((pieceMax) => ({
    lists: [anyProvider, provider].map((only) => listName({ only, pieceMax })),
    pieceMax,
  }));
}

/** Of these lists, the time of the first email that is due after `afterMs`, Unix ms. */
function firstDue(db: SqliteConnection, lists: readonly string[], afterMs: number): number | undefined {
  const times = lists.flatMap((list) => {
    const row = db.get<{ at: number | null }>(
      "SELECT min(due_at) AS at FROM places WHERE due_at IS NOT NULL AND provider = ? AND due_at > ?",
      list,
      afterMs,
    );
    return row?.at ?? [];
  });
  return times.length === 0 ? undefined : Math.min(...times);
}

/** Until the next thing is due in the sources of a claim that found nothing. */
function nextDueIn(
  db: SqliteConnection,
  { provider, shared, sources, countMax }: ClaimRequest,
  atMs: number,
): number | undefined {
  const times = sources.flatMap((source) => {
    if (source === "batches") {
      const row = db.get<{ at: number | null }>(
        "SELECT min(due_at) AS at FROM batches WHERE provider = ? AND due_at > ?",
        provider,
        atMs,
      );
      return row?.at ?? [];
    }
    if (countMax === 0) return [];
    const of = source === "emails" ? [emailLists(provider, shared)] : pieceLists(db, provider);
    return of.flatMap(({ lists }) => firstDue(db, lists, atMs) ?? []);
  });
  return times.length === 0 ? undefined : Math.min(...times) - atMs;
}

/** What any provider may take besides, as far as it is asked for. */
function dueLeft(db: SqliteConnection, { dueCountMax }: ClaimRequest, atMs: number): number {
  if (dueCountMax === 0) return 0;
  return db.get<{ count: number }>(
    `SELECT count(*) AS count FROM (
       SELECT 1 FROM places WHERE due_at IS NOT NULL AND provider = ? AND due_at <= ? LIMIT ?)`,
    anyProvider,
    atMs,
    dueCountMax,
  )!.count;
}

/** An operator has stopped all claims. */
export function isPaused(db: SqliteConnection): boolean {
  return db.get("SELECT 1 FROM pauses") !== undefined;
}

function pausedAnswer(db: SqliteConnection): ClaimResult | undefined {
  return isPaused(db) ? { kind: "paused" } : undefined;
}

/** A batch, of any provider, whose doubt has ended and that nobody holds. */
function endedBatch(db: SqliteConnection, atMs: number): string | undefined {
  return db.get<{ id: string }>(
    `SELECT id FROM batches
     WHERE ends_at IS NOT NULL AND ends_at <= ?1 AND (held = 0 OR due_at <= ?1) ORDER BY ends_at LIMIT 1`,
    atMs,
  )?.id;
}

type EndedRequest = Numbered & { readonly leaseMs: number };

/** As {@link peekClaim}, for {@link claimEnded}. */
export function peekClaimEnded(
  db: SqliteConnection,
  request: Numbered,
  atMs: number,
): ClaimResult | undefined {
  const before = answeredBefore(db, request, atMs);
  if (before?.kind === "batch") return { ...before, dueLeft: 0 };
  const answer = before ?? pausedAnswer(db);
  if (answer !== undefined) return answer;
  const isNone = isClockDoubted(db, atMs) || endedBatch(db, atMs) === undefined;
  return isNone ? { kind: "empty", nextDueInMs: undefined } : undefined;
}

export function claimEnded(db: SqliteConnection, request: EndedRequest, atMs: number): ClaimResult {
  const seen = peekClaimEnded(db, request, atMs);
  if (seen !== undefined) return seen;
  const batch = endedBatch(db, atMs);
  if (batch === undefined) throw new Error("claim: ended, and not to be found");
  lease(db, { batch, by: request, atMs, leaseMs: request.leaseMs, doubtMs: 0 });
  return { ...leased(db, batch, atMs), dueLeft: 0 };
}

/** For an operator, also while all claims are stopped. */
export function claimInDoubt(
  db: SqliteConnection,
  { claimId, emailId, leaseMs }: { claimId: string; emailId: string; leaseMs: number },
  atMs: number,
): DoubtClaimed {
  const by: Numbered = { claimant: claimId, number: 1 };
  const before = answeredBefore(db, by, atMs);
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
  lease(db, { batch: batch.id, by, atMs, leaseMs, doubtMs: 0 });
  return leased(db, batch.id, atMs);
}

/** The answer to a claim that was answered before: the same batch, while it is still leased under it. */
function answeredBefore(
  db: SqliteConnection,
  { claimant, number }: Numbered,
  atMs: number,
  credential?: string,
): Answered | undefined {
  const last = db.get<{ number: number; batch: string; lease: number }>(
    "SELECT number, batch, lease FROM claimants WHERE claimant = ?",
    claimant,
  );
  if (last === undefined || number > last.number) return undefined;
  const batch = number === last.number ? batchOf(db, last.batch) : undefined;
  const isOurs = batch?.lease === last.lease && batch.held === 1 && batch.due_at > atMs;
  return isOurs ? { ...leased(db, last.batch, atMs, credential), dueLeft: 0 } : { kind: "spent" };
}

/** Puts the oldest of what was found into a batch under the claim's own id. */
function newBatch(
  db: SqliteConnection,
  request: ClaimRequest,
  found: Exclude<Found, { batch: string }>,
  atMs: number,
): string {
  const { claimId, provider, context, credential } = request;
  const ids = choose(db, { ...found, bytesMax: request.bytesMax }, atMs);
  db.run(
    `INSERT INTO batches (id, provider, lease, held, due_at, lapsed, context, notes, piece_max, credential)
     VALUES (?, ?, 0, 0, ?, 0, ?, '', ?, ?)`,
    claimId,
    provider,
    atMs,
    context,
    found.pieceMax ?? null,
    credential,
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
  db: SqliteConnection,
  { lists, countMax, bytesMax }: { lists: readonly string[]; countMax: number; bytesMax: number },
  atMs: number,
): string[] {
  const due = lists.flatMap((one) =>
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
  db: SqliteConnection,
  one: { batch: string; by: Numbered; atMs: number; leaseMs: number; doubtMs: number },
): void {
  const { batch, by, atMs, doubtMs } = one;
  const { bytes } = db.get<{ bytes: number | null }>(
    "SELECT sum(size) AS bytes FROM places WHERE batch = ?",
    batch,
  )!;
  const leaseMs = Math.round(one.leaseMs) + 1000 * Math.floor((bytes ?? 0) / bytesPerSecond);
  db.run(
    `UPDATE batches SET
       lease = lease + 1,
       timed_lease = lease + 1,
       lease_ms = ?4,
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
    `INSERT INTO claimants (claimant, number, batch, lease, heard_at)
     SELECT ?1, ?2, id, lease, ?3 FROM batches WHERE id = ?4
     ON CONFLICT DO UPDATE SET
       number = excluded.number, batch = excluded.batch, lease = excluded.lease, heard_at = excluded.heard_at`,
    by.claimant,
    by.number,
    atMs,
    batch,
  );
}

/** @param credential that of the claim; default: the batch's own */
function leased(
  db: SqliteConnection,
  id: string,
  atMs: number,
  credential?: string,
): { kind: "batch"; batch: Batch } {
  const row = batchOf(db, id);
  if (row === undefined) throw new Error(`claim: no batch ${id}`);
  const emails = db.all<{ id: string; text: string; at: number; history: string; marked: number }>(
    `SELECT places.id, coalesce(emails.text, '') AS text, coalesce(emails.submitted_at, 0) AS at,
       places.history, places.mark_batch IS NOT NULL AS marked
     FROM places LEFT JOIN emails ON emails.id = places.id
     WHERE places.batch = ? ORDER BY places.position`,
    id,
  );
  const accepted = db.get<{ count: number }>(
    "SELECT count FROM acceptances WHERE provider = ? AND credential = ?",
    row.provider,
    credential ?? row.credential,
  );
  const batch: Batch = {
    id,
    provider: row.provider,
    lease: row.lease,
    nowMs: atMs,
    leaseEndsAtMs: row.due_at,
    doubtEndsAtMs: row.ends_at ?? atMs,
    doubtSinceMs: row.doubt_since ?? undefined,
    leaseExpired: row.lapsed === 1,
    context: row.context,
    notes: row.notes,
    pieceMax: row.piece_max ?? undefined,
    credential: row.credential,
    acceptances: accepted?.count ?? 0,
    servedProviders: db.all<{ provider: string }>("SELECT provider FROM served").map((one) => one.provider),
    clockSteppedAtMs: lastStep(db, atMs)?.atMs,
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
