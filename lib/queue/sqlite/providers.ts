// Which providers there is something for.

import type { Connection } from "./connection.ts";

/** Of any provider: the value of `places.provider` for an email that everyone may take. */
export const anyProvider = "";

/** From one provider to the next, not from row to row: there may be a million. */
const loose = {
  due: "SELECT provider FROM places WHERE due_at IS NOT NULL AND provider > ? ORDER BY provider LIMIT 1",
  unbegun: "SELECT provider FROM batches WHERE ends_at IS NULL AND provider > ? ORDER BY provider LIMIT 1",
  batches: "SELECT provider FROM batches WHERE provider > ? ORDER BY provider LIMIT 1",
} as const;

/** Those that alone may take some email that is due now or later, that have a batch, or one that was never begun. */
export function providersOf(db: Connection, what: keyof typeof loose): string[] {
  const found: string[] = [];
  for (let last = anyProvider; ;) {
    const next = db.get<{ provider: string }>(loose[what], last);
    if (next === undefined) return found;
    last = next.provider;
    found.push(last);
  }
}
