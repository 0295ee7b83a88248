// deliver: how fast a backlog drains into a provider that answers immediately, on both queues, compared with the same
// worker with batches of one, and with a simple worker that sends one email per request. Every write is fsynced.

import { Redis } from "ioredis";
import { eventually } from "../tests/support/eventually.ts";
import { startProcess } from "../tests/support/service.ts";
import { cpuMicros } from "./cpu.ts";
import { fill, startStore, type Store, type StoreKind } from "./store.ts";
import { median, round, type Table } from "./table.ts";

const email = {
  to: "jane@example.org",
  from: "shop@example.com",
  subject: "Your order has been shipped",
  body: `Dear Jane,\n\nyour order 17 is on its way.\n\n${"It will be with you soon. ".repeat(14)}`,
};

interface Sample {
  readonly rate: number;
  readonly workerMicros: number;
  readonly storeMicros: number;
  readonly requests: number;
}

interface Contestant {
  readonly name: string;
  readonly file: string;
  readonly kind: StoreKind;
  readonly emails: number;
  /** Fills the store; by default the queue. */
  readonly fill?: (store: Store, count: number) => Promise<void>;
}

export async function benchDeliver(options: { rounds: number; emails: number }): Promise<Table> {
  // Slow contestants get a smaller backlog, since only the rate is measured.
  const fewer = Math.max(1000, Math.round(options.emails / 10));
  const contestants: readonly Contestant[] = [
    { name: "reliable-email, embedded", file: "worker.ts", kind: "embedded", emails: options.emails },
    { name: "reliable-email, Redis", file: "worker.ts", kind: "redis", emails: options.emails },
    { name: "Redis, batches of one", file: "bench/workers/small-batches.ts", kind: "redis", emails: fewer },
    {
      name: "simple, one email per request",
      file: "bench/workers/one-by-one.ts",
      kind: "redis",
      emails: fewer,
      fill: fillList,
    },
  ];
  const samples = new Map<string, Sample[]>(contestants.map(({ name }) => [name, []]));
  for (let n = 0; n < options.rounds; n += 1) {
    for (const one of contestants) samples.get(one.name)!.push(await drain(one));
  }
  const of = (name: string, field: keyof Sample) => median(samples.get(name)!.map((sample) => sample[field]));
  const [embedded, ours, single, simple] = contestants.map(({ name }) => name) as [
    string,
    string,
    string,
    string,
  ];
  return {
    name: "deliver",
    notes: [
      `a backlog into a fake of Resend on this machine, 8 concurrent requests; medians of ${options.rounds} rounds, interleaved`,
    ],
    rows: contestants.map(({ name, emails }) => ({
      worker: name,
      emails,
      "emails/s": round(of(name, "rate"), 0),
      "worker CPU µs": round(of(name, "workerMicros")),
      "Redis CPU µs": round(of(name, "storeMicros")),
      "emails/request": round(emails / of(name, "requests")),
    })),
    ratios: {
      "emails/s, embedded to Redis": of(embedded, "rate") / of(ours, "rate"),
      "emails/s, to batches of one": of(ours, "rate") / of(single, "rate"),
      "emails/s, to the simple worker": of(ours, "rate") / of(simple, "rate"),
      "worker and Redis CPU per email, to the simple worker":
        (of(ours, "workerMicros") + of(ours, "storeMicros")) /
        (of(simple, "workerMicros") + of(simple, "storeMicros")),
    },
  };
}

async function drain({ file, kind, emails, fill: fillStore = fillQueue }: Contestant): Promise<Sample> {
  const store = await startStore(kind);
  const fakes = startProcess("fakes/main.ts", {}, ["--quiet", "--keep-envelopes"]);
  const { resend } = (await eventually("the fakes start", () => fakes.lines[0])) as { resend?: string };
  await fetch(`${resend}/_fake/settings`, { method: "POST", body: JSON.stringify({ rateLimit: 1_000_000 }) });
  await fillStore(store, emails);
  const worker = startProcess(file, {
    ...store.env,
    RESEND_API_KEY: "re_fake",
    RESEND_BASE_URL: String(resend),
  });
  await worker.event("worker-started");
  const startedMs = performance.now();
  const cpuBefore = { worker: cpuMicros(worker.pid), store: store.cpuMicros() };
  const stats = await eventually(
    `${file} sends all ${worker.stderr()}`,
    async () => {
      const now = (await (await fetch(`${resend}/_fake/stats`)).json()) as {
        acceptances: number;
        requests: number;
      };
      return now.acceptances >= emails ? now : undefined;
    },
    300_000,
  );
  const sample = {
    rate: emails / ((performance.now() - startedMs) / 1000),
    workerMicros: (cpuMicros(worker.pid) - cpuBefore.worker) / emails,
    storeMicros: (store.cpuMicros() - cpuBefore.store) / emails,
    requests: stats.requests,
  };
  await Promise.all([worker.kill(), fakes.kill()]);
  await store.stop();
  return sample;
}

const fillQueue = (store: Store, count: number) => fill(store.queue, email, count);

async function fillList({ url = "" }: Store, count: number): Promise<void> {
  const redis = new Redis(url);
  for (let left = count; left > 0; left -= 1000) {
    const group = Array.from({ length: Math.min(1000, left) }, () =>
      JSON.stringify({ id: Bun.randomUUIDv7(), ...email }),
    );
    await redis.rpush("emails", ...group);
  }
  redis.disconnect();
}
