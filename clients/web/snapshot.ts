// A snapshot of the queue and the providers: counts, conditions, and the newest emails of each state.

import { documentOf } from "../../lib/cli/fields.ts";
import { emailFields, listedStates } from "../../lib/cli/queue/email_fields.ts";
import { registry } from "../../lib/providers/registry.ts";
import type { QueueStats, StoredEmail } from "../../lib/queue/contract.ts";
import { type ProviderReport, readBreakers } from "./breakers.ts";
import { faultsOf } from "./faults.ts";
import type { EmailRow, ProviderRow, Snapshot } from "./protocol.ts";
import type { QueueAccess } from "./queue_access.ts";

/** Most emails that are listed for each state. */
const listedMax = 50;

/** Rejects with `QueueMissing` or `StoreUnavailable`. */
export async function readSnapshot(queue: QueueAccess): Promise<Snapshot> {
  const admin = await queue.admin();
  const [stats, reports] = await Promise.all([admin.stats(), readBreakers(queue.config.admin)]);
  const { nowMs, paused, states } = stats;
  const emails: EmailRow[] = [];
  for (const state of listedStates) {
    if (states[state] === 0) continue;
    const page = await admin.list(state, listedMax, undefined, "newest");
    emails.push(...page.emails.map(rowOf));
  }
  // An id is a UUIDv7, which begins with its time.
  emails.sort((a, b) => (a.id < b.id ? 1 : -1));
  const faults = faultsOf(queue.config);
  return { nowMs, paused, states, providers: providersOf(stats, reports), faults, emails };
}

function rowOf(stored: StoredEmail): EmailRow {
  const {
    id,
    state,
    subject,
    to,
    reason,
    submitted_at,
    due_at,
    next_try_at,
    provider,
    attempts,
    attempts_total,
  } = documentOf(emailFields(stored)) as unknown as EmailRow & {
    readonly due_at?: string;
    readonly next_try_at?: string;
    readonly provider?: string;
    readonly attempts: readonly { readonly provider: string }[];
  };
  const tried = attempts.map((attempt) => attempt.provider).filter((name) => name !== provider);
  const providers = [...new Set([...tried, ...(provider === undefined ? [] : [provider])])];
  const next_at = due_at ?? next_try_at;
  return { id, state, subject, to, reason, submitted_at, next_at, providers, attempts_total } as EmailRow;
}

/** Returns the providers that the worker serves or that have sent or failed, in the order of the registry. */
function providersOf(stats: QueueStats, reports: ReadonlyMap<string, ProviderReport>): ProviderRow[] {
  const { counters, providers } = stats;
  const counted = Object.keys(counters).flatMap((counter) => counter.split(":")[1] ?? []);
  const known = new Set([...Object.keys(registry), ...reports.keys(), ...counted]);
  const used = [...known].filter(
    (name) => reports.has(name) || counted.includes(name) || providers[name] !== undefined,
  );
  const time = (ms: number | undefined) => (ms === undefined ? undefined : new Date(ms).toISOString());
  return used.map((name) => ({
    name,
    breaker: reports.get(name)?.breaker,
    weight: reports.get(name)?.weight,
    accepted: counters[`accepted:${name}`] ?? 0,
    retried: counters[`retried:${name}`] ?? 0,
    dead: counters[`dead:${name}`] ?? 0,
    failingSince: time(providers[name]?.failingSinceMs),
    lastFailure: providers[name]?.lastFailure,
    lastAcceptedAt: time(providers[name]?.lastAcceptedAtMs),
  }));
}
