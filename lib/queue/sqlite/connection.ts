// One connection to the file: opened as it has to be, with its statements prepared once.

import { errorCode } from "../../runtime/errors.ts";
import { Database, type SQLQueryBindings, type Statement } from "bun:sqlite";
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  lstatSync,
  openSync,
  readlinkSync,
  statfsSync,
  statSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { makeDir, syncDir } from "../../runtime/durable_dir.ts";
import { QueueMissing } from "../contract.ts";
import { additions, applicationId, migrations } from "./schema.ts";

export const fileName = "queue.db";

type Parameter = string | number | null;

export interface SqliteConnection {
  all<Row>(sql: string, ...parameters: Parameter[]): Row[];
  get<Row>(sql: string, ...parameters: Parameter[]): Row | undefined;
  run(sql: string, ...parameters: Parameter[]): void;
  readonly inTransaction: boolean;
  close(): void;
}

/** This process can never use this file: an operator has to act. */
export class StoreUnusable extends Error {}

/** Another process holds what is asked for: to be tried again in a moment. */
export function isBusy(error: unknown): boolean {
  return /^SQLITE_(BUSY|LOCKED)/.test(errorCode(error) ?? "");
}

/** The code that {@link asOutOfInodes} gives. */
const noInodes = "ENOSPC_INODES";

/** SQLite cannot make a file, and does not say why: on a disk without inodes that passes, so it is an error of its own. */
export function asOutOfInodes(error: unknown, folder: string): unknown {
  const code = errorCode(error) ?? "";
  if (code !== "ENOSPC" && !code.startsWith("SQLITE_CANTOPEN")) return error;
  try {
    const { files, ffree } = statfsSync(folder);
    // Some file systems count none at all.
    if (files === 0 || ffree > 0) return error;
  } catch {
    return error;
  }
  return Object.assign(new Error("no inodes left", { cause: error }), { code: noInodes });
}

/** What went wrong, and what an operator may do about it. */
export function sqliteErrorText(error: unknown): string {
  const code = errorCode(error) ?? "";
  const text = error instanceof Error ? error.message : String(error);
  if (code === noInodes) return "the disk of DATA_DIR is full (ENOSPC): it has no inodes left";
  if (["SQLITE_FULL", "SQLITE_IOERR_SHMSIZE", "ENOSPC"].includes(code))
    return `the disk of DATA_DIR is full (${code})`;
  if (code.startsWith("SQLITE_CORRUPT"))
    return `the queue's file is damaged (${code}): stop all processes, and restore it with its log removed, or have sqlite3 recover it`;
  if (code.startsWith("SQLITE_READONLY")) return `the queue's file cannot be written to (${code})`;
  if (code.startsWith("SQLITE_IOERR")) return `the disk of DATA_DIR does not work (${code})`;
  return code === "" ? text : `${text} (${code})`;
}

/**
 * Opens the file in `folder`, makes both if they are missing, and brings an older file up to date. Throws
 * {@link StoreUnusable} for what will not pass, and whatever else went wrong for what may.
 * @param make false: makes and changes nothing, and throws {@link QueueMissing} instead, or {@link StoreUnusable} for
 *   an older file
 */
export function openConnection(
  folder: string,
  make = true,
  schema: Schema = { migrations, additions },
): SqliteConnection {
  const path = join(folder, fileName);
  try {
    if (make) makeFile(folder, path);
    else findFile(folder, path);
    const connection = wrap(new Database(path, { readwrite: true, strict: true }));
    try {
      prepare(connection, path, schema, make);
    } catch (error) {
      connection.close();
      throw error;
    }
    return connection;
  } catch (error) {
    throw lasting(asOutOfInodes(error, existsSync(folder) ? folder : dirname(folder)), path);
  }
}

export interface Schema {
  readonly migrations: readonly string[];
  readonly additions: Readonly<Record<string, string>>;
}

