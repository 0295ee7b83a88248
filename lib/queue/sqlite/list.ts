// Emails as an operator sees them: one by its id, or pages of those in a state. A page merges sorted lists of rows. A
// row has the time of an entry, the entry, and an email: an entry is an email, or a batch with a row for each of its
// emails. So a position stays valid even if the email that it names has left.

import { envelopeLine } from "../../email/email.ts";
import type { EmailState, Page, StoredBatch, StoredEmail } from "../contract.ts";
import type { SqliteConnection } from "./connection.ts";
import {
  batchTables,
  deadList,
  type DueList,
  dueLists,
  hiddenColumns,
  noBatch,
  scheduledList,
} from "./lists.ts";

interface PlaceRow {
  readonly text: string;
  readonly submitted_at: number;
  readonly history: string;
  readonly due_at: number | null;
  readonly died_at: number | null;
  readonly mark_remains: string | null;
  readonly batch: string | null;
  readonly is_scheduled: number;
}

interface BatchRow {
  readonly provider: string;
  readonly lease: number;
  readonly held: number;
  readonly due_at: number;
  readonly lapsed: number;
  readonly doubt_since: number | null;
  readonly notes: string;
}

export function showEmail(db: SqliteConnection, id: string): StoredEmail | undefined {
  const email = readEmail(db, id);
  if (email?.batch === undefined) return email;
  const members = db.all<{ id: string }>`
    SELECT id FROM places WHERE batch = ${email.batch.id} ORDER BY position`;
  return { ...email, batch: { ...email.batch, emailIds: members.map((member) => member.id) } };
}

/** As in a list, but with its content. */
function readEmail(db: SqliteConnection, id: string): StoredEmail | undefined {
  const gone = db.get<{ batch: string | null; remains: string }>`
    SELECT batch, remains FROM sent WHERE id = ${id}`;
  if (gone !== undefined) return goneEmail(id, gone.batch === null ? undefined : gone.remains);
  const place = db.get<PlaceRow>`
    SELECT text, submitted_at, history, mark_remains, nullif(batch, ${noBatch}) AS batch,
      iif(hidden_list IS ${deadList}, NULL, coalesce(due_at, hidden_at)) AS due_at,
      iif(hidden_list IS ${deadList}, hidden_at, died_at) AS died_at, hidden_list IS ${scheduledList} AS is_scheduled
    FROM places JOIN emails ON emails.id = places.id WHERE places.id = ${id}`;
  if (place === undefined) return undefined;
  // Another batch delivered it meanwhile, so it ends as sent whatever becomes of this one.
  if (place.mark_remains !== null) return goneEmail(id, place.mark_remains);
  const { text, submitted_at, history, due_at, died_at } = place;
  const batch = place.batch === null ? undefined : readBatch(db, place.batch);
  return {
    id,
    state: batch === undefined ? stateOf(place, db.now.atMs) : batchState(batch),
    text,
    submittedAtMs: submitted_at,
    atMs: due_at ?? died_at ?? undefined,
    history,
    batch,
  };
}

/** The state of an email that is in no batch. */
function stateOf({ due_at, is_scheduled }: PlaceRow, nowMs: number): EmailState {
  if (due_at === null) return "dead";
  if (due_at <= nowMs) return "waiting";
  return is_scheduled === 1 ? "scheduled" : "retrying";
}

function readBatch(db: SqliteConnection, id: string): StoredBatch {
  const row = db.get<BatchRow>`SELECT provider, lease, held, due_at, lapsed, doubt_since, notes
    FROM all_batches WHERE id = ${id}`;
  if (row === undefined) throw new Error(`list: no batch ${id}`);
  const { provider, lease, held, due_at, lapsed, doubt_since, notes } = row;
  /** Its lease expired, and nobody has claimed it since. */
  const hasExpired = held === 1 && due_at <= db.now.atMs;
  return {
    id,
    provider,
    lease,
    dueAtMs: due_at,
    leased: held === 1 && !hasExpired,
    leaseExpired: lapsed === 1 || hasExpired,
    doubtSinceMs: doubt_since ?? undefined,
    notes,
  };
}

function batchState({ leased, leaseExpired, doubtSinceMs }: StoredBatch): EmailState {
  return doubtSinceMs !== undefined || (leaseExpired && !leased) ? "in-doubt" : "sending";
}

/** @param remains of a sent email: its envelope line and its record; undefined for a deleted email */
function goneEmail(id: string, remains: string | undefined): StoredEmail {
  if (remains === undefined) return { id, state: "deleted", history: "" };
  const record = remains.slice(remains.indexOf("\n") + 1);
  return { id, state: "sent", text: envelopeLine(remains), history: "", record };
}

