// One connection to the queue's file, which is found or created, brought up to date, and set to fsync every commit.

import { Database, type SQLQueryBindings, type Statement } from "bun:sqlite";
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  openSync,
  readlinkSync,
  statfsSync,
  statSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { makeDir, syncDir } from "../../runtime/durable_dir.ts";
import { errorCode } from "../../runtime/errors.ts";
import { QueueMissing } from "../contract.ts";
import type { Moment } from "../clock_watch.ts";
import { additions, applicationId, format, schema } from "./schema.ts";

export const fileName = "queue.db";

export type Parameter = string | number | null | Uint8Array;
/** One statement: a template whose values are bound as parameters, or a text with a `?` for each. */
type Sql = TemplateStringsArray | string;

/** Most rows that one statement inserts: more make it no cheaper. */
const rowsMax = 20;

/** Prepares each statement once. */
export class SqliteConnection {
  /** The clocks in the current transaction. */
  now: Moment = { beganMs: 0, monotonicMs: 0, atMs: 0 };
  readonly #db: Database;
  readonly #statements = new Map<Sql, Statement<unknown, SQLQueryBindings[]>>();

  constructor(path: string) {
    this.#db = new Database(path, { readwrite: true, strict: true });
  }

  all<Row>(sql: Sql, ...parameters: Parameter[]): Row[] {
    return this.#prepare(sql).all(...parameters) as Row[];
  }

  get<Row>(sql: Sql, ...parameters: Parameter[]): Row | undefined {
    return (this.#prepare(sql).get(...parameters) as Row | null) ?? undefined;
  }

  /** @returns how many rows it changed */
  run(sql: Sql, ...parameters: Parameter[]): number {
    return this.#prepare(sql).run(...parameters).changes;
  }

  /**
   * Inserts rows, several with each statement: a call of SQLite costs as much as the insertion of a row.
   * @param into the table and its columns
   */
  insert(into: string, rows: readonly (readonly Parameter[])[]): void {
    for (let first = 0; first < rows.length; first += rowsMax) {
      const some = rows.slice(first, first + rowsMax);
      const places = some.map((row) => `(${row.map(() => "?").join()})`);
      this.run(`INSERT INTO ${into} VALUES ${places.join()}`, ...some.flat());
    }
  }

  /** Runs any number of statements without parameters. */
  exec(sql: string): void {
    this.#db.run(sql);
  }

  get inTransaction(): boolean {
    return this.#db.inTransaction;
  }

  close(): void {
    for (const statement of this.#statements.values()) statement.finalize();
    this.#statements.clear();
    this.#db.close();
  }

  #prepare(sql: Sql) {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      const text = typeof sql === "string" ? sql : sql.join("?");
      // SQLite plans a query with ORDER BY, min() or LIMIT for the value of a bare `?`, and prepares it again whenever a
      // value is bound. That takes ten times as long as to execute it. An expression hides the value.
      statement = this.#db.prepare(text.replaceAll("?", "+?"));
      this.#statements.set(sql, statement);
    }
    return statement;
  }
}

/** This process can never use the file: an operator has to act. */
export class StoreUnusable extends Error {}

/** Another process holds the lock that is needed: try again in a moment. */
export function isBusy(error: unknown): boolean {
  return /^SQLITE_(BUSY|LOCKED)/.test(errorCode(error) ?? "");
}

const diskCodes =
  /^(SQLITE_(FULL|IOERR|CORRUPT|READONLY|CANTOPEN|NOTADB|NOMEM|PROTOCOL|PERM|AUTH|NOLFS)|ENOSPC|EIO|EDQUOT)/;

/** An error of SQLite or the system below it, as opposed to a bug in a statement. */
export function isOfDisk(error: unknown): boolean {
  return diskCodes.test(errorCode(error) ?? "");
}

const noInodes = "ENOSPC_INODES";

