// backlog: the cost of a claim with its settlement, and of a submission, on a queue of a thousand emails and of a
// million, on both queues.

import { encodeEmail } from "../lib/email/email.ts";
import { openProducer, openConsumer } from "../lib/queue/open.ts";
import type { Producer, Consumer } from "../lib/queue/contract.ts";
import { claimRequest } from "../tests/support/claim_request.ts";
import { silent } from "../tests/support/log.ts";
import { fill, startStore, storeKinds, type StoreKind } from "./store.ts";
import { median, round, type Table } from "./table.ts";

const email = {
  to: "jane@example.org",
  from: "shop@example.com",
  subject: "Your order has been shipped",
  body: `Dear Jane,\n\nyour order 17 is on its way.\n\n${"It will be with you soon. ".repeat(14)}`,
};
const times = 200;
const small = 1000;

interface Sample {
  readonly submitMs: number;
  readonly oneMs: number;
  readonly hundredMs: number;
}

export async function benchBacklog(options: { backlog: number }): Promise<Table> {
  const rows: Table["rows"][number][] = [];
  const ratios: Record<string, number> = {};
  for (const kind of storeKinds) {
    const [few, many] = await measure(kind, options.backlog);
    for (const [waiting, sample] of [
      [small, few],
      [options.backlog, many],
    ] as const) {
      rows.push({
        queue: kind,
        waiting,
        "submit ms": round(sample.submitMs, 2),
        "claim and settle 1, ms": round(sample.oneMs, 2),
        "claim and settle 100, ms": round(sample.hundredMs, 2),
      });
    }
    ratios[`${kind}: submit, large to small`] = many.submitMs / few.submitMs;
    ratios[`${kind}: batches of 1, large to small`] = many.oneMs / few.oneMs;
    ratios[`${kind}: batches of 100, large to small`] = many.hundredMs / few.hundredMs;
  }
  return { name: "backlog", notes: [`medians of ${times} of each, one after another`], rows, ratios };
}

async function measure(kind: StoreKind, backlog: number): Promise<[Sample, Sample]> {
  const store = await startStore(kind);
  const watcher = {
    log: silent,
    onFatal(reason: string) {
      throw new Error(reason);
    },
  };
  const producer = openProducer(store.queue, watcher);
  const consumer = openConsumer(store.queue, 3_600_000, watcher);
  await consumer.compatible;
  const samples: Sample[] = [];
  for (const waiting of [small, backlog]) {
    // Plus the emails that the measurement itself takes out.
    await fill(store.queue, email, waiting + times + 100 * times);
    samples.push(await sample(producer, consumer));
  }
  await Promise.all([producer.close(), consumer.close()]);
  await store.stop();
  return samples as [Sample, Sample];
}

async function sample(producer: Producer, consumer: Consumer): Promise<Sample> {
  const text = encodeEmail(email);
  return {
    submitMs: await timed(() =>
      producer.submit({ id: Bun.randomUUIDv7(), text }, performance.now() + 10_000),
    ),
    oneMs: await timed(() => claimAndSettle(consumer, 1)),
    hundredMs: await timed(() => claimAndSettle(consumer, 100)),
  };
}

async function timed(body: () => Promise<unknown>): Promise<number> {
  const all: number[] = [];
  for (let n = 0; n < times; n += 1) {
    const startMs = performance.now();
    await body();
    all.push(performance.now() - startMs);
  }
  return median(all);
}

async function claimAndSettle(consumer: Consumer, countMax: number): Promise<void> {
  const claimed = await consumer.claim(claimRequest({ countMax }));
  if (claimed.kind !== "batch" || claimed.batch.emails.length !== countMax) throw new Error(claimed.kind);
  const fates = claimed.batch.emails.map(({ id }) => ({ id, kind: "sent" as const, record: "{}" }));
  await consumer.settle(claimed.batch, { fates, counts: { "accepted:resend": countMax } });
}
