// Transactions that a process asks for in one turn of the event loop: one transaction, and so one fsync, runs them all.

import { isBusy, isOfDisk, type SqliteConnection } from "./connection.ts";

export type Body<T> = (db: SqliteConnection) => T;

/** One of several bodies of a transaction. */
interface Job {
  /** Takes the lock at the beginning; otherwise not until it writes. */
  readonly isWrite: boolean;
  readonly reject: (error: unknown) => void;
  /** Returns a function that passes the result on. */
  readonly run: Body<() => void>;
}

export class JobQueue {
  readonly #transact: <T>(isWrite: boolean, body: Body<T>) => Promise<T>;
  #jobs: Job[] = [];

  /** @param transact runs one transaction, with as many tries as it takes */
  constructor(transact: <T>(isWrite: boolean, body: Body<T>) => Promise<T>) {
    this.#transact = transact;
  }

  run<T>(isWrite: boolean, body: Body<T>): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    // Nothing else here is asynchronous: without this turn of the event loop, a worker that settles batch after batch
    // without a request would keep timers, signals and answers of providers waiting.
    if (this.#jobs.length === 0) setImmediate(() => void this.#runAll());
    const run = (db: SqliteConnection) => {
      const value = body(db);
      return () => resolve(value);
    };
    this.#jobs.push({ isWrite, reject, run });
    return promise;
  }

  async #runAll(): Promise<void> {
    const jobs = this.#jobs;
    this.#jobs = [];
    const isWrite = jobs.some((job) => job.isWrite);
    try {
      const answers = await this.#transact(isWrite, (db) =>
        jobs.map((job) => (jobs.length === 1 ? job.run(db) : runApart(db, job))),
      );
      for (const answer of answers) answer();
    } catch (error) {
      for (const { reject } of jobs) reject(error);
    }
  }
}

/** If this job fails, the others of its transaction do not. */
function runApart(db: SqliteConnection, { run, reject }: Job): () => void {
  db.run("SAVEPOINT job");
  try {
    const answer = run(db);
    db.run("RELEASE job");
    return answer;
  } catch (error) {
    if (isBusy(error) || isOfDisk(error) || !db.inTransaction) throw error;
    db.run("ROLLBACK TO job");
    db.run("RELEASE job");
    return () => reject(error);
  }
}
