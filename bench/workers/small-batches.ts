// The service's own worker with small batches, of one by default: the same promises for each email, without the savings
// of a full batch.

import { silent } from "../../tests/support/log.ts";
import { ProviderState } from "../../lib/worker/provider_state.ts";
import { Dispatcher } from "../../lib/worker/dispatcher.ts";
import { createResend } from "../../lib/providers/resend.ts";
import { readConfig } from "../../lib/config/config.ts";
import { openConsumer } from "../../lib/queue/open.ts";

const read = readConfig(process.env, "worker");
if (!read.ok) throw new Error(read.message);
const { config } = read;
const watcher = { log: silent, onFatal: () => process.exit(1) };
const consumer = await openConsumer(config.queue, config.retainMs, watcher);
const provider = createResend({ apiKey: "re_fake", baseUrl: process.env["RESEND_BASE_URL"] });
await consumer.compatible;
new Dispatcher(
  {
    worker: Bun.randomUUIDv7(),
    consumer,
    log: silent,
    settings: { ...config, searchWaitMs: 60_000, providers: [provider.name] },
  },
  [new ProviderState({ ...provider, batchMax: Number(process.env["BATCH_MAX"] ?? 1) }, 1)],
);
console.log(JSON.stringify({ event: "worker-started" }));
