// Selects the next provider by smooth weighted round robin, as nginx does (ngx_http_upstream_round_robin.c, 2012),
// counted in emails: the one furthest behind its share goes next, and pays for as many emails as it took.

export interface Weighted {
  readonly name: string;
  /** 0: never has a turn. */
  readonly weight: number;
}

/** By how much each is behind its share, in emails times the sum of the weights; absent is 0. */
export type Shares = ReadonlyMap<string, number>;

/** Those of positive weight, the one furthest behind first; of several alike, in the order given. */
export function inTurn<W extends Weighted>(shares: Shares, eligible: readonly W[]): W[] {
  const behind = ({ name, weight }: Weighted) => (shares.get(name) ?? 0) + weight;
  return eligible.filter(({ weight }) => weight > 0).sort((one, other) => behind(other) - behind(one));
}

/**
 * `chosen` took `emails`, while `eligible` (which holds it) could have. One that is not eligible neither gains nor
 * loses, and so catches up nothing when it comes back.
 *
 * Single emails follow the weights exactly over every cycle. With batches none is ever ahead of its share by more
 * than a full batch, for each that is on its way.
 */
export function charge(
  shares: Shares,
  eligible: readonly Weighted[],
  chosen: string,
  emails: number,
): Shares {
  if (emails === 0) return shares;
  const charged = new Map(shares);
  let total = 0;
  for (const { name, weight } of eligible) {
    charged.set(name, (charged.get(name) ?? 0) + weight * emails);
    total += weight;
  }
  return charged.set(chosen, (charged.get(chosen) ?? 0) - total * emails);
}
