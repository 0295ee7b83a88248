// Shared by the tests of a queue: emails, claims and settlements, with only the details that a test cares about.

import { afterEach, test } from "bun:test";
import { encodeEmail } from "../../lib/email/email.ts";
import {
  type Batch,
  type ClaimRequest,
  type EmailFate,
  type Producer,
  type Admin,
  StoreUnavailable,
  type Submission,
  type Consumer,
  type WorkerPresence,
} from "../../lib/queue/contract.ts";
import { createId, partitionOf } from "../../lib/queue/redis/partition.ts";
import { claimRequest } from "../support/claim_request.ts";
import { eventually, hangMs } from "../support/eventually.ts";

export interface QueueUnderTest {
  readonly producer: Producer;
  /** It has had the wake-up of its start. */
  readonly consumer: Consumer;
  readonly admin: Admin;
  /** Lets time pass, on the store's clock and on the monotonic clock of the worker that sweeps. */
  advance(ms: number): void;
  /** Steps the store's clock forward or back; no time passes. */
  step(ms: number): void;
  close(): Promise<void>;
}

export const leaseMs = 60_000;
export const hourMs = 3_600_000;

export const batchesFirst = ["batches", "split", "emails"] as const;
export const emailsFirst = ["emails", "split", "batches"] as const;

/** The counts of an empty queue. */
export const noEmails = {
  scheduled: 0,
  waiting: 0,
  retrying: 0,
  sending: 0,
  "in-doubt": 0,
  sent: 0,
  dead: 0,
};

/** The only worker of a test, which gives new emails to these providers, all under the credential "c". */
export function serving(...providers: string[]): WorkerPresence {
  const served = providers.map((name) => [name, { credential: "c", takesEmails: true }]);
  return {
    worker: "01234567-0000-7000-8000-000000000000",
    retryMaxMs: hourMs,
    searchWaitMs: 60_000,
    providers: Object.fromEntries(served),
  };
}

/** A claim of an ended doubt, by a new claimant. */
export const endedRequest = () => ({ claimant: Bun.randomUUIDv7(), number: 1, leaseMs });

export function submission(over: Partial<Submission> = {}, body = "Hello"): Submission {
  const text = encodeEmail({ to: "jane@example.org", from: "shop@example.com", subject: "Hi", body });
  return { id: idLike(over.idempotency?.key), text, ...over };
}

/** In a queue of four partitions: those of one key are in one, and all without a key are too. */
export function idLike(key = ""): string {
  return createId(partitionOf(key, 4), 4);
}

/** A deadline that only a hang exceeds. */
export const soon = () => performance.now() + hangMs;

/** Repeats a call, as a worker does, if a busy store has not answered within the command's time limit. */
async function patiently<T>(ask: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof StoreUnavailable && error.message.includes("timed out"))) throw error;
    }
  }
}

export type Tools = ReturnType<typeof toolsFor>;

/** Opens queues, and closes them after each test. */
export function toolsFor<Queue extends QueueUnderTest>(open: () => Promise<Queue>, isPartitioned = false) {
  const opened: Queue[] = [];
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((one) => one.close()));
  });

  async function queue(): Promise<Queue> {
    const one = await open();
    opened.push(one);
    return one;
  }

  async function submit(q: QueueUnderTest, ...submissions: Submission[]): Promise<string[]> {
    const results = await Promise.all(submissions.map((one) => q.producer.submit(one, soon())));
    return results.map((result) => {
      if (result.kind !== "stored") throw new Error(JSON.stringify(result));
      return result.id;
    });
  }

  async function claim(q: QueueUnderTest, over: Partial<ClaimRequest> = {}): Promise<Batch> {
    const asked = claimRequest(over);
    const result = await eventually("a claim gets a batch", async () => {
      const answer = await patiently(() => q.consumer.claim(asked));
      // On a busy machine a partition may answer too late for a claim, which is repeated then.
      return answer.kind === "empty" && isPartitioned ? undefined : answer;
    });
    if (result.kind !== "batch") throw new Error(JSON.stringify(result));
    return result.batch;
  }

  return {
    queue,
    submit,
    /** Tests the size of pages, or how claims are numbered: each partition has pages and numbers of its own. */
    testUndivided: isPartitioned ? test.skip : test,
    /** Submits this many emails. */
    submitMany: (q: QueueUnderTest, count: number) =>
      submit(q, ...Array.from({ length: count }, () => submission())),
    request: claimRequest,
    claim,
    claimed: async (q: QueueUnderTest, over: Partial<ClaimRequest> = {}) =>
      (await q.consumer.claim(claimRequest(over))).kind,
    ids: (batch: Batch) => batch.emails.map(({ id }) => id),
    settle: (
      q: QueueUnderTest,
      batch: Batch,
      fates: EmailFate[],
      rest?: { delayMs: number; notes: string },
    ) => patiently(() => q.consumer.settle(batch, { fates, counts: {}, ...(rest && { rest }) })),
    sent: (id: string, record = "{}"): EmailFate => ({ id, kind: "sent", record }),
    due: (id: string, delayMs = 0, history = "h"): EmailFate => ({ id, kind: "due", delayMs, history }),
    dead: (id: string, history = "died"): EmailFate => ({ id, kind: "dead", history }),
    /** A rest that puts the batch in doubt, due again immediately. */
    doubt: { delayMs: 0, notes: "n" },
    state: async (q: QueueUnderTest, id: string) => (await q.admin.show(id))?.state,
    /** The statistics that do not change on their own. */
    async counted(q: QueueUnderTest) {
      const { states, counters } = await q.admin.stats();
      return { states, counters };
    },
  };
}
