// The CPU time of other processes, from /proc: far less noisy than the wall clock.

import { readFileSync } from "node:fs";

/** USER_HZ on every Linux that Bun runs on: clock ticks per second in /proc/<pid>/stat. */
const ticksPerSecond = 100;

/** User and system time that a process has used, microseconds. */
export function cpuMicros(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The second field is the process name in parentheses, which may contain anything.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return ((Number(fields[11]) + Number(fields[12])) * 1_000_000) / ticksPerSecond;
}
