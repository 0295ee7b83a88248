// wake: how soon an idle worker starts on an email, and what being idle costs.

import { startFakeResend } from "../fakes/resend.ts";
import { eventually } from "../tests/support/eventually.ts";
import { startRedis } from "../tests/support/redis.ts";
import { post, startServer, startWorker } from "../tests/support/service.ts";
import { cpuMicros } from "./cpu.ts";
import { median, round, type Table } from "./table.ts";

const emails = 200;
const idleSeconds = 10;

export async function benchWake(): Promise<Table> {
  const redis = await startRedis();
  let arrivedMs = 0;
  const fake = startFakeResend({
    rateLimit: 1000,
    onAccept: () => {
      arrivedMs = performance.now();
    },
  });
  const env = {
    PORT: "0",
    REDIS_URL: redis.url,
    RESEND_API_KEY: "re_fake",
    RESEND_BASE_URL: fake.url,
    DEFAULT_FROM: "shop@example.com",
  };
  const [server, worker] = await Promise.all([startServer(env), startWorker(env)]);
  const redisPid = Number(/process_id:(\d+)/.exec(redis.cli("INFO", "server"))?.[1]);
  const fields = { subject: "Hi", body: "Hello", to: "jane@example.org" };

  const toProvider: number[] = [];
  const toAnswer: number[] = [];
  // The first few teach the worker the rate, and warm both up.
  for (let n = 0; n < emails + 20; n += 1) {
    arrivedMs = 0;
    const startMs = performance.now();
    const answer = await post(server.url, fields);
    if (answer.status !== 200) throw new Error(JSON.stringify(answer));
    if (n >= 20) toAnswer.push(performance.now() - startMs);
    await eventually("it arrives", () => arrivedMs > 0);
    if (n >= 20) toProvider.push(arrivedMs - startMs);
    // Until the worker sleeps again.
    await Bun.sleep(20);
  }

  const before = [worker.pid, server.pid, redisPid].map(cpuMicros);
  await Bun.sleep(idleSeconds * 1000);
  const idle = [worker.pid, server.pid, redisPid].map(
    (pid, i) => (cpuMicros(pid) - before[i]!) / (idleSeconds * 1e4),
  );
  await Promise.all([server.kill(), worker.kill()]);
  fake.stop();
  await redis.stop();

  const p99 = (values: readonly number[]) =>
    values.toSorted((a, b) => a - b)[Math.floor(values.length * 0.99)]!;
  return {
    name: "wake",
    notes: [
      `${emails} emails, one at a time, each to a worker that sleeps; then ${idleSeconds} s of nothing`,
    ],
    rows: [
      { what: "POST to its answer", "p50 ms": round(median(toAnswer), 2), "p99 ms": round(p99(toAnswer), 2) },
      {
        what: "POST to the provider",
        "p50 ms": round(median(toProvider), 2),
        "p99 ms": round(p99(toProvider), 2),
      },
    ],
    ratios: {
      "idle worker, % of a core": idle[0]!,
      "idle server, % of a core": idle[1]!,
      "idle Redis, % of a core": idle[2]!,
    },
  };
}
