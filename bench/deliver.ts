// deliver: how fast a backlog is drained into a provider that answers at once, beside the same worker with batches
// of one, and beside a simple worker that sends one email a request. Redis fsyncs every write.

import { Redis } from "ioredis";
import { encodeEmail } from "../lib/email.ts";
import { openRedisIntake } from "../lib/queue/redis/intake.ts";
import { silent } from "../tests/support/log.ts";
import { eventually } from "../tests/support/eventually.ts";
import { startRedis } from "../tests/support/redis.ts";
import { startProcess } from "../tests/support/service.ts";
import { cpuMicros } from "./cpu.ts";
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
  readonly redisMicros: number;
  readonly requests: number;
}

export async function benchDeliver(options: { rounds: number; emails: number }): Promise<Table> {
  // The slower ones get a smaller backlog: what is measured is a rate.
  const fewer = Math.max(1000, Math.round(options.emails / 10));
  const contestants = [
    { name: "reliable-email", file: "worker.ts", emails: options.emails, fill: fillQueue },
    { name: "the same, batches of one", file: "bench/workers/single.ts", emails: fewer, fill: fillQueue },
    {
      name: "simple, one email a request",
      file: "bench/workers/one-by-one.ts",
      emails: fewer,
      fill: fillList,
    },
  ] as const;
  const samples = new Map<string, Sample[]>(contestants.map(({ name }) => [name, []]));
  for (let n = 0; n < options.rounds; n += 1) {
    for (const { name, file, emails, fill } of contestants)
      samples.get(name)!.push(await drain(file, emails, fill));
  }
  const of = (name: string, field: keyof Sample) => median(samples.get(name)!.map((sample) => sample[field]));
  const [ours, single, simple] = contestants.map(({ name }) => name) as [string, string, string];
  return {
    name: "deliver",
    notes: [
      `a backlog into a fake of Resend on this machine, 8 requests at once; medians of ${options.rounds} rounds, interleaved`,
    ],
    rows: contestants.map(({ name, emails }) => ({
      worker: name,
      emails,
      "emails/s": round(of(name, "rate"), 0),
      "worker CPU µs": round(of(name, "workerMicros")),
      "Redis CPU µs": round(of(name, "redisMicros")),
      "emails/request": round(emails / of(name, "requests")),
    })),
    ratios: {
      "emails/s, to batches of one": of(ours, "rate") / of(single, "rate"),
      "emails/s, to the simple worker": of(ours, "rate") / of(simple, "rate"),
      "worker and Redis CPU an email, to the simple worker":
        (of(ours, "workerMicros") + of(ours, "redisMicros")) /
        (of(simple, "workerMicros") + of(simple, "redisMicros")),
    },
  };
}

async function drain(
  file: string,
  emails: number,
  fill: (url: string, count: number) => Promise<void>,
): Promise<Sample> {
  const redis = await startRedis();
  const fakes = startProcess("fakes/main.ts", {}, ["--quiet", "--keep-envelopes"]);
  const { resend } = (await eventually("the fakes start", () => fakes.lines[0])) as { resend?: string };
  await fetch(`${resend}/_fake/settings`, { method: "POST", body: JSON.stringify({ rateLimit: 1_000_000 }) });
  await fill(redis.url, emails);
  const worker = startProcess(file, {
    REDIS_URL: redis.url,
    RESEND_API_KEY: "re_fake",
    RESEND_BASE_URL: String(resend),
  });
  await worker.event("worker-started");
  const startedMs = performance.now();
  const redisPid = Number(/process_id:(\d+)/.exec(redis.cli("INFO", "server"))?.[1]);
  const cpuBefore = { worker: cpuMicros(worker.pid), redis: cpuMicros(redisPid) };
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
    redisMicros: (cpuMicros(redisPid) - cpuBefore.redis) / emails,
    requests: stats.requests,
  };
  await Promise.all([worker.kill(), fakes.kill()]);
  await redis.stop();
  return sample;
}

async function fillQueue(url: string, count: number): Promise<void> {
  const options = {
    url,
    prefix: "reliable-email",
    minReplicas: 0,
    durability: "verify" as const,
    log: silent,
    onFatal: () => {},
  };
  const intake = openRedisIntake(options);
  const text = encodeEmail(email);
  for (let left = count; left > 0; left -= 1000) {
    const group = Array.from({ length: Math.min(1000, left) }, () =>
      intake.submit({ id: Bun.randomUUIDv7(), text }, performance.now() + 60_000),
    );
    for (const { kind } of await Promise.all(group)) if (kind !== "stored") throw new Error(kind);
  }
  await intake.close();
}

async function fillList(url: string, count: number): Promise<void> {
  const redis = new Redis(url);
  for (let left = count; left > 0; left -= 1000) {
    const group = Array.from({ length: Math.min(1000, left) }, () =>
      JSON.stringify({ id: Bun.randomUUIDv7(), ...email }),
    );
    await redis.rpush("emails", ...group);
  }
  redis.disconnect();
}
