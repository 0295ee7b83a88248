// growth: whether submissions and deliveries become slower as the backlog grows, on both queues. Uses the queue without
// a server, a worker and a provider.

import { encodeEmail } from "../lib/email/email.ts";
import type { Consumer, Producer } from "../lib/queue/contract.ts";
import { openConsumer, openProducer } from "../lib/queue/open.ts";
import { claimRequest } from "../tests/support/claim_request.ts";
import { silent } from "../tests/support/log.ts";
import { startCpuMeter } from "./cpu.ts";
import { completeEmail } from "./email.ts";
import { bytesKept, fill, startStore, type Store, type StoreKind, storeKinds } from "./store.ts";
import type { Row, Table } from "./table.ts";

/** Redis holds the backlog in memory, about 1 kB for each email. */
const redisMax = 1_000_000;
const submittedAtOnce = 256;
const batchMax = 100;

export interface GrowthOptions {
  readonly backlogs: readonly number[];
  /** Emails that are submitted, and then drained, at each backlog. */
  readonly emails: number;
}

export async function benchGrowth({ backlogs, emails }: GrowthOptions): Promise<Table> {
  const rows: Row[] = [];
  for (const kind of storeKinds) rows.push(...(await grow(kind, backlogs, emails)));
  return {
    name: "growth",
    notes: [
      `At each backlog ${emails} emails are submitted, ${submittedAtOnce} at a time, and then claimed and settled in batches of ${batchMax}, one after another.`,
    ],
    columns: [
      ["queue", "waiting", "bytes/email"],
      ["submit emails/s", "submit CPU µs", "submit Redis CPU µs"],
      ["drain emails/s", "drain CPU µs", "drain Redis CPU µs", "neighbors %"],
    ],
    rows,
  };
}

async function grow(kind: StoreKind, backlogs: readonly number[], emails: number): Promise<Row[]> {
  const store = await startStore(kind);
  const watcher = {
    log: silent,
    onFatal(reason: string) {
      throw new Error(reason);
    },
  };
  const producer = await openProducer(store.queue, watcher);
  const consumer = await openConsumer(store.queue, 3_600_000, watcher);
  await consumer.compatible;
  const rows: Row[] = [];
  let filled = 0;
  const bytesBefore = bytesKept(store);
  try {
    for (const waiting of backlogs.toSorted((a, b) => a - b)) {
      if (kind === "redis" && waiting > redisMax) continue;
      await fill(store.queue, completeEmail, waiting - filled);
      filled = waiting;
      // Otherwise the system writes what has filled the queue to the disk while the rates are measured.
      Bun.spawnSync(["sync"]);
      const bytes = bytesKept(store) - bytesBefore;
      const submitted = await measure(store, emails, () => submitAll(producer, emails));
      const drained = await measure(store, emails, () => drainAll(consumer, emails));
      rows.push({
        queue: kind,
        waiting,
        "bytes/email": bytes / waiting,
        "submit emails/s": submitted.rate,
        "submit CPU µs": submitted.ownMicros,
        "submit Redis CPU µs": submitted.storeMicros,
        "drain emails/s": drained.rate,
        "drain CPU µs": drained.ownMicros,
        "drain Redis CPU µs": drained.storeMicros,
        "neighbors %": drained.neighbors,
      });
    }
  } finally {
    await Promise.all([producer.close(), consumer.close()]);
    await store.stop();
  }
  return rows;
}

async function measure(store: Store, emails: number, body: () => Promise<void>) {
  const endMeter = startCpuMeter({ store: store.pid });
  const startCpu = process.cpuUsage();
  const startMs = performance.now();
  await body();
  const elapsedMs = performance.now() - startMs;
  const { user, system } = process.cpuUsage(startCpu);
  const { micros, neighbors } = endMeter();
  return {
    rate: emails / (elapsedMs / 1000),
    ownMicros: (user + system) / emails,
    storeMicros: store.pid && micros.store / emails,
    neighbors,
  };
}

async function submitAll(producer: Producer, emails: number): Promise<void> {
  const text = encodeEmail(completeEmail);
  for (let left = emails; left > 0; left -= submittedAtOnce) {
    const group = Array.from({ length: Math.min(submittedAtOnce, left) }, () =>
      producer.submit({ id: Bun.randomUUIDv7(), text }, performance.now() + 60_000),
    );
    for (const { kind } of await Promise.all(group))
      if (kind !== "stored") throw new Error(`submit: ${kind}`);
  }
}

async function drainAll(consumer: Consumer, emails: number): Promise<void> {
  for (let left = emails; left > 0;) {
    const claimed = await consumer.claim(claimRequest({ countMax: Math.min(batchMax, left) }));
    if (claimed.kind !== "batch") throw new Error(`claim: ${claimed.kind}`);
    const fates = claimed.batch.emails.map(({ id }) => ({ id, kind: "sent" as const, record: "{}" }));
    await consumer.settle(claimed.batch, { fates, counts: { "accepted:resend": fates.length } });
    left -= fates.length;
  }
}
