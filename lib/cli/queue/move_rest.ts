// The emails that a queue still has while it is being moved, and until when they may stay.

import type { QueueStats } from "../../queue/contract.ts";
import { formatAge, formatNumber, formatTime } from "../format.ts";
import { ask } from "./move_steps.ts";
import type { QueueSession } from "./session.ts";

export interface Rest {
  readonly stats: QueueStats;
  /** When the last email is due, the last lease ends, and the last doubt ends at the latest. */
  readonly untilMs: Readonly<Record<"retrying" | "sending" | "in-doubt", number | undefined>>;
}

/** An email that has been due for longer shows that no worker takes it, ms. */
const overdueMs = 60_000;

export async function readRest(source: QueueSession): Promise<Rest> {
  const last = async (state: keyof Rest["untilMs"]) => {
    const { emails } = await ask(source, (admin) => admin.list(state, 1, undefined, "newest"));
    return emails[0];
  };
  const stats = await ask(source, (admin) => admin.stats());
  const [retrying, sending, inDoubt] = [
    await last("retrying"),
    await last("sending"),
    await last("in-doubt"),
  ];
  const doubtSinceMs = inDoubt?.batch?.doubtSinceMs ?? inDoubt?.batch?.dueAtMs;
  return {
    stats,
    untilMs: {
      retrying: retrying?.atMs,
      sending: sending?.batch?.dueAtMs,
      "in-doubt": doubtSinceMs && doubtSinceMs + source.config.doubtTimeoutMs,
    },
  };
}

function countsOf({ stats }: Rest) {
  const { sent: _, ...counts } = stats.states;
  return counts;
}

export function countRest(rest: Rest): number {
  return Object.values(countsOf(rest)).reduce((sum, count) => sum + count, 0);
}

export function documentOfRest(rest: Rest) {
  const { retrying, sending, "in-doubt": inDoubt } = rest.untilMs;
  return {
    left: countsOf(rest),
    paused: rest.stats.paused,
    retrying_until: retrying && formatTime(retrying),
    sending_until: sending && formatTime(sending),
    in_doubt_until: inDoubt && formatTime(inDoubt),
  };
}

/** One line: how many emails are left in each state, and until when. */
export function describeRest({ stats: { states, nowMs }, untilMs }: Rest): string {
  const until = (text: string, atMs: number | undefined) => atMs && ` (${text} ${formatAge(atMs, nowMs)})`;
  const parts = [
    [states.scheduled, "scheduled"],
    [states.waiting, "waiting"],
    [states.retrying, "retrying", until("the last is due", untilMs.retrying)],
    [states.sending, "being sent", until("the last lease ends", untilMs.sending)],
    [states["in-doubt"], "in doubt", until("for certain until", untilMs["in-doubt"])],
    [states.dead, "dead"],
  ] as const;
  const left = parts.filter(([count]) => count > 0);
  return left.map(([count, state, when = ""]) => `${formatNumber(count)} ${state}${when}`).join(", ");
}

/** The obstacle that keeps the rest from leaving, if there is one. */
export function hintAbout(rest: Rest): string[] {
  const { paused, oldestDueAtMs, nowMs } = rest.stats;
  if (paused) return ["It is paused: nothing is sent until `reliable-email queue resume`"];
  if (oldestDueAtMs === undefined || nowMs - oldestDueAtMs < overdueMs) return [];
  const age = formatAge(oldestDueAtMs, nowMs);
  return [`An email was due ${age}: workers must run on this queue until it is empty`];
}
