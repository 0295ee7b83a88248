// submit: how many emails a server takes, how long each takes, and what it costs. The service next to other designs, and
// next to what limits it. Each cell gets a new process and a new store, and is checked: an answer other than 200, or a
// 200 without a stored email, makes it invalid.

import { Database } from "bun:sqlite";
import { join } from "node:path";
import { eventually } from "../tests/support/eventually.ts";
import { compare, type Sample } from "./compare.ts";
import { type Contestant, installPeers, isPeer, type Running, startContestant } from "./contestant.ts";
import { startCpuMeter } from "./cpu.ts";
import { form } from "./email.ts";
import { load, type LoadResult } from "./load.ts";
import { countQueue } from "./store.ts";
import type { Table } from "./table.ts";

/** The code of a server is compiled meanwhile: after a second it takes a quarter more CPU time than after a few. */
const warmUp = { connections: 32, seconds: 3 };

/** The one that all others are compared with. */
const ours: Contestant = {
  name: "reliable-email, Redis",
  file: "server.ts",
  store: "redis",
  count: countQueue,
};
const bullmq = {
  store: "redis",
  count: ({ cli }) => Number(cli("LLEN", "bull:emails:wait")),
} as const satisfies Partial<Contestant>;
const bareCommits: readonly Contestant[] = [
  {
    name: "limit: a bare group commit, Redis",
    file: "bench/servers/bare_group_commit.ts",
    store: "redis",
    count: ({ cli }) => Number(cli("LLEN", "emails")),
  },
  {
    name: "limit: a bare group commit, embedded",
    file: "bench/servers/bare_group_commit.ts",
    store: "embedded",
    count: ({ folder }) => {
      using file = new Database(join(folder, "bare.db"));
      return file.query<{ count: number }, []>("SELECT count(*) AS count FROM emails").get()!.count;
    },
  },
];

export const contestants: readonly Contestant[] = [
  ours,
  { ...ours, name: "reliable-email, embedded", store: "embedded" },
  { ...bullmq, name: "Fastify and BullMQ", file: "bench/peers/fastify_bullmq.mjs", runtime: "node" },
  {
    ...bullmq,
    name: "Fastify and BullMQ, addBulk",
    file: "bench/peers/fastify_bullmq.mjs",
    runtime: "node",
    env: { ADD: "bulk" },
  },
  { ...bullmq, name: "BullMQ on Bun", file: "bench/peers/bun_bullmq.mjs" },
  {
    name: "one XADD per request",
    file: "bench/servers/xadd.ts",
    store: "redis",
    count: ({ cli }) => Number(cli("XLEN", "emails")),
  },
  ...bareCommits,
  ...bareCommits.map((one) => ({
    ...one,
    name: one.name.replace("a bare", "a form and a bare"),
    env: { FORM: "1" },
  })),
  { name: "limit: our checks without I/O", file: "bench/servers/no_io.ts" },
  { name: "limit: a form without I/O", file: "bench/servers/form_only.ts" },
];

export interface SubmitOptions {
  readonly rounds: number;
  /** Duration of each measurement. */
  readonly seconds: number;
  readonly connections: readonly number[];
}

export async function benchSubmit(options: SubmitOptions, all = contestants): Promise<Table> {
  const { rounds, seconds, connections } = options;
  const missing = all.some(isPeer) ? installPeers() : undefined;
  const present = missing === undefined ? all : all.filter((one) => !isPeer(one));
  const cases = connections.flatMap((count) =>
    present.map((one) => ({
      labels: { server: one.name, connections: count },
      group: count,
      measure: () => measure(one, count, seconds),
    })),
  );
  return {
    name: "submit",
    notes: [
      `${form.length} bytes of form, a new store for each measurement, Redis with appendfsync always; medians (and ranges) of ${rounds} × ${seconds} s, interleaved.`,
      "Neighbors is the share of the machine that other programs used meanwhile.",
      ...(missing === undefined ? [] : [`${missing}.`]),
    ],
    columns: [
      ["server", "connections"],
      ["requests/s", "times ours", "p50 ms", "p99 ms"],
      ["server CPU µs", "Redis CPU µs", "emails/call", "neighbors %"],
    ],
    ranged: ["requests/s", "times ours"],
    rows: await compare(cases, { rounds, rate: "requests/s" }),
  };
}

async function measure(contestant: Contestant, connections: number, seconds: number): Promise<Sample> {
  const running = await startContestant(contestant);
  const { process, store } = running;
  try {
    const { port } = await process.event("server-listening");
    const url = `http://127.0.0.1:${String(port)}/`;
    const { status } = await fetch(url, { method: "POST", body: new URLSearchParams(form) });
    if (status !== 200) return { ok: false, fault: `the first request is answered with ${status}` };
    await load(url, { ...warmUp, seconds: Math.min(seconds, warmUp.seconds) });

    const storedBefore = await countStored(contestant, running);
    const callsBefore = store?.calls() ?? 0;
    const endMeter = startCpuMeter({ server: process.pid, store: store?.pid });
    const result = await load(url, { connections, seconds });
    const { micros, neighbors } = endMeter();
    const { requests } = result;
    const calls = (store?.calls() ?? 0) - callsBefore;
    const storedAfter = await countStored(contestant, running, (storedBefore ?? 0) + requests);
    const stored =
      storedBefore === undefined || storedAfter === undefined ? undefined : storedAfter - storedBefore;
    const fault = faultOf(result, stored, connections);
    if (fault !== undefined) return { ok: false, fault };
    return {
      ok: true,
      numbers: {
        "requests/s": requests / result.seconds,
        "p50 ms": result.p50Ms,
        "p99 ms": result.p99Ms,
        "server CPU µs": micros.server / requests,
        ...(store?.pid !== undefined && {
          "Redis CPU µs": micros.store / requests,
          "emails/call": requests / calls,
        }),
        "neighbors %": neighbors,
      },
    };
  } finally {
    await running.stop();
  }
}

/** How long a count has to stay the same: no write takes longer. */
const calmMs = 100;

/**
 * The emails in the store once nothing is being written; undefined if the contestant has none.
 * @param expected waits longer for so many
 */
async function countStored(
  { count }: Contestant,
  { store }: Running,
  expected = 0,
): Promise<number | undefined> {
  if (count === undefined || store === undefined) return undefined;
  let last = await count(store);
  let sinceMs = performance.now();
  return eventually("the store is calm", async () => {
    const now = await count(store);
    if (now !== last) sinceMs = performance.now();
    last = now;
    const calmForMs = performance.now() - sinceMs;
    // In an object, because `eventually` would take 0 for "not yet".
    return calmForMs > (now < expected ? 10 : 1) * calmMs ? { now } : undefined;
  }).then(({ now }) => now);
}

/** The load generator may leave one request for each connection without waiting for its answer. */
function faultOf(
  { requests, errors }: LoadResult,
  stored: number | undefined,
  connections: number,
): string | undefined {
  if (errors > 0) return `${errors} of ${requests} requests failed`;
  if (stored === undefined) return undefined;
  if (stored < requests) return `${requests} answers with 200, but ${stored} emails stored`;
  return stored > requests + connections ? `${requests} requests, but ${stored} emails stored` : undefined;
}
