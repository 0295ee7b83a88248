// Emails as an operator sees them: one by its id, or pages of those in a state. A page merges sorted lists of rows. A
// row has the time of an entry, the entry, and an email: an entry is an email, or a batch with a row for each of its
// emails. So each email has one position, whatever has left meanwhile, the one before it included.

import { envelopeLine } from "../../email/email.ts";
import type { EmailState, Page, StoredEmail } from "../contract.ts";
import { dueLists } from "./claim.ts";
import type { SqliteConnection } from "./connection.ts";

interface Place {
  readonly text: string;
  readonly submitted_at: number;
  readonly history: string;
  readonly due_at: number | null;
  readonly died_at: number | null;
  readonly mark_remains: string | null;
  readonly batch: string | null;
  readonly provider: string;
  readonly held: number;
  /** The end of its lease, or its next attempt. */
  readonly batch_due_at: number;
  readonly lapsed: number;
  readonly doubt_since: number | null;
  readonly notes: string;
}

export function showEmail(db: SqliteConnection, id: string): StoredEmail | undefined {
  const gone = db.get<{ batch: string | null; remains: string }>`
    SELECT batch, remains FROM sent WHERE id = ${id}`;
  if (gone !== undefined) return goneEmail(id, gone.batch === null ? undefined : gone.remains);
  const place = db.get<Place>`
    SELECT text, submitted_at, history, places.due_at, died_at, mark_remains, batch, batches.provider, held,
      batches.due_at AS batch_due_at, doubt_since, lapsed, notes
    FROM places JOIN emails ON emails.id = places.id LEFT JOIN batches ON batches.id = batch
    WHERE places.id = ${id}`;
  if (place === undefined) return undefined;
  // It was accepted elsewhere meanwhile, and ends as sent whatever becomes of its batch.
  if (place.mark_remains !== null) return goneEmail(id, place.mark_remains);
  const { text, submitted_at, history, due_at, died_at, batch, provider, held, batch_due_at, notes } = place;
  const { atMs } = db.now;
  const doubtSinceMs = place.doubt_since ?? undefined;
  /** Its lease ran out, and nobody has claimed it since. */
  const hasExpired = held === 1 && batch_due_at <= atMs;
  const leased = held === 1 && !hasExpired;
  const leaseExpired = place.lapsed === 1 || hasExpired;
  let state: EmailState = doubtSinceMs !== undefined || hasExpired ? "in-doubt" : "sending";
  if (died_at !== null) state = "dead";
  if (due_at !== null) state = due_at > atMs ? "retrying" : "waiting";
  return {
    id,
    state,
    text,
    submittedAtMs: submitted_at,
    atMs: due_at ?? died_at ?? undefined,
    history,
    record: undefined,
    batch:
      batch === null
        ? undefined
        : { id: batch, provider, dueAtMs: batch_due_at, leased, leaseExpired, doubtSinceMs, notes },
  };
}

/** @param remains of a sent email: its envelope line and its record; undefined for a deleted email */
function goneEmail(id: string, remains: string | undefined): StoredEmail {
  const nothing = { submittedAtMs: undefined, atMs: undefined, history: "", batch: undefined };
  if (remains === undefined) return { ...nothing, id, state: "deleted", text: undefined, record: undefined };
  const record = remains.slice(remains.indexOf("\n") + 1);
  return { ...nothing, id, state: "sent", text: envelopeLine(remains), record };
}

type ListedState = Exclude<EmailState, "deleted">;
type Order = "oldest" | "newest";

/** A row, and the position of a page that ended with it. */
interface Row {
  readonly atMs: number;
  /** The id of a batch, or of the email itself. */
  readonly entry: string;
  readonly email: string;
}

/** Before all rows, and after all: no id begins with such a character. */
const ends: Readonly<Record<Order, Row>> = {
  oldest: { atMs: -1, entry: "", email: "" },
  newest: { atMs: Number.MAX_SAFE_INTEGER, entry: "~", email: "~" },
};

/** A page goes through at least so many rows, since not every row need be in the state. */
const rowsMin = 100;
/** A page reads no more text than this, bytes, but at least one email. */
const bytesMax = 4 * 1024 * 1024;

