// What every process tells of itself, whatever it is for. The names without our own before them are those that all
// programs use, so that general dashboards find them.

import { build } from "../runtime/version.ts";
import { type Family, gauge, createHistogram } from "./metrics.ts";
import type { Readiness } from "./readiness.ts";

/** Between two looks at how late a timer is, ms. */
const lagEveryMs = 500;
const lagBounds = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];

export interface ProcessMetrics {
  families(): readonly Family[];
}

export function readyFamily({ reasons }: Readiness): Family {
  return gauge(
    "reliable_email_ready",
    "1 if this process could do its job now, as /readyz says, else 0.",
    reasons.length === 0 ? 1 : 0,
  );
}

/** @param role what the process is for: `server` or `worker` */
export function createProcessMetrics(role: string): ProcessMetrics {
  const lag = createHistogram(
    {
      name: "reliable_email_event_loop_lag_seconds",
      help: "How late a timer fired, of one every half a second: how long the event loop was held up.",
    },
    lagBounds,
  );
  const lags = lag.of();
  let dueAtMs = performance.now() + lagEveryMs;
  const timer = setInterval(() => {
    const nowMs = performance.now();
    // Bun may fire a timer a moment early.
    lags.observe(Math.max(0, nowMs - dueAtMs) / 1000);
    dueAtMs = nowMs + lagEveryMs;
  }, lagEveryMs);
  timer.unref();

  return {
    families() {
      const { user, system } = process.cpuUsage();
      return [
        {
          name: "reliable_email_build_info",
          help: "Which program this is; always 1.",
          type: "gauge",
          samples: [
            {
              labels: {
                role,
                version: build.version,
                commit: build.commit ?? "",
                bun: build.bun,
              },
              value: 1,
            },
          ],
        },
        lag.family(),
        {
          name: "process_cpu_seconds_total",
          help: "CPU time of this process, of the user and of the system.",
          type: "counter",
          samples: [{ value: (user + system) / 1e6 }],
        },
        gauge("process_resident_memory_bytes", "Resident memory of this process.", process.memoryUsage.rss()),
        gauge(
          "process_start_time_seconds",
          "When this process started, Unix time.",
          performance.timeOrigin / 1000,
        ),
      ];
    },
  };
}
