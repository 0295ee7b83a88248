// A queue with emails in every state, created by the calls that servers and workers make.

import { afterAll } from "bun:test";
import { readConfig } from "../../lib/config/config.ts";
import { type Email, encodeEmail, isHidden } from "../../lib/email/email.ts";
import {
  asDead,
  encodeMemory,
  encodeRecord,
  type History,
  noHistory,
  noNotes,
} from "../../lib/policy/history.ts";
import { openProducer, openAdmin, openConsumer } from "../../lib/queue/open.ts";
import type { Batch, EmailFate } from "../../lib/queue/contract.ts";
import { claimRequest } from "./claim_request.ts";
import { eventually, hangMs } from "./eventually.ts";
import { silent } from "./log.ts";

export type ShapedQueue = Awaited<ReturnType<typeof shapeQueue>>;

const attempt = (outcome: "unavailable" | "unknown" | "rejected", reason: string) =>
  ({ kept: [{ provider: "resend", atMs: 1_700_000_000_000, outcome, reason }], total: 1 }) as const;

/** Opens queues, each with its settings, and closes them after the last test. */
export function useShapedQueues(settings: () => Record<string, string>) {
  const opened: ShapedQueue[] = [];
  afterAll(async () => {
    await Promise.all(opened.map((one) => one.close()));
  });
  return async () => {
    const env = settings();
    const queue = await shapeQueue(env);
    opened.push(queue);
    return { env, queue };
  };
}

/** @param env settings that lead to the queue */
export async function shapeQueue(env: Record<string, string>) {
  const read = readConfig(env, "server");
  if (!read.ok) throw new Error(read.message);
  const { queue, retainMs } = read.config;
  const watcher = {
    log: silent,
    onFatal: (reason: string) => {
      throw new Error(reason);
    },
  };
  const producer = await openProducer(queue, watcher);
  const consumer = await openConsumer(queue, retainMs, watcher);
  await eventually("the store is ready", () => producer.health().ok);
  await consumer.compatible;
  const admin = await openAdmin(queue, retainMs, silent);

  async function submit(
    count: number,
    over: Partial<Email> = {},
    files?: readonly Uint8Array[],
  ): Promise<string[]> {
    const email = { to: "jane@example.org", from: "shop@example.com", subject: "Hi", body: "Hello", ...over };
    const submission = {
      text: encodeEmail(email),
      isHidden: isHidden(email),
      ...(files !== undefined && { files }),
      ...(email.send_at !== undefined && { sendAtMs: Date.parse(email.send_at) }),
    };
    const results = await Promise.all(
      Array.from({ length: count }, () =>
        producer.submit({ id: Bun.randomUUIDv7(), ...submission }, performance.now() + hangMs),
      ),
    );
    return results.map((result) => {
      if (result.kind !== "stored") throw new Error(JSON.stringify(result));
      return result.id;
    });
  }

  /** Claims new emails; fails if others are waiting too. */
  async function claim(leaseMs = 600_000, countMax = 1000): Promise<Batch> {
    const result = await consumer.claim(
      claimRequest({
        countMax,
        bytesMax: 64 * 1024 * 1024,
        leaseMs,
        sources: ["emails", "split", "batches"],
      }),
    );
    if (result.kind !== "batch") throw new Error(JSON.stringify(result));
    return result.batch;
  }

  async function settled(
    count: number,
    over: Partial<Email>,
    fate: (id: string) => EmailFate,
    {
      failure,
      files,
    }: { readonly failure?: string; readonly files?: readonly Uint8Array[] | undefined } = {},
  ) {
    const ids: string[] = [];
    while (ids.length < count) {
      const some = await submit(Math.min(1000, count - ids.length), over, files);
      const batch = await claim();
      await consumer.settle(batch, {
        fates: some.map(fate),
        counts: {},
        ...(failure !== undefined && { failure: { reason: failure, own: true } }),
      });
      ids.push(...some);
    }
    return ids;
  }

  return {
    admin,
    consumer,
    submit,
    /** Claims the batch that is due, as another worker. */
    reclaim: () => claim(),
    async sending(count = 1) {
      const ids = await submit(count);
      return { ids, batch: await claim() };
    },
    /** Leaves a batch as a dead worker does. */
    async leaseExpired() {
      const ids = await submit(1);
      await claim(1);
      await eventually("its lease has expired", async () => {
        return (await admin.show(ids[0]!))?.state === "in-doubt";
      });
      return ids;
    },
    /** Leaves emails in doubt, in one batch that waits until its next claim. */
    async inDoubt(count = 1, delayMs = 600_000) {
      const ids = await submit(count);
      const batch = await claim();
      const notes = encodeMemory({
        ...noNotes,
        attempts: attempt("unknown", "no answer: ECONNRESET"),
        failures: 1,
      });
      await consumer.settle(batch, {
        fates: [],
        rest: { delayMs, notes },
        counts: { "unknown:resend": count },
      });
      return { ids, batch };
    },
    retrying: (count = 1, reason = "503 down") =>
      settled(
        count,
        {},
        (id) => ({
          id,
          kind: "due",
          delayMs: 600_000,
          history: encodeMemory({ ...noHistory, attempts: attempt("unavailable", reason), tries: 1 }),
        }),
        { failure: reason },
      ),
    dead: (
      count = 1,
      reason = "401 API key is invalid",
      over: Partial<History> = {},
      email: Partial<Email> = {},
      files?: readonly Uint8Array[],
    ) =>
      settled(
        count,
        email,
        (id) => ({
          id,
          kind: "dead",
          history: encodeMemory(
            asDead({ ...noHistory, attempts: attempt("rejected", reason), tries: 1, ...over }, reason),
          ),
        }),
        { files },
      ),
    sent: (count = 1, email: Partial<Email> = {}, files?: readonly Uint8Array[]) =>
      settled(
        count,
        email,
        (id) => ({
          id,
          kind: "sent",
          record: encodeRecord({
            batchId: "the-batch",
            provider: "resend",
            providerMessageId: "the-message",
            atMs: 1_700_000_000_000,
            history: noHistory,
          }),
        }),
        { files },
      ),
    /** Stores a damaged email. */
    async damaged(text = "no JSON\nat all \u001b[2J", history = "nor this") {
      const id = Bun.randomUUIDv7();
      await producer.submit({ id, text }, performance.now() + hangMs);
      await consumer.settle(await claim(), { fates: [{ id, kind: "dead", history }], counts: {} });
      return id;
    },
    async close() {
      await Promise.all([producer.close(), consumer.close(), admin.close()]);
    },
  };
}
