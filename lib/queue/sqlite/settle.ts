// Settlements: carries out what was decided about a batch, while the lease under which it was claimed is held. Under an
// old lease only acceptances count: an email that waits, retries or is dead becomes sent; one in a batch is marked there,
// and a batch whose emails are all marked ends.

import { envelopeLine } from "../../email/email.ts";
import type { Batch, EmailFate, ProviderCondition, Settled, Settlement, StoredBatch } from "../contract.ts";
import type { SqliteConnection } from "./connection.ts";
import { anyProvider, changeBatch, deadList, listName, noBatch } from "./lists.ts";
import { noteRate, readRates } from "./rates.ts";

/** An email that leaves the queue, or may leave it. */
export interface Leaving {
  readonly id: string;
  /** The batch by which it was accepted; null or absent if it was not. */
  readonly batch?: string | null;
  /** The part of a sent email that is kept: its envelope line and its record. Of a moved one, see move.ts. */
  readonly remains?: string | null | undefined;
}

/** An email in a batch. */
type Member = Leaving & { readonly isHidden: number };

type SettledBatch = Pick<Batch, "id" | "provider" | "emails">;
type Sent = Extract<EmailFate, { kind: "sent" }>;
const isAccepted = ({ batch }: Leaving) => typeof batch === "string";

/** @param retainMs how long the ids of what leaves stay known */
export function settle(
  db: SqliteConnection,
  batch: Batch,
  settlement: Settlement,
  retainMs: number,
): Settled {
  const row = db.get<{ lease: number; held: number }>`
    SELECT lease, held FROM all_batches WHERE id = ${batch.id}`;
  const leaseHeld = row !== undefined && row.lease === batch.lease && row.held === 1;
  const carry = leaseHeld ? carryOut : acceptLate;
  const { accepted, duplicates } = carry(db, batch, settlement, retainMs);
  if (duplicates.length > 0) count(db, { duplicates: duplicates.length });
  // Also under an old lease: the provider did accept them.
  if (accepted > 0 && settlement.credential !== undefined)
    db.run`INSERT INTO acceptances (provider, credential, count)
      VALUES (${batch.provider}, ${settlement.credential}, ${accepted})
      ON CONFLICT DO UPDATE SET count = count + excluded.count`;
  const { rate } = settlement;
  // A permit goes back once, however often the settlement is repeated.
  if (rate !== undefined && (leaseHeld || rate.kind !== "unused"))
    noteRate(db, { provider: batch.provider, credential: rate.credential }, rate);
  return { leaseHeld, duplicates };
}

/** Settles a batch that is not leased, if it is as it was shown. */
export function release(
  db: SqliteConnection,
  batch: StoredBatch,
  settlement: Settlement,
  retainMs: number,
): boolean {
  // Only a lease that expired without a settlement leaves a batch held.
  const held = batch.leaseExpired ? 1 : 0;
  const isSame = db.get`SELECT 1 FROM all_batches WHERE id = ${batch.id} AND lease = ${batch.lease}
    AND held = ${held} AND (held = 0 OR due_at <= ${db.now.atMs})`;
  if (isSame === undefined) return false;
  // Under an expired lease its worker may still have taken emails out, before the first request.
  const members = new Set(membersOf(db, batch.id).map(({ id }) => id));
  if (!settlement.fates.every(({ id }) => members.has(id))) return false;
  carryOut(db, { ...batch, emails: [] }, settlement, retainMs);
  return true;
}

/** Emails newly accepted, and those that another batch had delivered before. */
interface Acceptances {
  readonly accepted: number;
  readonly duplicates: readonly string[];
}