/** Only its owner may read it: it holds emails. SQLite gives the files beside it the same mode. */
function makeFile(folder: string, path: string): void {
  try {
    makeDir(folder);
    // Never opened for a moment once it is there: closing it would drop this process's locks on it.
    if (!existsSync(path)) closeSync(openSync(path, "wx", 0o600));
  } catch (error) {
    const code = errorCode(error) ?? "";
    if (code === "EEXIST" && existsSync(path)) return checkAccess(path);
    if (code === "ENOSPC" || code === "EDQUOT" || code === "EIO") throw error;
    throw new StoreUnusable(
      obstacle(folder, path) ?? `DATA_DIR ${folder} cannot be written to by ${userName()} (${code})`,
    );
  }
  checkAccess(path);
  try {
    // Also if another made it: who was killed in between has not done so.
    syncDir(dirname(folder));
  } catch {
    // A folder that may be entered and not read was not made by us.
  }
}

function findFile(folder: string, path: string): void {
  try {
    statSync(path);
  } catch (error) {
    const code = errorCode(error);
    const reason = obstacle(folder, path);
    if (reason !== undefined) throw new StoreUnusable(reason);
    if (code === "ENOENT") throw new QueueMissing("there is no queue");
    throw new StoreUnusable(`DATA_DIR ${folder} cannot be entered by ${userName()} (${code})`);
  }
  checkAccess(path);
}

/** What stands in the place of the folder, of one above it, or of the file, if that is it. */
function obstacle(folder: string, path: string): string | undefined {
  const links = [folder, path].map((one) => [one, danglingLink(one)] as const);
  for (const [one, target] of links) {
    if (target === undefined) continue;
    return `${one} is a symbolic link to ${target}, which does not exist: create that, or remove the link`;
  }
  for (let one = folder; ; one = dirname(one)) {
    try {
      if (statSync(one).isDirectory()) return undefined;
      return `DATA_DIR ${folder} cannot be created: ${one} is a file, not a directory`;
    } catch (error) {
      if (one === dirname(one) || !["ENOENT", "ENOTDIR"].includes(errorCode(error) ?? "")) return undefined;
    }
  }
}

/** Where a symbolic link leads, if nothing is there. */
function danglingLink(path: string): string | undefined {
  try {
    return lstatSync(path).isSymbolicLink() && !existsSync(path) ? readlinkSync(path) : undefined;
  } catch {
    return undefined;
  }
}

/** SQLite would open a file that it may not write to, and say so at the first email. */
function checkAccess(path: string): void {
  for (const one of [path, `${path}-wal`, `${path}-shm`]) {
    try {
      accessSync(one, constants.R_OK | constants.W_OK);
    } catch (error) {
      if (errorCode(error) === "ENOENT") continue;
      throw new StoreUnusable(`${one} cannot be written to by ${userName()} (${errorCode(error)})`);
    }
  }
}

export const userName = () => `user ${process.getuid?.()}`;

/** As it is, or as something that will not pass. */
function lasting(error: unknown, path: string): unknown {
  const code = errorCode(error) ?? "";
  if (code === "SQLITE_NOTADB") return new StoreUnusable(`${path} is not a database, or a damaged one`);
  if (code.startsWith("SQLITE_CORRUPT")) return new StoreUnusable(`${path}: ${sqliteErrorText(error)}`);
  if (code.startsWith("SQLITE_READONLY") || code.startsWith("SQLITE_CANTOPEN") || code === "SQLITE_PERM")
    return new StoreUnusable(`${path} cannot be opened for writing (${code})`);
  return error;
}

