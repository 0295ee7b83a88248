// The judgment of a run: compares, email by email, the answers that clients got, what the providers accepted, and what
// is still in the queue. Pure.

import { parseMailbox } from "../fakes/address_rules.ts";
import type { Acceptance } from "../fakes/ledger.ts";
import type { PoisonedRequest } from "../fakes/poison.ts";
import {
  defaultFrom,
  type Emails,
  emailOf,
  type Fields,
  isRefused,
  mayDie,
  numberOf,
  poisonOf,
} from "./emails.ts";
import { type Excuse, lateBy, type Limits } from "./lateness.ts";
import type { Try } from "./load.ts";
import type { Provider } from "./scenario.ts";

/** An email as `queue list --json` prints it. */
export interface QueuedEmail {
  readonly id: string;
  readonly state?: string;
  readonly subject?: string;
  readonly reason?: string;
  readonly provider?: string;
  readonly batch?: string;
  readonly attempts_total?: number;
  readonly due_at?: string;
  readonly next_try_at?: string;
  readonly lease_ends_at?: string;
  readonly in_doubt_since?: string;
}

export interface Evidence {
  readonly emails: Emails;
  readonly tries: AsyncIterable<Try> | Iterable<Try>;
  readonly acceptances: AsyncIterable<Acceptance> | Iterable<Acceptance>;
  /** The dead letters. */
  readonly dead: Iterable<QueuedEmail>;
  /** Emails that the queue rightly keeps in doubt. */
  readonly held: Iterable<QueuedEmail>;
  /** Requests that failed because of an email in them. */
  readonly poisoned?: AsyncIterable<PoisonedRequest> | Iterable<PoisonedRequest>;
  /** How soon emails must be accepted; no limit if absent. */
  readonly limits?: Limits | undefined;
  readonly excuses?: readonly Excuse[];
}

/** A broken promise: the number of the email, and what is wrong with it. */
export interface Finding {
  readonly n: number;
  readonly what: string;
}

/** An email that was accepted more than once. */
export interface Duplicate {
  readonly n: number;
  /** The ids under which it was accepted. */
  readonly ids: readonly string[];
  /** The provider of each acceptance, in order. */
  readonly providers: readonly Provider[];
}

export interface Judgement {
  readonly acknowledged: number;
  readonly accepted: number;
  /** Emails that were allowed to become dead letters, and did. */
  readonly deadAsTheyShould: number;
  readonly held: number;
  /** Answered with 200, but neither accepted nor a dead letter. */
  readonly lost: readonly Finding[];
  /** Some field differs from the submission, or nobody submitted the email. */
  readonly corrupt: readonly Finding[];
  /** Dead although a provider would have accepted it, or accepted although every provider should refuse it. */
  readonly wronglyDead: readonly Finding[];
  /** The same email with the same key got two ids. */
  readonly renamed: readonly Finding[];
  /** Accepted later than the limits allow. */
  readonly late: readonly Finding[];
  /** Longest time from an acknowledgement to the first acceptance, ms. */
  readonly slowestMs: number;
  /** Requests that failed because of an email in them. */
  readonly poisonedRequests: number;
  readonly duplicates: readonly Duplicate[];
  readonly clients: ClientSide;
}

/** The run as clients saw it. */
export interface ClientSide {
  readonly tries: number;
  /** Latency of the 200s, ms. */
  readonly latencyMs: { readonly p50: number; readonly p99: number; readonly max: number };
  /** Number of tries that failed, by result. */
  readonly errors: Readonly<Record<string, number>>;
  /** Answers with 4xx to valid submissions. */
  readonly refused: number;
}

