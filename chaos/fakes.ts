// The fakes of both providers, controlled over their admin routes. They run in a process that is never killed.

import type { FaultRule } from "../fakes/faults.ts";
import type { RecordedRequest } from "../fakes/ledger.ts";
import { eventually } from "../tests/support/eventually.ts";
import type { Provider } from "./scenario.ts";

export interface FakeControl {
  add(rule: Omit<FaultRule, "when">): Promise<void>;
  clearFaults(): Promise<void>;
  /**
   * Changes settings and returns their normal values. Faults may overlap, so the values found may be another fault's.
   */
  behave(settings: object): Promise<object>;
  goDown(forMs: number): Promise<void>;
  /** Number of requests so far. */
  count(): Promise<number>;
  /** How requests violated the provider's published API description. */
  violations(): Promise<readonly string[]>;
  /** The requests after the first `from`. */
  requests(from: number): Promise<readonly RecordedRequest[]>;
}

/** Waits until the fakes have printed their addresses. */
export async function fakeAddresses(logFile: string): Promise<Record<Provider, string>> {
  const line = await eventually(
    "the fakes start",
    async () => (await Bun.file(logFile).text()).split("\n")[0],
  );
  return JSON.parse(line) as Record<Provider, string>;
}

export function controlOf(url: string): FakeControl {
  const ask = async (method: string, path: string, body?: unknown) => {
    const request = { method, ...(body !== undefined && { body: JSON.stringify(body) }) };
    // Another fault may have taken it down at the moment.
    const answer = await eventually("the fake answers", () =>
      fetch(`${url}/_fake/${path}`, request).catch(() => undefined),
    );
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as Record<string, unknown>;
  };
  let usual: Record<string, unknown> | undefined;
  return {
    async add(rule) {
      await ask("POST", "faults", rule);
    },
    async clearFaults() {
      await ask("DELETE", "faults");
    },
    async behave(settings) {
      usual ??= await ask("GET", "settings");
      await ask("POST", "settings", settings);
      return Object.fromEntries(Object.keys(settings).map((name) => [name, usual?.[name]]));
    },
    async goDown(forMs) {
      await ask("POST", "down", { forMs });
    },
    count: async () => Number((await ask("GET", "stats"))["requests"]),
    violations: async () => (await ask("GET", "stats"))["violations"] as readonly string[],
    requests: async (from) =>
      (await ask("GET", `requests?from=${from}`)) as unknown as readonly RecordedRequest[],
  };
}
