// What the store counts, as metrics. They hold for the whole queue, whichever process is asked: all begin with
// `reliable_email_queue_`, and over several processes one takes the largest, never the sum.

import type { Health, QueueStats } from "../queue/contract.ts";
import { type Family, gauge, type MetricSample } from "./metrics.ts";

/** Counters of the store that are kept for each provider. Another release may have left more. */
const outcomes = ["accepted", "rejected", "retried", "handed_over", "unknown", "dead"] as const;

/**
 * @param stats     undefined if the store did not say
 * @param providers of which there are counts even before the first
 */
export function queueFamilies(
  stats: QueueStats | undefined,
  health: Health,
  providers: readonly string[] = [],
): readonly Family[] {
  const own = [
    gauge(
      "reliable_email_store_up",
      "1 if the store answered when this scrape asked it, else 0, and all of the queue's metrics are missing.",
      stats === undefined ? 0 : 1,
    ),
    gauge(
      "reliable_email_store_healthy",
      "1 if this process may rely on the store: reached, of a known format, durable, with room.",
      health.ok ? 1 : 0,
    ),
  ];
  return stats === undefined ? own : [...own, ...families(stats, providers)];
}

function families(stats: QueueStats, known: readonly string[]): readonly Family[] {
  const { nowMs, states, counters, oldestDueAtMs, oldestDoubtSinceMs, paused, bytesUsed, bytesMax } = stats;
  const ageOf = (sinceMs: number | undefined) =>
    sinceMs === undefined ? 0 : Math.max(0, nowMs - sinceMs) / 1000;
  const total = (name: string, help: string, counter: string): Family => ({
    name,
    help,
    type: "counter",
    samples: [{ value: counters[counter] ?? 0 }],
  });
  return [
    {
      name: "reliable_email_queue_emails",
      help: "Emails by state; of those sent as many as RETAIN keeps.",
      type: "gauge",
      samples: Object.entries(states).map(([state, value]) => ({
        labels: { state: state.replaceAll("-", "_") },
        value,
      })),
    },
    gauge(
      "reliable_email_queue_oldest_due_seconds",
      "How long the oldest that is due has been due; 0 if nothing is.",
      ageOf(oldestDueAtMs),
    ),
    gauge(
      "reliable_email_queue_oldest_doubt_seconds",
      "How long the oldest doubt has lasted; 0 if nothing is in doubt.",
      ageOf(oldestDoubtSinceMs),
    ),
    gauge("reliable_email_queue_paused", "1 if an operator has stopped all deliveries.", paused ? 1 : 0),
    {
      name: "reliable_email_queue_outcomes_total",
      help: "What became of emails at a provider: of one email there may be several.",
      type: "counter",
      samples: outcomesOf(counters, known),
    },
    {
      name: "reliable_email_queue_provider_failing_seconds",
      help: "For how long a provider has failed whenever it was asked, without an acceptance in between; 0 if it works.",
      type: "gauge",
      samples: failingOf(stats, known),
    },
    total(
      "reliable_email_queue_possible_duplicates_total",
      "Emails sent again although a provider may have accepted them.",
      "possible_duplicates",
    ),
    total(
      "reliable_email_queue_retried_by_operator_total",
      "Dead letters and emails in doubt that an operator had sent again.",
      "replayed",
    ),
    total(
      "reliable_email_queue_duplicates_total",
      "Emails of which a second acceptance was seen.",
      "duplicates",
    ),
    gauge(
      "reliable_email_queue_clock_step_seconds",
      "By how much the store's clock stepped last, within the last hour; negative if back, 0 if it did not.",
      (stats.clockStep?.byMs ?? 0) / 1000,
    ),
    total(
      "reliable_email_queue_restamped_total",
      "Emails, batches and leases that were due at an impossible time, and were brought back.",
      "restamped",
    ),
    gauge("reliable_email_queue_used_bytes", "What the store uses: memory of Redis, or disk.", bytesUsed),
    {
      name: "reliable_email_queue_limit_bytes",
      help: "What the store may use: maxmemory of Redis, if there is one, or what is there of the disk.",
      type: "gauge",
      samples: bytesMax === undefined ? [] : [{ value: bytesMax }],
    },
  ];
}

function failingOf({ providers, nowMs }: QueueStats, known: readonly string[]): MetricSample[] {
  const names = new Set([...known, ...Object.keys(providers)]);
  return [...names].toSorted().map((provider) => {
    const sinceMs = providers[provider]?.failingSinceMs;
    return { labels: { provider }, value: sinceMs === undefined ? 0 : Math.max(0, nowMs - sinceMs) / 1000 };
  });
}

/** Every outcome of each provider that has any, so that what did not happen yet is 0. */
function outcomesOf(counters: QueueStats["counters"], known: readonly string[]): MetricSample[] {
  const providers = new Set(known);
  for (const name of Object.keys(counters)) {
    const [outcome = "", provider] = name.split(":");
    if (provider !== undefined && outcomes.some((one) => one === outcome)) providers.add(provider);
  }
  return [...providers].toSorted().flatMap((provider) =>
    outcomes.map((outcome) => ({
      labels: { provider, outcome },
      value: counters[`${outcome}:${provider}`] ?? 0,
    })),
  );
}