export async function judge(evidence: Evidence): Promise<Judgement> {
  const { emails, tries, acceptances, dead, held, poisoned = [], limits, excuses = [] } = evidence;
  const { seed } = emails;
  const ids = new Map<number, string>();
  const acknowledgedAt = new Map<number, number>();
  const renamed: Finding[] = [];
  const latencies: number[] = [];
  const errors: Record<string, number> = {};
  let count = 0;
  let refused = 0;
  for await (const one of tries) {
    count += 1;
    if (one.status === 200) {
      if (one.id === undefined) {
        renamed.push({ n: one.n, what: "answered 200 without an id" });
        continue;
      }
      latencies.push(one.tookMs);
      const before = ids.get(one.n);
      if (before !== undefined && before !== one.id) {
        renamed.push({ n: one.n, what: `answered ${before}, then ${one.id}` });
      }
      ids.set(one.n, before ?? one.id);
      if (before === undefined) acknowledgedAt.set(one.n, one.atMs);
      continue;
    }
    const name = one.status === 0 ? (one.error ?? "no answer") : `${one.status}: ${one.error ?? ""}`;
    errors[name] = (errors[name] ?? 0) + 1;
    if (one.status >= 400 && one.status < 500) refused += 1;
  }

  const corrupt: Finding[] = [];
  const wronglyDead: Finding[] = [];
  const accepted = new Map<number, { ids: string[]; providers: Provider[]; firstMs: number }>();
  for await (const one of acceptances) {
    const n = numberOf(seed, one.subject);
    if (n === undefined) {
      corrupt.push({ n: -1, what: `nobody submitted "${one.subject}"` });
      continue;
    }
    const wrong = differences(emailOf(n, emails), one);
    if (wrong.length > 0) corrupt.push({ n, what: `${one.provider}: ${wrong.join(", ")}` });
    if (isRefused(n)) wronglyDead.push({ n, what: `${one.provider} accepted what it should have refused` });
    const acknowledgedAs = ids.get(n);
    if (acknowledgedAs !== undefined && acknowledgedAs !== one.emailId) {
      renamed.push({ n, what: `answered ${acknowledgedAs}, accepted as ${one.emailId}` });
    }
    const same = accepted.get(n) ?? { ids: [], providers: [], firstMs: one.atMs };
    same.ids.push(one.emailId);
    same.providers.push(one.provider);
    accepted.set(n, same);
  }

  const deadNumbers = new Set<number>();
  for (const { id, subject, reason } of dead) {
    const n = subject === undefined ? undefined : numberOf(seed, subject);
    if (n === undefined) {
      corrupt.push({ n: -1, what: `nobody submitted the dead letter ${id}` });
      continue;
    }
    deadNumbers.add(n);
    if (!mayDie(n, emails)) wronglyDead.push({ n, what: `${id}: ${reason ?? "without a reason"}` });
    // Without the warning "outcome unknown" an operator's retry would send it twice unawares.
    else if (accepted.has(n) && reason?.startsWith("outcome unknown") !== true)
      wronglyDead.push({
        n,
        what: `${id}: accepted, but the dead letter does not say "outcome unknown": ${reason}`,
      });
  }

  const heldIds = new Set(Array.from(held, ({ id }) => id));
  const lost: Finding[] = [];
  for (const [n, id] of ids) {
    if (!accepted.has(n) && !deadNumbers.has(n) && !heldIds.has(id)) lost.push({ n, what: id });
  }
  const besidePoison = new Set<string>();
  let poisonedRequests = 0;
  for await (const { emailIds } of poisoned) {
    poisonedRequests += 1;
    for (const id of emailIds) besidePoison.add(id);
  }
  const late: Finding[] = [];
  let slowestMs = 0;
  for (const [n, acknowledgedMs] of acknowledgedAt) {
    const acceptedMs = accepted.get(n)?.firstMs;
    if (acceptedMs === undefined || poisonOf(n, emails) !== undefined) continue;
    const hadPoisonBesideIt = besidePoison.has(ids.get(n) as string);
    slowestMs = Math.max(slowestMs, acceptedMs - acknowledgedMs);
    const lateMs = limits && lateBy({ acknowledgedMs, acceptedMs, hadPoisonBesideIt }, limits, excuses);
    if (!lateMs) continue;
    const suffix = hadPoisonBesideIt ? ", after it was in a request with poison" : "";
    late.push({ n, what: `${ids.get(n)}: ${acceptedMs - acknowledgedMs} ms after its 200${suffix}` });
  }
  return {
    acknowledged: ids.size,
    accepted: accepted.size,
    held: heldIds.size,
    deadAsTheyShould: [...deadNumbers].filter((n) => mayDie(n, emails)).length,
    lost,
    corrupt,
    wronglyDead,
    renamed,
    late,
    slowestMs,
    poisonedRequests,
    duplicates: [...accepted]
      .filter(([, { ids: all }]) => all.length > 1)
      .map(([n, { ids: all, providers }]) => ({ n, ids: [...new Set(all)], providers })),
    clients: { tries: count, latencyMs: quantiles(latencies), errors, refused },
  };
}

/** The fields whose values differ from the submission. */
function differences(email: Fields, acceptance: Acceptance): string[] {
  const from = parseMailbox(acceptance.from);
  const to = parseMailbox(acceptance.to);
  const arrived: Record<string, string | undefined> = {
    subject: acceptance.subject,
    body: acceptance.text,
    html: acceptance.html,
    to: to?.address,
    to_name: to?.name,
    from: from?.address,
    from_name: from?.name,
    reply_to: acceptance.replyTo,
  };
  const expected: Record<string, string | undefined> = { from: defaultFrom, ...email };
  return Object.keys(arrived).filter((name) => arrived[name] !== expected[name]);
}

function quantiles(values: number[]): ClientSide["latencyMs"] {
  const sorted = values.sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
  return { p50: at(0.5), p99: at(0.99), max: sorted.at(-1) ?? 0 };
}
