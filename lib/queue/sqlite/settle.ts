// Settlements: carries out what was decided about a batch, while its lease is the one that it was claimed under.
// Under an old lease only acceptances count: what is waiting, retrying or dead is sent; what is in a batch is marked
// there, and a batch with all its emails marked is finished.

import { envelopeLine } from "../../email/email.ts";
import type { Batch, EmailFate, Settled, Settlement } from "../contract.ts";
import { batchOf } from "./claim.ts";
import type { SqliteConnection } from "./connection.ts";
import { retire, type Remains } from "./retention.ts";
import { anyProvider, listName } from "./due_lists.ts";

interface Member {
  readonly id: string;
  readonly mark_batch: string | null;
  readonly mark_remains: string | null;
}

/** @param retainMs how long the ids of what leaves stay known */
export function settle(
  db: SqliteConnection,
  batch: Batch,
  settlement: Settlement,
  atMs: number,
  retainMs: number,
): Settled {
  const row = batchOf(db, batch.id);
  const leaseHeld = row !== undefined && row.lease === batch.lease && row.held === 1;
  const texts = new Map(batch.emails.map(({ id, text }) => [id, text]));
  // What is left of a sent email: who wrote to whom about what, and what became of it.
  const remainsOf = ({ id, record }: EmailFate & { kind: "sent" }): Remains => ({
    batch: batch.id,
    remains: `${envelopeLine(texts.get(id) ?? "")}\n${record}`,
  });
  const duplicates: string[] = [];
  /** Not counting what a repeated settlement says again. */
  let accepted = 0;
  /** Of what was accepted before: by the same request, or twice. A deleted email was not. */
  const acceptedAgain = (id: string, by: string | null) => {
    if (by !== batch.id && by !== null) duplicates.push(id);
  };
  const expiresAtMs = atMs + retainMs;

  if (leaseHeld) carryOut();
  else for (const fate of settlement.fates) if (fate.kind === "sent") acceptLate(fate.id, remainsOf(fate));

  if (duplicates.length > 0) count(db, "duplicates", duplicates.length);
  if (accepted > 0) countAcceptances(db, batch.provider, settlement.credential, accepted);
  return { leaseHeld, duplicates };

  function carryOut(): void {
    const members = membersOf(db, batch.id);
    const left = new Map(members.map((member) => [member.id, member]));
    if (settlement.keepsLease && isRepeated(settlement, left)) return;
    for (const fate of settlement.fates) {
      const member = left.get(fate.id);
      if (member === undefined) throw new Error(`settle: not in the batch, or named twice: ${fate.id}`);
      left.delete(fate.id);
      carryOutOne(fate, markOf(member));
    }
    const rest = [...left.values()];
    if (rest.length > 0 && settlement.rest === undefined && !settlement.keepsLease) {
      throw new Error(`settle: neither a fate nor a rest: ${rest[0]?.id}`);
    }
    if (!finish(batch.id, rest) && !settlement.keepsLease) {
      db.run(
        `UPDATE batches SET held = 0, lapsed = 0, doubt_since = coalesce(doubt_since, ?2), due_at = ?3, notes = ?4
         WHERE id = ?1`,
        batch.id,
        atMs,
        atMs + Math.round(settlement.rest?.delayMs ?? 0),
        settlement.rest?.notes ?? "",
      );
    }
    for (const [name, by] of Object.entries(settlement.counts)) count(db, name, by);
    noteCondition(db, batch.provider, settlement, atMs);
  }

  function carryOutOne(fate: EmailFate, mark: Remains | undefined): void {
    const { id } = fate;
    if (fate.kind === "sent") {
      accepted += 1;
      if (mark !== undefined) acceptedAgain(id, mark.batch);
      return retire(db, id, remainsOf(fate), expiresAtMs);
    }
    if (mark !== undefined) return retire(db, id, mark, expiresAtMs);
    if (fate.history !== "") db.run("UPDATE places SET history = ? WHERE id = ?", fate.history, id);
    switch (fate.kind) {
      case "dead":
        db.run("UPDATE places SET batch = NULL, position = NULL, died_at = ? WHERE id = ?", atMs, id);
        break;
      case "due":
        db.run(
          "UPDATE places SET batch = NULL, position = NULL, due_at = ?, provider = ? WHERE id = ?",
          atMs + Math.round(fate.delayMs),
          listName({ only: fate.only ?? anyProvider, pieceMax: fate.pieceMax }),
          id,
        );
        break;
    }
  }

  function acceptLate(id: string, remains: Remains): void {
    const sent = db.get<{ batch: string | null }>("SELECT batch FROM sent WHERE id = ?", id);
    if (sent !== undefined) return acceptedAgain(id, sent.batch);
    const place = db.get<{ batch: string | null; mark_batch: string | null }>(
      "SELECT batch, mark_batch FROM places WHERE id = ?",
      id,
    );
    if (place === undefined) return;
    if (place.mark_batch !== null) return acceptedAgain(id, place.mark_batch);
    accepted += 1;
    if (place.batch === null) return retire(db, id, remains, expiresAtMs);
    db.run(
      "UPDATE places SET mark_batch = ?, mark_remains = ? WHERE id = ?",
      remains.batch,
      remains.remains,
      id,
    );
    finish(place.batch, membersOf(db, place.batch));
  }

  /** Ends a batch if all that is left in it has been accepted elsewhere. */
  function finish(id: string, rest: readonly Member[]): boolean {
    const marks = rest.map(markOf);
    if (marks.includes(undefined)) return false;
    rest.forEach((member, i) => retire(db, member.id, marks[i], expiresAtMs));
    db.run("DELETE FROM batches WHERE id = ?", id);
    return true;
  }
}

