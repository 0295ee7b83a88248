// `queue move`: moves the queue to another store, while servers and workers run. docs/moving.md has the procedure.

import { setTimeout as sleep } from "node:timers/promises";
import { onSignals } from "../../runtime/service.ts";
import { defineCommand, type ExitCode, flag, UsageError } from "../command.ts";
import { formatCount } from "../format.ts";
import { complain, Failure, hint, print, printJson } from "../output.ts";
import { type FailedEmail, problems } from "./bulk.ts";
import { countRest, describeRest, documentOfRest, hintAbout, readRest, type Rest } from "./move_rest.ts";
import { type CopiedKeys, copyClosedKeys, copyKeys, copyRecentKeys } from "./move_keys.ts";
import {
  ask,
  finishInterrupted,
  type Move,
  type MovedEmails,
  moveEmails,
  restoreAtSource,
  restoreAtTarget,
} from "./move_steps.ts";
import { jsonFlag, withQueue } from "./session.ts";

const closedText =
  "The old queue is closed to new idempotency keys, but not all are copied: run this again, or with --cancel";

const lookEveryMs = 1000;

export const moveCommand = defineCommand({
  name: "queue move",
  summary: "moves the queue to another store, step by step",
  words: "<file>",
  about: `\
Moves the queue that the settings name to the one that the settings in the file name: an environment file, such as new servers and workers start with. The new queue exists once a worker has started on it. docs/moving.md describes the whole procedure:

  1. Start workers and servers on the new queue, without traffic.
  2. queue move FILE --copy   tries it out: copies the idempotency keys
  3. queue move FILE --close  copies keys, and closes the old queue to new ones
  4. Direct all traffic to the new servers.
  5. queue move FILE          moves dead letters and scheduled emails, and
                              waits until the old workers have sent the rest

Each step can be interrupted and repeated. Step 5 exits with 0 once the old queue is empty.`,
  options: {
    copy: flag("only copies idempotency keys; changes nothing in the old queue"),
    close: flag("copies idempotency keys, and closes the old queue to new keys and to retries"),
    cancel: flag("opens the old queue again"),
    "no-wait": flag("reports what is left, and does not wait for it"),
    json: jsonFlag,
  },
  async run({ json, ...wanted }, [file]) {
    if (file === undefined) throw new UsageError("Where to? Name a file with the settings of the new queue");
    if (Object.values(wanted).filter(Boolean).length > 1)
      throw new UsageError("Use one of --copy, --close, --cancel and --no-wait");
    return withQueue((source) => {
      return withQueue(async (target) => {
        if (source.location === target.location)
          throw new Failure(`${file} names the same queue: ${source.location}`);
        const stop = new AbortController();
        const release = onSignals({
          repeatMs: source.config.signalRepeatMs,
          first: () => stop.abort(),
          second: () => process.exit(1),
        });
        const showProgress = (text: string) =>
          source.terminal.showsProgress && hint(`\r\x1b[K${text}${text && ". Ctrl-C is safe"}`);
        const move: Move = { source, target, signal: stop.signal, showProgress };
        try {
          const result = await (wanted.cancel ? cancelMove(move) : advanceMove(move, wanted));
          showProgress("");
          return report(move, result, json);
        } finally {
          release();
        }
      }, file);
    });
  },
});

interface MoveResult {
  readonly step: "copied" | "closed" | "emptied" | "canceled";
  readonly keys?: CopiedKeys;
  readonly moved?: MovedEmails;
  readonly rest?: Rest;
}

interface Wanted {
  readonly copy: boolean;
  readonly close: boolean;
  readonly "no-wait": boolean;
}

async function advanceMove(move: Move, { copy, close, "no-wait": noWait }: Wanted): Promise<MoveResult> {
  await checkTarget(move);
  if (copy) return { step: "copied", keys: await copyKeys(move) };
  const { moving } = await ask(move.source, (admin) => admin.stats());
  if (!moving) {
    if (close) return closeQueue(move);
    throw new Failure(`Not closed yet: run this with --close first (queue in ${move.source.location})`);
  }
  // After an interruption, or a failover without replicas, some of its partitions may be open.
  await beginMove(move);
  const keys = await copyClosedKeys(move);
  return close ? { step: "closed", keys } : { step: "emptied", keys, ...(await empty(move, noWait)) };
}

async function closeQueue(move: Move): Promise<MoveResult> {
  const { nowMs } = await ask(move.source, (admin) => admin.stats());
  const monotonicMs = performance.now();
  const open = await copyKeys(move);
  if (move.signal.aborted) return { step: "copied", keys: open };
  await beginMove(move);
  try {
    const recent = await copyRecentKeys(move, nowMs, monotonicMs);
    return { step: "closed", keys: { ...open, added: open.added + recent.added } };
  } catch (error) {
    throw error instanceof Failure ? new Failure(`${error.message}\n${closedText}`) : error;
  }
}

