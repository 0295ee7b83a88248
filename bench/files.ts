// files: measures how long small emails take, to their answer and to the provider, while ten emails of the largest size
// that providers accept pass through.

import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "../tests/support/eventually.ts";
import { startProcess } from "../tests/support/service.ts";
import { compare, type Sample } from "./compare.ts";
import { startContestant } from "./contestant.ts";
import { email, form } from "./email.ts";
import { type StoreKind, storeKinds } from "./store.ts";
import { percentile, type Table } from "./table.ts";

export interface FilesOptions {
  readonly rounds: number;
  /** How long small emails are submitted in the rounds without large ones. */
  readonly seconds: number;
  /** Bytes of a large file. Default: the most that providers accept. */
  readonly fileBytes?: number;
}

/** Almost ten million bytes in base64, which is the providers' limit. */
const fileBytesMax = 7_400_000;
const largeEmails = 10;
/** Far below the service's capacity, so that only the large emails delay small ones. */
const emailsPerSecond = 200;
/** Warm-up, in which the worker learns the provider's rate and code is compiled. */
const warmUpMs = 1500;

/** Pause before a large email is submitted again, ms. */
const againMs = 100;

/** How the large emails are submitted. */
const ways = ["none", "one after another", "all at once"] as const;
type Way = (typeof ways)[number];

export async function benchFiles({
  rounds,
  seconds,
  fileBytes = fileBytesMax,
}: FilesOptions): Promise<Table> {
  const folder = mkdtempSync(join(tmpdir(), "reliable-email-bench-files-"));
  const file = join(folder, "report.pdf");
  await Bun.write(file, randomBytes(fileBytes));
  const cases = storeKinds.flatMap((kind) =>
    ways.map((way) => ({
      labels: { queue: kind, [`${largeEmails} large emails`]: way },
      group: kind,
      measure: () => measure(kind, way, { seconds, file }),
    })),
  );
  try {
    return {
      name: "files",
      notes: [
        `${emailsPerSecond} emails/s of ${form.length} bytes while ${largeEmails} with a file of ${fileBytes} bytes pass; medians (and ranges) of ${rounds} rounds, interleaved. The provider answers at once.`,
      ],
      columns: [
        ["queue", `${largeEmails} large emails`, "they took ms"],
        ["to answer p50 ms", "to answer p99 ms"],
        ["to provider p50 ms", "to provider p99 ms"],
      ],
      ranged: ["to answer p99 ms", "to provider p99 ms"],
      rows: await compare(cases, { rounds, rate: "to answer p99 ms" }),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

interface Measurement {
  readonly seconds: number;
  readonly file: string;
}

async function measure(kind: StoreKind, way: Way, { seconds, file }: Measurement): Promise<Sample> {
  const provider = startProcess("bench/fake_provider.ts", { ARRIVALS: "1" });
  const providerUrl = String((await provider.event("provider-listening"))["url"]);
  const env = { RESEND_API_KEY: "re_fake", RESEND_BASE_URL: providerUrl };
  const server = await startContestant({ name: "server", file: "server.ts", store: kind }, env);
  const worker = await startContestant({ name: "worker", file: "worker.ts" }, env, server.store);
  const { port } = await server.process.event("server-listening");
  await worker.process.event("worker-started");
  const url = `http://127.0.0.1:${String(port)}/`;
  const stream = new SmallEmails(url);
  try {
    await Bun.sleep(warmUpMs);
    const startMs = now();
    const large = way === "none" ? (await Bun.sleep(seconds * 1000), []) : await submitLarge(url, file, way);
    for (const id of large) await arrivalOf(providerUrl, id);
    const endMs = now();
    const small = (await stream.end()).filter(({ sentMs }) => sentMs >= startMs && sentMs <= endMs);
    const toProviderMs: number[] = [];
    for (const { id, sentMs } of small) toProviderMs.push((await arrivalOf(providerUrl, id)) - sentMs);
    const toAnswerMs = small.map(({ sentMs, answeredMs }) => answeredMs - sentMs);
    return {
      ok: true,
      numbers: {
        "to answer p50 ms": percentile(toAnswerMs, 0.5),
        "to answer p99 ms": percentile(toAnswerMs, 0.99),
        "to provider p50 ms": percentile(toProviderMs, 0.5),
        "to provider p99 ms": percentile(toProviderMs, 0.99),
        ...(way !== "none" && { "they took ms": endMs - startMs }),
      },
    };
  } finally {
    await stream.end().catch(() => {});
    await worker.stop();
    await server.stop();
    await provider.kill();
  }
}

/** Unix ms with fractions, so that processes on this machine can compare their times. */
const now = () => performance.timeOrigin + performance.now();

interface Answered {
  readonly id: string;
  readonly sentMs: number;
  readonly answeredMs: number;
}

/** A steady stream of small emails. Each is sent when it is due, even if earlier ones are not answered yet. */
class SmallEmails {
  readonly #url: string;
  readonly #answers: Promise<Answered>[] = [];
  readonly #timer: Timer;

  constructor(url: string) {
    this.#url = url;
    const startMs = performance.now();
    this.#timer = setInterval(() => {
      const due = ((performance.now() - startMs) * emailsPerSecond) / 1000;
      while (this.#answers.length < due) this.#answers.push(this.#submit());
    }, 1);
  }

  /** Returns all of them once they are answered. */
  async end(): Promise<Answered[]> {
    clearInterval(this.#timer);
    return Promise.all(this.#answers);
  }

  async #submit(): Promise<Answered> {
    const sentMs = now();
    const response = await fetch(this.#url, { method: "POST", body: new URLSearchParams(form) });
    const { id } = (await response.json()) as { readonly id?: string };
    if (id === undefined) throw new Error(`a small email is answered with ${response.status}`);
    return { id, sentMs, answeredMs: now() };
  }
}

/** Submits the large emails and returns their ids. Each has its own process, so that reading files delays no small email. */
async function submitLarge(url: string, file: string, way: Exclude<Way, "none">): Promise<string[]> {
  const texts = Object.entries(email).flatMap(([name, value]) => ["--form-string", `${name}=${value}`]);
  const command = ["curl", "--silent", "--show-error", ...texts, "-F", `attachment=@${file}`, url];
  /** Repeats until the email is taken: a server reads only a few large ones at a time. */
  async function submit(): Promise<string> {
    for (;;) {
      const curl = Bun.spawn(command, { stdout: "pipe", stderr: "inherit" });
      const answer = await new Response(curl.stdout).text();
      const { id } = JSON.parse(answer || "{}") as { readonly id?: string };
      if (id !== undefined) return id;
      if (!answer.includes("busy")) throw new Error(`a large email is answered with ${answer}`);
      await Bun.sleep(againMs);
    }
  }
  const ids: string[] = [];
  if (way === "all at once") return Promise.all(Array.from({ length: largeEmails }, submit));
  for (let sent = 0; sent < largeEmails; sent += 1) ids.push(await submit());
  return ids;
}

/** When an email arrives, Unix ms with fractions. */
async function arrivalOf(providerUrl: string, id: string): Promise<number> {
  const arrived = async () => Number(await (await fetch(`${providerUrl}/arrivals/${id}`)).text());
  return eventually("the email arrives", arrived);
}
