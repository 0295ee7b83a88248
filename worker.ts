// The worker: takes emails out of the queue and hands them to the providers.

import { openAdminPort } from "./lib/admin/port.ts";
import { WorkerReadiness } from "./lib/admin/readiness.ts";
import { WorkerMetrics } from "./lib/admin/worker_metrics.ts";
import { type Config, readConfig } from "./lib/config/config.ts";
import { registry } from "./lib/providers/registry.ts";
import { openConsumer } from "./lib/queue/open.ts";
import { watchDescriptors } from "./lib/runtime/file_descriptors.ts";
import { runProcess, type Service, type ServiceContext } from "./lib/runtime/service.ts";
import type { DeliveryContext } from "./lib/worker/delivery_context.ts";
import { Dispatcher } from "./lib/worker/dispatcher.ts";
import { Housekeeper } from "./lib/worker/housekeeping.ts";
import { askFirst, ProviderState } from "./lib/worker/provider_state.ts";

export interface Worker extends Service {
  /** Resolves to true once the worker has started to deliver, to false if it is stopped before it reaches its store. */
  readonly started: Promise<boolean>;
}

export async function startWorker({ config, log, onFatal }: ServiceContext<Config>): Promise<Worker> {
  const { doubtTimeoutMs: doubtMs, leaseMs } = config;
  let stopping = false;
  let isUsable = true;
  let loop: { stop(): Promise<unknown> } | undefined;
  const consumer = await openConsumer(config.queue, config.retainMs, {
    log,
    onFatal(reason) {
      isUsable = false;
      onFatal(reason);
    },
  });
  const states = await Promise.all(
    config.providers.map(
      async ({ name, weight }) => new ProviderState(await registry[name].create(config), weight),
    ),
  );
  const metrics = new WorkerMetrics(states);
  const readiness = new WorkerReadiness({ doubtMs, leaseMs });
  const context: DeliveryContext = {
    worker: Bun.randomUUIDv7(),
    consumer,
    log,
    observer: metrics,
    settings: {
      ...config,
      searchWaitMs: Math.max(0, ...states.map(({ provider }) => provider.searchWaitMs ?? 0)),
      providers: states
        .filter(({ weight }) => weight > 0)
        .toSorted((a, b) => b.weight - a.weight)
        .map(({ name }) => name),
    },
  };
  openAdminPort(config.admin, {
    role: "worker",
    log,
    stats: () => consumer.stats(),
    health: () => consumer.health(),
    shortage: watchDescriptors(log),
    readiness(status) {
      const nowMs = performance.now();
      return readiness.judge({ ...status, stopping, started: loop !== undefined, states, nowMs });
    },
    families: () => metrics.families(),
    providers: states.map(({ name }) => name),
  });

  async function start(): Promise<boolean> {
    // Nothing is claimed until the store is known to have a format that this version understands.
    await consumer.compatible;
    await askFirst(states, consumer);
    if (stopping) return false;
    const dispatcher = new Dispatcher(context, states);
    const housekeeper = new Housekeeper(context, states);
    loop = { stop: () => Promise.all([dispatcher.drain(), housekeeper.stop()]) };
    log.info("worker-started", {
      providers: config.providers.map(({ name, weight }) => `${name}:${weight}`).join(","),
    });
    return true;
  }

  return {
    started: start(),
    async drain() {
      stopping = true;
      // Nothing in flight could be recorded in a store that this process cannot use.
      if (isUsable) await loop?.stop();
      await consumer.close();
    },
  };
}

if (import.meta.main) await runProcess(readConfig(process.env, "worker"), startWorker);
