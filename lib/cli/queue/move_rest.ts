// The emails that a queue still has while it is being moved, and until when they may stay.

import type { StoredEmail } from "../../queue/contract.ts";
import { formatAge, formatNumber, formatTime } from "../format.ts";
import { ask } from "./move_steps.ts";
import type { ListedState } from "./email_fields.ts";
import type { QueueSession } from "./session.ts";

export interface Rest {
  readonly nowMs: number;
  readonly counts: Readonly<Record<"waiting" | "retrying" | "sending" | "in-doubt" | "dead", number>>;
  /** The move was not canceled meanwhile. */
  readonly moving: boolean;
  readonly paused: boolean;
  readonly oldestDueAtMs: number | undefined;
  /** When the last of those that are retrying is due. */
  readonly retryingUntilMs: number | undefined;
  /** When the last lease ends. */
  readonly sendingUntilMs: number | undefined;
  /** When the last doubt ends at the latest; the email may be sent again then. */
  readonly inDoubtUntilMs: number | undefined;
}

/** An email that has been due for longer shows that no worker takes it, ms. */
const overdueMs = 60_000;

export async function readRest(source: QueueSession): Promise<Rest> {
  const { nowMs, states, moving, paused, oldestDueAtMs } = await ask(source, (admin) => admin.stats());
  const { sent: _, ...counts } = states;
  const last = async (state: ListedState, untilMs: (email: StoredEmail) => number | undefined) => {
    const { emails } = await ask(source, (admin) => admin.list(state, 1, undefined, "newest"));
    return emails[0] && untilMs(emails[0]);
  };
  return {
    nowMs,
    counts,
    moving,
    paused,
    oldestDueAtMs,
    retryingUntilMs: await last("retrying", ({ atMs }) => atMs),
    sendingUntilMs: await last("sending", ({ batch }) => batch?.dueAtMs),
    inDoubtUntilMs: await last("in-doubt", ({ batch }) => {
      const sinceMs = batch?.doubtSinceMs ?? batch?.dueAtMs;
      return sinceMs === undefined ? undefined : sinceMs + source.config.doubtTimeoutMs;
    }),
  };
}

export function countRest({ counts }: Rest): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}

/** The fields of the JSON document. */
export function documentOfRest(rest: Rest) {
  const time = (atMs: number | undefined) => (atMs === undefined ? undefined : formatTime(atMs));
  return {
    left: rest.counts,
    paused: rest.paused,
    retrying_until: time(rest.retryingUntilMs),
    sending_until: time(rest.sendingUntilMs),
    in_doubt_until: time(rest.inDoubtUntilMs),
  };
}

/** One line: how many emails are left in each state, and until when. */
export function describeRest(rest: Rest): string {
  const { counts, nowMs } = rest;
  const until = (text: string, atMs: number | undefined) =>
    atMs === undefined ? "" : ` (${text} ${formatAge(atMs, nowMs)})`;
  const parts = [
    [counts.waiting, "waiting", ""],
    [counts.retrying, "retrying", until("the last is due", rest.retryingUntilMs)],
    [counts.sending, "being sent", until("the last lease ends", rest.sendingUntilMs)],
    [counts["in-doubt"], "in doubt", until("for certain until", rest.inDoubtUntilMs)],
    [counts.dead, "dead", ""],
  ] as const;
  const left = parts.filter(([count]) => count > 0);
  return left.map(([count, state, when]) => `${formatNumber(count)} ${state}${when}`).join(", ");
}

/** The obstacle that keeps the rest from leaving, if there is one. */
export function hintAbout({ paused, oldestDueAtMs, nowMs }: Rest): string[] {
  if (paused) return ["It is paused: nothing is sent until `reliable-email queue resume`"];
  if (oldestDueAtMs === undefined || nowMs - oldestDueAtMs < overdueMs) return [];
  const age = formatAge(oldestDueAtMs, nowMs);
  return [`An email was due ${age}: workers must run on this queue until it is empty`];
}
