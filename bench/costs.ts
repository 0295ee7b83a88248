// costs: what one email costs the server, the worker and the store, by the number of emails in one write or request.
// CPU time, commands, bytes and fsyncs are counted, not wall clock time. Even so, a process on a busy machine uses two or
// three times the CPU time for the same work, since the caches belong to others: the least of several rounds counts.

import { readFileSync } from "node:fs";
import { encodeEmail } from "../lib/email/email.ts";
import { openConsumer } from "../lib/queue/open.ts";
import { claimRequest } from "../tests/support/claim_request.ts";
import { eventually } from "../tests/support/eventually.ts";
import { silent } from "../tests/support/log.ts";
import { startProcess } from "../tests/support/service.ts";
import { cpuMicros } from "./cpu.ts";
import { load } from "./load.ts";
import { bytesKept, fill, infoOf, startStore, type Store, type StoreKind, storeKinds } from "./store.ts";
import { median, round, type Table } from "./table.ts";

const email = {
  to: "jane@example.org",
  from: "shop@example.com",
  to_name: "Jane Doe",
  subject: "Your order has been shipped",
  body: `Dear Jane,\n\nyour order 17 is on its way.\n\n${"It will be with you soon. ".repeat(14)}`,
};

/** Connections that submit at once: the more there are, the more emails share a write. */
const connectionCounts = [1, 16, 128];
/** Emails in one request to the provider, with the number of emails that are sent. */
const batches = [
  { batchMax: 1, count: 2_000 },
  { batchMax: 10, count: 10_000 },
  { batchMax: 100, count: 50_000 },
];

/** Claims in vain. */
const asks = 3000;

type Sample = Readonly<Record<(typeof columns)[number], number>>;
const columns = [
  "emails/write",
  "CPU µs",
  "Redis CPU µs",
  "scripts",
  "commands",
  "bytes in",
  "bytes out",
  "log bytes",
  "fsyncs",
  "bytes kept",
] as const;

/** Does the work that is measured. Returns how many emails that were. */
type Work = () => Promise<number>;

export async function benchCosts(options: { rounds: number; seconds: number }): Promise<Table> {
  const samples = new Map<string, Sample[]>();
  const add = (key: string, sample: Sample) => samples.set(key, [...(samples.get(key) ?? []), sample]);
  for (let n = 0; n < options.rounds; n += 1) {
    for (const kind of storeKinds) {
      for (const connections of connectionCounts) {
        add(`${kind}/submit/${connections}`, await submit(kind, connections, options.seconds));
      }
      for (const batch of batches) add(`${kind}/deliver/${batch.batchMax}`, await deliver(kind, batch));
      for (const answer of ["limited", "empty"] as const) add(`${kind}/${answer}`, await ask(kind, answer));
    }
  }
  return {
    name: "costs",
    notes: [
      `per email of ${encodeEmail(email).length} bytes; medians of ${options.rounds} rounds, of CPU time the least`,
      "a write is a group of submissions, or a request to the provider with its claim and settlement",
      "CPU: of the server or the worker; in and out: at Redis; log: append-only file, or all that is written to disk",
      "limited and empty: a claim that gets no permit, or finds nothing; CPU of the worker and the benchmark",
      "kept: memory of Redis or size of the file, per waiting email after submit, per sent email after deliver",
    ],
    rows: [...samples].map(([key, of]) => {
      const [queue = "", step = ""] = key.split("/");
      const values = columns.map((column) => {
        const all = of.map((one) => one[column]);
        return [column, round(column.includes("CPU") ? Math.min(...all) : median(all), 2)];
      });
      return { queue, step, ...Object.fromEntries(values) };
    }),
  };
}

async function submit(kind: StoreKind, connections: number, seconds: number): Promise<Sample> {
  const store = await startStore(kind);
  const server = startProcess("server.ts", { PORT: "0", ...store.env });
  const { port } = await server.event("server-listening");
  const url = `http://127.0.0.1:${String(port)}/`;
  await post(url, connections, Math.min(1, seconds));
  const keptBefore = bytesKept(store);
  const sample = await measure(store, server.pid, () => post(url, connections, seconds));
  const kept = (bytesKept(store) - keptBefore) / sample.emails;
  const fsyncs = await countFsyncs(store, server.pid, () => post(url, connections, Math.min(1, seconds)));
  await server.kill();
  await store.stop();
  return { ...sample, "emails/write": 1 / fsyncs, fsyncs, "bytes kept": kept };
}

