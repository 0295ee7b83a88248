// The circuit breakers of the worker, as its admin port reports them.

import { urlOf } from "../../lib/runtime/service.ts";
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
 * Returns the reports by provider, none if the worker does not answer.
 * @param admin the worker's admin port
 */
export async function readBreakers(
  admin: { readonly host: string; readonly port: number } | undefined,
): Promise<ReadonlyMap<string, ProviderReport>> {
  if (admin === undefined || admin.port === 0) return new Map();
  try {
    const response = await fetch(`${urlOf(admin.host, admin.port)}/metrics`, {
      signal: AbortSignal.timeout(timeoutMs),
    });
    return response.ok ? parseBreakers(await response.text()) : new Map();
  } catch {
    // The worker is not running or does not answer.
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
