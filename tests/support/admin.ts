// Reads a process's admin port, as a monitoring system does.

import { eventually } from "./eventually.ts";
import type { Process } from "./service.ts";

/** Settings for a free admin port, which the process logs. */
export const withAdmin = { ADMIN_PORT: "0" };

export interface Ready {
  readonly status: number;
  readonly ready: boolean;
  readonly paused?: boolean;
  readonly reasons: readonly string[];
  readonly providers?: Readonly<Record<string, string>>;
}

export interface Admin {
  readonly url: string;
  ready(): Promise<Ready>;
  /** Waits until it is not ready, with a reason that begins like this. */
  notReady(reason: string): Promise<Ready>;
  /** Waits until it is ready. */
  isReady(): Promise<Ready>;
  scrape(): Promise<Scrape>;
}

export interface Scrape {
  readonly text: string;
  /** The metric families and their types, in order. */
  readonly types: ReadonlyMap<string, string>;
  /** The value of the sample with exactly these labels, in any order; undefined if there is none. */
  value(name: string, labels?: Readonly<Record<string, string>>): number | undefined;
}

export async function adminOf(child: Process): Promise<Admin> {
  const { port } = await child.event("admin-listening");
  const url = `http://127.0.0.1:${String(port)}`;

  async function ready(): Promise<Ready> {
    const response = await fetch(`${url}/readyz`, { keepalive: false });
    return { status: response.status, ...((await response.json()) as Omit<Ready, "status">) };
  }

  function until(what: string, holds: (one: Ready) => boolean): Promise<Ready> {
    let last: Ready | undefined;
    return eventually(
      () => `${what} (${JSON.stringify(last)})`,
      async () => {
        last = await ready();
        return holds(last) ? last : undefined;
      },
    );
  }

  return {
    url,
    ready,
    notReady: (reason) =>
      until(
        `it is not ready: ${reason}`,
        ({ status, reasons }) => status === 503 && reasons.some((one) => one.startsWith(reason)),
      ),
    isReady: () => until("it is ready", ({ status }) => status === 200),
    async scrape() {
      const response = await fetch(`${url}/metrics`, { keepalive: false });
      if (!response.ok) throw new Error(`/metrics: ${response.status}`);
      return readScrape(await response.text());
    },
  };
}

export function readScrape(text: string): Scrape {
  const types = new Map<string, string>();
  const samples = new Map<string, number>();
  for (const line of text.split("\n")) {
    const [, family, type] = /^# TYPE (\S+) (\S+)$/.exec(line) ?? [];
    if (family !== undefined && type !== undefined) types.set(family, type);
    if (line === "" || line.startsWith("#")) continue;
    const [, name = "", labels = "", value] = /^([^{ ]+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    samples.set(keyOf(name, labels.match(/\w+="[^"]*"/g) ?? []), Number(value));
  }
  return {
    text,
    types,
    value: (name, labels = {}) =>
      samples.get(
        keyOf(
          name,
          Object.entries(labels).map(([label, value]) => `${label}="${value}"`),
        ),
      ),
  };
}

const keyOf = (name: string, labels: readonly string[]) => `${name}{${labels.toSorted().join(",")}}`;

/** Runs `promtool`, which prints nothing on success. */
export async function promtool(
  args: readonly string[],
  input = "",
  cwd?: string,
): Promise<{ code: number; output: string }> {
  const child = Bun.spawn(["promtool", ...args], {
    stdin: new TextEncoder().encode(input),
    stdout: "pipe",
    stderr: "pipe",
    ...(cwd !== undefined && { cwd }),
  });
  const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  return { code: await child.exited, output: stdout + stderr };
}
