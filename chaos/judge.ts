// The judgment of a run: compares, email by email, the answers that clients got, what the providers accepted, and what
// is still in the queue. Pure.

import type { PoisonedRequest } from "../fakes/poison.ts";
import { type Arrival, findDifferences } from "./comparison.ts";
import { type Emails, emailOf, isRefused, mayDie, numberOf, poisonOf } from "./emails.ts";
import { type Excuse, lateBy, type Limits } from "./lateness.ts";
import type { Try } from "./load.ts";

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
  readonly arrivals: AsyncIterable<Arrival> | Iterable<Arrival>;
  /** The dead letters. */
  readonly dead: Iterable<QueuedEmail>;
  /** Emails that the queue rightly keeps in doubt. */
  readonly held: Iterable<QueuedEmail>;
  /** Requests that failed because of an email in them. */
  readonly poisoned?: AsyncIterable<PoisonedRequest> | Iterable<PoisonedRequest>;
  /** How soon emails must be accepted; no limit if absent. */
  readonly limits?: Limits | undefined;
  /** When a clock was wrong. Limits of time start at the end of it; until then an email may be sent before its time. */
  readonly wrongClocks?: readonly Excuse[];
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
  readonly providers: readonly Arrival["provider"][];
}

export interface Judgement {
  readonly acknowledged: number;
  readonly accepted: number;
  /** Emails that were allowed to become dead letters, and did. */
  readonly deadAsTheyShould: number;
  readonly held: number;
  /** Answered with 200, but neither accepted nor a dead letter. */
  readonly lost: readonly Finding[];
  /** Emails of which a field or file differs from the submission, or that nobody submitted. */
  readonly corrupt: readonly Finding[];
  /** Dead although a provider would have accepted it, or accepted although every provider should refuse it. */
  readonly wronglyDead: readonly Finding[];
  /** The same email with the same key got two ids. */
  readonly renamed: readonly Finding[];
  /** Accepted later than the limits allow. */
  readonly late: readonly Finding[];
  /** Emails that were accepted before their `send_at`. */
  readonly early: readonly Finding[];
  /** Bytes of the files that the queue must still have: those of dead letters and of emails in doubt. */
  readonly fileBytesKept: number;
  /** Longest time to the first acceptance, ms: from the acknowledgement, or from `send_at` if that is later. */
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
  const { emails, tries, held, poisoned = [] } = evidence;
  const told = await readTries(tries, evidence.wrongClocks ?? []);
  const arrived = await readArrivals(evidence, told);
  const buried = readDead(evidence, arrived.accepted);
  const { ids } = told;
  const { accepted } = arrived;

  const heldIds = new Set<string>();
  const kept = new Set(buried.numbers);
  for (const { id, subject = "" } of held) {
    heldIds.add(id);
    const n = numberOf(emails.seed, subject);
    if (n !== undefined) kept.add(n);
  }
  const lost: Finding[] = [];
  for (const [n, id] of ids) {
    if (!accepted.has(n) && !buried.numbers.has(n) && !heldIds.has(id)) lost.push({ n, what: id });
  }
  const besidePoison = new Set<string>();
  let poisonedRequests = 0;
  for await (const { emailIds } of poisoned) {
    poisonedRequests += 1;
    for (const id of emailIds) besidePoison.add(id);
  }
  return {
    acknowledged: ids.size,
    accepted: accepted.size,
    held: heldIds.size,
    deadAsTheyShould: [...buried.numbers].filter((n) => mayDie(n, emails)).length,
    lost,
    corrupt: [...arrived.corrupt, ...buried.corrupt],
    wronglyDead: [...arrived.wronglyAccepted, ...buried.wronglyDead],
    renamed: [...told.renamed, ...arrived.renamed],
    early: arrived.early,
    fileBytesKept: [...kept].reduce((sum, n) => sum + fileBytesOf(n, emails), 0),
    ...judgeDelays(evidence, told, arrived, besidePoison),
    poisonedRequests,
    duplicates: [...accepted]
      .filter(([, { ids: all }]) => all.length > 1)
      .map(([n, { ids: all, providers }]) => ({ n, ids: [...new Set(all)], providers })),
    clients: told.clients,
  };
}

/** The answers that clients got. */
interface Told {
  /** The number of each acknowledged email -> its id. */
  readonly ids: ReadonlyMap<number, string>;
  /** When each was first acknowledged, Unix ms. */
  readonly acknowledgedAt: ReadonlyMap<number, number>;
  /** The `send_at` of those that have one, and when they were first offered, Unix ms. */
  readonly scheduled: ReadonlyMap<number, { readonly sendAtMs: number; readonly offeredMs: number }>;
  readonly renamed: readonly Finding[];
  readonly clients: ClientSide;
}

async function readTries(tries: Evidence["tries"], wrongClocks: readonly Excuse[]): Promise<Told> {
  const ids = new Map<number, string>();
  const acknowledgedAt = new Map<number, number>();
  const scheduled = new Map<number, { sendAtMs: number; offeredMs: number }>();
  const renamed: Finding[] = [];
  const latencies: number[] = [];
  const errors: Record<string, number> = {};
  let count = 0;
  let refused = 0;
  for await (const one of tries) {
    count += 1;
    const offeredMs = one.atMs - one.tookMs;
    if (one.sendAtMs !== undefined && !scheduled.has(one.n))
      scheduled.set(one.n, { sendAtMs: one.sendAtMs, offeredMs });
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
    // A server whose clock is behind may consider the time too far ahead.
    const isExcused = one.sendAtMs !== undefined && wasWrong(wrongClocks, offeredMs, one.atMs);
    if (one.status >= 400 && one.status < 500 && !isExcused) refused += 1;
  }
  const clients = { tries: count, latencyMs: quantiles(latencies), errors, refused };
  return { ids, acknowledgedAt, scheduled, renamed, clients };
}

