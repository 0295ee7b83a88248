// The consumer of the embedded queue: claims, settlements, housekeeping, and being woken.

import { type ClaimResult, type Consumer, knownMinMs } from "../contract.ts";
import { ClockWatch } from "../clock_watch.ts";
import { claim, claimEnded } from "./claim.ts";
import { noteStep } from "./clock_steps.ts";
import type { SqliteConnection } from "./connection.ts";
import { readFiles } from "./files.ts";
import { tryPermit } from "./rates.ts";
import { settle } from "./settle.ts";
import { Store, type StoreOptions } from "./store.ts";
import { sweep } from "./housekeeping.ts";
import { readStats } from "./stats.ts";
import { listen } from "./wakeup.ts";

export interface SqliteConsumerOptions extends StoreOptions {
  /** How long the record of a sent email is kept, ms. */
  readonly retainMs: number;
}

export function openSqliteConsumer(options: SqliteConsumerOptions): Consumer {
  const store = new Store(options);
  const retainMs = Math.max(options.retainMs, knownMinMs);
  const watch = new ClockWatch(() => store.monotonicMs());
  const callbacks: (() => void)[] = [];
  const wake = () => {
    for (const callback of callbacks) callback();
  };
  let paused = false;
  let closed = false;
  let stopListening = () => {};
  void store.opened.then(() => {
    if (closed) return;
    stopListening = listen(options.folder, wake, options.log);
    wake();
  });
  store.watch();

  async function claimBy(body: (db: SqliteConnection) => ClaimResult): Promise<ClaimResult> {
    const result = await store.transact((db) => {
      // Before a lease is stamped by the clock.
      noteStep(db, watch);
      return body(db);
    });
    if (result.kind !== "spent") paused = result.kind === "paused";
    return result;
  }

  return {
    compatible: store.opened,
    claim: (request) => claimBy((db) => claim(db, request)),
    claimEnded: (request) => claimBy((db) => claimEnded(db, request)),
    takePermit: (request) => store.transact((db) => tryPermit(db, request)),
    settle: (batch, settlement) => store.write((db) => settle(db, batch, settlement, retainMs)),
    readFiles: (id) => readFiles(store, id),
    sweep: (presence) => store.write((db) => sweep(db, presence, watch)),
    stats: () => store.transact((db) => readStats(db, store.roomBytes())),
    paused: () => paused,
    onWake: (callback) => callbacks.push(callback),
    health: () => store.health(),
    async close() {
      closed = true;
      stopListening();
      store.close();
    },
  };
}
