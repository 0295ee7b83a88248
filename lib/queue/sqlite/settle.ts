// Settlements: carries out what was decided about a batch, while its lease is the one under which it was claimed. Under
// an old lease only acceptances count: an email that waits, retries or is dead becomes sent; one in a batch is marked
// there, and a batch whose emails are all marked ends.

import { envelopeLine } from "../../email/email.ts";
import type { Batch, EmailFate, ProviderCondition, Settled, Settlement } from "../contract.ts";
import { anyProvider, listName } from "./claim.ts";
import type { SqliteConnection } from "./connection.ts";

/** An email in a batch. */
interface Member {
  readonly id: string;
  /** The batch by which it was accepted while it was in this one; null if it was not. */
  readonly mark_batch: string | null;
  readonly mark_remains: string | null;
}

type Sent = Extract<EmailFate, { kind: "sent" }>;

/** @param retainMs how long the ids of what leaves stay known */
export function settle(
  db: SqliteConnection,
  batch: Batch,
  settlement: Settlement,
  retainMs: number,
): Settled {
  const row = db.get<{ lease: number; held: number }>`SELECT lease, held FROM batches WHERE id = ${batch.id}`;
  const leaseHeld = row !== undefined && row.lease === batch.lease && row.held === 1;
  const settler = new Settler(db, batch, db.now.atMs + retainMs);
  if (leaseHeld) settler.carryOut(settlement);
  else for (const fate of settlement.fates) if (fate.kind === "sent") settler.acceptLate(fate);
  const { duplicates, accepted } = settler;
  if (duplicates.length > 0) count(db, "duplicates", duplicates.length);
  // Also under an old lease: what a provider accepted, it accepted.
  if (accepted > 0 && settlement.credential !== undefined)
    db.run`INSERT INTO acceptances (provider, credential, count)
      VALUES (${batch.provider}, ${settlement.credential}, ${accepted})
      ON CONFLICT DO UPDATE SET count = count + excluded.count`;
  return { leaseHeld, duplicates };
}

/** One settlement of a batch. */
class Settler {
  readonly #db: SqliteConnection;
  readonly #batch: Batch;
  readonly #texts: ReadonlyMap<string, string>;
  readonly #expiresAtMs: number;
  /** Emails that another batch had delivered before. */
  readonly duplicates: string[] = [];
  /** Emails accepted, except those that an earlier try of this settlement reported. */
  accepted = 0;

  constructor(db: SqliteConnection, batch: Batch, expiresAtMs: number) {
    this.#db = db;
    this.#batch = batch;
    this.#texts = new Map(batch.emails.map(({ id, text }) => [id, text]));
    this.#expiresAtMs = expiresAtMs;
  }