/** A page may hold fewer emails than `limit`, or none, though others follow. */
export function listEmails(
  db: SqliteConnection,
  state: ListedState,
  { limit, from, order }: { limit: number; from: string | undefined; order: Order },
): Page {
  const rowsMax = Math.max(limit, rowsMin);
  let last = from === undefined ? ends[order] : readCursor(from);
  // One more than this page can go through shows whether another page follows.
  const rows = readRows(db, state, { start: last, order, count: rowsMax + 1 });
  const emails: StoredEmail[] = [];
  let bytes = 0;
  for (const [passed, row] of rows.entries()) {
    if (passed === rowsMax || emails.length === limit || bytes > bytesMax) {
      return { emails, next: `${last.atMs} ${last.entry} ${last.email}` };
    }
    const email = showEmail(db, row.email);
    if (email?.state === state) {
      const { text = "", history, record = "", batch } = email;
      bytes += text.length + history.length + record.length + (batch?.notes.length ?? 0);
      emails.push({ ...email, text: envelopeLine(text) });
    }
    last = row;
  }
  return { emails, next: undefined };
}

function readCursor(text: string): Row {
  const [atMs = "", entry = "", email = ""] = text.split(" ");
  return { atMs: Number(atMs), entry, email };
}

/** The part of a list that a page reads: `count` rows behind `start`. */
interface Range {
  readonly start: Row;
  readonly order: Order;
  readonly count: number;
}

/** Rows of the emails that may be in a state, in order. Each list of rows is the order of an index. */
function readRows(db: SqliteConnection, state: ListedState, range: Range): Row[] {
  const ever = [-1, Number.MAX_SAFE_INTEGER] as const;
  const past = [-1, db.now.atMs] as const;
  const future = [db.now.atMs + 1, Number.MAX_SAFE_INTEGER] as const;
  const read = (
    table: string,
    time: string,
    condition: string,
    within: readonly [number, number],
    ...parameters: string[]
  ) => readList(db, { table, time, condition, within, parameters }, range);
  const waiting = (within: readonly [number, number]) =>
    dueLists(db).flatMap(({ name }) =>
      read("places", "due_at", "due_at IS NOT NULL AND provider = ?", within, name),
    );
  const leased = (within: readonly [number, number]) =>
    read("batches", "due_at", "held = 1 AND doubt_since IS NULL", within);
  const lists: Readonly<Record<ListedState, () => Row[]>> = {
    waiting: () => waiting(past),
    retrying: () => waiting(future),
    sending: () => [...leased(future), ...read("batches", "due_at", "ends_at IS NULL", ever)],
    // Batches whose doubt is recorded, and batches whose lease ran out since.
    "in-doubt": () => [...read("batches", "doubt_since", "doubt_since IS NOT NULL", ever), ...leased(past)],
    sent: () => read("sent", "expires_at", "TRUE", ever),
    dead: () => read("places", "died_at", "died_at IS NOT NULL", ever),
  };
  const rows = lists[state]().toSorted((a, b) => a.atMs - b.atMs || (keyOf(a) < keyOf(b) ? -1 : 1));
  return range.order === "oldest" ? rows : rows.reverse();
}

const keyOf = ({ entry, email }: Row) => `${entry} ${email}`;

interface List {
  readonly table: string;
  readonly time: string;
  readonly condition: string;
  /** First and last time. */
  readonly within: readonly [number, number];
  readonly parameters: readonly string[];
}

function readList(
  db: SqliteConnection,
  { table, time, condition, within: [sinceMs, tillMs], parameters }: List,
  { start, order, count }: Range,
): Row[] {
  const isOfBatches = table === "batches";
  const source = isOfBatches ? "batches CROSS JOIN places ON batch = batches.id" : table;
  const at = `${table}.${time}`;
  const email = isOfBatches ? "places.id" : `${table}.id`;
  const first = start.atMs >= sinceMs ? start : { ...ends.oldest, atMs: sinceMs };
  const last = start.atMs <= tillMs ? start : { ...ends.newest, atMs: tillMs };
  const [compared, bound, limit, limitMs, direction] =
    order === "oldest" ? [">", first, "<=", tillMs, "ASC"] : ["<", last, ">=", sinceMs, "DESC"];
  return db.all<Row>(
    `SELECT ${at} AS atMs, ${table}.id AS entry, ${email} AS email FROM ${source}
     WHERE ${condition} AND (${at}, ${table}.id, ${email}) ${compared} (?, ?, ?) AND ${at} ${limit} ?
     ORDER BY ${at} ${direction}, ${table}.id ${direction}, ${email} ${direction} LIMIT ?`,
    ...parameters,
    bound.atMs,
    bound.entry,
    bound.email,
    limitMs,
    count,
  );
}
