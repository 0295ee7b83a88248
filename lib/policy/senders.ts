// What a worker remembers of senders at one provider: addresses that it has refused lately, so that a stream of emails
// from one of them does not cost a request each; and domains that it has taken lately, so that others can be kept
// apart from them.

/** Each is a name -> until when it is remembered, ms by whichever clock the caller uses throughout. */
export interface Senders {
  /** Addresses. */
  readonly refused: ReadonlyMap<string, number>;
  /** Domains. */
  readonly accepted: ReadonlyMap<string, number>;
}

export const noSenders: Senders = { refused: new Map(), accepted: new Map() };

/** Long enough to spare requests, short enough for a domain verified meanwhile. */
const rememberedMs = 600_000;
/** Clients may make up senders without end. */
const rememberedMax = 1000;

/** Senders of an answer, by their addresses. */
export interface Answered {
  readonly refused: readonly string[];
  readonly accepted: readonly string[];
}

export function remember(senders: Senders, { refused, accepted }: Answered, nowMs: number): Senders {
  const refusedDomains = refused.map(domainOf);
  const domains = [...new Set(accepted.map(domainOf))].filter((domain) => !refusedDomains.includes(domain));
  return {
    refused: add(senders.refused, refused, nowMs),
    accepted: add(without(senders.accepted, refusedDomains), domains, nowMs),
  };
}

export function isRefused({ refused }: Senders, from: string, nowMs: number): boolean {
  return (refused.get(from) ?? -Infinity) > nowMs;
}

/** Most characters of {@link knownDomains}: it is stored with every batch. */
const knownCharsMax = 1000;

/**
 * How the context of a batch begins whose worker keeps apart what is not known; no domain is called so. To be another
 * one when the rule changes: what an older worker has begun must not be taken for what it would have parted.
 */
const keptApart = "*";

/**
 * The context of a new batch: the domains that this provider has taken emails of lately, as far as there is room.
 */
export function knownDomains({ accepted }: Senders, nowMs: number): string {
  const known: string[] = [keptApart];
  let chars = 0;
  for (const [domain, untilMs] of [...accepted].reverse()) {
    chars += domain.length + 1;
    if (chars > knownCharsMax) break;
    if (untilMs > nowMs) known.push(domain);
  }
  return known.join(" ");
}

/** Whether the worker that made a batch under this context kept apart what it did not name. */
export function keepsApart(context: string): boolean {
  return context.split(" ").includes(keptApart);
}

export function domainOf(from: string): string {
  return from.slice(from.lastIndexOf("@") + 1).toLowerCase();
}

/** Adds names and drops those whose time is over, or the oldest. */
function add(
  before: ReadonlyMap<string, number>,
  names: readonly string[],
  nowMs: number,
): ReadonlyMap<string, number> {
  // Anew only when half of its time is over: with every answer would be too often.
  const fresh = names.filter((name) => (before.get(name) ?? -Infinity) < nowMs + rememberedMs / 2);
  if (fresh.length === 0) return before;
  const kept = [...before].filter(([name, untilMs]) => untilMs > nowMs && !fresh.includes(name));
  const added = fresh.map((name): [string, number] => [name, nowMs + rememberedMs]);
  return new Map([...kept, ...added].slice(-rememberedMax));
}

function without(before: ReadonlyMap<string, number>, names: readonly string[]): ReadonlyMap<string, number> {
  if (!names.some((name) => before.has(name))) return before;
  return new Map([...before].filter(([name]) => !names.includes(name)));
}
