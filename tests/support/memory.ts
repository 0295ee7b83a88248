// How much memory a process takes, by the kernel's count.

import { readFileSync } from "node:fs";

export interface MemoryWatch {
  /** Most MiB that it has taken since the watch began, beyond what it took then. */
  grownMiB(): number;
  stop(): void;
}

export function residentMiB(pid: number): number {
  const [, kib] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Number(kib) / 1024;
}

export function watchMemory(pid: number): MemoryWatch {
  const startMiB = residentMiB(pid);
  let mostMiB = startMiB;
  const look = () => {
    mostMiB = Math.max(mostMiB, residentMiB(pid));
  };
  const timer = setInterval(look, 20);
  return {
    grownMiB() {
      look();
      return mostMiB - startMiB;
    },
    stop: () => clearInterval(timer),
  };
}
