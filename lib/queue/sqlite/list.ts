// Pages of the emails in one state, from the oldest or from the newest. A page goes through sorted lists, several as
// one, by time and entry: an entry is an email, or a batch, whose emails follow one another by id. So each email has
// one place, whatever has left meanwhile, the one before it included.

import { envelopeLine } from "../../email/email.ts";
import type { EmailState, ListedEmail, Page } from "../contract.ts";
import type { SqliteConnection } from "./connection.ts";
import { anyProvider, providersOf } from "./due_lists.ts";
import { showEmail } from "./show.ts";

interface Entry {
  readonly atMs: number;
  /** Of an email, or of a batch. */
  readonly id: string;
}

interface List {
  readonly of: "emails" | "batches";
  readonly entries: Entry[];
}

/** Where a page ended: at an email, in an entry. */
interface Place extends Entry {
  readonly email: string;
}

type Order = "oldest" | "newest";

/** Before everything, and after: no id begins with such a character. */
const ends: Readonly<Record<Order, Place>> = {
  oldest: { atMs: -1, id: "", email: "" },
  newest: { atMs: Number.MAX_SAFE_INTEGER, id: "~", email: "~" },
};

/** Entries that a page goes through at least, since not every one need be in the state. */
const entriesMin = 100;
/** Text that a page reads, bytes, but one email at least. */
const bytesMax = 4 * 1024 * 1024;

/** A page may hold fewer emails than `limit`, or none, though others follow. */
export function listEmails(
  db: SqliteConnection,
  state: Exclude<EmailState, "deleted">,
  { limit, from, order, atMs }: { limit: number; from: string | undefined; order: Order; atMs: number },
): Page {
  const start = from === undefined ? ends[order] : readPlace(from);
  const entriesMax = Math.max(limit, entriesMin);
  // One more than this page can hold tells whether another follows.
  const lists = listsOf(db, state, { start, order, atMs, count: entriesMax + 1 });
  const emails: ListedEmail[] = [];
  let place = start;
  let bytes = 0;
  for (let passed = 0; ; passed += 1) {
    const entry = takeFirst(lists, order);
    if (entry === undefined) return { emails, next: undefined };
    if (passed === entriesMax) return { emails, next: writePlace(place) };
    for (const id of entry.of === "emails" ? [entry.id] : membersOf(db, entry.id, order)) {
      const isPassed = order === "oldest" ? id <= start.email : id >= start.email;
      if (isPassed && entry.atMs === start.atMs && entry.id === start.id) continue;
      if (emails.length === limit || bytes > bytesMax) return { emails, next: writePlace(place) };
      const email = showEmail(db, id, atMs);
      if (email?.state === state) {
        const { text = "", history, record = "", batch } = email;
        bytes += text.length + history.length + record.length + (batch?.notes.length ?? 0);
        emails.push({ ...email, text: envelopeLine(text) });
      }
      place = { atMs: entry.atMs, id: entry.id, email: id };
    }
  }
}

const writePlace = ({ atMs, id, email }: Place) => `${atMs} ${id} ${email}`;

function readPlace(text: string): Place {
  const [atMs = "", id = "", email = ""] = text.split(" ");
  return { atMs: Number(atMs), id, email };
}

function takeFirst(lists: readonly List[], order: Order): (Entry & Pick<List, "of">) | undefined {
  let first: List | undefined;
  for (const one of lists) {
    const [entry, before] = [one.entries[0], first?.entries[0]];
    if (entry === undefined) continue;
    if (before === undefined || (order === "oldest" ? precedes(entry, before) : precedes(before, entry)))
      first = one;
  }
  const entry = first?.entries.shift();
  return first === undefined || entry === undefined ? undefined : { ...entry, of: first.of };
}

const precedes = (a: Entry, b: Entry) => a.atMs < b.atMs || (a.atMs === b.atMs && a.id < b.id);

function membersOf(db: SqliteConnection, batch: string, order: Order): string[] {
  const members = db.all<{ id: string }>("SELECT id FROM places WHERE batch = ?", batch);
  const ids = members.map(({ id }) => id).toSorted();
  return order === "oldest" ? ids : ids.reverse();
}

/** What a page may read of a list. */
interface Range {
  /** Where the page begins: that entry included, if it is there still. */
  readonly start: Entry;
  readonly order: Order;
  readonly sinceMs: number;
  readonly tillMs: number;
  readonly count: number;
}

/** The lists that hold a state, from where a page begins. Each is the order of an index. */
function listsOf(
  db: SqliteConnection,
  state: Exclude<EmailState, "deleted">,
  { atMs, ...page }: { start: Entry; order: Order; atMs: number; count: number },
): List[] {
  const whole: Range = { ...page, sinceMs: -1, tillMs: Number.MAX_SAFE_INTEGER };
  const past: Range = { ...whole, tillMs: atMs };
  const future: Range = { ...whole, sinceMs: atMs + 1 };
  switch (state) {
    case "waiting":
      return dueLists(db, past);
    case "retrying":
      return dueLists(db, future);
    case "sending":
      return [leasedList(db, future), ...unbegunLists(db, whole)];
    case "in-doubt":
      // Those whose doubt stands written down, and those whose lease ran out since.
      return [listOf(db, "batches", "doubt_since", "doubt_since IS NOT NULL", whole), leasedList(db, past)];
    case "sent":
      return [listOf(db, "sent", "expires_at", "TRUE", whole)];
    case "dead":
      return [listOf(db, "places", "died_at", "died_at IS NOT NULL", whole)];
  }
}

function dueLists(db: SqliteConnection, range: Range): List[] {
  return [anyProvider, ...providersOf(db, "due")].map((provider) =>
    listOf(db, "places", "due_at", "due_at IS NOT NULL AND provider = ?", range, provider),
  );
}

function unbegunLists(db: SqliteConnection, range: Range): List[] {
  return [...providersOf(db, "unbegun")].map((provider) =>
    listOf(db, "batches", "due_at", "ends_at IS NULL AND provider = ?", range, provider),
  );
}

function leasedList(db: SqliteConnection, range: Range): List {
  return listOf(db, "batches", "due_at", "held = 1 AND doubt_since IS NULL", range);
}

function listOf(
  db: SqliteConnection,
  table: "places" | "batches" | "sent",
  time: string,
  condition: string,
  { start, order, sinceMs, tillMs, count }: Range,
  ...parameters: string[]
): List {
  const first = { atMs: Math.max(start.atMs, sinceMs), id: start.atMs >= sinceMs ? start.id : "" };
  const last = { atMs: Math.min(start.atMs, tillMs), id: start.atMs <= tillMs ? start.id : "~" };
  const [range, bounds, direction] =
    order === "oldest"
      ? [`(${time}, id) >= (?, ?) AND ${time} <= ?`, [first.atMs, first.id, tillMs], "ASC"]
      : [`(${time}, id) <= (?, ?) AND ${time} >= ?`, [last.atMs, last.id, sinceMs], "DESC"];
  const entries = db.all<Entry>(
    `SELECT ${time} AS atMs, id FROM ${table} WHERE ${condition} AND ${range}
     ORDER BY ${time} ${direction}, id ${direction} LIMIT ?`,
    ...parameters,
    ...bounds,
    count,
  );
  return { of: table === "batches" ? "batches" : "emails", entries };
}
