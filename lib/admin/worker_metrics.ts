// What a worker shows on its admin port, and what it counts for that.

import type { Health, QueueStats } from "../queue/contract.ts";
import type { DeliveryObserver } from "../worker/delivery_context.ts";
import type { ProviderState } from "../worker/provider_state.ts";
import { type Family, createCounter, createHistogram, type MetricSample } from "./metrics.ts";
import type { Shortage } from "../runtime/file_descriptors.ts";
import type { Shown } from "./http.ts";
import { createProcessMetrics, readyFamily } from "./process_metrics.ts";
import { queueFamilies } from "./queue_metrics.ts";
import type { StatsCache } from "./stats_cache.ts";
import { isDoubtOverdue, workerReadiness } from "./readiness.ts";

export interface WorkerMetrics {
  readonly observer: DeliveryObserver;
  show(parts: {
    readonly states: readonly ProviderState[];
    readonly doubtMs: number;
    readonly leaseMs: number;
    readonly health: () => Health;
    readonly view: StatsCache;
    readonly started: () => boolean;
    readonly stopping: () => boolean;
    readonly shortage: Shortage;
  }): Shown;
}

export function createWorkerMetrics(): WorkerMetrics {
  const requests = createCounter({
    name: "reliable_email_requests_total",
    help: "Requests to a provider, to send, to search or to check, by outcome.",
    labels: ["provider", "request", "outcome"],
  });
  const requestDuration = createHistogram(
    {
      name: "reliable_email_request_duration_seconds",
      help: "Time that a request to a provider took.",
      labels: ["provider", "request"],
    },
    [0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 30],
  );
  const deliveryDuration = createHistogram(
    {
      name: "reliable_email_delivery_duration_seconds",
      help: "From the submission of an email to its acceptance by a provider, retries and pauses included.",
      labels: ["provider"],
    },
    [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400, 86_400, 259_200],
  );
  const dead = createCounter({
    name: "reliable_email_dead_letters_total",
    help: "Emails that this worker gave up, by the cause.",
    labels: ["provider", "cause"],
  });
  const acceptedAtMs = new Map<string, number>();
  const own = createProcessMetrics("worker");

  return {
    observer: {
      requested({ provider, request, outcome, elapsedMs }) {
        requests.of(provider, request, snakeCase(outcome)).value += 1;
        requestDuration.of(provider, request).observe(elapsedMs / 1000);
      },
      accepted(provider, agesMs) {
        acceptedAtMs.set(provider, Date.now());
        const durations = deliveryDuration.of(provider);
        for (const ageMs of agesMs) durations.observe(Math.max(0, ageMs) / 1000);
      },
      died(provider, cause) {
        dead.of(provider, snakeCase(cause)).value += 1;
      },
    },
    show({ states, doubtMs, leaseMs, health, view, started, stopping, shortage }) {
      let overdueSinceMs: number | undefined;
      const judge = (stats: QueueStats | undefined) => {
        const nowMs = performance.now();
        const isOverdue = isDoubtOverdue({ stats, doubtMs, leaseMs });
        overdueSinceMs = isOverdue ? (overdueSinceMs ?? nowMs) : undefined;
        return workerReadiness({
          stopping: stopping(),
          shortage: shortage(),
          started: started(),
          health: health(),
          stats,
          refusal: view.refusal(),
          providers: states
            .filter(({ weight }) => weight > 0)
            .map(({ provider, breaker }) => ({ name: provider.name, breaker })),
          nowMs,
          doubtMs,
          leaseMs,
          overdueForMs: nowMs - (overdueSinceMs ?? nowMs),
        });
      };
      // So that what did not happen yet is 0.
      for (const { provider } of states) {
        deliveryDuration.of(provider.name);
        for (const cause of causes) dead.of(provider.name, snakeCase(cause));
      }
      return {
        readiness: async () => judge(await view.look()),
        async families() {
          const stats = await view.look();
          return [
            readyFamily(judge(stats)),
            ...laneFamilies(states),
            requests.family(),
            requestDuration.family(),
            deliveryDuration.family(),
            {
              name: "reliable_email_last_acceptance_timestamp_seconds",
              help: "When a provider last accepted an email of this worker, Unix time; missing before the first.",
              type: "gauge",
              samples: [...acceptedAtMs].map(([provider, atMs]) => ({
                labels: { provider },
                value: atMs / 1000,
              })),
            },
            dead.family(),
            ...queueFamilies(
              stats,
              health(),
              states.map(({ provider }) => provider.name),
            ),
            ...own.families(),
          ];
        },
      };
    },
  };
}

const causes = [
  "rejected",
  "refusedByAll",
  "gaveUp",
  "keyReused",
  "unreadable",
] as const satisfies Parameters<DeliveryObserver["died"]>[1][];
const breakerStates = ["closed", "open", "half_open"] as const;

function laneFamilies(states: readonly ProviderState[]): readonly Family[] {
  const each = (name: string, help: string, valueOf: (state: ProviderState) => number): Family => ({
    name,
    help,
    type: "gauge",
    samples: states.map((state) => ({ labels: { provider: state.provider.name }, value: valueOf(state) })),
  });
  return [
    {
      name: "reliable_email_provider_state",
      help: "1 for the state of this worker's circuit breaker of a provider: closed if it works, open if no requests are made, half_open while it is asked or tried.",
      type: "gauge",
      samples: states.flatMap(statesOf),
    },
    each(
      "reliable_email_provider_weight",
      "Share of a provider; at 0 it gets nothing new.",
      ({ weight }) => weight,
    ),
    each(
      "reliable_email_provider_requests_per_second",
      "Requests a second that this worker has learnt to make at most.",
      ({ rate }) => rate.ratePerSecond,
    ),
  ];
}

function statesOf({ provider, breaker }: ProviderState): MetricSample[] {
  return breakerStates.map((state) => ({
    labels: { provider: provider.name, state },
    value: (breaker.kind === "asking" ? "half_open" : snakeCase(breaker.kind)) === state ? 1 : 0,
  }));
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
