// wake: how soon an idle worker starts on an email, on both queues, and the cost of idling.

import { startFakeResend } from "../fakes/resend.ts";
import { eventually } from "../tests/support/eventually.ts";
import { post, startServer, startWorker } from "../tests/support/service.ts";
import { cpuMicros } from "./cpu.ts";
import { startStore, storeKinds, type StoreKind } from "./store.ts";
import { median, round, type Table } from "./table.ts";

const emails = 200;
const idleSeconds = 10;

interface Sample {
  readonly toAnswer: readonly number[];
  readonly toProvider: readonly number[];
  /** Share of one core, %. */
  readonly idle: { readonly worker: number; readonly server: number; readonly store: number };
}

export async function benchWake(): Promise<Table> {
  const samples: (Sample & { kind: StoreKind })[] = [];
  for (const kind of storeKinds) samples.push({ kind, ...(await measure(kind)) });
  return {
    name: "wake",
    notes: [`${emails} emails, one at a time, each to a sleeping worker; then ${idleSeconds} s idle`],
    rows: samples.flatMap(({ kind, toAnswer, toProvider }) => [
      { queue: kind, what: "POST to its answer", ...percentiles(toAnswer) },
      { queue: kind, what: "POST to the provider", ...percentiles(toProvider) },
    ]),
    ratios: Object.fromEntries(
      samples.flatMap(({ kind, idle }) =>
        Object.entries(idle).map(([what, percent]) => [`${kind}: idle ${what}, % of a core`, percent]),
      ),
    ),
  };
}

function percentiles(values: readonly number[]) {
  const p99 = values.toSorted((a, b) => a - b)[Math.floor(values.length * 0.99)]!;
  return { "p50 ms": round(median(values), 2), "p99 ms": round(p99, 2) };
}

async function measure(kind: StoreKind): Promise<Sample> {
  const store = await startStore(kind);
  let arrivedMs = 0;
  const fake = startFakeResend({
    rateLimit: 1000,
    onAccept: () => {
      arrivedMs = performance.now();
    },
  });
  const env = {
    PORT: "0",
    ...store.env,
    RESEND_API_KEY: "re_fake",
    RESEND_BASE_URL: fake.url,
    DEFAULT_FROM: "shop@example.com",
  };
  const [server, worker] = await Promise.all([startServer(env), startWorker(env)]);
  const fields = { subject: "Hi", body: "Hello", to: "jane@example.org" };

  const toProvider: number[] = [];
  const toAnswer: number[] = [];
  // The first few let the worker learn the rate, and warm up both processes.
  for (let n = 0; n < emails + 20; n += 1) {
    arrivedMs = 0;
    const startMs = performance.now();
    const answer = await post(server.url, fields);
    if (answer.status !== 200) throw new Error(JSON.stringify(answer));
    if (n >= 20) toAnswer.push(performance.now() - startMs);
    await eventually("it arrives", () => arrivedMs > 0);
    if (n >= 20) toProvider.push(arrivedMs - startMs);
    // Lets the worker fall asleep again.
    await Bun.sleep(20);
  }

  const used = () => ({
    worker: cpuMicros(worker.pid),
    server: cpuMicros(server.pid),
    store: store.cpuMicros(),
  });
  const before = used();
  await Bun.sleep(idleSeconds * 1000);
  const after = used();
  const percent = (what: keyof typeof before) => (after[what] - before[what]) / (idleSeconds * 1e4);
  await Promise.all([server.kill(), worker.kill()]);
  fake.stop();
  await store.stop();
  return {
    toAnswer,
    toProvider,
    idle: { worker: percent("worker"), server: percent("server"), store: percent("store") },
  };
}
