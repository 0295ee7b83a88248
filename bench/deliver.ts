// deliver: how fast a backlog drains into a provider that answers at once, and into one that takes 50 ms. The service
// next to BullMQ, and next to the provider's SDK without a queue. Every measurement is checked: each email arrives once,
// and none is left.

import { eventually } from "../tests/support/eventually.ts";
import { startProcess } from "../tests/support/service.ts";
import { type Case, compare, type Sample } from "./compare.ts";
import { type Contestant, installPeers, isPeer, type Running, startContestant } from "./contestant.ts";
import { startCpuMeter } from "./cpu.ts";
import { completeEmail } from "./email.ts";
import type { ProviderStats } from "./fake_provider.ts";
import { countQueue, fill, startStore, type Store } from "./store.ts";
import type { Table } from "./table.ts";

/** A worker that sends one email per request gets a smaller backlog, since only the rate is measured. */
export interface Worker extends Contestant {
  readonly sendsSingly?: true;
  /** The best of these is found first. */
  readonly concurrencies?: readonly number[];
}

const ours: Worker = {
  name: "reliable-email, Redis",
  file: "worker.ts",
  store: "redis",
  count: countQueue,
  fill: ({ queue }, emails) => fill(queue, completeEmail, emails),
};
const bullmq: Worker = {
  name: "BullMQ on Node",
  file: "bench/peers/bullmq_worker.mjs",
  runtime: "node",
  store: "redis",
  sendsSingly: true,
  concurrencies: [8, 32, 128, 512],
  count: ({ cli }) =>
    [
      cli("LLEN", "bull:emails:wait"),
      cli("LLEN", "bull:emails:active"),
      cli("ZCARD", "bull:emails:delayed"),
      cli("ZCARD", "bull:emails:failed"),
    ].reduce((sum, count) => sum + Number(count), 0),
  fill: fillBullmq,
};
const { runtime: _, ...bullmqOnBun } = bullmq;

export const workers: readonly Worker[] = [
  ours,
  { ...ours, name: "reliable-email, embedded", store: "embedded" },
  bullmq,
  {
    ...bullmqOnBun,
    name: "BullMQ on Bun",
    // Bun's own limit is 256.
    env: { BUN_CONFIG_MAX_HTTP_REQUESTS: "1024" },
  },
  { name: "limit: the SDK's batches, no queue", file: "bench/workers/sdk_batches.ts" },
];

export interface DeliverOptions {
  readonly rounds: number;
  readonly emails: number;
  readonly delaysMs: readonly number[];
  /** How long emails may stay in the store after the provider has accepted them, ms; by default 5000. */
  readonly settleMaxMs?: number;
}

interface Backlog extends Required<Pick<DeliverOptions, "emails" | "settleMaxMs">> {
  readonly delayMs: number;
}

export async function benchDeliver(options: DeliverOptions, all = workers): Promise<Table> {
  const { rounds, emails, delaysMs, settleMaxMs = 5000 } = options;
  const missing = all.some(isPeer) ? installPeers() : undefined;
  const present = missing === undefined ? all : all.filter((one) => !isPeer(one));
  const cases: Case[] = [];
  for (const delayMs of delaysMs) {
    for (const one of present) {
      const tuned = await tune(one, { emails: emailsFor(one, emails), delayMs, settleMaxMs });
      cases.push({
        labels: { worker: tuned.name, "provider ms": delayMs },
        group: delayMs,
        measure: () => drain(tuned, { emails: emailsFor(tuned, emails), delayMs, settleMaxMs }),
      });
    }
  }
  return {
    name: "deliver",
    notes: [
      `A backlog of ${emails} emails, a tenth of it at one email per request; Redis with appendfsync always; medians (and ranges) of ${rounds} rounds, interleaved.`,
      "The service has its default CONCURRENCY of 8, BullMQ the best of those that were tried first.",
      ...(missing === undefined ? [] : [`${missing}.`]),
    ],
    columns: [
      ["worker", "provider ms"],
      ["emails/s", "times ours", "emails/request"],
      ["worker CPU µs", "Redis CPU µs", "provider CPU µs", "neighbors %"],
    ],
    ranged: ["emails/s", "times ours"],
    rows: await compare(cases, { rounds, rate: "emails/s" }),
  };
}

