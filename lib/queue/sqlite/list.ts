// Emails as an operator sees them: one by its id, or pages of those in a state. A page merges sorted lists of rows. A
// row has the time of an entry, the entry, and an email: an entry is an email, or a batch with a row for each of its
// emails. So a position stays valid even if the email that it names has left.

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
  readonly lease: number;
  readonly held: number;
  /** The end of its lease, or its next attempt. */
  readonly batch_due_at: number;
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
  const place = db.get<Place>`
    SELECT text, submitted_at, history, places.due_at, died_at, mark_remains, batch, batches.provider, lease, held,
      batches.due_at AS batch_due_at, doubt_since, lapsed, notes
    FROM places JOIN emails ON emails.id = places.id LEFT JOIN batches ON batches.id = batch
    WHERE places.id = ${id}`;
  if (place === undefined) return undefined;
  // Another batch delivered it meanwhile, so it ends as sent whatever becomes of this one.
  if (place.mark_remains !== null) return goneEmail(id, place.mark_remains);
  const { text, submitted_at, history, due_at, died_at, batch, provider, lease, held, batch_due_at, notes } =
    place;
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
        : { id: batch, provider, lease, dueAtMs: batch_due_at, leased, leaseExpired, doubtSinceMs, notes },
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
  const firstMs = state === "retrying" ? nowMs + 1 : -1;
  const lastMs = state === "waiting" ? nowMs : Number.MAX_SAFE_INTEGER;
  // No id is smaller than "" or larger than "~".
  const [startMs, edge, after, until, endMs, way] =
    order === "oldest"
      ? ([firstMs, "", ">", "<=", lastMs, "ASC"] as const)
      : ([lastMs, "~", "<", ">=", firstMs, "DESC"] as const);
  const list = (table: string, time: string, condition: string) => {
    const [source, email] =
      table === "batches" ? ["batches CROSS JOIN places ON batch = batches.id", "places.id"] : [table, "id"];
    return `SELECT ${table}.${time} AS atMs, ${table}.id AS entry, ${email} AS email FROM ${source}
      WHERE ${condition} AND (${table}.${time}, ${table}.id, ${email}) ${after} (?1, ?2, ?3)
        AND ${table}.${time} ${until} ?4`;
  };
  const due = () =>
    dueLists(db).map(({ name }) =>
      list("places", "due_at", `due_at IS NOT NULL AND provider = '${name.replaceAll("'", "''")}'`),
    );
  // Their emails are in doubt once the lease has run out.
  const sending = () => [list("batches", "due_at", "doubt_since IS NULL")];
  const lists: Readonly<Record<ListedState, () => string[]>> = {
    scheduled: () => [],
    waiting: due,
    retrying: due,
    sending,
    "in-doubt": () => [...sending(), list("batches", "doubt_since", "doubt_since IS NOT NULL")],
    sent: () => [list("sent", "expires_at", "TRUE")],
    dead: () => [list("places", "died_at", "died_at IS NOT NULL")],
  };
  const selects = lists[state]();
  if (selects.length === 0) return [];
  const [atMs = startMs, entry = edge, email = edge] = from?.split(" ") ?? [];
  const sql = `${selects.join(" UNION ALL ")} ORDER BY atMs ${way}, entry ${way}, email ${way} LIMIT ?5`;
  return db.all<Row>(sql, Number(atMs), entry, email, endMs, limit);
}
