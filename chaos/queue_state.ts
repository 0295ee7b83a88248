// The state of the queue after the faults, as the service's own commands report it.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { readConfig } from "../lib/config/config.ts";
import type { Admin } from "../lib/queue/contract.ts";
import { openAdmin } from "../lib/queue/open.ts";
import { silentLog } from "../lib/runtime/log.ts";
import { isRefused, numberOf } from "./emails.ts";
import { limitMemory } from "./inject.ts";
import type { Duplicate, QueuedEmail } from "./judge.ts";
import type { Deployment } from "./deployment.ts";
import { describeStuck } from "./stuck.ts";

interface Stats {
  readonly scheduled: number;
  readonly waiting: number;
  readonly retrying: number;
  readonly sending: number;
  readonly "in-doubt": number;
  readonly possible_duplicates: number;
  readonly at: string;
  readonly providers: Readonly<Record<string, unknown>>;
}

export interface Drained {
  /** Emails that still have to be delivered or become dead letters. */
  readonly left: number;
  /**
   * Emails refused by a provider that may have accepted them before: the service keeps those in doubt for most of a
   * day.
   */
  readonly held: readonly QueuedEmail[];
  readonly possibleDuplicates: number;
  /** Bytes of files in the queue. */
  readonly fileBytes: number;
  /** Why the queue could not be read until the time was over. */
  readonly unreadable?: string;
}

/**
 * Waits until the queue has drained, or the time is over. The service's own commands have the last word; each of them
 * starts a process, so they run only when nothing but doubt is left and the counts have changed.
 */
export async function drain(deployment: Deployment, seed: number, withinMs: number): Promise<Drained> {
  const endMs = performance.now() + withinMs;
  let admin: Admin | undefined;
  let lookedAt = "";
  try {
    for (;;) {
      const isLast = performance.now() > endMs;
      try {
        admin ??= await openQueue(deployment);
        const { states } = await admin.stats();
        const counts = JSON.stringify(states);
        const isQuiet = states.scheduled + states.waiting + states.retrying + states.sending === 0;
        if (isLast || (isQuiet && counts !== lookedAt)) {
          const seen = await look(deployment, seed);
          // Read last: what was in doubt may have left since the counts.
          const now = { ...seen, fileBytes: (await admin.stats()).fileBytes };
          if (now.left === 0 || isLast) return now;
          lookedAt = counts;
        }
      } catch (error) {
        if (isLast)
          return { left: 0, held: [], possibleDuplicates: 0, fileBytes: 0, unreadable: String(error) };
      }
      await Bun.sleep(100);
    }
  } finally {
    await admin?.close();
  }
}

async function openQueue(deployment: Deployment): Promise<Admin> {
  const read = readConfig(deployment.queueSettings(), "server");
  if (!read.ok) throw new Error(read.message);
  return openAdmin(read.config.queue, read.config.retainMs, silentLog);
}

async function look(deployment: Deployment, seed: number): Promise<Omit<Drained, "fileBytes">> {
  // Read in this order, so that an email that leaves doubt in between is counted by the second.
  const held = (await list(deployment, "in-doubt")).filter(({ subject = "" }) =>
    isRefused(numberOf(seed, subject) ?? 0),
  );
  const stats = (await deployment.operate("queue", "stats")) as Stats;
  const inDoubt = Math.max(0, stats["in-doubt"] - held.length);
  const left = stats.scheduled + stats.waiting + stats.retrying + stats.sending + inDoubt;
  return { left, held, possibleDuplicates: stats.possible_duplicates };
}

const unsettledStates = ["in-doubt", "sending", "retrying", "waiting", "scheduled"] as const;

export async function list(
  deployment: Deployment,
  state: "dead" | (typeof unsettledStates)[number],
): Promise<QueuedEmail[]> {
  return (await deployment.operate("queue", "list", state, "--limit", "10000000")) as QueuedEmail[];
}

/** Most lines about stuck emails: the first ones show the cause. */
const linesMax = 30;

/** Where the emails are that have not left the queue, why, and the condition of the providers, in lines. */
export async function explainStuck(deployment: Deployment, seed: number): Promise<string[]> {
  try {
    const emails: QueuedEmail[] = [];
    for (const state of unsettledStates) emails.push(...(await list(deployment, state)));
    const { at, providers } = (await deployment.operate("queue", "stats")) as Stats;
    return [
      ...describeStuck(emails, seed).slice(0, linesMax),
      ...Object.entries(providers).map(
        ([name, condition]) => `${name} at ${at}: ${JSON.stringify(condition)}`,
      ),
    ];
  } catch (error) {
    return [String(error)];
  }
}

/** Drains the queue while Redis's memory is full: clients are refused meanwhile and repeat. */
export async function drainWithMemoryFull(
  deployment: Deployment,
  seed: number,
  withinMs: number,
): Promise<number> {
  limitMemory(deployment, "1");
  const { left, unreadable } = await drain(deployment, seed, withinMs);
  limitMemory(deployment, "0");
  if (unreadable !== undefined) throw new Error(`Cannot read the queue while memory is full: ${unreadable}`);
  return left;
}

/** Duplicates that the service itself does not report: neither in a worker's log, nor in the email's own history. */
export async function findUnexplained(
  deployment: Deployment,
  folder: string,
  duplicates: readonly Duplicate[],
): Promise<Duplicate[]> {
  if (duplicates.length === 0) return [];
  const named = namedInLogs(join(folder, "logs"));
  const unexplained: Duplicate[] = [];
  for (const duplicate of duplicates) {
    if (duplicate.ids.length > 1) unexplained.push(duplicate);
    else if (!named.has(duplicate.ids[0] as string) && !(await isNamedInStory(deployment, duplicate))) {
      unexplained.push(duplicate);
    }
  }
  return unexplained;
}

function namedInLogs(folder: string): Set<string> {
  const lines = readdirSync(folder)
    .filter((name) => name.startsWith("worker-") && existsSync(join(folder, name)))
    .flatMap((name) => readFileSync(join(folder, name), "utf8").split("\n"));
  return new Set(
    lines
      .filter((line) => line.includes('"possible-duplicate"'))
      .map((line) => (JSON.parse(line) as { id: string }).id),
  );
}

async function isNamedInStory(deployment: Deployment, { ids }: Duplicate): Promise<boolean> {
  const story = (await deployment.operate("queue", "show", ids[0] as string)) as {
    possible_duplicate?: boolean;
  };
  return story.possible_duplicate === true;
}
