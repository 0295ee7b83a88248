// Pages of the emails in one state, from the oldest. A page goes through sorted lists, several as one, by time and
// entry: an entry is an email, or a batch, whose emails follow one another by id. So each email has one place,
// whatever has left meanwhile, the one before it included.

import { envelopeLine } from "../../email.ts";
import type { EmailState, ListedEmail, Page } from "../queue.ts";
import type { Connection } from "./connection.ts";
import { anyProvider, providersOf } from "./providers.ts";
import { show } from "./show.ts";

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

const beginning: Place = { atMs: -1, id: "", email: "" };

/** Entries that a page goes through at least, since not every one need be in the state. */
const entriesMin = 100;
/** Text that a page reads, bytes, but one email at least. */
const bytesMax = 4 * 1024 * 1024;

/** A page may hold fewer emails than `limit`, or none, though others follow. */
export function list(
  db: Connection,
  state: Exclude<EmailState, "deleted">,
  { limit, from, atMs }: { limit: number; from: string | undefined; atMs: number },
): Page {
  const start = from === undefined ? beginning : readPlace(from);
  const entriesMax = Math.max(limit, entriesMin);
  // One more than this page can hold tells whether another follows.
  const lists = listsOf(db, state, start, atMs, entriesMax + 1);
  const emails: ListedEmail[] = [];
  let place = start;
  let bytes = 0;
  for (let passed = 0; ; passed += 1) {
    const entry = takeEarliest(lists);
    if (entry === undefined) return { emails, next: undefined };
    if (passed === entriesMax) return { emails, next: writePlace(place) };
    for (const id of entry.of === "emails" ? [entry.id] : membersOf(db, entry.id)) {
      if (entry.atMs === start.atMs && entry.id === start.id && id <= start.email) continue;
      if (emails.length === limit || bytes > bytesMax) return { emails, next: writePlace(place) };
      const email = show(db, id, atMs);
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

function takeEarliest(lists: readonly List[]): (Entry & Pick<List, "of">) | undefined {
  let earliest: List | undefined;
  for (const one of lists) {
    const [entry, before] = [one.entries[0], earliest?.entries[0]];
    if (entry !== undefined && (before === undefined || precedes(entry, before))) earliest = one;
  }
  const entry = earliest?.entries.shift();
  return earliest === undefined || entry === undefined ? undefined : { ...entry, of: earliest.of };
}

const precedes = (a: Entry, b: Entry) => a.atMs < b.atMs || (a.atMs === b.atMs && a.id < b.id);

function membersOf(db: Connection, batch: string): string[] {
  const members = db.all<{ id: string }>("SELECT id FROM places WHERE batch = ?", batch);
  return members.map(({ id }) => id).toSorted();
}

/** What a list may hold, by time. */
interface Range {
  /** Not before, and of those at that time not with a smaller id. */
  readonly from: Entry;
  readonly tillMs: number;
  readonly count: number;
}

/** The lists that hold a state, from where a page begins. Each is the order of an index. */
function listsOf(
  db: Connection,
  state: Exclude<EmailState, "deleted">,
  start: Place,
  atMs: number,
  count: number,
): List[] {
  const whole: Range = { from: start, tillMs: Number.MAX_SAFE_INTEGER, count };
  const past: Range = { ...whole, tillMs: atMs };
  const future: Range = { ...whole, from: start.atMs > atMs ? start : { atMs: atMs + 1, id: "" } };
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

function dueLists(db: Connection, range: Range): List[] {
  return [anyProvider, ...providersOf(db, "due")].map((provider) =>
    listOf(db, "places", "due_at", "due_at IS NOT NULL AND provider = ?", range, provider),
  );
}

function unbegunLists(db: Connection, range: Range): List[] {
  return providersOf(db, "unbegun").map((provider) =>
    listOf(db, "batches", "due_at", "ends_at IS NULL AND provider = ?", range, provider),
  );
}

function leasedList(db: Connection, range: Range): List {
  return listOf(db, "batches", "due_at", "held = 1 AND doubt_since IS NULL", range);
}

function listOf(
  db: Connection,
  table: "places" | "batches" | "sent",
  time: string,
  condition: string,
  { from, tillMs, count }: Range,
  ...parameters: string[]
): List {
  const entries = db.all<Entry>(
    `SELECT ${time} AS atMs, id FROM ${table}
     WHERE ${condition} AND (${time}, id) >= (?, ?) AND ${time} <= ? ORDER BY ${time}, id LIMIT ?`,
    ...parameters,
    from.atMs,
    from.id,
    tillMs,
    count,
  );
  return { of: table === "batches" ? "batches" : "emails", entries };
}
