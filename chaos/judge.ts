// The judgement of a run: what the clients were answered, what the providers accepted and what the queue still says
// are compared, email by email. Pure: what it goes by comes in, and the verdict goes out.

import { parseMailbox } from "../fakes/addresses.ts";
import type { Acceptance } from "../fakes/ledger.ts";
import { defaultFrom, emailOf, type Fields, isRefused, numberOf } from "./emails.ts";
import type { Try } from "./load.ts";
import type { Provider } from "./scenario.ts";

/** An email as `queue list --json` names it. */
export interface QueuedEmail {
  readonly id: string;
  readonly subject?: string;
  readonly reason?: string;
}

export interface Evidence {
  readonly seed: number;
  readonly oneSender?: boolean;
  readonly tries: AsyncIterable<Try> | Iterable<Try>;
  readonly acceptances: AsyncIterable<Acceptance> | Iterable<Acceptance>;
  /** The dead letters. */
  readonly dead: Iterable<QueuedEmail>;
  /** What the queue rightly keeps in doubt. */
  readonly held: Iterable<QueuedEmail>;
}

/** One thing that should not be: the number of the email, and what is wrong with it. */
export interface Finding {
  readonly n: number;
  readonly what: string;
}

/** An email that was accepted more than once. */
export interface Duplicate {
  readonly n: number;
  /** The ids under which it was accepted. */
  readonly ids: readonly string[];
  /** Every acceptance's provider, in their order. */
  readonly providers: readonly Provider[];
}

export interface Judgement {
  readonly acknowledged: number;
  readonly accepted: number;
  readonly deadAsTheyShould: number;
  readonly held: number;
  /** Answered 200, neither accepted nor a dead letter. */
  readonly lost: readonly Finding[];
  /** Some field differs from what was submitted, or nobody submitted it. */
  readonly corrupt: readonly Finding[];
  /** Dead, though a provider would have taken it; or accepted, though every one refuses it. */
  readonly wronglyDead: readonly Finding[];
  /** One client's email, with its key, answered with two ids. */
  readonly renamed: readonly Finding[];
  readonly duplicates: readonly Duplicate[];
  readonly clients: ClientSide;
}

/** What the clients saw. */
export interface ClientSide {
  readonly tries: number;
  /** Of those answered 200, ms. */
  readonly latencyMs: { readonly p50: number; readonly p99: number; readonly max: number };
  /** What the others came to, and how often. */
  readonly errors: Readonly<Record<string, number>>;
  /** A 4xx, which no client had deserved. */
  readonly refused: number;
}

export async function judge({
  seed,
  oneSender = false,
  tries,
  acceptances,
  dead,
  held,
}: Evidence): Promise<Judgement> {
  const ids = new Map<number, string>();
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
      continue;
    }
    const name = one.status === 0 ? (one.error ?? "no answer") : `${one.status}: ${one.error ?? ""}`;
    errors[name] = (errors[name] ?? 0) + 1;
    if (one.status >= 400 && one.status < 500) refused += 1;
  }

  const corrupt: Finding[] = [];
  const wronglyDead: Finding[] = [];
  const accepted = new Map<number, { ids: string[]; providers: Provider[] }>();
  for await (const one of acceptances) {
    const n = numberOf(seed, one.subject);
    if (n === undefined) {
      corrupt.push({ n: -1, what: `nobody submitted "${one.subject}"` });
      continue;
    }
    const wrong = differences(emailOf(seed, n, oneSender), one);
    if (wrong.length > 0) corrupt.push({ n, what: `${one.provider}: ${wrong.join(", ")}` });
    if (isRefused(n)) wronglyDead.push({ n, what: `${one.provider} accepted what it should have refused` });
    const acknowledgedAs = ids.get(n);
    if (acknowledgedAs !== undefined && acknowledgedAs !== one.emailId) {
      renamed.push({ n, what: `answered ${acknowledgedAs}, accepted as ${one.emailId}` });
    }
    const same = accepted.get(n) ?? { ids: [], providers: [] };
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
    if (!isRefused(n)) wronglyDead.push({ n, what: `${id}: ${reason ?? "without a reason"}` });
  }

  const heldIds = new Set(Array.from(held, ({ id }) => id));
  const lost: Finding[] = [];
  for (const [n, id] of ids) {
    if (!accepted.has(n) && !deadNumbers.has(n) && !heldIds.has(id)) lost.push({ n, what: id });
  }
  return {
    acknowledged: ids.size,
    accepted: accepted.size,
    held: heldIds.size,
    deadAsTheyShould: [...deadNumbers].filter(isRefused).length,
    lost,
    corrupt,
    wronglyDead,
    renamed,
    duplicates: [...accepted]
      .filter(([, { ids: all }]) => all.length > 1)
      .map(([n, { ids: all, providers }]) => ({ n, ids: [...new Set(all)], providers })),
    clients: { tries: count, latencyMs: quantiles(latencies), errors, refused },
  };
}

/** The fields that did not arrive as they were submitted. */
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
