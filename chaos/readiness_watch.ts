// Watches the readiness of the service's processes during a run.

import type { ManagedProcess } from "./managed_process.ts";

export interface Watched {
  readonly component: ManagedProcess;
  /** Base URL of its admin port. */
  readonly url: string;
}

export interface ReadyWatch {
  /** Reasons for not being ready that no fault excuses, each once per process. */
  readonly reasons: readonly string[];
  stop(): Promise<void>;
}

const everyMs = 100;
/** Reasons that follow from faults of the store, the providers or the process itself; docs/monitoring.md explains the words. */
const excused = /^(?:starting|stopping|store|overload|providers):/;

export function watchReadiness(watched: readonly Watched[]): ReadyWatch {
  const reasons = new Set<string>();
  let over = false;
  const watching = watched.map(async ({ component, url }) => {
    while (!over) {
      for (const reason of await reasonsOf(url)) {
        // Numbers in a reason change from one poll to the next.
        if (!excused.test(reason))
          reasons.add(`${component.name}: ${reason.replaceAll(/\d+(\.\d+)?/g, "N")}`);
      }
      await Bun.sleep(everyMs);
    }
  });
  return {
    get reasons() {
      return [...reasons];
    },
    async stop() {
      over = true;
      await Promise.all(watching);
    },
  };
}

/** Empty if the process is ready or not running. */
async function reasonsOf(url: string): Promise<readonly string[]> {
  try {
    const answer = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(5000) });
    const { reasons = [] } = (await answer.json()) as { reasons?: readonly string[] };
    return answer.status === 503 ? reasons : [];
  } catch {
    return [];
  }
}