/** SQLite does not say why it cannot create a file. Without free inodes, the error may pass, unlike others of its code. */
export function asOutOfInodes(error: unknown, folder: string): unknown {
  if (!/^(ENOSPC|SQLITE_CANTOPEN)/.test(errorCode(error) ?? "")) return error;
  try {
    const { files, ffree } = statfsSync(folder);
    // Some file systems do not count inodes.
    if (files === 0 || ffree > 0) return error;
  } catch {
    return error;
  }
  return Object.assign(new Error("no inodes left", { cause: error }), { code: noInodes });
}

/** The error, and what an operator can do about it. */
export function sqliteErrorText(error: unknown): string {
  const code = errorCode(error) ?? "";
  if (code === noInodes) return "the disk of DATA_DIR is full (ENOSPC): it has no inodes left";
  if (/^(SQLITE_FULL|SQLITE_IOERR_SHMSIZE|ENOSPC)$/.test(code))
    return `the disk of DATA_DIR is full (${code})`;
  if (code.startsWith("SQLITE_CORRUPT"))
    return `the queue's file is damaged (${code}): stop all processes, then restore it and remove its log, or recover it with sqlite3`;
  if (code === "SQLITE_NOTADB") return `the queue's file is not a database, or is damaged (${code})`;
  if (/^SQLITE_(CANTOPEN|PERM)/.test(code)) return `the queue's file cannot be opened (${code})`;
  if (code.startsWith("SQLITE_READONLY")) return `the queue's file cannot be written to (${code})`;
  if (code.startsWith("SQLITE_IOERR")) return `the disk of DATA_DIR does not work (${code})`;
  const text = error instanceof Error ? error.message : String(error);
  return code === "" ? text : `${text} (${code})`;
}

/** Errors at opening that do not pass by themselves. */
const lastingCodes = /^SQLITE_(NOTADB|CORRUPT|CANTOPEN|PERM|READONLY)/;

export const userName = () => `user ${process.getuid?.()}`;

/**
 * Opens the file in `folder`, creates both if they are missing, and brings an older file up to date. Throws
 * {@link StoreUnusable} if that can never succeed, and any other error if it may succeed later.
 * @param creates false: creates and changes nothing; throws {@link QueueMissing} if there is no queue, and
 *   {@link StoreUnusable} if the file is older
 */
export function openConnection(folder: string, creates = true): SqliteConnection {
  const path = join(folder, fileName);
  let connection: SqliteConnection | undefined;
  try {
    findFile(folder, path, creates);
    connection = new SqliteConnection(path);
    setUp(connection, path, creates);
    return connection;
  } catch (error) {
    connection?.close();
    const cause = asOutOfInodes(error, existsSync(folder) ? folder : dirname(folder));
    if (!lastingCodes.test(errorCode(cause) ?? "")) throw cause;
    throw new StoreUnusable(`${path}: ${sqliteErrorText(cause)}`);
  }
}

function findFile(folder: string, path: string, creates: boolean): void {
  try {
    if (creates) createFile(folder, path);
    else statSync(path);
  } catch (error) {
    const code = errorCode(error) ?? "";
    if (["ENOSPC", "EDQUOT", "EIO"].includes(code)) throw error;
    const reason = obstacle(folder, path);
    if (reason === undefined && !creates && code === "ENOENT") throw new QueueMissing("there is no queue");
    const what = creates ? "written to" : "entered";
    throw new StoreUnusable(reason ?? `DATA_DIR ${folder} cannot be ${what} by ${userName()} (${code})`);
  }
  // SQLite would open a file that it may not write to, and fail at the first email.
  for (const one of [path, `${path}-wal`, `${path}-shm`]) {
    try {
      accessSync(one, constants.R_OK | constants.W_OK);
    } catch (error) {
      const code = errorCode(error);
      if (code !== "ENOENT")
        throw new StoreUnusable(`${one} cannot be written to by ${userName()} (${code})`);
    }
  }
}

