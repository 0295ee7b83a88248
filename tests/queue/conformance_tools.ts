// What the tests of a queue share: emails, claims and settlements with the little that a test cares about spelt out.

import { afterAll } from "bun:test";
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
import { hangMs } from "../support/eventually.ts";

export interface QueueUnderTest {
  readonly producer: Producer;
  /** Has been woken by its start, and will not be woken by that again. */
  readonly consumer: Consumer;
  readonly admin: Admin;
  /** Lets time pass: by the store's clock, and by the monotonic clock of the worker that sweeps. */
  advance(ms: number): void;
  /** Sets the store's clock forward, or back: no time passes. */
  step(ms: number): void;
  close(): Promise<void>;
}

export const leaseMs = 60_000;
export const hourMs = 3_600_000;

export const batchesFirst = ["batches", "split", "emails"] as const;
export const emailsFirst = ["emails", "split", "batches"] as const;

/** The only worker of a test, which hands new emails to these providers, all under the credential "c". */
export function serving(...providers: string[]): WorkerPresence {
  const served = providers.map((name) => [name, { credential: "c", takesEmails: true }]);
  return {
    worker: "01234567-0000-7000-8000-000000000000",
    retryMaxMs: hourMs,
    searchWaitMs: 60_000,
    providers: Object.fromEntries(served),
  };
}

/** A claim by somebody who never claimed before. */
export const endedRequest = () => ({ claimant: Bun.randomUUIDv7(), number: 1, leaseMs });

export function submission(over: Partial<Submission> = {}, body = "Hello"): Submission {
  const text = encodeEmail({ to: "jane@example.org", from: "shop@example.com", subject: "Hi", body });
  return { id: Bun.randomUUIDv7(), text, ...over };
}

/** A deadline that only a hang exceeds. */
export const soon = () => performance.now() + hangMs;

/** Asks again, as a worker does, when a busy store has not answered within the time that a command has. */
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

/** Closes every queue that it opened when the tests of its block are done. */
export function toolsFor<Queue extends QueueUnderTest>(open: () => Promise<Queue>) {
  const opened: Queue[] = [];
  afterAll(async () => {
    await Promise.all(opened.map((one) => one.close()));
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

  const request = (over: Partial<ClaimRequest> = {}): ClaimRequest => ({
    claimId: Bun.randomUUIDv7(),
    claimant: Bun.randomUUIDv7(),
    number: 1,
    provider: "resend",
    credential: "c",
    sources: batchesFirst,
    shared: true,
    countMax: 100,
    bytesMax: 4 * 1024 * 1024,
    leaseMs,
    doubtMs: 23 * hourMs,
    context: "",
    dueCountMax: 0,
    ...over,
  });

  async function claim(q: QueueUnderTest, over: Partial<ClaimRequest> = {}): Promise<Batch> {
    const asked = request(over);
    const result = await patiently(() => q.consumer.claim(asked));
    if (result.kind !== "batch") throw new Error(JSON.stringify(result));
    return result.batch;
  }

  return {
    queue,
    submit,
    /** So many of them. */
    submitMany: (q: QueueUnderTest, count: number) =>
      submit(q, ...Array.from({ length: count }, () => submission())),
    request,
    claim,
    claimed: async (q: QueueUnderTest, over: Partial<ClaimRequest> = {}) =>
      (await q.consumer.claim(request(over))).kind,
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
    /** What is left of a batch that is in doubt from now on, and due again at once. */
    doubt: { delayMs: 0, notes: "n" },
    state: async (q: QueueUnderTest, id: string) => (await q.admin.show(id))?.state,
    /** What does not change by itself. */
    async counted(q: QueueUnderTest) {
      const { states, counters } = await q.admin.stats();
      return { states, counters };
    },
  };
}