function prepare(connection: SqliteConnection, path: string, schema: Schema, make: boolean): void {
  // Waiting inside SQLite would stop the event loop: who finds it busy comes again later.
  connection.run("PRAGMA busy_timeout = 0");
  const newest = schema.migrations.length;
  const owner = checkOwner(connection, path, newest);
  if (!make) {
    // Whoever made the file has been killed since, or is still at it.
    if (owner !== applicationId) throw new QueueMissing("there is no queue");
    // A command changes nothing for the server and the worker that run.
    if (formatOf(connection) !== newest || missingAdditions(connection, schema).length > 0)
      throw new StoreUnusable(
        `${path} is of an older version: start the server or the worker of this version first`,
      );
  }
  const mode = connection.get<{ journal_mode: string }>("PRAGMA journal_mode = WAL")?.journal_mode;
  if (mode !== "wal") throw new StoreUnusable(`${path} cannot have a write-ahead log, only "${mode}"`);
  // Every commit is fsynced before it returns.
  connection.run("PRAGMA synchronous = FULL");
  connection.run("PRAGMA cache_size = -16384");
  // A log that a long spell without a checkpoint has made large becomes small again.
  connection.run(`PRAGMA journal_size_limit = ${16 * 1024 * 1024}`);
  if (make) migrate(connection, path, schema);
}

/** Names, in their order. */
function missingAdditions(connection: SqliteConnection, { additions }: Schema): string[] {
  const made = new Set(
    connection.all<{ name: string }>("SELECT name FROM sqlite_schema").map(({ name }) => name),
  );
  return Object.keys(additions).filter((name) => !made.has(name));
}

export function formatOf(connection: SqliteConnection): number {
  return connection.get<{ user_version: number }>("PRAGMA user_version")?.user_version ?? 0;
}

/** @returns whose file it is */
function checkOwner(connection: SqliteConnection, path: string, newest: number): number {
  // In one statement: another process may be making the tables right now.
  const { owner, tables } = connection.get<{ owner: number; tables: number }>(
    `SELECT (SELECT application_id FROM pragma_application_id) AS owner,
       (SELECT count(*) FROM sqlite_schema) AS tables`,
  )!;
  if (owner !== applicationId && tables !== 0) {
    throw new StoreUnusable(`${path} is the database of another program`);
  }
  const format = formatOf(connection);
  if (format > newest) throw new StoreUnusable(newerText(path, format, newest));
  return owner;
}

export function newerText(path: string, format: number, newest: number): string {
  return `${path} has format ${format}, this version reads and writes format ${newest}`;
}

function migrate(connection: SqliteConnection, path: string, schema: Schema): void {
  const { migrations: steps } = schema;
  const isCurrent = () =>
    formatOf(connection) === steps.length && missingAdditions(connection, schema).length === 0;
  if (isCurrent()) return;
  connection.run("BEGIN IMMEDIATE");
  try {
    // Another process may have been quicker.
    checkOwner(connection, path, steps.length);
    for (const step of steps.slice(formatOf(connection))) connection.run(step);
    for (const name of missingAdditions(connection, schema)) connection.run(schema.additions[name]!);
    connection.run(`PRAGMA application_id = ${applicationId}`);
    connection.run(`PRAGMA user_version = ${steps.length}`);
    connection.run("COMMIT");
  } catch (error) {
    if (connection.inTransaction) connection.run("ROLLBACK");
    throw error;
  }
}

function wrap(db: Database): SqliteConnection {
  const statements = new Map<string, Statement<unknown, SQLQueryBindings[]>>();
  const prepared = (sql: string) => {
    let statement = statements.get(sql);
    if (statement === undefined) {
      statement = db.prepare(sql);
      statements.set(sql, statement);
    }
    return statement;
  };
  return {
    all: <Row>(sql: string, ...parameters: Parameter[]) => prepared(sql).all(...parameters) as Row[],
    get: <Row>(sql: string, ...parameters: Parameter[]) =>
      (prepared(sql).get(...parameters) as Row | null) ?? undefined,
    run(sql, ...parameters) {
      // Several statements in one text cannot be prepared as one.
      if (parameters.length === 0) db.run(sql);
      else prepared(sql).run(...parameters);
    },
    get inTransaction() {
      return db.inTransaction;
    },
    close() {
      for (const statement of statements.values()) statement.finalize();
      statements.clear();
      db.close();
    },
  };
}
