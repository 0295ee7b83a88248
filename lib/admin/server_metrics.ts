// What a server shows on its admin port, and what it counts for that.

import type { Handler, HandlerOptions } from "../http/handler.ts";
import type { ProducerWatcher } from "../queue/open.ts";
import type { Producer, QueueStats } from "../queue/contract.ts";
import { gauge, createCounter, createHistogram } from "./metrics.ts";
import type { Shortage } from "../runtime/file_descriptors.ts";
import type { Shown } from "./http.ts";
import { createProcessMetrics, readyFamily } from "./process_metrics.ts";
import { queueFamilies } from "./queue_metrics.ts";
import type { StatsCache } from "./stats_cache.ts";
import { serverReadiness } from "./readiness.ts";

export interface ServerMetrics {
  readonly onAnswer: NonNullable<HandlerOptions["onAnswer"]>;
  readonly onGroup: NonNullable<ProducerWatcher["onGroup"]>;
  show(parts: {
    readonly handler: Handler;
    readonly producer: Producer;
    readonly view: StatsCache;
    readonly stopping: () => boolean;
    readonly shortage: Shortage;
  }): Shown;
}

const statuses = ["200", "400", "401", "500"] as const;

export function createServerMetrics(): ServerMetrics {
  const answers = createCounter({
    name: "reliable_email_submissions_total",
    help: "Submissions by the status of their answer.",
    labels: ["status"],
  });
  for (const status of statuses) answers.of(status);
  const duration = createHistogram(
    {
      name: "reliable_email_submission_duration_seconds",
      help: "From the head of a submission to its 200, while the body arrives and the store writes.",
    },
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
  );
  const groupEmails = createHistogram(
    {
      name: "reliable_email_group_emails",
      help: "Submissions that one write to the store held.",
    },
    [1, 2, 4, 8, 16, 32, 64, 128, 256],
  );
  const groupDuration = createHistogram(
    {
      name: "reliable_email_group_duration_seconds",
      help: "Time that one write of submissions to the store took, its fsync included.",
    },
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1],
  );
  const own = createProcessMetrics("server");
  // Bound once: the lookup would cost more than the count.
  const accepted = answers.of("200");
  const [durations, groups, groupDurations] = [duration.of(), groupEmails.of(), groupDuration.of()];

  return {
    onAnswer(status, elapsedMs) {
      if (status !== 200) {
        answers.of(String(status)).value += 1;
        return;
      }
      accepted.value += 1;
      durations.observe(elapsedMs / 1000);
    },
    onGroup(emails, elapsedMs) {
      groups.observe(emails);
      groupDurations.observe(elapsedMs / 1000);
    },
    show({ handler, producer, view, stopping, shortage }) {
      const judge = (stats: QueueStats | undefined) =>
        serverReadiness({
          stopping: stopping(),
          shortage: shortage(),
          health: producer.health(),
          stats,
          refusal: view.refusal(),
          overload: handler.load().overload,
        });
      return {
        readiness: async () => judge(await view.look()),
        async families() {
          const stats = await view.look();
          const { submissions, bytes } = handler.load();
          return [
            readyFamily(judge(stats)),
            answers.family(),
            duration.family(),
            gauge(
              "reliable_email_submissions_in_progress",
              "Submissions that have no answer yet.",
              submissions,
            ),
            gauge(
              "reliable_email_submissions_in_progress_bytes",
              "Bytes of the bodies of submissions that have no answer yet.",
              bytes,
            ),
            groupEmails.family(),
            groupDuration.family(),
            ...queueFamilies(stats, producer.health()),
            ...own.families(),
          ];
        },
      };
    },
  };
}
