// What a worker does with the queue: claims, settlements, housekeeping, and being woken.

import { type ClaimResult, knownMinMs, type Work } from "../queue.ts";
import { claim, claimEnded, glance, glanceEnded } from "./claim.ts";
import { noteStep, StampAge } from "./clock.ts";
import { settle } from "./settle.ts";
import { conditionsOf } from "./stats.ts";
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
  const age = new StampAge(store.monotonicMs);
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
      const seen = await store.read((db) => glance(db, request, store.nowMs()));
      return noted(
        seen ??
          (await store.writePatiently((db) => {
            const atMs = store.nowMs();
            noteStep(db, age, atMs);
            return claim(db, request, atMs);
          })),
      );
    },
    async claimEnded(request) {
      const seen = await store.read((db) => glanceEnded(db, request, store.nowMs()));
      return noted(
        seen ??
          (await store.writePatiently((db) => {
            const atMs = store.nowMs();
            noteStep(db, age, atMs);
            return claimEnded(db, request, atMs);
          })),
      );
    },
    settle: (batch, settlement) =>
      store.writePatiently((db) => settle(db, batch, settlement, store.nowMs(), retainMs)),
    async sweep(presence) {
      if (!(await store.read((db) => needsSweep(db, presence, age, store.nowMs())))) return;
      await store.writePatiently((db) => sweep(db, presence, age, { atMs: store.nowMs(), retainMs }));
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