/** The lease does not tell, since it is kept: the emails have left already. */
function isRepeated({ fates }: Settlement, left: ReadonlyMap<string, Member>): boolean {
  return fates.length > 0 && fates.every(({ id }) => !left.has(id));
}

/** Also under an old lease: what a provider accepted, it accepted. */
function countAcceptances(
  db: SqliteConnection,
  provider: string,
  credential: string | undefined,
  accepted: number,
): void {
  if (credential === undefined) return;
  db.run(
    `INSERT INTO acceptances (provider, credential, count) VALUES (?1, ?2, ?3)
     ON CONFLICT DO UPDATE SET count = count + ?3`,
    provider,
    credential,
    accepted,
  );
}

/** One acceptance outweighs the rest, as it does for the breaker. */
function noteCondition(
  db: SqliteConnection,
  provider: string,
  { fates, failure }: Settlement,
  atMs: number,
): void {
  if (fates.some(({ kind }) => kind === "sent")) {
    db.run(
      `INSERT INTO conditions (provider, accepted_at) VALUES (?1, ?2)
       ON CONFLICT DO UPDATE SET accepted_at = ?2, failing_since = NULL, unanswered = 0`,
      provider,
      atMs,
    );
  } else if (failure !== undefined) {
    db.run(
      `INSERT INTO conditions (provider, failing_since, failed_at, reason, unanswered) VALUES (?1, ?2, ?2, ?3, ?4)
       ON CONFLICT DO UPDATE SET
         failing_since = coalesce(failing_since, ?2), failed_at = ?2, reason = ?3, unanswered = ?4`,
      provider,
      atMs,
      failure.reason,
      failure.own ? 0 : 1,
    );
  }
}

export function membersOf(db: SqliteConnection, batch: string): Member[] {
  return db.all<Member>(
    "SELECT id, mark_batch, mark_remains FROM places WHERE batch = ? ORDER BY position",
    batch,
  );
}

export function markOf({ mark_batch: batch, mark_remains: remains }: Member): Remains | undefined {
  return batch === null ? undefined : { batch, remains: remains ?? "" };
}

export function count(db: SqliteConnection, name: string, by: number): void {
  db.run(
    "INSERT INTO counters (name, count) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET count = count + ?2",
    name,
    by,
  );
}
