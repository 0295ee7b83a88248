// One run: a world is started and loaded, faults strike it, it is healed and left alone until nothing is left to do,
// and then judged.

import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Acceptance } from "../fakes/ledger.ts";
import { eventually } from "../tests/support/eventually.ts";
import { type DeadLetter, type Duplicate, judge, type Judgement } from "./judge.ts";
import { heal, inject, setMemoryFull } from "./inject.ts";
import { openJournal, readJournal } from "./journal.ts";
import { startLoad, type Try } from "./load.ts";
import { type Recovery, recoveries } from "./recovery.ts";
import { schedule, tellFault } from "./schedule.ts";
import type { Queue, Scenario } from "./scenario.ts";
import { type Crash, startWorld, type World } from "./world.ts";

/** How far a run goes at least: each that is given must be reached. */
export interface Extent {
  readonly forMs?: number;
  readonly emails?: number;
  readonly kills?: number;
}

export interface RunOptions {
  readonly scenario: Scenario;
  readonly queue: Queue;
  readonly seed: number;
  readonly extent: Extent;
  readonly rate: number;
  /** Does not exist yet. */
  readonly folder: string;
  readonly product: string;
  readonly diskLibrary: string | undefined;
  /** How the service is told from a stuck one, ms. */
  readonly drainMs: number;
  onProgress?(progress: Progress): void;
}

export interface Progress {
  readonly elapsedMs: number;
  readonly acknowledged: number;
  readonly kills: number;
  readonly strikes: number;
}

/** A fault as it struck, as a line of strikes.jsonl. */
export interface StrikeRecord {
  readonly what: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly killed: readonly string[];
  readonly note?: string;
}

export interface Verdict extends Judgement {
  /** Nothing of it should not be. */
  readonly ok: boolean;
  /** What should not be, in words. */
  readonly failures: readonly string[];
  readonly kills: number;
  readonly strikes: number;
  /** Duplicates that the service itself names as possible ones. */
  readonly explained: number;
  /** As many possible duplicates the service has counted. */
  readonly possibleDuplicates: number;
  /** Emails in the queue that nothing happens with any more. */
  readonly stuck: number;
  /** Emails with a key that were never answered 200. */
  readonly unanswered: number;
  readonly crashes: readonly Crash[];
  readonly recovery: Recovery;
  readonly elapsedMs: number;
}

/** A client waits for an answer so much longer than the service may take, ms. */
const patienceMs = 3000 + 5000;
const inFlightMax = 64;
/** For the clients to be answered once everything is healed, ms. */
const finishMs = 30_000;

export async function run(options: RunOptions): Promise<Verdict> {
  const { scenario, queue, seed, extent, folder } = options;
  mkdirSync(folder, { recursive: true });
  const startMs = performance.now();
  const world = await startWorld(options);
  const strikes: StrikeRecord[] = [];
  try {
    await eventually("every server answers", () => allAnswer(world), 30_000);
    const answers = openJournal<Try>(join(folder, "answers.jsonl"));
    const { urls } = world;
    const { rate } = options;
    const load = startLoad({ seed, urls, rate, inFlightMax, patienceMs, journal: answers });
    const loadedMs = performance.now();
    let kills = 0;
    const isOver = () =>
      performance.now() - loadedMs >= (extent.forMs ?? 0) &&
      load.acknowledged >= (extent.emails ?? 0) &&
      kills >= (extent.kills ?? 0);

    const journal = openJournal<StrikeRecord>(join(folder, "strikes.jsonl"));
    const strike = async (lane: number) => {
      for (const next of schedule(scenario, seed, lane)) {
        await Bun.sleep(next.afterMs);
        if (isOver()) return;
        const struckMs = Date.now();
        const { killed, note } = await inject(world, next);
        kills += killed.length;
        const record: StrikeRecord = {
          what: tellFault(next.fault),
          startMs: struckMs,
          endMs: Date.now(),
          killed,
          ...(note !== undefined && { note }),
        };
        strikes.push(record);
        journal.write(record);
        options.onProgress?.({
          elapsedMs: performance.now() - startMs,
          acknowledged: load.acknowledged,
          kills,
          strikes: strikes.length,
        });
      }
    };
    await Promise.all(Array.from({ length: scenario.lanes ?? 1 }, (_, lane) => strike(lane)));
    await heal(world);
    if (scenario.healedByRestart) await restartWorkers(world);
    const leftWhileFull = scenario.drainsWithMemoryFull
      ? await drainWithMemoryFull(world, options.drainMs)
      : 0;
    const unanswered = await load.finish(finishMs);
    const { left: leftAtLast, possibleDuplicates } = await drain(world, options.drainMs);
    const left = leftWhileFull + leftAtLast;
    answers.close();
    journal.close();

    const dead = (await world.operate("queue", "list", "dead", "--limit", "10000000")) as DeadLetter[];
    await Bun.write(join(folder, "dead.json"), JSON.stringify(dead, undefined, 1));
    const judgement = await judge({
      seed,
      tries: readJournal<Try>(join(folder, "answers.jsonl")),
      acceptances: readJournal<Acceptance>(join(folder, "acceptances.jsonl")),
      dead,
    });
    const unexplained = await findUnexplained(world, folder, judgement.duplicates);
    const seen = { judgement, scenario, unexplained, stuck: left, unanswered, crashes: world.crashes };
    const failures = failuresOf(seen);
    const verdict: Verdict = {
      ...judgement,
      ok: failures.length === 0,
      failures,
      kills,
      strikes: strikes.length,
      explained: judgement.duplicates.length - unexplained.length,
      possibleDuplicates,
      stuck: left,
      unanswered,
      crashes: [...world.crashes],
      recovery: recoveries(strikes, await answeredTimes(folder), rate),
      elapsedMs: performance.now() - startMs,
    };
    await Bun.write(
      join(folder, "verdict.json"),
      JSON.stringify({ scenario: scenario.name, queue, seed, ...verdict }, undefined, 1),
    );
    return verdict;
  } finally {
    await world.stop();
  }
}

