// CPU time, from /proc: of single processes, and of everything else that runs on the machine. It is far less noisy than
// the wall clock.

import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";

/** USER_HZ on every Linux that Bun runs on: clock ticks per second in /proc. */
const ticksPerSecond = 100;
const microsOf = (ticks: number) => (ticks * 1_000_000) / ticksPerSecond;

/** Fields of /proc/<pid>/stat from the third on: the second may contain anything. */
function statOf(pid: number | "self"): number[] {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  return stat
    .slice(stat.lastIndexOf(")") + 2)
    .split(" ")
    .map(Number);
}

/** User and system time that a process has used, microseconds. */
export function cpuMicros(pid: number): number {
  const [user = 0, system = 0] = statOf(pid).slice(11);
  return microsOf(user + system);
}

/** The time of this process, and of its children that have exited, such as the load generator. */
function ownMicros(): number {
  return microsOf(
    statOf("self")
      .slice(11, 15)
      .reduce((sum, ticks) => sum + ticks),
  );
}

/** The time of all processors that was not idle, including what the hypervisor took. */
function machineMicros(): number {
  const [all = ""] = readFileSync("/proc/stat", "utf8").split("\n");
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = all
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return microsOf(user + nice + system + irq + softirq + steal);
}

export interface CpuUse<Name extends string> {
  /** Microseconds by process. */
  readonly micros: Readonly<Record<Name, number>>;
  /** Use by all processes but these, this one and its children: share of the whole machine, %. */
  readonly neighbors: number;
}

/** Starts to measure processes; the function that it returns ends that. A process without an id counts as 0. */
export function startCpuMeter<const Name extends string>(
  pids: Readonly<Record<Name, number | undefined>>,
): () => CpuUse<Name> {
  const names = Object.keys(pids) as Name[];
  const read = () => names.map((name) => (pids[name] === undefined ? 0 : cpuMicros(pids[name])));
  const before = { each: read(), own: ownMicros(), machine: machineMicros(), atMs: performance.now() };
  return () => {
    const each = read().map((micros, i) => micros - before.each[i]!);
    const known = each.reduce((sum, micros) => sum + micros, ownMicros() - before.own);
    const capacity = (performance.now() - before.atMs) * 1000 * availableParallelism();
    const others = machineMicros() - before.machine - known;
    return {
      micros: Object.fromEntries(names.map((name, i) => [name, each[i]!])) as Record<Name, number>,
      // Clock ticks are coarse, so that a short measurement could leave these limits.
      neighbors: Math.min(100, Math.max(0, (others / capacity) * 100)),
    };
  };
}
