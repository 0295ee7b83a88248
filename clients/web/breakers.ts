// The circuit breakers of the worker, as its admin port reports them.

import type { ProviderRow } from "./protocol.ts";

export type BreakerState = NonNullable<ProviderRow["breaker"]>;

export interface ProviderReport {
  breaker?: BreakerState;
  weight?: number;
}

/** Longest wait for the worker, ms. */
const timeoutMs = 1000;

const sample =
  /^reliable_email_provider_(state|weight)\{provider="([^"\\]+)"(?:,state="(closed|open|half_open)")?\} (\S+)$/gm;

/**
 * By the providers' names; empty if the worker cannot be asked.
 * @param admin the worker's admin port
 */
export async function readBreakers(
  admin: { readonly host: string; readonly port: number } | undefined,
): Promise<ReadonlyMap<string, ProviderReport>> {
  if (admin === undefined || admin.port === 0) return new Map();
  try {
    const response = await fetch(`http://${reachable(admin.host)}:${admin.port}/metrics`, {
      signal: AbortSignal.timeout(timeoutMs),
    });
    return response.ok ? parseBreakers(await response.text()) : new Map();
  } catch {
    // It is not there, or does not answer: nothing is known then.
    return new Map();
  }
}

export function parseBreakers(metrics: string): ReadonlyMap<string, ProviderReport> {
  const reports = new Map<string, ProviderReport>();
  for (const [, kind, provider = "", state, value] of metrics.matchAll(sample)) {
    const report = reports.get(provider) ?? {};
    reports.set(provider, report);
    if (kind === "weight") report.weight = Number(value);
    else if (value === "1") report.breaker = state as BreakerState;
  }
  return reports;
}

/** How this machine reaches what listens on `host`. */
export function reachable(host: string): string {
  const name = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
  return name.includes(":") ? `[${name}]` : name;
}
