// The states of an email, and what they mean, for people.

import type { EmailState } from "../../queue/contract.ts";

export type ListedState = Exclude<EmailState, "deleted">;

/** In the order of an email's life. */
export const listedStates = [
  "waiting",
  "retrying",
  "sending",
  "in-doubt",
  "sent",
  "dead",
] as const satisfies readonly ListedState[];

export const meanings: Readonly<Record<EmailState, string>> = {
  waiting: "due: the next worker takes it",
  retrying: "failed, and due again later",
  sending: "a worker is handing it over",
  "in-doubt": "a provider may have accepted it: being found out",
  sent: "accepted by a provider; the record is kept for a while",
  dead: "given up, and kept until it is retried or deleted",
  deleted: "deleted: nothing of it is kept",
};
