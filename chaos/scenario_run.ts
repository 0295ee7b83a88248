// One run: starts a deployment and its load, injects faults, heals it, waits until the queue has drained, and judges
// the result.

import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Acceptance } from "../fakes/ledger.ts";
import { eventually } from "../tests/support/eventually.ts";
import { drain, drainWithMemoryFull, explainStuck, findUnexplained, list } from "./queue_state.ts";
import { inject } from "./inject.ts";
import type { Arrival } from "./comparison.ts";
import { judge } from "./judge.ts";
import { openJournal, readJournal } from "./journal.ts";
import { startLoad, type Try } from "./load.ts";
import { readOutbox } from "./outbox.ts";
import { findPersonal } from "./personal_data.ts";
import type { PoisonedRequest } from "../fakes/poison.ts";
import type { Emails } from "./emails.ts";
import { watchReadiness } from "./readiness_watch.ts";
import { watchUsage } from "./usage_watch.ts";
import { recoveries } from "./recovery.ts";
import { schedule, describeFault } from "./schedule.ts";
import type { Scenario, Store } from "./scenario.ts";
import { failuresOf, type RunResult } from "./result.ts";
import { outboxIn, startDeployment, type Deployment } from "./deployment.ts";

/** Minimum extent of a run: each limit that is given must be reached. */
export interface Extent {
  readonly forMs?: number;
  readonly emails?: number;
  readonly kills?: number;
  readonly strikes?: number;
  /**
   * Repeated acceptances to wait for, when the service is known to be broken, so that its fault is not missed by
   * chance.
   */
  readonly duplicates?: number;
  /** After this time, only `forMs` counts. */
  readonly withinMs?: number;
}

export interface RunOptions {
  readonly scenario: Scenario;
  readonly store: Store;
  readonly seed: number;
  readonly extent: Extent;
  readonly rate: number;
  /** Must not exist. */
  readonly folder: string;
  readonly product: string;
  readonly previousRelease?: string | undefined;
  readonly diskLibrary: string | undefined;
  readonly clockLibrary: string | undefined;
  /** Time for all clients to be answered, and again for the queue to drain, after healing, ms. */
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
  readonly unclean?: string;
  readonly note?: string;
}

/** Longest wait for the processes to start, ms. */
const startMaxMs = 60_000;
/** Longest wait of a client for an answer: SUBMIT_TIMEOUT and 5 s more, ms. */
const patienceMs = 3000 + 5000;