function emailsFor({ sendsSingly }: Worker, emails: number): number {
  return sendsSingly ? Math.ceil(emails / 10) : emails;
}

/** The worker at its best concurrency. */
async function tune(worker: Worker, backlog: Backlog): Promise<Worker> {
  let best = worker;
  let bestRate = 0;
  for (const concurrency of worker.concurrencies ?? []) {
    const name = `${worker.name}, concurrency ${concurrency}`;
    const candidate = { ...worker, name, env: { ...worker.env, CONCURRENCY: String(concurrency) } };
    const sample = await drain(candidate, { ...backlog, emails: Math.ceil(backlog.emails / 2) });
    const rate = sample.ok ? sample.numbers["emails/s"]! : 0;
    if (rate < bestRate) continue;
    best = candidate;
    bestRate = rate;
  }
  return best;
}

async function drain(worker: Worker, { emails, delayMs, settleMaxMs }: Backlog): Promise<Sample> {
  const store = worker.store && (await startStore(worker.store));
  const provider = startProcess("bench/fake_provider.ts", { DELAY_MS: String(delayMs) });
  let running: Running | undefined;
  try {
    const url = String((await provider.event("provider-listening"))["url"]);
    if (store !== undefined) await worker.fill?.(store, emails);
    const env = { RESEND_API_KEY: "re_fake", RESEND_BASE_URL: url, EMAILS: String(emails) };
    running = await startContestant(worker, env, store);
    const { process } = running;
    await process.event("worker-started");
    const endMeter = startCpuMeter({ worker: process.pid, store: store?.pid, provider: provider.pid });
    const stats = await sentTo(url, emails, () => `${worker.name} sends all: ${process.stderr()}`);
    const left = await leftIn(worker, store, settleMaxMs);
    const { micros, neighbors } = endMeter();
    const fault = faultOf(stats, emails, left);
    if (fault !== undefined) return { ok: false, fault };
    return {
      ok: true,
      numbers: {
        "emails/s": emails / (stats.busyMs / 1000),
        "emails/request": stats.emails / stats.requests,
        "worker CPU µs": micros.worker / emails,
        ...(store?.pid !== undefined && { "Redis CPU µs": micros.store / emails }),
        "provider CPU µs": micros.provider / emails,
        "neighbors %": neighbors,
      },
    };
  } finally {
    await running?.stop();
    await provider.kill();
    await store?.stop();
  }
}

/** A drain may take this long, ms. */
const drainMaxMs = 600_000;

async function sentTo(url: string, emails: number, what: () => string): Promise<ProviderStats> {
  const sent = async () => {
    const stats = (await (await fetch(`${url}/stats`)).json()) as ProviderStats;
    return stats.emails >= emails ? stats : undefined;
  };
  return eventually(what, sent, drainMaxMs);
}

async function leftIn({ count }: Worker, store: Store | undefined, settleMaxMs: number): Promise<number> {
  if (count === undefined || store === undefined) return 0;
  const endMs = performance.now() + settleMaxMs;
  for (;;) {
    const left = await count(store);
    if (left === 0 || performance.now() > endMs) return left;
    await Bun.sleep(10);
  }
}

function faultOf(stats: ProviderStats, emails: number, left: number): string | undefined {
  if (stats.duplicates > 0) return `${stats.duplicates} of ${emails} emails arrived again`;
  return left > 0 ? `${left} of ${emails} emails are left in the store` : undefined;
}

async function fillBullmq({ env }: Store, emails: number): Promise<void> {
  const command = ["node", new URL("peers/fill.mjs", import.meta.url).pathname];
  const child = Bun.spawn(command, {
    env: { ...process.env, ...env, EMAILS: String(emails), EMAIL: JSON.stringify(completeEmail) },
    stdout: "ignore",
    stderr: "inherit",
  });
  if ((await child.exited) !== 0) throw new Error("BullMQ: its queue cannot be filled");
}
