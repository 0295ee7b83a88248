// The memory of a process as the kernel counts it. The kernel also tracks peaks, so none is missed between two checks,
// however busy the machine is.

import { readFileSync, writeFileSync } from "node:fs";

export interface MemoryWatch {
  /** Peak growth since the watch began, MiB. */
  grownMiB(): number;
}

/** Resident memory of a process, MiB; undefined once it has exited. */
export function residentMiB(pid: number): number | undefined {
  return statusMiB(pid, "VmRSS");
}

/** Peak resident memory of a process, MiB; undefined once it has exited. */
export function peakMiB(pid: number): number | undefined {
  return statusMiB(pid, "VmHWM");
}

export function watchMemory(pid: number): MemoryWatch {
  try {
    // Resets the peak (proc_pid_clear_refs(5)). If that fails, memory beyond the old peak is still noticed.
    writeFileSync(`/proc/${pid}/clear_refs`, "5");
  } catch {}
  const startMiB = residentMiB(pid) ?? 0;
  return {
    grownMiB() {
      const mostMiB = peakMiB(pid);
      if (mostMiB === undefined) throw new Error(`process ${pid} has exited`);
      return mostMiB - startMiB;
    },
  };
}

function statusMiB(pid: number, field: string): number | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const kib = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(status)?.[1];
    return kib === undefined ? undefined : Number(kib) / 1024;
  } catch {
    return undefined;
  }
}