function carryOut(
  db: SqliteConnection,
  batch: SettledBatch,
  settlement: Settlement,
  retainMs: number,
): Acceptances {
  const { fates, rest, keepsLease, counts, failure } = settlement;
  const members = new Map(membersOf(db, batch.id).map((member) => [member.id, member]));
  // If all its emails have left, this repeats a settlement that keeps the lease.
  if (keepsLease && fates.length > 0 && fates.every(({ id }) => !members.has(id)))
    return { accepted: 0, duplicates: [] };
  const sentBy = senderOf(batch);
  const leaving: Leaving[] = [];
  const duplicates: string[] = [];
  let accepted = 0;
  for (const fate of fates) {
    const member = members.get(fate.id);
    if (member === undefined) throw new Error(`settle: not in the batch, or named twice: ${fate.id}`);
    members.delete(fate.id);
    if (fate.kind === "sent") {
      accepted += 1;
      leaving.push(sentBy(fate));
      if (isAccepted(member) && member.batch !== batch.id) duplicates.push(fate.id);
    } else if (isAccepted(member)) leaving.push(member);
    else if (member.isHidden === 1) putBackHidden(db, fate);
    else putBack(db, fate);
  }
  const left = [...members.values()];
  if (left.length > 0 && rest === undefined && !keepsLease)
    throw new Error(`settle: neither a fate nor a rest: ${left[0]?.id}`);
  retire(db, leaving, retainMs);
  if (!endIfAllMarked(db, batch.id, left, retainMs) && rest !== undefined) {
    const { atMs } = db.now;
    changeBatch(
      db,
      (table) => `UPDATE ${table} SET held = 0, lapsed = 0, doubt_since = coalesce(doubt_since, ?),
        due_at = ?, notes = ? WHERE id = ?`,
      atMs,
      atMs + Math.round(rest.delayMs),
      rest.notes,
      batch.id,
    );
  }
  count(db, counts);
  noteCondition(db, batch.provider, accepted > 0 ? "accepted" : failure);
  return { accepted, duplicates };
}

/** The provider accepted emails under a lease that has been lost since. */
function acceptLate(
  db: SqliteConnection,
  batch: Batch,
  { fates }: Settlement,
  retainMs: number,
): Acceptances {
  const sentBy = senderOf(batch);
  const duplicates: string[] = [];
  let accepted = 0;
  for (const fate of fates) {
    if (fate.kind !== "sent") continue;
    const { id } = fate;
    const email = db.get<{ batch: string | null; accepted_by: string | null; is_known: number }>`
      SELECT NULL AS batch, batch AS accepted_by, TRUE AS is_known FROM sent WHERE id = ${id}
      UNION ALL SELECT nullif(batch, ${noBatch}), mark_batch, mark_batch IS NOT NULL FROM places WHERE id = ${id}`;
    if (email === undefined) continue;
    if (email.accepted_by !== null && email.accepted_by !== batch.id) duplicates.push(id);
    if (email.is_known === 1) continue;
    accepted += 1;
    const leaving = sentBy(fate);
    if (email.batch === null) retire(db, [leaving], retainMs);
    else {
      db.run`UPDATE places SET mark_batch = ${batch.id}, mark_remains = ${leaving.remains} WHERE id = ${id}`;
      endIfAllMarked(db, email.batch, membersOf(db, email.batch), retainMs);
    }
  }
  return { accepted, duplicates };
}

function senderOf(batch: SettledBatch) {
  const texts = new Map(batch.emails.map(({ id, text }) => [id, text]));
  return ({ id, record }: Sent) => ({
    id,
    batch: batch.id,
    remains: `${envelopeLine(texts.get(id) ?? "")}\n${record}`,
  });
}

/** Takes an email that is not sent out of its batch. */
function putBack(db: SqliteConnection, fate: Exclude<EmailFate, Sent>): void {
  const { atMs } = db.now;
  const { id, history } = fate;
  if (fate.kind === "dead")
    db.run`UPDATE places SET batch = NULL, position = NULL, died_at = ${atMs},
      history = coalesce(nullif(${history}, ''), history) WHERE id = ${id}`;
  else
    db.run`UPDATE places SET batch = NULL, position = NULL, due_at = ${atMs + Math.round(fate.delayMs)},
      provider = ${listName(fate.only ?? anyProvider, fate.pieceMax)},
      history = coalesce(nullif(${history}, ''), history) WHERE id = ${id}`;
}

/** As {@link putBack}, for the lists of hidden emails. */
function putBackHidden(db: SqliteConnection, fate: Exclude<EmailFate, Sent>): void {
  const { atMs } = db.now;
  const [list, delayMs] =
    fate.kind === "dead"
      ? [deadList, 0]
      : [listName(fate.only ?? anyProvider, fate.pieceMax), Math.round(fate.delayMs)];
  db.run`UPDATE places SET batch = ${noBatch}, position = 0, hidden_list = ${list}, hidden_at = ${atMs + delayMs},
    history = coalesce(nullif(${fate.history}, ''), history) WHERE id = ${fate.id}`;
}

