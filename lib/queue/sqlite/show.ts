// One email, as it is shown to an operator.

import { envelopeLine } from "../../email/email.ts";
import type { EmailState, StoredEmail } from "../contract.ts";
import type { SqliteConnection } from "./connection.ts";

interface Place {
  readonly text: string;
  readonly submitted_at: number;
  readonly history: string;
  readonly due_at: number | null;
  readonly died_at: number | null;
  readonly mark_remains: string | null;
  readonly batch: string | null;
  readonly provider: string | null;
  readonly held: number | null;
  /** The end of its lease, or its next try. */
  readonly batch_due_at: number | null;
  readonly lapsed: number | null;
  readonly doubt_since: number | null;
  readonly notes: string | null;
}

export function showEmail(db: SqliteConnection, id: string, atMs: number): StoredEmail | undefined {
  const sent = db.get<{ batch: string | null; remains: string }>(
    "SELECT batch, remains FROM sent WHERE id = ?",
    id,
  );
  if (sent !== undefined) return sent.batch === null ? deletedEmail(id) : sentEmail(id, sent.remains);
  const place = db.get<Place>(
    `SELECT emails.text, emails.submitted_at, places.history, places.due_at, places.died_at, places.mark_remains,
       places.batch, batches.provider, batches.held, batches.due_at AS batch_due_at, batches.doubt_since,
       batches.lapsed, batches.notes
     FROM places JOIN emails ON emails.id = places.id LEFT JOIN batches ON batches.id = places.batch
     WHERE places.id = ?`,
    id,
  );
  if (place === undefined) return undefined;
  // Accepted elsewhere meanwhile: that wins, however its batch ends.
  if (place.mark_remains !== null) return sentEmail(id, place.mark_remains);
  return {
    id,
    state: stateOf(place, atMs),
    text: place.text,
    submittedAtMs: place.submitted_at,
    atMs: place.due_at ?? place.died_at ?? undefined,
    history: place.history,
    record: undefined,
    batch: batchOf(place, atMs),
  };
}

function deletedEmail(id: string): StoredEmail {
  return {
    id,
    state: "deleted",
    text: undefined,
    submittedAtMs: undefined,
    atMs: undefined,
    history: "",
    record: undefined,
    batch: undefined,
  };
}

function sentEmail(id: string, remains: string): StoredEmail {
  const record = remains.slice(remains.indexOf("\n") + 1);
  return { ...deletedEmail(id), state: "sent", text: envelopeLine(remains), record };
}

function batchOf(place: Place, atMs: number): StoredEmail["batch"] {
  const { batch, provider, held, batch_due_at, lapsed, doubt_since, notes } = place;
  if (batch === null) return undefined;
  return {
    id: batch,
    provider: provider ?? "",
    dueAtMs: batch_due_at ?? 0,
    leased: held === 1 && !hasLapsed(place, atMs),
    leaseExpired: lapsed === 1 || hasLapsed(place, atMs),
    doubtSinceMs: doubt_since ?? undefined,
    notes: notes ?? "",
  };
}

/** Its lease ran out, and nobody has claimed it since. */
function hasLapsed({ held, batch_due_at }: Place, atMs: number): boolean {
  return held === 1 && batch_due_at !== null && batch_due_at <= atMs;
}

function stateOf(place: Place, atMs: number): EmailState {
  const { due_at, died_at, doubt_since } = place;
  if (died_at !== null) return "dead";
  if (due_at !== null) return due_at > atMs ? "retrying" : "waiting";
  return doubt_since !== null || hasLapsed(place, atMs) ? "in-doubt" : "sending";
}
