// Where to cut a batch in two when some email in it, unnamed, is at fault.

import type { OpenEmail } from "./batch.ts";
import { domainOf } from "./senders.ts";

export type Parts = readonly [readonly OpenEmail[], readonly OpenEmail[]];

/** Two halves, the first at most one longer; undefined for an email that is alone. */
export function halves(emails: readonly OpenEmail[]): Parts | undefined {
  if (emails.length < 2) return undefined;
  const middle = Math.ceil(emails.length / 2);
  return [emails.slice(0, middle), emails.slice(middle)];
}

/**
 * Two parts with no sender in both, cut as near to the middle as the senders allow, so that whoever is refused is
 * alone after about as many requests as there are doublings in the number of senders. Undefined if there is but one.
 */
export function bySender(emails: readonly OpenEmail[]): Parts | undefined {
  return byGroup(emails, ({ from }) => from);
}

/** The same with the domains of senders. */
export function byDomain(emails: readonly OpenEmail[]): Parts | undefined {
  return byGroup(emails, ({ from }) => domainOf(from));
}

function byGroup(emails: readonly OpenEmail[], nameOf: (email: OpenEmail) => string): Parts | undefined {
  const groups = [...Map.groupBy(emails, nameOf).values()];
  if (groups.length < 2) return undefined;
  let best = 1;
  let size = 0;
  let bestOff = Infinity;
  for (const [index, group] of groups.slice(0, -1).entries()) {
    size += group.length;
    const off = Math.abs(size - emails.length / 2);
    if (off < bestOff) {
      best = index + 1;
      bestOff = off;
    }
  }
  return [groups.slice(0, best).flat(), groups.slice(best).flat()];
}