/** @returns whether the batch has ended: all emails left in it had been accepted elsewhere */
function endIfAllMarked(db: SqliteConnection, id: string, left: readonly Leaving[], retainMs: number) {
  if (!left.every(isAccepted)) return false;
  retire(db, left, retainMs);
  changeBatch(db, (table) => `DELETE FROM ${table} WHERE id = ?`, id);
  return true;
}

/** The emails in a batch, with what another batch accepted meanwhile: that is sent whatever becomes of this batch. */
function membersOf(db: SqliteConnection, batch: string): Member[] {
  return db.all<Member>`SELECT id, mark_batch AS batch, mark_remains AS remains, hidden_list IS NOT NULL AS isHidden
    FROM places WHERE batch = ${batch} ORDER BY position`;
}

/**
 * Takes emails out of the queue. Their ids stay known for `retainMs`. Few statements for all of them, since SQLite copies
 * pages for each statement that may fire a trigger.
 */
export function retire(db: SqliteConnection, leaving: readonly Leaving[], retainMs: number): void {
  if (leaving.length === 0) return;
  const ids = JSON.stringify(leaving.map(({ id }) => id));
  db.run`DELETE FROM places WHERE id IN (SELECT value FROM json_each(${ids}))`;
  db.run`DELETE FROM emails WHERE id IN (SELECT value FROM json_each(${ids}))`;
  const expiresAtMs = db.now.atMs + retainMs;
  db.insert(
    "sent (id, batch, remains, expires_at)",
    leaving.map(({ id, batch = null, remains }) => [id, batch, remains ?? "", expiresAtMs]),
  );
}

/** Adds to counters, `times` times. */
export function count(db: SqliteConnection, counts: Readonly<Record<string, number>>, times = 1): void {
  if (times === 0) return;
  db.run`INSERT INTO counters (name, count)
    SELECT key, value * ${times} FROM json_each(${JSON.stringify(counts)}) WHERE TRUE
    ON CONFLICT DO UPDATE SET count = count + excluded.count`;
}

/** @param what one acceptance outweighs all failures, as for the circuit breaker */
function noteCondition(
  db: SqliteConnection,
  provider: string,
  what: "accepted" | Settlement["failure"],
): void {
  const { atMs } = db.now;
  if (what === undefined) return;
  if (what === "accepted")
    db.run`INSERT INTO conditions (provider, accepted_at) VALUES (${provider}, ${atMs})
      ON CONFLICT DO UPDATE SET accepted_at = excluded.accepted_at, failing_since = NULL, unanswered = 0`;
  else
    db.run`INSERT INTO conditions (provider, failing_since, failed_at, reason, unanswered)
      VALUES (${provider}, ${atMs}, ${atMs}, ${what.reason}, ${what.own ? 0 : 1})
      ON CONFLICT DO UPDATE SET failing_since = coalesce(failing_since, excluded.failing_since),
        failed_at = excluded.failed_at, reason = excluded.reason, unanswered = excluded.unanswered`;
}

export function readConditions(db: SqliteConnection): Record<string, ProviderCondition> {
  // json_patch drops what is null.
  const rows = db.all<{ provider: string; condition: string }>`
    SELECT provider, json_patch('{}', json_object(
      'lastAcceptedAtMs', accepted_at, 'failingSinceMs', failing_since, 'lastFailedAtMs', failed_at,
      'lastFailure', reason, 'isUnanswered', iif(failing_since IS NOT NULL AND unanswered = 1, json('true'), NULL)
    )) AS condition FROM conditions ORDER BY provider`;
  const conditions = rows.map(
    (row) => [row.provider, JSON.parse(row.condition) as ProviderCondition] as const,
  );
  const all: Record<string, ProviderCondition> = Object.fromEntries(conditions);
  for (const [provider, rate] of readRates(db)) all[provider] = { ...all[provider], rate };
  return all;
}