type ListedState = Exclude<EmailState, "deleted">;

/** A row, and the position of a page that ended with it. */
interface Row {
  readonly atMs: number;
  /** The id of a batch, or of the email itself. */
  readonly entry: string;
  readonly email: string;
}

/** The part of a list that a page reads. */
interface Range {
  readonly limit: number;
  /** A position; undefined for the beginning. */
  readonly from: string | undefined;
  readonly order: "oldest" | "newest";
}

/** Fewest rows that a page goes through, if there are as many: some may not be in the state. */
const rowsMin = 100;
/** Most text that a page reads, bytes, but at least one email. */
const bytesMax = 4 * 1024 * 1024;

/** A page may hold fewer emails than `limit`, or none, though others follow. */
export function listEmails(db: SqliteConnection, state: ListedState, { limit, from, order }: Range): Page {
  const rowsMax = Math.max(limit, rowsMin);
  // One row more than this page goes through shows whether another page follows.
  const rows = readRows(db, state, { limit: rowsMax + 1, from, order });
  const emails: StoredEmail[] = [];
  let bytes = 0;
  let next: string | undefined;
  for (const [passed, row] of rows.entries()) {
    if (passed === rowsMax || emails.length === limit || bytes > bytesMax) return { emails, next };
    next = `${row.atMs} ${row.entry} ${row.email}`;
    const email = readEmail(db, row.email);
    if (email?.state !== state) continue;
    const { text = "", history, record = "", batch } = email;
    bytes += text.length + history.length + record.length + (batch?.notes.length ?? 0);
    emails.push({ ...email, text: envelopeLine(text) });
  }
  return { emails, next: undefined };
}

/** Rows of all emails in a state, perhaps with others. SQLite merges lists that are each in the order of an index. */
function readRows(db: SqliteConnection, state: ListedState, { limit, from, order }: Range): Row[] {
  const { atMs: nowMs } = db.now;
  const firstMs = state === "retrying" || state === "scheduled" ? nowMs + 1 : -1;
  const lastMs = state === "waiting" ? nowMs : Number.MAX_SAFE_INTEGER;
  // No id is smaller than "" or larger than "~".
  const [startMs, edge, after, until, endMs, way] =
    order === "oldest"
      ? ([firstMs, "", ">", "<=", lastMs, "ASC"] as const)
      : ([lastMs, "~", "<", ">=", firstMs, "DESC"] as const);
  const list = (table: string, time: string, condition: string) => {
    const [source, email] = batchTables.includes(table)
      ? [`${table} CROSS JOIN places ON batch = ${table}.id`, "places.id"]
      : [table, "id"];
    return `SELECT ${table}.${time} AS atMs, ${table}.id AS entry, ${email} AS email FROM ${source}
      WHERE ${condition} AND (${table}.${time}, ${table}.id, ${email}) ${after} (?1, ?2, ?3)
        AND ${table}.${time} ${until} ?4`;
  };
  const waiting = ({ name, columns }: Pick<DueList, "name" | "columns">) => {
    const quoted = `'${name.replaceAll("'", "''")}'`;
    return list("places", columns.at, `${columns.at} IS NOT NULL AND ${columns.list} = ${quoted}`);
  };
  const hidden = (name: string) => waiting({ name, columns: hiddenColumns });
  // Scheduled emails are never retrying.
  const due = () =>
    dueLists(db)
      .filter(({ isScheduled }) => !isScheduled || state === "waiting")
      .map(waiting);
  const all = (time: string, condition: string) => batchTables.map((table) => list(table, time, condition));
  // Their emails are in doubt once the lease has run out.
  const sending = () => all("due_at", "doubt_since IS NULL");
  const lists: Readonly<Record<ListedState, () => string[]>> = {
    scheduled: () => [hidden(scheduledList)],
    waiting: due,
    retrying: due,
    sending,
    "in-doubt": () => [...sending(), ...all("doubt_since", "doubt_since IS NOT NULL")],
    sent: () => [list("sent", "expires_at", "TRUE")],
    dead: () => [list("places", "died_at", "died_at IS NOT NULL"), hidden(deadList)],
  };
  const selects = lists[state]();
  if (selects.length === 0) return [];
  const [atMs = startMs, entry = edge, email = edge] = from?.split(" ") ?? [];
  const sql = `${selects.join(" UNION ALL ")} ORDER BY atMs ${way}, entry ${way}, email ${way} LIMIT ?5`;
  return db.all<Row>(sql, Number(atMs), entry, email, endMs, limit);
}
