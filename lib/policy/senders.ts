// The senders that one provider has refused lately. A worker remembers them, so that a stream of emails from one
// of them does not cost a request each.

/** Sender's address -> until when it is remembered, ms by whichever clock the caller uses throughout. */
export type RefusedSenders = ReadonlyMap<string, number>;

export const noRefusedSenders: RefusedSenders = new Map();

/** Long enough to spare requests, short enough for a domain verified meanwhile. */
const rememberedMs = 600_000;
/** Clients may make up senders without end. */
const rememberedMax = 1000;

/** Adds senders and drops those whose time is over, or the oldest. */
export function rememberRefused(
  senders: RefusedSenders,
  refused: readonly string[],
  nowMs: number,
): RefusedSenders {
  if (refused.length === 0) return senders;
  const kept = [...senders].filter(([from, untilMs]) => untilMs > nowMs && !refused.includes(from));
  const added = refused.map((from): [string, number] => [from, nowMs + rememberedMs]);
  return new Map([...kept, ...added].slice(-rememberedMax));
}

export function isRefused(senders: RefusedSenders, from: string, nowMs: number): boolean {
  return (senders.get(from) ?? -Infinity) > nowMs;
}
