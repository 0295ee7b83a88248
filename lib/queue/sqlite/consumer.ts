// What a worker does with the queue: claims, settlements, housekeeping, and being woken.

import { type ClaimResult, knownMinMs, type Consumer } from "../contract.ts";
import { claim, claimEnded, peekClaim, peekClaimEnded } from "./claim.ts";
import { type Moment, noteStep, StampAge } from "./clock.ts";
import type { SqliteConnection } from "./connection.ts";
import { settle } from "./settle.ts";
import { conditionsOf } from "./stats.ts";
import { openStore, type StoreOptions } from "./transactions.ts";
import { needsSweep, sweep } from "./sweep.ts";
import { listen } from "./wakeup.ts";

export interface SqliteConsumerOptions extends StoreOptions {
  /** How long the record of a sent email is kept, ms. */
  readonly retainMs: number;
}

/** Whatever can be said without a write is said without one: an idle worker writes nothing. */
export function openSqliteConsumer(options: SqliteConsumerOptions): Consumer {
  const store = openStore(options);
  const retainMs = Math.max(options.retainMs, knownMinMs);
  const age = new StampAge(store.monotonicMs);
  const moment = (): Moment => {
    const monotonicMs = store.monotonicMs();
    return { monotonicMs, atMs: store.nowMs() };
  };
  /** In a transaction, with steps of the clock noticed before anything is stamped by it. */
  const writeInTime = <T>(body: (db: SqliteConnection, atMs: number) => T) =>
    store.writePatiently((db) => {
      const now = moment();
      noteStep(db, age, now);
      return body(db, now.atMs);
    });
  const callbacks: (() => void)[] = [];
  const wake = () => {
    for (const callback of callbacks) callback();
  };
  let paused = false;
  const noted = (result: ClaimResult) => {
    if (result.kind !== "spent") paused = result.kind === "paused";
    return result;
  };
  let closed = false;
  let stopListening = () => {};
  void store.opened.then(() => {
    if (closed) return;
    stopListening = listen(options.folder, wake, options.log);
    wake();
  });

  return {
    compatible: store.opened,
    async claim(request) {
      const seen = await store.read((db) => peekClaim(db, request, store.nowMs()));
      return noted(seen ?? (await writeInTime((db, atMs) => claim(db, request, atMs))));
    },
    async claimEnded(request) {
      const seen = await store.read((db) => peekClaimEnded(db, request, store.nowMs()));
      return noted(seen ?? (await writeInTime((db, atMs) => claimEnded(db, request, atMs))));
    },
    settle: (batch, settlement) =>
      store.writePatiently((db) => settle(db, batch, settlement, store.nowMs(), retainMs)),
    async sweep(presence) {
      // From before the transaction: another process may stamp the clock once that has begun.
      const began = moment();
      if (!(await store.read((db) => needsSweep(db, presence, age, began)))) return;
      await store.writePatiently((db) => sweep(db, presence, age, moment(), retainMs));
    },
    conditions: () => store.read(conditionsOf),
    paused: () => paused,
    onWake: (callback) => callbacks.push(callback),
    health: store.health,
    async close() {
      closed = true;
      stopListening();
      store.close();
    },
  };
}
