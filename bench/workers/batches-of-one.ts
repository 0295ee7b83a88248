// The service's own worker with batches of one: the same promises for each email, without the savings of a batch.

import { silent } from "../../tests/support/log.ts";
import { ProviderState } from "../../lib/worker/provider_state.ts";
import { Dispatcher } from "../../lib/worker/dispatcher.ts";
import { openRedisConsumer } from "../../lib/queue/redis/consumer.ts";
import { createResend } from "../../lib/providers/resend.ts";

const consumer = openRedisConsumer({
  url: process.env["REDIS_URL"] ?? "",
  prefix: "reliable-email",
  minReplicas: 0,
  durability: "verify",
  retainMs: 86_400_000,
  log: silent,
  onFatal: () => process.exit(1),
});
const provider = createResend({ apiKey: "re_fake", baseUrl: process.env["RESEND_BASE_URL"] });
await consumer.compatible;
new Dispatcher(
  {
    worker: Bun.randomUUIDv7(),
    consumer,
    log: silent,
    settings: {
      providerTimeoutMs: 15_000,
      leaseMs: 60_000,
      retryBaseMs: 1000,
      retryMaxMs: 3_600_000,
      giveUpAfterMs: 259_200_000,
      searchWaitMs: 60_000,
      doubtSplitAfterMs: 120_000,
      doubtTimeoutMs: 82_800_000,
      concurrency: 8,
      providers: [provider.name],
    },
  },
  [new ProviderState({ ...provider, batchMax: 1 }, 1)],
);
console.log(JSON.stringify({ event: "worker-started" }));
