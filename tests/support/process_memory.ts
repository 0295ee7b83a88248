// How much memory a process takes, by the kernel's count. Peaks are the kernel's too: none is missed between two looks,
// however busy the machine is.

import { readFileSync, writeFileSync } from "node:fs";

export interface MemoryWatch {
  /** Most MiB that it has taken since the watch began, beyond what it took then. */
  grownMiB(): number;
}

/** MiB that a process has in memory; undefined once it has ended. */
export function residentMiB(pid: number): number | undefined {
  return statusMiB(pid, "VmRSS");
}

/** Most MiB that a process ever had in memory; undefined once it has ended. */
export function peakMiB(pid: number): number | undefined {
  return statusMiB(pid, "VmHWM");
}

export function watchMemory(pid: number): MemoryWatch {
  try {
    // Resets the peak (proc_pid_clear_refs(5)). Where that is not possible, what exceeds the old one is still seen.
    writeFileSync(`/proc/${pid}/clear_refs`, "5");
  } catch {}
  const startMiB = residentMiB(pid) ?? 0;
  return {
    grownMiB() {
      const mostMiB = peakMiB(pid);
      if (mostMiB === undefined) throw new Error(`process ${pid} has ended`);
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
