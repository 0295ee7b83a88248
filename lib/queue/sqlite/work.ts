// What a worker does with the queue: claims, settlements, housekeeping, and being woken.

import { knownMinMs, type Work } from "../queue.ts";
import { claim, claimEnded, glance, glanceEnded } from "./claim.ts";
import { settle } from "./settle.ts";
import { openStore, type StoreOptions } from "./store.ts";
import { needsSweep, sweep } from "./sweep.ts";
import { listen } from "./wake.ts";

export interface WorkOptions extends StoreOptions {
  /** How long the record of a sent email is kept, ms. */
  readonly retainMs: number;
}

/** Whatever can be said without a write is said without one: an idle worker writes nothing. */
export function openSqliteWork(options: WorkOptions): Work {
  const store = openStore(options);
  const retainMs = Math.max(options.retainMs, knownMinMs);
  const callbacks: (() => void)[] = [];
  const wake = () => {
    for (const callback of callbacks) callback();
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
      const seen = await store.read((db) => glance(db, request, store.nowMs()));
      return seen ?? store.writePatiently((db) => claim(db, request, store.nowMs()));
    },
    async claimEnded(request) {
      const seen = await store.read((db) => glanceEnded(db, request.claimId, store.nowMs()));
      return seen ?? store.writePatiently((db) => claimEnded(db, request, store.nowMs()));
    },
    settle: (batch, settlement) =>
      store.writePatiently((db) => settle(db, batch, settlement, store.nowMs(), retainMs)),
    async sweep(providers) {
      if (!(await store.read((db) => needsSweep(db, providers, store.nowMs())))) return;
      await store.writePatiently((db) => sweep(db, providers, store.nowMs(), retainMs));
    },
    onWake: (callback) => callbacks.push(callback),
    health: store.health,
    async close() {
      closed = true;
      stopListening();
      store.close();
    },
  };
}
