// Why emails are dead, and why others are not sent yet: the most frequent reasons of a sample, since the reasons
// stand in the emails and are counted nowhere. Of the newest, since those tell what goes wrong now.

import type { Admin } from "../../queue/contract.ts";
import { pageMax, pagesOf } from "./pages.ts";
import { type EmailView, emailViewOf } from "./email_view.ts";
import type { ListedState } from "./states.ts";

/** Emails of one state that are looked at, at most: so much work it may be to look at a queue. */
export const sampleMax = 10 * pageMax;
/** Reasons that are told. */
const reasonsMax = 10;

export interface Reason {
  readonly provider: string | undefined;
  readonly reason: string;
  readonly count: number;
}

export interface ReasonSample {
  /** Emails that were looked at. */
  readonly size: number;
  /** The most frequent first. */
  readonly reasons: readonly Reason[];
}

/** Why the dead are dead. */
export function sampleDead(admin: Admin): Promise<ReasonSample> {
  return sample(admin, ["dead"], (view) => [undefined, view.reason ?? "no reason that can be read"]);
}

/** Why those that wait were not sent at their last attempt, by the provider that it was made with. */
export function sampleFailures(admin: Admin): Promise<ReasonSample> {
  return sample(admin, ["retrying", "waiting", "in-doubt"], ({ stored, attempts, reason }) => {
    const provider = stored.batch?.provider ?? attempts.kept.at(-1)?.provider;
    return provider === undefined || reason === undefined ? undefined : [provider, reason];
  });
}

async function sample(
  admin: Admin,
  states: readonly ListedState[],
  reasonOf: (view: EmailView) => readonly [provider: string | undefined, reason: string] | undefined,
): Promise<ReasonSample> {
  const found = new Map<string, Reason>();
  let size = 0;
  for (const state of states) {
    const most = Math.ceil(sampleMax / states.length);
    for await (const emails of pagesOf(admin, state, most, "newest")) {
      size += emails.length;
      for (const email of emails) {
        const why = reasonOf(emailViewOf(email));
        if (why === undefined) continue;
        const [provider, reason] = why;
        const key = `${provider}\n${reason}`;
        found.set(key, { provider, reason, count: (found.get(key)?.count ?? 0) + 1 });
      }
    }
  }
  const reasons = [...found.values()].toSorted((a, b) => b.count - a.count).slice(0, reasonsMax);
  return { size, reasons };
}
