// Everything except the server in one process: a queue in a real Redis or in a file, fakes of both providers, and
// workers.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DeliveryContext, DeliverySettings } from "../../lib/worker/delivery_context.ts";
import { Dispatcher } from "../../lib/worker/dispatcher.ts";
import { encodeEmail, type Email, isHidden } from "../../lib/email/email.ts";
import type { Attachment } from "../../lib/email/fields.ts";
import { Housekeeper } from "../../lib/worker/housekeeping.ts";
import { ProviderState } from "../../lib/worker/provider_state.ts";
import type { Log } from "../../lib/runtime/log.ts";
import { createPostmark } from "../../lib/providers/postmark.ts";
import { createResend } from "../../lib/providers/resend.ts";
import type { StoredEmail } from "../../lib/queue/contract.ts";
import { openProducer, openAdmin, openConsumer, type QueueSettings } from "../../lib/queue/open.ts";
import { duplicatesIn } from "../../fakes/ledger.ts";
import { startFakePostmark, type FakePostmarkOptions } from "../../fakes/postmark.ts";
import { startFakeResend, type FakeResendOptions } from "../../fakes/resend.ts";
import { eventually, hangMs } from "./eventually.ts";
import { silent } from "./log.ts";
import { drained } from "./processes.ts";
import { type Proxy, startProxy } from "../../fakes/tcp_proxy.ts";

export interface InProcessOptions {
  /** URL of a Redis; without it, the queue is embedded. */
  readonly url: string | undefined;
  /** Number of partitions in Redis; 1 by default. */
  readonly partitions?: number;
  readonly resend?: FakeResendOptions;
  readonly postmark?: FakePostmarkOptions;
}

export interface WorkerOptions extends Partial<DeliverySettings> {
  /** Provider -> weight, in order of preference; both alike by default. */
  readonly weights?: Partial<Record<"resend" | "postmark", number>>;
  /** Requests per second that each provider starts with, and keeps while its answers name no limit. */
  readonly rates?: Partial<Record<"resend" | "postmark", number>>;
  /** Most emails in a request, if fewer than the provider accepts. */
  readonly batchMax?: number;
  readonly concurrency?: number;
  readonly doubtMs?: number;
  readonly log?: Log;
  /** URL of a proxy to Redis; a direct connection without it. */
  readonly url?: string;
}

function attachmentOf(content: Uint8Array, index: number): Attachment {
  const sha256 = new Bun.CryptoHasher("sha256").update(content).digest("hex");
  return {
    filename: `file-${index}.pdf`,
    content_type: "application/pdf",
    size: content.byteLength,
    sha256,
  };
}

export type InProcess = Awaited<ReturnType<typeof openInProcess>>;

let worlds = 0;