async function allAnswer({ urls }: World): Promise<boolean> {
  const answers = await Promise.all(
    urls.map((url) =>
      fetch(url, { signal: AbortSignal.timeout(1000) }).then(
        ({ status }) => status === 405,
        () => false,
      ),
    ),
  );
  return answers.every(Boolean);
}

/** An operator who has mended a key, say, does so. */
async function restartWorkers(world: World): Promise<void> {
  await world.exclusively(async () => {
    for (const worker of world.workers) {
      await worker.stop();
      worker.start();
    }
  });
}

interface Stats {
  readonly waiting: number;
  readonly retrying: number;
  readonly sending: number;
  readonly "in-doubt": number;
  readonly possible_duplicates: number;
}

/** Waits until nothing is left to do, and returns how many emails are left when the time is over. */
async function drain(world: World, withinMs: number): Promise<{ left: number; possibleDuplicates: number }> {
  const endMs = performance.now() + withinMs;
  for (;;) {
    const stats = (await world.operate("queue", "stats")) as Stats;
    const left = stats.waiting + stats.retrying + stats.sending + stats["in-doubt"];
    if (left === 0 || performance.now() > endMs)
      return { left, possibleDuplicates: stats.possible_duplicates };
    await Bun.sleep(200);
  }
}

/** Clients are refused meanwhile, and repeat. */
async function drainWithMemoryFull(world: World, withinMs: number): Promise<number> {
  setMemoryFull(world, true);
  const { left } = await drain(world, withinMs);
  setMemoryFull(world, false);
  return left;
}

/** Those that the service itself does not name: neither in a worker's log, nor in the email's own story. */
async function findUnexplained(
  world: World,
  folder: string,
  duplicates: readonly Duplicate[],
): Promise<Duplicate[]> {
  if (duplicates.length === 0) return [];
  const named = namedInLogs(join(folder, "logs"));
  const unexplained: Duplicate[] = [];
  for (const duplicate of duplicates) {
    if (duplicate.ids.length > 1) unexplained.push(duplicate);
    else if (!named.has(duplicate.ids[0] as string) && !(await isNamedInStory(world, duplicate))) {
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

async function isNamedInStory(world: World, { ids }: Duplicate): Promise<boolean> {
  const story = (await world.operate("queue", "show", ids[0] as string)) as { possible_duplicate?: boolean };
  return story.possible_duplicate === true;
}

async function answeredTimes(folder: string): Promise<number[]> {
  const times: number[] = [];
  for await (const { status, atMs } of readJournal<Try>(join(folder, "answers.jsonl"))) {
    if (status === 200) times.push(atMs);
  }
  return times;
}

interface Seen {
  readonly judgement: Judgement;
  readonly scenario: Scenario;
  readonly unexplained: readonly Duplicate[];
  readonly stuck: number;
  readonly unanswered: number;
  readonly crashes: readonly Crash[];
}

function failuresOf({ judgement, scenario, unexplained, stuck, unanswered, crashes }: Seen): string[] {
  const failures: string[] = [];
  const fail = (count: number, what: string, example?: string) => {
    if (count > 0) failures.push(`${count} ${what}${example === undefined ? "" : `: ${example}`}`);
  };
  const findings = (list: Judgement["lost"], what: string) =>
    fail(list.length, what, list[0] && `email ${list[0].n}, ${list[0].what}`);
  const told = (list: readonly Duplicate[]) =>
    list[0] && `email ${list[0].n} by ${list[0].providers.join(", then ")}`;
  findings(judgement.lost, "lost");
  findings(judgement.corrupt, "corrupt");
  findings(judgement.wronglyDead, "wrongly dead or accepted");
  findings(judgement.renamed, "with two ids");
  // Resend could have prevented each of these.
  const atResend = judgement.duplicates.filter(({ providers }) => !providers.includes("postmark"));
  const others = judgement.duplicates.filter((one) => !atResend.includes(one));
  fail(atResend.length, "accepted twice by Resend", told(atResend));
  if (!scenario.mayDuplicateAtPostmark) fail(others.length, "accepted twice", told(others));
  else {
    const unnamed = unexplained.filter((one) => others.includes(one));
    fail(unnamed.length, "accepted twice, and not counted as possible duplicates", told(unnamed));
  }
  fail(stuck, "stuck in the queue");
  fail(unanswered, "never answered 200, however often they were repeated");
  fail(judgement.clients.refused, "refused by a 4xx");
  if (!scenario.mayHang) {
    fail(judgement.clients.errors["no answer in time"] ?? 0, "tries without an answer in time");
  }
  // A Redis whose disk is full ends by itself.
  const ours = crashes.filter(({ part }) => part !== "redis");
  fail(ours.length, "processes ended by themselves", ours[0] && `${ours[0].part}, ${ours[0].how}`);
  return failures;
}
