// The worker: takes emails out of the queue and hands them to the providers, until it is told to stop.

import { watchDescriptors } from "./lib/runtime/file_descriptors.ts";
import { openAdminPort } from "./lib/admin/http.ts";
import { createStatsCache } from "./lib/admin/stats_cache.ts";
import { createWorkerMetrics } from "./lib/admin/worker_metrics.ts";
import { logWarnings, readConfig } from "./lib/config/config.ts";
import type { DeliveryContext } from "./lib/worker/delivery_context.ts";
import { Dispatcher } from "./lib/worker/dispatcher.ts";
import { startHousekeeping } from "./lib/worker/housekeeping.ts";
import { askFirst, createProviderState } from "./lib/worker/provider_state.ts";
import { createLog } from "./lib/runtime/log.ts";
import { registry } from "./lib/providers/registry.ts";
import { openAdmin, openConsumer } from "./lib/queue/open.ts";
import { onStop } from "./lib/runtime/signals.ts";

const read = readConfig(process.env, "worker");
if (!read.ok) {
  console.error(read.message);
  process.exit(2);
}
const { config } = read;
const log = createLog({ level: config.logLevel, secrets: config.secrets });
logWarnings(log, read.warnings);

const consumer = openConsumer(config.queue, config.retainMs, {
  log,
  onFatal(reason) {
    log.error("store-unusable", { reason });
    process.exit(1);
  },
});

const states = await Promise.all(
  config.providers.map(async ({ name, weight }) =>
    createProviderState(await registry[name].create(config), weight),
  ),
);
const counts = createWorkerMetrics();
const context: DeliveryContext = {
  worker: Bun.randomUUIDv7(),
  consumer,
  log,
  observer: counts.observer,
  settings: {
    ...config,
    searchWaitMs: Math.max(0, ...states.map(({ provider }) => provider.searchWaitMs ?? 0)),
    providers: states
      .filter(({ weight }) => weight > 0)
      .toSorted((a, b) => b.weight - a.weight)
      .map(({ provider }) => provider.name),
  },
};
let started = false;
let stopping = false;
let stop = async (): Promise<void> => {};

const view = createStatsCache({
  open: (quiet) => openAdmin(config.queue, config.retainMs, quiet),
});
const admin = openAdminPort(
  config.admin,
  counts.show({
    states,
    doubtMs: config.doubtTimeoutMs,
    leaseMs: config.leaseMs,
    health: consumer.health,
    view,
    started: () => started,
    stopping: () => stopping,
    shortage: watchDescriptors(log),
  }),
  log,
);
if (!admin.ok) {
  console.error(admin.message);
  process.exit(1);
}

onStop({
  log,
  timeoutMs: config.shutdownTimeoutMs,
  repeatMs: config.signalRepeatMs,
  async drain() {
    stopping = true;
    await stop();
    view.close();
    await consumer.close();
  },
});

// Not a claim before it is known that this version understands the store.
await consumer.compatible;
await askFirst(states, consumer);
const dispatcher = new Dispatcher(context, states, {
  concurrency: config.concurrency,
  doubtMs: config.doubtTimeoutMs,
});
const housekeeper = startHousekeeping(context, states);
stop = async () => {
  await Promise.all([dispatcher.drain(), housekeeper.stop()]);
};
started = true;
log.info("worker-started", {
  providers: config.providers.map(({ name, weight }) => `${name}:${weight}`).join(","),
});