  carryOut({ fates, rest, keepsLease, counts, failure }: Settlement): void {
    const members = new Map(membersOf(this.#db, this.#batch.id).map((member) => [member.id, member]));
    // Whether a settlement that keeps the lease is repeated shows only in that its emails have left.
    if (keepsLease && fates.length > 0 && fates.every(({ id }) => !members.has(id))) return;
    for (const fate of fates) {
      const member = members.get(fate.id);
      if (member === undefined) throw new Error(`settle: not in the batch, or named twice: ${fate.id}`);
      members.delete(fate.id);
      this.#carryOutFate(fate, member);
    }
    const left = [...members.values()];
    if (left.length > 0 && rest === undefined && !keepsLease)
      throw new Error(`settle: neither a fate nor a rest: ${left[0]?.id}`);
    const { atMs } = this.#db.now;
    if (!this.#endIfAllMarked(this.#batch.id, left) && rest !== undefined)
      this.#db.run`UPDATE batches SET held = 0, lapsed = 0, doubt_since = coalesce(doubt_since, ${atMs}),
        due_at = ${atMs + Math.round(rest.delayMs)}, notes = ${rest.notes} WHERE id = ${this.#batch.id}`;
    for (const [name, by] of Object.entries(counts)) count(this.#db, name, by);
    const hasAccepted = fates.some(({ kind }) => kind === "sent");
    noteCondition(this.#db, this.#batch.provider, hasAccepted ? "accepted" : failure);
  }

  /** The provider accepted an email under a lease that has been lost since. */
  acceptLate(fate: Sent): void {
    const { id } = fate;
    const sent = this.#db.get<{ batch: string | null }>`SELECT batch FROM sent WHERE id = ${id}`;
    if (sent !== undefined) return this.#acceptAgain(id, sent.batch);
    const place = this.#db.get<{ batch: string | null; mark_batch: string | null }>`
      SELECT batch, mark_batch FROM places WHERE id = ${id}`;
    if (place === undefined) return;
    if (place.mark_batch !== null) return this.#acceptAgain(id, place.mark_batch);
    this.accepted += 1;
    if (place.batch === null) return this.#retireSent(fate);
    this.#db.run`UPDATE places SET mark_batch = ${this.#batch.id}, mark_remains = ${this.#remainsOf(fate)}
      WHERE id = ${id}`;
    this.#endIfAllMarked(place.batch, membersOf(this.#db, place.batch));
  }

  #carryOutFate(fate: EmailFate, member: Member): void {
    if (fate.kind === "sent") {
      this.accepted += 1;
      this.#acceptAgain(fate.id, member.mark_batch);
      return this.#retireSent(fate);
    }
    if (retireIfMarked(this.#db, member, this.#expiresAtMs)) return;
    const { atMs } = this.#db.now;
    const [dueAtMs, list, diedAtMs] =
      fate.kind === "due"
        ? [atMs + Math.round(fate.delayMs), listName(fate.only ?? anyProvider, fate.pieceMax), null]
        : [null, null, atMs];
    this.#db.run`UPDATE places SET batch = NULL, position = NULL, due_at = ${dueAtMs}, provider = ${list},
      died_at = ${diedAtMs}, history = coalesce(nullif(${fate.history}, ''), history) WHERE id = ${fate.id}`;
  }

  /** @param by the batch by which it was accepted before: this one, if that is repeated; null if it was not, or deleted */
  #acceptAgain(id: string, by: string | null): void {
    if (by !== this.#batch.id && by !== null) this.duplicates.push(id);
  }

  #retireSent(fate: Sent): void {
    retire(this.#db, fate.id, this.#expiresAtMs, this.#batch.id, this.#remainsOf(fate));
  }

  /** The part of a sent email that is kept: who wrote to whom about what, and what became of it. */
  #remainsOf({ id, record }: Sent): string {
    return `${envelopeLine(this.#texts.get(id) ?? "")}\n${record}`;
  }

  /** @returns whether the batch has ended: all emails left in it had been accepted elsewhere */
  #endIfAllMarked(id: string, left: readonly Member[]): boolean {
    if (left.some(({ mark_batch }) => mark_batch === null)) return false;
    for (const member of left) retireIfMarked(this.#db, member, this.#expiresAtMs);
    this.#db.run`DELETE FROM batches WHERE id = ${id}`;
    return true;
  }
}

export function membersOf(db: SqliteConnection, batch: string): Member[] {
  return db.all<Member>`
    SELECT id, mark_batch, mark_remains FROM places WHERE batch = ${batch} ORDER BY position`;
}

/** An email that was accepted elsewhere is sent, whatever becomes of its batch. */
export function retireIfMarked(db: SqliteConnection, member: Member, expiresAtMs: number): boolean {
  const { id, mark_batch, mark_remains } = member;
  if (mark_batch !== null) retire(db, id, expiresAtMs, mark_batch, mark_remains ?? "");
  return mark_batch !== null;
}

/**
 * Takes an email out of the queue. Its id stays known until `expiresAtMs`.
 * @param batch by which it was sent; null if it was deleted
 * @param remains what is kept of it
 */
export function retire(
  db: SqliteConnection,
  id: string,
  expiresAtMs: number,
  batch: string | null = null,
  remains = "",
): void {
  db.run`DELETE FROM emails WHERE id = ${id}`;
  db.run`DELETE FROM places WHERE id = ${id}`;
  db.run`INSERT INTO sent (id, batch, remains, expires_at) VALUES (${id}, ${batch}, ${remains}, ${expiresAtMs})`;
}

/** Adds to a counter. */
export function count(db: SqliteConnection, name: string, by: number): void {
  db.run`INSERT INTO counters (name, count) VALUES (${name}, ${by})
    ON CONFLICT DO UPDATE SET count = count + excluded.count`;
}

/** @param what one acceptance outweighs all failures, as it does for the circuit breaker */
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
  return Object.fromEntries(
    rows.map((row) => [row.provider, JSON.parse(row.condition) as ProviderCondition]),
  );
}
