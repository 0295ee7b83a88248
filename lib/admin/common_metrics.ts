// The metrics that servers and workers share: those of the queue, which every process shows alike, and those of the
// process itself.

import type { Health, QueueStats } from "../queue/contract.ts";
import { build } from "../runtime/version.ts";
import { createHistogram, type Family, gauge, labels, type Row, type Sample, total } from "./metrics.ts";

/** Counters that the store keeps for each provider. Another release may have left more. */
const outcomes = ["accepted", "rejected", "retried", "handed_over", "unknown", "dead"] as const;

/**
 * The queue is the same whichever process is asked: over several, take the largest value, never the sum.
 * @param stats undefined if the store did not answer: what only it knows is then omitted
 * @param known providers to show even before their first email
 */
export function queueFamilies(
  stats: QueueStats | undefined,
  health: Health,
  known: readonly string[] = [],
): readonly Family[] {
  const up = "1 if the store answered this scrape, else 0, and all metrics of the queue are missing.";
  const healthy = "1 if this process may rely on the store: reached, of a known format, durable, with room.";
  const partition = "1 if this process may rely on this partition of the queue.";
  const store = [
    gauge("reliable_email_store_up", up, stats === undefined ? 0 : 1),
    gauge("reliable_email_store_healthy", healthy, health.ok ? 1 : 0),
    gauge("reliable_email_partition_up", partition, partitionsUp(health)),
  ];
  if (stats === undefined) return store;
  const [gauges, totals] = [queueGauges(stats, known), queueTotals(stats, known)];
  return [
    ...store,
    ...gauges.map(([name, ...rest]) => gauge(`reliable_email_queue_${name}`, ...rest)),
    ...totals.map(([name, ...rest]) => total(`reliable_email_queue_${name}_total`, ...rest)),
  ];
}

/** A queue that is not divided is partition 0. */
function partitionsUp(health: Health): Sample[] {
  const { partitions = [health] } = health;
  return partitions.map(({ ok }, number) => [labels({ partition: String(number) }), ok ? 1 : 0]);
}

function queueGauges(stats: QueueStats, known: readonly string[]): Row[] {
  const secondsSince = (sinceMs = stats.nowMs) => Math.max(0, stats.nowMs - sinceMs) / 1000;
  const due = secondsSince(stats.oldestDueAtMs);
  const step = (stats.clockStep?.byMs ?? 0) / 1000;
  const byState = Object.entries(stats.states).map(([state, count]): Sample => [
    labels({ state: state.replaceAll("-", "_") }),
    count,
  ]);
  const failing = sorted(known, Object.keys(stats.providers)).map((provider): Sample => [
    labels({ provider }),
    secondsSince(stats.providers[provider]?.failingSinceMs),
  ]);
  return [
    ["emails", "Emails by state; the sent ones as long as RETAIN keeps their records.", byState],
    ["oldest_due_seconds", "How long the oldest due email has been due; 0 if none is.", due],
    ["oldest_doubt_seconds", "How long the oldest doubt has lasted.", secondsSince(stats.oldestDoubtSinceMs)],
    ["paused", "1 while an operator has paused all deliveries.", stats.paused ? 1 : 0],
    ["provider_failing_seconds", "How long a provider has failed without an acceptance.", failing],
    ["clock_step_seconds", "Last step of the store's clock within an hour; negative if back.", step],
    ["used_bytes", "Memory of Redis, or disk, that is used.", stats.bytesUsed],
    ["file_bytes", "Bytes of the files of all emails that are not sent.", stats.fileBytes],
    ["limit_bytes", "What may be used: maxmemory of Redis if it is set, or disk.", stats.bytesMax ?? []],
  ];
}

function queueTotals({ counters }: QueueStats, known: readonly string[]): Row[] {
  const count = (counter: string) => counters[counter] ?? 0;
  const providers = Object.keys(counters).flatMap((counter) => {
    const [outcome, provider] = counter.split(":");
    return provider !== undefined && outcomes.some((one) => one === outcome) ? [provider] : [];
  });
  // All outcomes of each provider, so that those that never happened are 0.
  const byOutcome = sorted(known, providers).flatMap((provider) =>
    outcomes.map((outcome): Sample => [labels({ provider, outcome }), count(`${outcome}:${provider}`)]),
  );
  return [
    ["outcomes", "Outcomes of emails at a provider: one email may have several.", byOutcome],
    ["possible_duplicates", "Emails sent again that may have been accepted.", count("possible_duplicates")],
    ["retried_by_operator", "Emails that an operator retried.", count("replayed")],
    ["duplicates", "Emails that were seen to be accepted a second time.", count("duplicates")],
    ["restamped", "Emails and batches that were due at an impossible time, corrected.", count("restamped")],
  ];
}

const sorted = (...names: (readonly string[])[]) => [...new Set(names.flat())].toSorted();

/** Between two measurements of how late a timer is, ms. */
const lagEveryMs = 500;

/**
 * Measures this process from now on. Names without our prefix are those that all programs use, so that general
 * dashboards find them.
 */
export function createProcessMetrics(role: "server" | "worker"): () => readonly Family[] {
  const lag = createHistogram(
    "reliable_email_event_loop_lag_seconds",
    "How late a timer fired, one every half a second: how long the event loop was blocked.",
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5],
  ).announce();
  let dueAtMs = performance.now() + lagEveryMs;
  const timer = setInterval(() => {
    const nowMs = performance.now();
    // Bun may fire a timer a moment early.
    lag.observe(Math.max(0, nowMs - dueAtMs) / 1000);
    dueAtMs = nowMs + lagEveryMs;
  }, lagEveryMs);
  timer.unref();

  const { version, commit = "", bun } = build;
  const program: Sample = [labels({ role, version, commit, bun }), 1];
  return () => {
    const { user, system } = process.cpuUsage();
    const startedAt = performance.timeOrigin / 1000;
    return [
      gauge("reliable_email_build_info", "Which program this is; always 1.", [program]),
      lag,
      total("process_cpu_seconds_total", "CPU time of this process, user and system.", (user + system) / 1e6),
      gauge("process_resident_memory_bytes", "Resident memory of this process.", process.memoryUsage.rss()),
      gauge("process_start_time_seconds", "When this process started, Unix time.", startedAt),
    ];
  };
}
