// What a worker remembers of senders at one provider: addresses that it refused lately, so that emails from one of them
// do not cost a request each; and domains that it accepted lately, so that senders of others can travel apart.

/** Each is a name -> until when it is remembered, ms by whichever clock the caller uses throughout. */
export interface KnownSenders {
  /** Addresses. */
  readonly refused: ReadonlyMap<string, number>;
  /** Domains. */
  readonly accepted: ReadonlyMap<string, number>;
}

export const noSenders: KnownSenders = { refused: new Map(), accepted: new Map() };

/** Long enough to spare requests, short enough for a domain verified meanwhile. */
const rememberedMs = 600_000;
/** Clients may make up senders without end. */
const rememberedMax = 1000;

/** Senders of an answer, by their addresses. */
export interface SenderAnswers {
  readonly refused: readonly string[];
  readonly accepted: readonly string[];
}

export function remember(
  senders: KnownSenders,
  { refused, accepted }: SenderAnswers,
  nowMs: number,
): KnownSenders {
  const refusedDomains = refused.map(domainOf);
  const domains = [...new Set(accepted.map(domainOf))].filter((domain) => !refusedDomains.includes(domain));
  return {
    refused: add(senders.refused, refused, nowMs),
    accepted: add(without(senders.accepted, refusedDomains), domains, nowMs),
  };
}

export function isRefused({ refused }: KnownSenders, from: string, nowMs: number): boolean {
  return (refused.get(from) ?? -Infinity) > nowMs;
}

/** Whether the provider has accepted an email of this sender's domain lately. */
export function isKnown({ accepted }: KnownSenders, from: string, nowMs: number): boolean {
  return (accepted.get(domainOf(from)) ?? -Infinity) > nowMs;
}

/**
 * Most emails in one piece of senders that are not known to be accepted: a provider may refuse a whole request because
 * of one of them, so they take turns with the others.
 */
export const strangersMax = 100;

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
