// Whether the processes of the service say that they are ready while a run goes on.

import type { Part } from "./part.ts";

export interface Watched {
  readonly part: Part;
  /** Of its admin port. */
  readonly url: string;
}

export interface ReadyWatch {
  /** Every reason for not being ready that no other fault excuses, once for each process. */
  readonly reasons: readonly string[];
  stop(): Promise<void>;
}

const everyMs = 100;
/** What a fault does that strikes the store, the providers, or the process itself; see README.md for the words. */
const excused = /^(?:starting|stopping|store|overload|providers):/;

export function watchReadiness(watched: readonly Watched[]): ReadyWatch {
  const reasons = new Set<string>();
  let over = false;
  const watching = watched.map(async ({ part, url }) => {
    while (!over) {
      for (const reason of await reasonsOf(url)) {
        // Numbers in it change from one look to the next.
        if (!excused.test(reason)) reasons.add(`${part.name}: ${reason.replaceAll(/\d+(\.\d+)?/g, "N")}`);
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

/** None if it is ready, or does not run. */
async function reasonsOf(url: string): Promise<readonly string[]> {
  try {
    const answer = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(5000) });
    const { reasons = [] } = (await answer.json()) as { reasons?: readonly string[] };
    return answer.status === 503 ? reasons : [];
  } catch {
    return [];
  }
}