/** Whether a clock was wrong at some time between the two. */
function wasWrong(wrongClocks: readonly Excuse[], fromMs: number, toMs: number): boolean {
  return wrongClocks.some(({ startMs, endMs }) => startMs <= toMs && endMs >= fromMs);
}

/** The emails that providers accepted. */
interface Arrived {
  readonly accepted: ReadonlyMap<
    number,
    { readonly ids: string[]; readonly providers: Arrival["provider"][]; readonly firstMs: number }
  >;
  readonly corrupt: readonly Finding[];
  readonly wronglyAccepted: readonly Finding[];
  readonly renamed: readonly Finding[];
  readonly early: readonly Finding[];
}

async function readArrivals({ emails, arrivals, wrongClocks = [] }: Evidence, told: Told): Promise<Arrived> {
  const accepted = new Map<number, { ids: string[]; providers: Arrival["provider"][]; firstMs: number }>();
  const corrupt: Finding[] = [];
  const wronglyAccepted: Finding[] = [];
  const renamed: Finding[] = [];
  const early: Finding[] = [];
  for await (const one of arrivals) {
    const n = numberOf(emails.seed, one.subject);
    if (n === undefined) {
      corrupt.push({ n: -1, what: `nobody submitted "${one.subject}"` });
      continue;
    }
    const wrong = findDifferences(emailOf(n, emails), one);
    if (wrong.length > 0) corrupt.push({ n, what: `${one.provider}: ${wrong.join(", ")}` });
    if (isRefused(n) && one.provider !== "sandbox")
      wronglyAccepted.push({ n, what: `${one.provider} accepted what it should have refused` });
    const acknowledgedAs = told.ids.get(n);
    if (acknowledgedAs !== undefined && acknowledgedAs !== one.emailId) {
      renamed.push({ n, what: `answered ${acknowledgedAs}, accepted as ${one.emailId}` });
    }
    const { sendAtMs = 0, offeredMs = 0 } = told.scheduled.get(n) ?? {};
    if (one.atMs < sendAtMs && !wasWrong(wrongClocks, offeredMs, one.atMs))
      early.push({ n, what: `${one.provider}, ${sendAtMs - one.atMs} ms before its time` });
    const same = accepted.get(n) ?? { ids: [], providers: [], firstMs: one.atMs };
    same.ids.push(one.emailId);
    same.providers.push(one.provider);
    accepted.set(n, same);
  }
  return { accepted, corrupt, wronglyAccepted, renamed, early };
}

/** The dead letters by number, and their faults. */
function readDead({ emails, dead }: Evidence, accepted: Arrived["accepted"]) {
  const numbers = new Set<number>();
  const corrupt: Finding[] = [];
  const wronglyDead: Finding[] = [];
  for (const { id, subject, reason } of dead) {
    const n = subject === undefined ? undefined : numberOf(emails.seed, subject);
    if (n === undefined) {
      corrupt.push({ n: -1, what: `nobody submitted the dead letter ${id}` });
      continue;
    }
    numbers.add(n);
    if (!mayDie(n, emails)) wronglyDead.push({ n, what: `${id}: ${reason ?? "without a reason"}` });
    // Without the warning "outcome unknown" an operator's retry would send it twice unawares.
    else if (accepted.has(n) && reason?.startsWith("outcome unknown") !== true)
      wronglyDead.push({
        n,
        what: `${id}: accepted, but the dead letter does not say "outcome unknown": ${reason}`,
      });
  }
  return { numbers, corrupt, wronglyDead };
}

function judgeDelays(
  { emails, limits, wrongClocks = [] }: Evidence,
  { ids, acknowledgedAt, scheduled }: Told,
  { accepted }: Arrived,
  besidePoison: ReadonlySet<string>,
): Pick<Judgement, "late" | "slowestMs"> {
  const late: Finding[] = [];
  let slowestMs = 0;
  for (const [n, acknowledgedMs] of acknowledgedAt) {
    const acceptedMs = accepted.get(n)?.firstMs;
    if (acceptedMs === undefined || poisonOf(n, emails) !== undefined) continue;
    const fromMs = Math.max(acknowledgedMs, scheduled.get(n)?.sendAtMs ?? 0);
    const hadPoisonBesideIt = besidePoison.has(ids.get(n) as string);
    slowestMs = Math.max(slowestMs, acceptedMs - fromMs);
    const course = { fromMs, acceptedMs, hadPoisonBesideIt };
    if (limits === undefined || lateBy(course, limits, wrongClocks) === 0) continue;
    const suffix = hadPoisonBesideIt ? ", after it was in a request with poison" : "";
    const since = fromMs === acknowledgedMs ? "its 200" : "its time";
    late.push({ n, what: `${ids.get(n)}: ${acceptedMs - fromMs} ms after ${since}${suffix}` });
  }
  return { late, slowestMs };
}

function fileBytesOf(n: number, emails: Emails): number {
  return emailOf(n, emails).files.reduce((sum, { content }) => sum + content.byteLength, 0);
}

function quantiles(values: number[]): ClientSide["latencyMs"] {
  const sorted = values.sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
  return { p50: at(0.5), p99: at(0.99), max: sorted.at(-1) ?? 0 };
}
