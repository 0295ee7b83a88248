// What a slot says in the log of what an operator has to know.

import type { Log } from "../runtime/log.ts";
import type { Death, Result } from "../policy/decision.ts";
import { kindOf } from "../providers/failure_reason.ts";
import type { Change, ProviderState } from "./provider_state.ts";

/** Most ids in a line of the log: what writes to a pipe stays whole up to 4 KiB. */
const idsMax = 50;

/** Those that died together in as few lines as name each of them: thousands may die of one cause. */
export function reportDead(
  log: Log,
  about: { readonly batch: string; readonly provider: string },
  dead: readonly Death[],
): void {
  const alike = Map.groupBy(dead, (one) =>
    JSON.stringify([one.cause, kindOf(one.reason), one.outcomeUnknown]),
  );
  for (const some of alike.values()) {
    const { cause, reason, outcomeUnknown } = some[0]!;
    for (let start = 0; start < some.length; start += idsMax) {
      const ids = some.slice(start, start + idsMax).map(({ id }) => id);
      log.error("dead-letter", {
        ...about,
        cause,
        reason: kindOf(reason),
        outcomeUnknown,
        count: ids.length,
        ids,
      });
    }
  }
}

/** Of the breaker. */
export function reportChange(
  log: Log,
  { provider, breaker }: ProviderState,
  change: Change,
  reason: string | undefined,
): void {
  if (change === "closed") {
    log.info("breaker-closed", { provider: provider.name });
    return;
  }
  const forMs = breaker.kind === "open" ? Math.round(breaker.untilMs - performance.now()) : undefined;
  log.warn("breaker-opened", { provider: provider.name, forMs, reason: loggable(reason) });
}

/** Of a request that got one answer for all. Only its kind may be logged, see {@link loggable}. */
export function failureReasonOf(result: Result): string | undefined {
  if (result.kind === "send" && result.result.kind === "whole") return result.result.outcome.reason;
  if (result.kind === "search" && result.result.kind === "failed") return result.result.outcome.reason;
  return undefined;
}

/** The kind of failure: the rest are a provider's own words, which may quote the email. `queue show` has them. */
export function loggable(reason: string | undefined): string | undefined {
  return reason === undefined ? undefined : kindOf(reason);
}
