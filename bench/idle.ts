// idle: how soon an email that is submitted to an idle system is answered and reaches the provider, and what idling
// costs. All systems run at the same time, and take turns.

import { eventually } from "../tests/support/eventually.ts";
import { type Contestant, installPeers, isPeer, type Running, startContestant } from "./contestant.ts";
import { cpuMicros } from "./cpu.ts";
import { form } from "./email.ts";
import { type FakeProvider, startFakeProvider } from "./fake_provider.ts";
import { percentile, type Table } from "./table.ts";

export interface System {
  readonly name: string;
  readonly server: Contestant;
  /** Uses the server's store. */
  readonly worker: Contestant;
}

const bullmq = { name: "BullMQ", store: "redis", env: { CONCURRENCY: "8" } } as const;

export const systems: readonly System[] = [
  {
    name: "reliable-email, Redis",
    server: { name: "server", file: "server.ts", store: "redis" },
    worker: { name: "worker", file: "worker.ts" },
  },
  {
    name: "reliable-email, embedded",
    server: { name: "server", file: "server.ts", store: "embedded" },
    worker: { name: "worker", file: "worker.ts" },
  },
  {
    name: "Fastify and BullMQ",
    server: { ...bullmq, file: "bench/peers/fastify_bullmq.mjs", runtime: "node" },
    worker: { ...bullmq, file: "bench/peers/bullmq_worker.mjs", runtime: "node" },
  },
  {
    name: "BullMQ on Bun",
    server: { ...bullmq, file: "bench/peers/bun_bullmq.mjs" },
    worker: { ...bullmq, file: "bench/peers/bullmq_worker.mjs" },
  },
];

export interface IdleOptions {
  /** Submitted to each system, one at a time. */
  readonly samples: number;
  /** How long the systems idle afterwards. */
  readonly seconds: number;
}

/** The first emails of each system warm it up, and let a worker learn the provider's rate. */
const warmUps = 20;

interface Arena {
  readonly name: string;
  readonly url: string;
  readonly server: Running;
  readonly worker: Running;
  readonly provider: FakeProvider;
  /** By `performance.now()`; 0 if nothing has arrived since it was reset. */
  arrivedMs: number;
  readonly toAnswerMs: number[];
  readonly toProviderMs: number[];
}

export async function benchIdle({ samples, seconds }: IdleOptions, all = systems): Promise<Table> {
  const missing = all.some(({ server }) => isPeer(server)) ? installPeers() : undefined;
  const arenas: Arena[] = [];
  try {
    for (const one of all) if (missing === undefined || !isPeer(one.server)) arenas.push(await enter(one));
    for (let n = 0; n < warmUps + samples; n += 1) {
      for (const arena of arenas) await submit(arena, n >= warmUps);
    }
    const before = arenas.map(usedMicros);
    await Bun.sleep(seconds * 1000);
    const after = arenas.map(usedMicros);
    return {
      name: "idle",
      notes: [
        `${samples} emails to each, one at a time; then ${seconds} s without any.`,
        ...(missing === undefined ? [] : [`${missing}.`]),
      ],
      columns: [
        ["system"],
        ["to answer p50 ms", "to answer p99 ms", "to provider p50 ms", "to provider p99 ms"],
        ["idle server %", "idle worker %", "idle Redis %"],
      ],
      rows: arenas.map(({ name, toAnswerMs, toProviderMs }, i) => ({
        system: name,
        "to answer p50 ms": percentile(toAnswerMs, 0.5),
        "to answer p99 ms": percentile(toAnswerMs, 0.99),
        "to provider p50 ms": percentile(toProviderMs, 0.5),
        "to provider p99 ms": percentile(toProviderMs, 0.99),
        ...sharesOf(before[i]!, after[i]!, seconds),
      })),
    };
  } finally {
    for (const arena of arenas) await leave(arena);
  }
}

async function enter({ name, server, worker }: System): Promise<Arena> {
  const provider = startFakeProvider({
    onReceipt(nowMs) {
      arena.arrivedMs = nowMs;
    },
  });
  const env = { RESEND_API_KEY: "re_fake", RESEND_BASE_URL: provider.url };
  const runningServer = await startContestant(server, env);
  const { port } = await runningServer.process.event("server-listening");
  const runningWorker = await startContestant(worker, env, runningServer.store);
  await runningWorker.process.event("worker-started");
  const arena: Arena = {
    name,
    url: `http://127.0.0.1:${String(port)}/`,
    server: runningServer,
    worker: runningWorker,
    provider,
    arrivedMs: 0,
    toAnswerMs: [],
    toProviderMs: [],
  };
  return arena;
}

async function leave({ server, worker, provider }: Arena): Promise<void> {
  await worker.stop();
  await server.stop();
  provider.stop();
}

async function submit(arena: Arena, counts: boolean): Promise<void> {
  arena.arrivedMs = 0;
  const startMs = performance.now();
  const { status } = await fetch(arena.url, { method: "POST", body: new URLSearchParams(form) });
  const answeredMs = performance.now();
  if (status !== 200) throw new Error(`${arena.name}: answered with ${status}`);
  await eventually(`an email of ${arena.name} arrives`, () => arena.arrivedMs > 0);
  if (!counts) return;
  arena.toAnswerMs.push(answeredMs - startMs);
  arena.toProviderMs.push(arena.arrivedMs - startMs);
}

function usedMicros({ server, worker }: Arena) {
  return {
    server: cpuMicros(server.process.pid),
    worker: cpuMicros(worker.process.pid),
    store: server.store?.pid && cpuMicros(server.store.pid),
  };
}

type Used = ReturnType<typeof usedMicros>;

/** Shares of one core. */
function sharesOf(before: Used, after: Used, seconds: number) {
  const share = (micros: number) => micros / (seconds * 10_000);
  return {
    "idle server %": share(after.server - before.server),
    "idle worker %": share(after.worker - before.worker),
    ...(after.store !== undefined && { "idle Redis %": share(after.store - before.store!) }),
  };
}
