// Carries retries out: dead letters in as few calls as possible, batches in doubt one by one.

import { endDoubtNow, type Replay, replayCounts, replayOf } from "../../policy/replay.ts";
import { type Operator, type Settled, type Settlement, StoreUnavailable } from "../../queue/queue.ts";
import type { Batch, StoredEmail } from "../../queue/queue.ts";
import type { Failure } from "./problems.ts";

export interface Replayed {
  readonly retried: readonly string[];
  /** Among those: a provider may have accepted them before. */
  readonly possibleDuplicates: readonly string[];
}

/** Those that are not among the retried have changed meanwhile. */
export async function replayDead(
  operator: Operator,
  emails: readonly (Replay & { readonly id: string; readonly seenHistory: string })[],
): Promise<Replayed> {
  const retried: string[] = [];
  const possibleDuplicates: string[] = [];
  for (const mayBeDuplicate of [false, true]) {
    const alike = emails.filter((email) => email.mayBeDuplicate === mayBeDuplicate);
    if (alike.length === 0) continue;
    const back = await operator.replay(
      alike.map(({ id, seenHistory, history }) => ({ id, seenHistory, history })),
      replayCounts(mayBeDuplicate),
    );
    retried.push(...back);
    if (mayBeDuplicate) possibleDuplicates.push(...back);
  }
  return { retried, possibleDuplicates };
}

/** A dead letter as {@link replayDead} takes it. */
export function replayable({ id, history: seenHistory }: StoredEmail, nowMs: number) {
  return { id, seenHistory, ...replayOf(seenHistory, nowMs) };
}

/** Ends the doubt of the batch that holds this email: all of it goes back to waiting. */
export async function replayDoubtful(
  operator: Operator,
  emailId: string,
  leaseMs: number,
): Promise<Replayed | Failure> {
  const answer = await operator.claimDoubt({ claimId: Bun.randomUUIDv7(), emailId, leaseMs });
  switch (answer.kind) {
    case "busy":
    case "unknown":
      return { id: emailId, problem: answer.kind };
    case "not-in-doubt":
      return { id: emailId, problem: "changed" };
    case "batch": {
      const { batch } = answer;
      const { settlement, possibleDuplicates } = endDoubtNow(batch, batch.nowMs);
      const { leaseHeld } = await settle(operator, batch, settlement);
      if (!leaseHeld) return { id: emailId, problem: "changed" };
      return { retried: possibleDuplicates, possibleDuplicates };
    }
  }
}

const tries = 5;
const tryPauseMs = 200;

/** An answer that was lost must not leave the batch leased to nobody. */
async function settle(operator: Operator, batch: Batch, settlement: Settlement): Promise<Settled> {
  for (let left = tries; ; left -= 1) {
    try {
      const settled = await operator.settle(batch, settlement);
      // Of a repetition: the first was carried out, or so many seconds of lease have gone.
      return left < tries ? { ...settled, leaseHeld: true } : settled;
    } catch (error) {
      if (!(error instanceof StoreUnavailable) || left === 1) throw error;
      await Bun.sleep(tryPauseMs);
    }
  }
}
