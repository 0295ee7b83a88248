// How much memory and how many descriptors the servers take while a run goes on.

import { readdirSync } from "node:fs";
import { residentMiB } from "../tests/support/memory.ts";
import type { Part } from "./part.ts";

export interface Usage {
  /** The most that one process had. */
  readonly memoryMiB: number;
  readonly descriptors: number;
}

export interface UsageWatch {
  readonly most: Usage;
  stop(): void;
}

const everyMs = 100;

export function watchUsage(parts: readonly Part[]): UsageWatch {
  let most: Usage = { memoryMiB: 0, descriptors: 0 };
  const timer = setInterval(() => {
    for (const { pid } of parts) {
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

/** Undefined if it has ended meanwhile. */
function usageOf(pid: number): Usage | undefined {
  try {
    const memoryMiB: number | undefined = residentMiB(pid);
    // It has none any more while it waits to be buried.
    if (memoryMiB === undefined || Number.isNaN(memoryMiB)) return undefined;
    return { memoryMiB, descriptors: readdirSync(`/proc/${pid}/fd`).length };
  } catch {
    return undefined;
  }
}