export async function run(options: RunOptions): Promise<RunResult> {
  const { scenario, store, seed, extent, folder } = options;
  mkdirSync(folder, { recursive: true });
  const startMs = performance.now();
  const deployment = await startDeployment(options);
  const usage = watchUsage(deployment.servers);
  const readiness = watchReadiness(deployment.watched);
  const strikes: StrikeRecord[] = [];
  const wrongClocks: StrikeRecord[] = [];
  try {
    await eventually("every server answers", () => allAnswer(deployment), startMaxMs);
    await eventually("every worker has started", () => workersHaveStarted(deployment), startMaxMs);
    const answers = openJournal<Try>(join(folder, "answers.jsonl"));
    const { urls } = deployment;
    const { rate } = options;
    const { oneSender = false, poisonEvery = 0, onlyPlain = false } = scenario;
    const emails: Emails = { seed, oneSender, poisonEvery, onlyPlain };
    const load = startLoad({ emails, urls, rate, patienceMs, journal: answers });
    const loadedMs = performance.now();
    let kills = 0;
    const isOver = async () => {
      const elapsedMs = performance.now() - loadedMs;
      if (elapsedMs < (extent.forMs ?? 0)) return false;
      if (elapsedMs > (extent.withinMs ?? Infinity)) return true;
      if (load.acknowledged < (extent.emails ?? 0) || kills < (extent.kills ?? 0)) return false;
      if (strikes.length < (extent.strikes ?? 0)) return false;
      const { duplicates = 0 } = extent;
      return duplicates === 0 || (await countDuplicates(folder)) >= duplicates;
    };

    const journal = openJournal<StrikeRecord>(join(folder, "strikes.jsonl"));
    const strike = async (lane: number) => {
      if (scenario.faults.length === 0) {
        // The emails themselves are the fault here.
        while (!(await isOver())) await Bun.sleep(50);
        return;
      }
      for (const next of schedule(scenario, seed, lane)) {
        await Bun.sleep(next.afterMs);
        if (await isOver()) return;
        const struckMs = Date.now();
        const { killed, unclean, note } = await inject(deployment, next);
        kills += killed.length;
        const record: StrikeRecord = {
          what: describeFault(next.fault),
          startMs: struckMs,
          endMs: Date.now(),
          killed,
          ...(unclean !== undefined && { unclean }),
          ...(note !== undefined && { note }),
        };
        strikes.push(record);
        if (next.fault.do === "stepClock") wrongClocks.push(record);
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
    // Every strike has undone its effects, but a process that died on its own may not be back yet.
    await deployment.exclusively(() => deployment.startEverything());
    const unsettled = await deployment.nodes?.settle(options.drainMs);
    if (scenario.healedByRestart) await restartWorkers(deployment);
    await readiness.stop();
    const leftWhileFull = scenario.drainsWithMemoryFull
      ? await drainWithMemoryFull(deployment, seed, options.drainMs)
      : 0;
    const unanswered = await load.finish(options.drainMs);
    const { left, held, ...drained } = await drain(deployment, seed, options.drainMs);
    const { possibleDuplicates, fileBytes, unreadable } = drained;
    const stuck = leftWhileFull + left;
    const stuckWhere = left > 0 ? await explainStuck(deployment, seed) : [];
    answers.close();
    journal.close();

    const dead = unreadable === undefined ? await list(deployment, "dead") : [];
    await Bun.write(join(folder, "dead.json"), JSON.stringify(dead, undefined, 1));
    const judgement = await judge({
      emails,
      tries: readJournal<Try>(join(folder, "answers.jsonl")),
      arrivals: readArrivals(folder),
      dead,
      held,
      poisoned: readJournal<PoisonedRequest>(join(folder, "poisoned.jsonl")),
      limits: scenario.limits,
      wrongClocks,
    });
    const unexplained = await findUnexplained(deployment, folder, judgement.duplicates);
    const struck = strikes.length + judgement.poisonedRequests;
    const { crashes } = deployment;
    const unclean = strikes.flatMap((one) => one.unclean ?? []);
    const seen = {
      judgement,
      scenario,
      possibleDuplicates,
      usage: usage.most,
      unready: readiness.reasons,
      unexplained,
      strikes: struck,
      stuck,
      stuckWhere,
      unsettled,
      fileBytes,
      violations: await violationsOf(deployment),
      personal: findPersonal(deployment.logs),
      unreadable,
      unanswered,
      unclean,
      crashes,
    };
    const failures = failuresOf(seen);
    const result: RunResult = {
      ...judgement,
      ok: failures.length === 0,
      failures,
      kills,
      strikes: struck,
      explained: judgement.duplicates.length - unexplained.length,
      possibleDuplicates,
      usage: usage.most,
      stuck,
      fileBytes,
      unreadable,
      unanswered: unanswered.length,
      crashes: [...crashes],
      recovery: recoveries(strikes, await answeredTimes(folder), rate),
      elapsedMs: performance.now() - startMs,
    };
    await Bun.write(
      join(folder, "result.json"),
      JSON.stringify({ scenario: scenario.name, store, seed, ...result }, undefined, 1),
    );
    return result;
  } finally {
    usage.stop();
    await readiness.stop();
    await deployment.stop();
  }
}

/** The emails that providers accepted, and those in the sandbox's outbox. */
async function* readArrivals(folder: string): AsyncGenerator<Arrival> {
  yield* readJournal<Acceptance>(join(folder, "acceptances.jsonl"));
  yield* readOutbox(outboxIn(folder));
}

async function violationsOf({ fakes }: Deployment): Promise<string[]> {
  const all = await Promise.all((["resend", "postmark"] as const).map((name) => fakes(name).violations()));
  return all.flat();
}

/** Number of repeated acceptances so far. */
async function countDuplicates(folder: string): Promise<number> {
  const text = await Bun.file(join(folder, "acceptances.jsonl")).text();
  // The last line may still be being written.
  const subjects = text
    .split("\n")
    .slice(0, -1)
    .map((line) => (JSON.parse(line) as Acceptance).subject);
  return subjects.length - new Set(subjects).size;
}

/** A fault that strikes before a worker has connected to anything shows nothing. */
function workersHaveStarted({ workers, logs }: Deployment): boolean {
  return workers.every(({ name }) =>
    readFileSync(join(logs, `${name}.log`), "utf8").includes('"worker-started"'),
  );
}

async function allAnswer({ urls }: Deployment): Promise<boolean> {
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

/** Restarts the workers, as an operator does after replacing a key. */
async function restartWorkers(deployment: Deployment): Promise<void> {
  await deployment.exclusively(async () => {
    for (const worker of deployment.workers) {
      await worker.stop();
      worker.start();
    }
  });
}

async function answeredTimes(folder: string): Promise<number[]> {
  const times: number[] = [];
  for await (const { status, atMs } of readJournal<Try>(join(folder, "answers.jsonl"))) {
    if (status === 200) times.push(atMs);
  }
  return times;
}
