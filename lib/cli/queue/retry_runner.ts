// Carries retries out: dead letters in as few calls as possible, batches in doubt one by one.

import { endDoubtNow, type OperatorRetry, retryCounts, decideRetry } from "../../policy/operator_retry.ts";
import { type Batch, type Admin, type StoredEmail, StoreUnavailable } from "../../queue/contract.ts";
import type { BulkRun } from "./bulk.ts";
import type { Failure } from "./errors.ts";
import { emailViewOf } from "./email_view.ts";

export interface Retried {
  readonly retried: string[];
  /** Among those: a provider may have accepted them before. */
  readonly possibleDuplicates: string[];
}

/** Notes those that were in `into`, at once; the others have changed meanwhile. */
export async function retryDead(
  admin: Admin,
  emails: readonly (OperatorRetry & { readonly id: string; readonly seenHistory: string })[],
  bulkRun: BulkRun,
  into: Retried,
): Promise<void> {
  for (const mayBeDuplicate of [false, true]) {
    const alike = emails.filter((email) => email.mayBeDuplicate === mayBeDuplicate);
    if (alike.length === 0) continue;
    const back = await bulkRun.change(
      alike.map(({ id }) => id),
      () =>
        admin.retry(
          alike.map(({ id, seenHistory, history }) => ({ id, seenHistory, history })),
          retryCounts(mayBeDuplicate),
        ),
    );
    into.retried.push(...back);
    if (mayBeDuplicate) into.possibleDuplicates.push(...back);
  }
}

/** A dead letter as {@link retryDead} takes it. */
export function retryRequestOf({ id, history: seenHistory }: StoredEmail, nowMs: number) {
  return { id, seenHistory, ...decideRetry(seenHistory, nowMs) };
}

/**
 * Ends the doubt of the batch that holds this email: all of it goes back to waiting, and into `into`.
 * @returns why not
 */
export async function retryInDoubt(
  admin: Admin,
  emailId: string,
  leaseMs: number,
  bulkRun: BulkRun,
  into: Retried,
): Promise<Failure | undefined> {
  const claim = { claimId: Bun.randomUUIDv7(), emailId, leaseMs };
  // A claim alone changes nothing that an operator would have to know: its lease ends.
  const { result: answer } = await patiently(() => admin.claimInDoubt(claim));
  switch (answer.kind) {
    case "busy":
    case "unknown":
      return { id: emailId, problem: answer.kind };
    case "not-in-doubt":
      return { id: emailId, problem: "changed" };
    case "batch": {
      const { batch } = answer;
      const { settlement, possibleDuplicates } = endDoubtNow(batch, batch.nowMs);
      const isDone = await bulkRun.change(possibleDuplicates, async () => {
        const { result, repeated } = await patiently(() => admin.settle(batch, settlement));
        // Of a repetition, it may be that the first was carried out, and ended the lease by that.
        return result.leaseHeld || (repeated && (await wasReplayed(admin, batch, possibleDuplicates)));
      });
      if (!isDone) return { id: emailId, problem: "changed" };
      into.retried.push(...possibleDuplicates);
      into.possibleDuplicates.push(...possibleDuplicates);
      return undefined;
    }
  }
}

/**
 * Whether these emails of the batch went back to waiting by the settlement of this lease, by what they remember.
 * Rejects with {@link StoreUnavailable} if nobody can tell any more.
 */
async function wasReplayed(admin: Admin, batch: Batch, ids: readonly string[]): Promise<boolean> {
  let holdsAll = true;
  for (const id of ids) {
    const stored = await admin.show(id);
    if (stored !== undefined && emailViewOf(stored).replayedAtMs === batch.nowMs) return true;
    holdsAll &&= stored?.batch?.id === batch.id;
  }
  if (holdsAll) return false;
  throw new StoreUnavailable("the answer was lost, and the emails have gone on since");
}

/** Longest that a step is repeated, ms: a failover takes seconds. Well within any lease. */
const patienceMs = 5000;
const pauseMs = 200;

/** Repeats what may be repeated while its answer is lost. */
async function patiently<T>(
  ask: () => Promise<T>,
): Promise<{ readonly result: T; readonly repeated: boolean }> {
  const endMs = performance.now() + patienceMs;
  for (let repeated = false; ; repeated = true) {
    try {
      return { result: await ask(), repeated };
    } catch (error) {
      if (!(error instanceof StoreUnavailable) || performance.now() > endMs) throw error;
      await Bun.sleep(pauseMs);
    }
  }
}