export async function openInProcess({ url, partitions = 1, ...options }: InProcessOptions) {
  worlds += 1;
  const folder = url === undefined ? mkdtempSync(join(tmpdir(), "reliable-email-world-")) : undefined;
  const queueAt = (way: string | undefined): QueueSettings =>
    way === undefined
      ? { kind: "sqlite", folder: folder! }
      : {
          kind: "redis",
          url: way,
          prefix: `world-${process.pid}-${worlds}`,
          minReplicas: 0,
          durability: "verify",
          partitions,
        };
  const queue = queueAt(url);
  const retainMs = 3_600_000;
  const watcher = {
    log: silent,
    onFatal: (reason: string) => {
      throw new Error(reason);
    },
  };
  const resend = startFakeResend(options.resend);
  const postmark = startFakePostmark(options.postmark);
  const producer = await openProducer(queue, watcher);
  const workers: (() => Promise<void>)[] = [];
  const proxies: Proxy[] = [];
  await eventually("the store is verified", () => producer.health().ok);
  const admin = await openAdmin(queue, retainMs, silent);

  /** @param files contents of its attachments, which are described here */
  async function submit(
    over: Partial<Email> = {},
    id: string = Bun.randomUUIDv7(),
    files: readonly Uint8Array[] = [],
  ): Promise<string> {
    const email = {
      to: "jane@example.org",
      from: "shop@example.com",
      subject: "Hi",
      body: "Hello",
      ...over,
      ...(files.length > 0 && { attachments: files.map(attachmentOf) }),
    };
    const submission = {
      id,
      text: encodeEmail(email),
      isHidden: isHidden(email),
      ...(files.length > 0 && { files }),
    };
    const result = await producer.submit(submission, performance.now() + hangMs);
    if (result.kind !== "stored") throw new Error(JSON.stringify(result));
    return result.id;
  }

  async function startWorker({
    weights,
    rates = {},
    batchMax = Infinity,
    concurrency = 8,
    doubtMs = 3_600_000,
    log = silent,
    url: way = url,
    ...over
  }: WorkerOptions = {}) {
    const consumer = await openConsumer(queueAt(way), retainMs, watcher);
    const refused = { claims: 0, endings: 0 };
    let emptyClaims = 0;
    const claim = consumer.claim.bind(consumer);
    consumer.claim = async (request) => {
      const result = await claim(request);
      if (result.kind === "paused") refused.claims += 1;
      emptyClaims = result.kind === "empty" ? emptyClaims + 1 : 0;
      return result;
    };
    const claimEnded = consumer.claimEnded.bind(consumer);
    consumer.claimEnded = async (request) => {
      const result = await claimEnded(request);
      if (result.kind === "paused") refused.endings += 1;
      return result;
    };
    const providers = {
      resend: 1,
      postmark: 1,
      ...(weights && { resend: undefined, postmark: undefined, ...weights }),
    };
    const states = Object.entries(providers).flatMap(([name, weight]) => {
      if (weight === undefined) return [];
      const provider =
        name === "resend"
          ? createResend({ apiKey: "re_fake", baseUrl: resend.url })
          : createPostmark({ serverToken: "fake-token", baseUrl: postmark.url, messageStream: "outbound" });
      // Other tests cover how the rate is learned.
      const rate = rates[provider.name as keyof typeof rates] ?? 1000;
      const limits = { startRate: rate, maxRate: rate, batchMax: Math.min(provider.batchMax, batchMax) };
      return [new ProviderState({ ...provider, ...limits }, weight)];
    });
    const context: DeliveryContext = {
      worker: Bun.randomUUIDv7(),
      consumer,
      log,
      settings: {
        providerTimeoutMs: 10_000,
        leaseMs: 25_000,
        retryBaseMs: 20,
        retryMaxMs: 100,
        giveUpAfterMs: 3_600_000,
        searchWaitMs: 300,
        doubtSplitAfterMs: 3_600_000,
        doubtTimeoutMs: doubtMs,
        concurrency,
        providers: states.filter(({ weight }) => weight > 0).map(({ provider }) => provider.name),
        ...over,
      },
    };
    const dispatcher = new Dispatcher(context, states);
    const housekeeper = new Housekeeper(context, states);
    const stop = async () => {
      await Promise.all([dispatcher.drain(), housekeeper.stop()]);
      await consumer.close();
    };
    workers.push(stop);
    return {
      stop,
      states,
      consumer,
      /** Claims refused because of a pause. */
      refused,
      /** Nothing was left to claim, neither after its last batch was claimed nor after that was settled. */
      isIdle: () => emptyClaims >= 2 * states.length,
    };
  }

  /** A consumer of its own, for claims that a test makes. */
  const openOwnConsumer = () => openConsumer(queue, retainMs, watcher);

  const acceptances = () => [...resend.acceptances, ...postmark.acceptances];

  return {
    resend,
    postmark,
    producer,
    admin,
    submit,
    startWorker,
    openConsumer: openOwnConsumer,
    /** A lossy proxy to Redis. Its URL is for a worker. */
    async openProxy(): Promise<Proxy & { readonly url: string }> {
      const proxy = await startProxy(Number(new URL(url ?? "").port));
      proxies.push(proxy);
      return Object.assign(proxy, { url: `redis://127.0.0.1:${proxy.port}` });
    },
    acceptances,
    /** Emails accepted more than once, counting both providers. */
    duplicates: () => duplicatesIn(acceptances()),
    stats: () => admin.stats(),
    async show(id: string): Promise<StoredEmail> {
      const email = await admin.show(id);
      if (email === undefined) throw new Error(`unknown: ${id}`);
      return email;
    },
    /** Waits until the queue has drained. */
    drained: () => drained(admin),
    async close() {
      // Requests in flight to a fake that is down would never end.
      resend.comeUp();
      postmark.comeUp();
      resend.faults.clear();
      postmark.faults.clear();
      // A worker repeats its settlement until the store answers, so the store must stay reachable while there are
      // workers.
      for (const proxy of proxies) {
        proxy.replies = "pass";
        proxy.release();
      }
      await Promise.all(workers.map((stop) => stop()));
      for (const proxy of proxies) proxy.stop();
      await Promise.all([producer.close(), admin.close()]);
      if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
      resend.stop();
      postmark.stop();
    },
  };
}
