// Why something could not be done to an email: named in words and, for programs, by a short name.

import type { Admin } from "../../queue/contract.ts";
import { complain } from "../output.ts";
import { visible } from "../format.ts";

export type Problem =
  | "unknown"
  | "waiting"
  | "retrying"
  | "sending"
  | "in-doubt"
  | "sent"
  | "deleted"
  | "outcome-unknown"
  | "other-reason"
  | "in-batch"
  | "busy"
  | "changed";

const texts: Readonly<Record<Problem, string>> = {
  unknown: "is unknown: it was never in this queue, or left it longer ago than ids are kept",
  waiting: "is no dead letter: it is waiting",
  retrying: "is no dead letter: it is to be tried again",
  sending: "is no dead letter: it is being sent",
  "in-doubt": "is in doubt: it is being found out. --force sends it again, with all of its batch",
  sent: "was sent",
  deleted: "was deleted before",
  "outcome-unknown": "may have been sent: --force retries it all the same, and it may arrive twice",
  "other-reason": "is dead for another reason",
  "in-batch": "is in a batch, and cannot be altered",
  busy: "is in doubt, and a worker has its batch at the moment: try again",
  changed: "has changed meanwhile: try again",
};

export interface Failure {
  readonly id: string;
  readonly problem: Problem;
}

/** One line each. */
export function complainOf(failures: readonly Failure[]): void {
  for (const { id, problem } of failures) complain(`${visible(id)} ${texts[problem]}`);
}

/** What keeps an email from what is for dead letters alone; of a dead one, that it was not one a moment ago. */
export async function problemOf(admin: Admin, id: string): Promise<Problem> {
  const state = (await admin.show(id))?.state;
  return state === undefined ? "unknown" : state === "dead" ? "changed" : state;
}
