// Copies idempotency keys from a queue that is being moved. Each copy can be interrupted at any point, and repeated.

import { idempotencyMs } from "../../queue/contract.ts";
import { formatNumber } from "../format.ts";
import { ask, type Move } from "./move_steps.ts";
import { pageMax, walk } from "./session.ts";

/** Tolerance for the difference between the store's clock and the monotonic one of this process, ms. */
const clockMarginMs = 60_000;

export interface CopiedKeys {
  readonly copied: number;
  /** Uses of keys that the target did not know. */
  readonly added: number;
  /** Uses that were left out, because the target knows the key for another email. */
  readonly conflicts: number;
}

/**
 * Copies idempotency keys. If the source goes on accepting new ones, {@link copyRecentKeys} has little left to do.
 * @param sinceMs only those that were used for an email after this time, by `performance.now()`
 */
export async function copyKeys(
  { source, target, signal, showProgress }: Move,
  sinceMs = -Infinity,
): Promise<CopiedKeys> {
  const sum = { copied: 0, added: 0, conflicts: 0 };
  const lifeMinMs = () => idempotencyMs - (performance.now() - sinceMs) - clockMarginMs;
  const pages = walk((from) => ask(source, (admin) => admin.listKeys(pageMax, from, lifeMinMs())));
  for await (const { keys } of pages) {
    if (signal.aborted) break;
    const { added, conflicts } = await ask(target, (admin) => admin.rememberKeys(keys));
    sum.copied += keys.length;
    sum.added += added;
    sum.conflicts += conflicts;
    showProgress(`Copying idempotency keys: ${formatNumber(sum.copied)}`);
  }
  return sum;
}

/**
 * Copies the keys that were used since a first copy began, once the source accepts no new ones.
 * @param nowMs the clock of the source at that time
 * @param monotonicMs that time by `performance.now()`
 */
export async function copyRecentKeys(move: Move, nowMs: number, monotonicMs: number): Promise<CopiedKeys> {
  const stats = await ask(move.source, (admin) => admin.stats());
  const steppedByMs = stats.nowMs - nowMs - (performance.now() - monotonicMs);
  // Keys are found by their expiry, which is wrong while the clock is.
  const isSteady = stats.clockStep === undefined && Math.abs(steppedByMs) < clockMarginMs / 2;
  return isSteady ? copyKeys(move, monotonicMs) : copyClosedKeys(move);
}

/** Copies the keys of a source that accepts no new ones. If a step of its clock may have hidden some, several times. */
export async function copyClosedKeys(move: Move): Promise<CopiedKeys> {
  let added = 0;
  for (;;) {
    const pass = await copyKeys(move);
    added += pass.added;
    const { clockStep } = await ask(move.source, (admin) => admin.stats());
    if (pass.added === 0 || clockStep === undefined || move.signal.aborted) return { ...pass, added };
  }
}
