// Measures the memory and file descriptors of the servers during a run.

import { readdirSync } from "node:fs";
import { residentMiB } from "../tests/support/process_memory.ts";
import type { ManagedProcess } from "./managed_process.ts";

export interface Usage {
  /** The largest value of any one process. */
  readonly memoryMiB: number;
  readonly descriptors: number;
}

export interface UsageWatch {
  readonly most: Usage;
  stop(): void;
}

const everyMs = 100;

export function watchUsage(components: readonly ManagedProcess[]): UsageWatch {
  let most: Usage = { memoryMiB: 0, descriptors: 0 };
  const timer = setInterval(() => {
    for (const { pid } of components) {
      const now = pid === undefined ? undefined : usageOf(pid);
      if (now === undefined) continue;
      most = {
        memoryMiB: Math.max(most.memoryMiB, now.memoryMiB),
        descriptors: Math.max(most.descriptors, now.descriptors),
      };
    }
  }, everyMs);
  return {
    get most() {
      return most;
    },
    stop: () => clearInterval(timer),
  };
}

/** Undefined if the process has exited. */
function usageOf(pid: number): Usage | undefined {
  try {
    const memoryMiB: number | undefined = residentMiB(pid);
    // A zombie has no resident memory.
    if (memoryMiB === undefined || Number.isNaN(memoryMiB)) return undefined;
    return { memoryMiB, descriptors: readdirSync(`/proc/${pid}/fd`).length };
  } catch {
    return undefined;
  }
}
