// Emails that are still in the queue after it should have drained, as text: which they are, where, and why. Pure.

import { isRefused, numberOf } from "./emails.ts";
import type { QueuedEmail } from "./judge.ts";

/** The fields of `queue list --json` that show what an email waits for. */
const whenAndWhy = [
  "in_doubt_since",
  "due_at",
  "lease_ends_at",
  "next_try_at",
  "attempts_total",
  "reason",
] as const;

/** A line for each batch, and for each email that is in none. */
export function describeStuck(emails: readonly QueuedEmail[], seed: number): string[] {
  const groups = Map.groupBy(emails, ({ id, batch = id }) => batch);
  return Array.from(groups.values(), (group) => {
    const [first] = group as [QueuedEmail];
    const { state, provider, batch } = first;
    const place = batch === undefined ? state : `${state} at ${provider}, batch ${batch}`;
    const names = group.map(({ id, subject = "" }) => {
      const n = numberOf(seed, subject);
      return n === undefined ? id : `${n}${isRefused(n) ? " (refused by every provider)" : ""}`;
    });
    const known = whenAndWhy.flatMap((field) =>
      first[field] === undefined ? [] : `${field} ${first[field]}`,
    );
    return [place, `email ${names.join(", ")}`, ...(known.length > 0 ? [known.join(", ")] : [])].join(": ");
  });
}
