// Why emails are dead, and why others are not sent yet: the most frequent reasons in a sample, since reasons are stored
// with the emails and counted nowhere. The newest emails are sampled, because they show what goes wrong now.

import type { Admin } from "../../queue/contract.ts";
import { type EmailView, emailViewOf, type ListedState } from "./email_view.ts";
import { pageMax, pagesOf } from "./session.ts";

/** Most emails that are read for one sample: it bounds the work of one look at the queue. */
export const sampleMax = 10 * pageMax;
const reasonsMax = 10;

export interface FailureReason {
  /** Undefined for dead letters. */
  readonly provider: string | undefined;
  readonly reason: string;
  readonly emails: number;
}

export interface ReasonSample {
  /** Emails that were read. */
  readonly size: number;
  /** The most frequent first. */
  readonly reasons: readonly FailureReason[];
}

/** Why dead letters are dead. */
export function sampleDead(admin: Admin): Promise<ReasonSample> {
  return sample(admin, ["dead"], ({ reason = "no reason that can be read" }) => {
    return { provider: undefined, reason };
  });
}

/** Why the last attempt failed of emails that are not sent yet, with its provider. */
export function sampleFailures(admin: Admin): Promise<ReasonSample> {
  return sample(admin, ["retrying", "waiting", "in-doubt"], ({ stored, attempts, reason }) => {
    const provider = stored.batch?.provider ?? attempts.kept.at(-1)?.provider;
    return provider === undefined || reason === undefined ? undefined : { provider, reason };
  });
}

async function sample(
  admin: Admin,
  states: readonly ListedState[],
  reasonOf: (view: EmailView) => Omit<FailureReason, "emails"> | undefined,
): Promise<ReasonSample> {
  const found = new Map<string, FailureReason>();
  let size = 0;
  for (const state of states) {
    for await (const emails of pagesOf(admin, state, Math.ceil(sampleMax / states.length), "newest")) {
      size += emails.length;
      for (const email of emails) {
        const why = reasonOf(emailViewOf(email));
        if (why === undefined) continue;
        const key = `${why.provider}\n${why.reason}`;
        found.set(key, { ...why, emails: (found.get(key)?.emails ?? 0) + 1 });
      }
    }
  }
  return { size, reasons: [...found.values()].toSorted((a, b) => b.emails - a.emails).slice(0, reasonsMax) };
}
