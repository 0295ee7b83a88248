// soak: whether the memory of a server and a worker grows under a steady load, on both queues at the same time.

import { residentMiB } from "../tests/support/process_memory.ts";
import { type Running, startContestant } from "./contestant.ts";
import { form } from "./email.ts";
import { type FakeProvider, startFakeProvider } from "./fake_provider.ts";
import { type StoreKind, storeKinds } from "./store.ts";
import { percentile, type Row, type Table } from "./table.ts";

/** Submitted to each queue, well below what it takes. */
const emailsPerSecond = 200;
const samplesMax = 400;

export interface SoakOptions {
  readonly minutes: number;
}

interface Soaked {
  readonly kind: StoreKind;
  readonly url: string;
  readonly server: Running;
  readonly worker: Running;
  readonly provider: FakeProvider;
  /** Memory of the processes, MiB. */
  readonly memory: { readonly server: number[]; readonly worker: number[] };
}

export async function benchSoak({ minutes }: SoakOptions): Promise<Table> {
  const all: Soaked[] = [];
  const totalMs = minutes * 60_000;
  let failed = 0;
  let submitted = 0;
  try {
    for (const kind of storeKinds) all.push(await begin(kind));
    const startMs = performance.now();
    for (let elapsedMs = 0; elapsedMs < totalMs; elapsedMs = performance.now() - startMs) {
      const due = Math.ceil((elapsedMs / 1000) * emailsPerSecond) + 1 - submitted;
      const answers = await Promise.all(
        all.flatMap(({ url }) => Array.from({ length: Math.max(0, due) }, () => submit(url))),
      );
      failed += answers.filter((isStored) => !isStored).length;
      submitted += Math.max(0, due);
      for (const one of all) remember(one, (elapsedMs / totalMs) * samplesMax);
      await Bun.sleep(10);
    }
    const expected = all.length * submitted - failed;
    const sent = all.reduce((sum, { provider }) => sum + provider.stats().emails, 0);
    return {
      name: "soak",
      notes: [
        `${minutes} minutes at ${emailsPerSecond} emails/s for each queue: ${failed} of ${all.length * submitted} submissions failed, ${sent} of ${expected} emails were sent before the end.`,
        "Resident memory, median of a quarter of the time.",
      ],
      columns: [
        ["queue", "process"],
        ["2nd quarter MiB", "last quarter MiB", "growth %"],
      ],
      rows: all.flatMap(({ kind, memory }) => [
        growthOf(kind, "server", memory.server),
        growthOf(kind, "worker", memory.worker),
      ]),
    };
  } finally {
    for (const { worker, server, provider } of all) {
      await worker.stop();
      await server.stop();
      provider.stop();
    }
  }
}

async function begin(kind: StoreKind): Promise<Soaked> {
  const provider = startFakeProvider();
  const env = { RESEND_API_KEY: "re_fake", RESEND_BASE_URL: provider.url };
  const server = await startContestant({ name: "server", file: "server.ts", store: kind }, env);
  const { port } = await server.process.event("server-listening");
  const worker = await startContestant({ name: "worker", file: "worker.ts" }, env, server.store);
  await worker.process.event("worker-started");
  const url = `http://127.0.0.1:${String(port)}/`;
  return { kind, url, server, worker, provider, memory: { server: [], worker: [] } };
}

async function submit(url: string): Promise<boolean> {
  const { status } = await fetch(url, { method: "POST", body: new URLSearchParams(form) });
  return status === 200;
}

/** @param wanted how many samples there should be by now */
function remember({ server, worker, memory }: Soaked, wanted: number): void {
  if (memory.server.length > wanted) return;
  memory.server.push(residentMiB(server.process.pid) ?? Number.NaN);
  memory.worker.push(residentMiB(worker.process.pid) ?? Number.NaN);
}

function growthOf(queue: StoreKind, process: string, samples: readonly number[]): Row {
  const quarter = (number: number) =>
    percentile(
      samples.slice(
        Math.floor((number * samples.length) / 4),
        Math.ceil(((number + 1) * samples.length) / 4),
      ),
      0.5,
    );
  const [second, last] = [quarter(1), quarter(3)];
  return {
    queue,
    process,
    "2nd quarter MiB": second,
    "last quarter MiB": last,
    "growth %": (last / second - 1) * 100,
  };
}