async function deliver(
  kind: StoreKind,
  { batchMax, count }: { batchMax: number; count: number },
): Promise<Sample> {
  const store = await startStore(kind);
  const fakes = startProcess("fakes/main.ts", {}, ["--quiet", "--keep-envelopes"]);
  const { resend } = (await eventually("the fakes start", () => fakes.lines[0])) as { resend?: string };
  await fetch(`${resend}/_fake/settings`, { method: "POST", body: JSON.stringify({ rateLimit: 1_000_000 }) });
  const accepted = async () => {
    const stats = await (await fetch(`${resend}/_fake/stats`)).json();
    return (stats as { acceptances: number }).acceptances;
  };
  /** Until so many have been accepted. */
  const sendUntil = (goal: number) => async () => {
    const before = await accepted();
    const now = async () => {
      const sent = await accepted();
      return sent >= goal ? sent : undefined;
    };
    return (await eventually("the worker sends", now, 300_000)) - before;
  };
  // A queue that is used already, so that what is created once does not count.
  await fill(store.queue, email, 1);
  const keptBefore = bytesKept(store);
  await fill(store.queue, email, count);
  const env = { ...store.env, RESEND_API_KEY: "re_fake", RESEND_BASE_URL: String(resend) };
  const worker = startProcess("bench/workers/small-batches.ts", { ...env, BATCH_MAX: String(batchMax) });
  await worker.event("worker-started");
  await sendUntil(count * 0.2)();
  const sample = await measure(store, worker.pid, sendUntil(count * 0.8));
  const fsyncs = await countFsyncs(store, worker.pid, sendUntil(count + 1));
  const kept = (bytesKept(store) - keptBefore) / count;
  await Promise.all([worker.kill(), fakes.kill()]);
  await store.stop();
  return { ...sample, "emails/write": batchMax, fsyncs, "bytes kept": kept };
}

/** Posts the email. Returns how often. */
async function post(url: string, connections: number, seconds: number): Promise<number> {
  const body = new URLSearchParams(email).toString();
  const { requests, errors } = await load(url, { connections, seconds, body });
  if (errors > 0) throw new Error(`${errors} of ${requests} submissions failed`);
  return requests;
}

/** Claims in vain, one after another: because the rate permits no request, or because nothing is due. */
async function ask(kind: StoreKind, answer: "limited" | "empty"): Promise<Sample> {
  const store = await startStore(kind);
  await fill(store.queue, email, 2);
  const consumer = await openConsumer(store.queue, 3_600_000, {
    log: silent,
    onFatal(reason) {
      throw new Error(reason);
    },
  });
  await consumer.compatible;
  // After the first request, the next one is permitted in a quarter of an hour.
  const request = claimRequest({ countMax: 1, startPerSecond: answer === "limited" ? 0.001 : 1000 });
  await consumer.claim(request);
  const other = answer === "limited" ? {} : { provider: "postmark", shared: false };
  let { number } = request;
  const claim = async () => {
    for (let n = 0; n < asks; n += 1) {
      number += 1;
      const claimId = Bun.randomUUIDv7();
      const { kind: found } = await consumer.claim({ ...request, ...other, claimId, number });
      if (found !== answer) throw new Error(`claim: ${found}`);
    }
    return asks;
  };
  const sample = await measure(store, process.pid, claim);
  const fsyncs = await countFsyncs(store, process.pid, claim);
  await consumer.close();
  await store.stop();
  return { ...sample, "emails/write": 1, fsyncs, "bytes kept": 0 };
}

/** CPU time, and what Redis or the disk counts, per email. */
async function measure(
  store: Store,
  pid: number,
  work: Work,
): Promise<Omit<Sample, "emails/write" | "fsyncs" | "bytes kept"> & { readonly emails: number }> {
  const read = () => {
    const info = infoOf(store);
    const calls = Object.entries(info).filter(([name]) => name.startsWith("cmdstat_"));
    const scripts = info["cmdstat_evalsha"] ?? 0;
    const own = scripts + (info["cmdstat_info"] ?? 0) + (info["cmdstat_ping"] ?? 0);
    return {
      "CPU µs": cpuMicros(pid),
      "Redis CPU µs": store.pid === undefined ? 0 : cpuMicros(store.pid),
      scripts,
      commands: sum(calls.map(([, count]) => count)) - own,
      "bytes in": Number(info["total_net_input_bytes"]),
      "bytes out": Number(info["total_net_output_bytes"]),
      "log bytes": store.kind === "redis" ? Number(info["aof_current_size"]) : bytesWritten(pid),
    };
  };
  const before = read();
  const emails = await work();
  const after = read();
  const each = (name: keyof typeof before) => (after[name] - before[name] || 0) / emails;
  return {
    emails,
    "CPU µs": each("CPU µs"),
    "Redis CPU µs": each("Redis CPU µs"),
    scripts: each("scripts"),
    commands: each("commands"),
    "bytes in": each("bytes in"),
    "bytes out": each("bytes out"),
    "log bytes": each("log bytes"),
  };
}

/** Bytes that a process has caused to be written to a disk. */
function bytesWritten(pid: number): number {
  return Number(/^write_bytes: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, "utf8"))?.[1]);
}

/** Fsyncs per email, of Redis or of the process that writes the file: strace would slow down what is measured above. */
async function countFsyncs(store: Store, pid: number, work: Work): Promise<number> {
  const traced = store.kind === "redis" ? (infoOf(store)["process_id"] ?? 0) : pid;
  const strace = Bun.spawn(["strace", "-f", "-c", "-e", "trace=fsync,fdatasync", "-p", String(traced)], {
    stdout: "ignore",
    stderr: "pipe",
  });
  const emails = await work();
  strace.kill("SIGINT");
  const summary = await new Response(strace.stderr).text();
  const rows = summary.matchAll(/^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(?:fsync|fdatasync)$/gm);
  return sum([...rows].map(([, calls]) => Number(calls))) / emails;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