/** Only its owner may read the file, since it holds emails. SQLite gives the files beside it the same mode. */
function createFile(folder: string, path: string): void {
  makeDir(folder);
  try {
    // An existing file is never opened here: closing it would drop this process's locks on it.
    if (!existsSync(path)) closeSync(openSync(path, "wx", 0o600));
  } catch (error) {
    if (errorCode(error) !== "EEXIST" || !existsSync(path)) throw error;
  }
  try {
    // Also if the folder existed: the process that created it may have been killed before this.
    syncDir(dirname(folder));
  } catch {
    // We did not create a folder whose parent cannot be read.
  }
}

/** A dangling link, or a file in the place of a folder, if one is in the way. */
function obstacle(folder: string, path: string): string | undefined {
  for (let one = path; ; one = dirname(one)) {
    if (existsSync(one)) {
      if (one === path || statSync(one).isDirectory()) return undefined;
      return `DATA_DIR ${folder} cannot be created: ${one} is a file, not a directory`;
    }
    try {
      const target = readlinkSync(one);
      return `${one} is a symbolic link to ${target}, which does not exist: create that, or remove the link`;
    } catch {
      // It is not a link.
    }
  }
}

function setUp(db: SqliteConnection, path: string, creates: boolean): void {
  // Waiting inside SQLite would stop the event loop: callers try again later.
  db.exec("PRAGMA busy_timeout = 0");
  const isCurrent = missingTables(db, path).length === 0;
  if (!creates) {
    // The process that created the file was killed before it made the tables, or has not finished.
    if (db.get`SELECT 1 FROM sqlite_schema` === undefined) throw new QueueMissing("there is no queue");
    // A command must not change the file under a running server and worker.
    const remedy = "start the server or the worker of this version first";
    if (!isCurrent) throw new StoreUnusable(`${path} is of an older version: ${remedy}`);
  }
  const mode = db.get<{ journal_mode: string }>`PRAGMA journal_mode = WAL`?.journal_mode;
  if (mode !== "wal")
    throw new StoreUnusable(`${path} cannot have a write-ahead log, only journal mode "${mode}"`);
  // A file that had none, such as a restored backup, gets it by the first read.
  db.get`SELECT 1 FROM sqlite_schema`;
  // Every commit is fsynced before it returns.
  db.exec("PRAGMA synchronous = FULL");
  db.exec("PRAGMA cache_size = -16384");
  // Shrinks a log that has grown while no checkpoint was possible.
  db.exec(`PRAGMA journal_size_limit = ${16 * 1024 * 1024}`);
  if (isCurrent) return;
  // If a part fails, closing the connection rolls all of them back.
  db.exec("BEGIN IMMEDIATE");
  // Another process may have been quicker.
  for (const part of missingTables(db, path)) db.exec(part);
  db.exec(`PRAGMA application_id = ${applicationId}`);
  db.exec(`PRAGMA user_version = ${format}`);
  db.exec("COMMIT");
}

/** The parts of the schema that the file lacks. Throws {@link StoreUnusable} if it is not ours, or of another format. */
function missingTables(db: SqliteConnection, path: string): string[] {
  // In one statement: another process may be making the tables right now.
  const file = db.get<{ owner: number; found: number; names: string }>`
    SELECT application_id AS owner, user_version AS found,
      (SELECT json_group_array(name) FROM sqlite_schema) AS names
    FROM pragma_application_id, pragma_user_version`!;
  const names = JSON.parse(file.names) as string[];
  if (names.length === 0) return [schema, ...Object.values(additions)];
  if (file.owner !== applicationId) throw new StoreUnusable(`${path} is the database of another program`);
  if (file.found !== format) throw new StoreUnusable(formatMismatch(path, file.found));
  return Object.entries(additions).flatMap(([name, part]) => (names.includes(name) ? [] : [part]));
}

export function formatMismatch(path: string, found: number): string {
  return `${path} has format ${found}, this version reads and writes format ${format}`;
}