async function beginMove({ source, target }: Move): Promise<void> {
  await ask(source, (admin) => admin.setMoving(true));
  if (!(await ask(target, (admin) => admin.stats())).moving) return;
  // Another address leads to the same queue.
  await ask(source, (admin) => admin.setMoving(false));
  throw new Failure(`Both settings lead to the same queue: ${source.location} and ${target.location}`);
}

async function checkTarget({ target }: Move): Promise<void> {
  const { moving } = await ask(target, (admin) => admin.stats());
  if (moving) throw new Failure(`${target.location} is being moved itself, or is the same queue`);
  const health = await ask(target, (admin) => admin.health());
  if (!health.ok) throw new Failure(`${target.location} cannot be relied on: ${health.reason}`);
}

/** Moves dead letters and scheduled emails, including new ones, until nothing is left that is worth waiting for. */
async function empty(move: Move, noWait: boolean): Promise<Pick<MoveResult, "moved" | "rest">> {
  const sum = { deadLetters: 0, scheduled: 0 };
  for (let pass = 1; ; pass += 1) {
    const failed: FailedEmail[] = [];
    for (const state of ["dead", "scheduled"] as const) {
      const moved = await moveEmails(move, state);
      sum.deadLetters += moved.deadLetters;
      sum.scheduled += moved.scheduled;
      failed.push(...moved.failed);
      // By now, the target has whatever an interrupted command withdrew.
      if (pass === 1 && state === "dead") await restoreAtTarget(move);
    }
    const rest = await readRest(move.source);
    const isOver = noWait || move.signal.aborted || !rest.stats.moving;
    if (isOver || countRest(rest) === failed.length) return { moved: { ...sum, failed }, rest };
    move.showProgress(`Left: ${describeRest(rest)}`);
    await sleep(lookEveryMs, undefined, { signal: move.signal }).catch(() => {});
  }
}

async function cancelMove(move: Move): Promise<MoveResult> {
  await finishInterrupted(move);
  // A letter that both queues have could be sent by both.
  if (!move.signal.aborted) {
    await ask(move.source, (admin) => admin.setMoving(false));
    await restoreAtSource(move);
    await restoreAtTarget(move);
  }
  return { step: "canceled" };
}

function report({ source, target, signal }: Move, result: MoveResult, json: boolean): ExitCode {
  const { step, keys, moved, rest } = result;
  const failed = moved?.failed ?? [];
  const isCanceled = rest?.stats.moving === false;
  if (json) {
    printJson({
      queue: source.location,
      target: target.location,
      step,
      keys: keys && { copied: keys.copied, added: keys.added, conflicts: keys.conflicts },
      ...(moved && { dead_letters_moved: moved.deadLetters, scheduled_moved: moved.scheduled, failed }),
      ...(rest && documentOfRest(rest)),
      interrupted: signal.aborted || undefined,
    });
  } else {
    const where = `The queue in ${source.location} moves to ${target.location}`;
    print([where, ...linesOf(result), ...(signal.aborted ? [] : nextSteps(result))].join("\n"));
  }
  for (const { id, problem } of failed) complain(`${id} ${problems[problem]}`);
  if (isCanceled) complain("The old queue is no longer closed: the move was canceled, or a failover lost it");
  if (signal.aborted)
    complain("Interrupted: the changes above were made; run the command again for the rest");
  if (signal.aborted && step === "closed") complain(closedText);
  const isDone = rest === undefined || (countRest(rest) === 0 && !isCanceled);
  return isDone && !signal.aborted ? 0 : 1;
}

function* linesOf({ keys, moved, rest }: MoveResult): Generator<string> {
  if (keys !== undefined) {
    yield `${formatCount(keys.copied, "idempotency key")} copied`;
    if (keys.conflicts > 0)
      yield `${formatCount(keys.conflicts, "use")} of a key left out: the new queue knows the key for another email`;
  }
  if (moved !== undefined) {
    yield `${formatCount(moved.deadLetters, "dead letter")} moved`;
    if (moved.scheduled > 0) yield `${formatCount(moved.scheduled, "scheduled email")} moved`;
  }
  if (rest === undefined) return;
  const count = countRest(rest);
  yield count === 0 ? "The old queue is empty" : `Left in the old queue: ${describeRest(rest)}`;
}

/** The next steps of the operator, if this one was completed. */
function nextSteps({ step, rest }: MoveResult): string[] {
  switch (step) {
    case "copied":
      return ["Next: start servers on the new queue, and run this command with --close"];
    case "closed":
      return [
        "The old queue accepts no new idempotency keys now: direct all traffic to the new servers, then run this command without --close",
      ];
    case "emptied":
      return rest === undefined ? [] : hintAbout(rest);
    case "canceled":
      return ["The old queue accepts new idempotency keys again"];
  }
}
