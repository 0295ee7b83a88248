// A leased batch on its way out of Redis, and its settlement on the way back: what leased() in common.lua wrote, and
// what settle.lua reads.

import { envelopeLine } from "../../email.ts";
import type { Batch, ClaimedEmail, ClaimResult, Settled, Settlement } from "../queue.ts";

/** Reads what leased() in common.lua wrote. */
export function readClaim(reply: (string | number)[]): ClaimResult {
  const [kind, ...rest] = reply;
  if (kind === "spent" || kind === "paused") return { kind };
  if (kind === "empty") {
    const inMs = Number(rest[0]);
    return { kind: "empty", nextDueInMs: inMs === -1 ? undefined : inMs };
  }
  const [id, provider, lease, nowMs, leaseEndsAtMs, doubtEndsAtMs, doubtSinceMs, lapsed, context, notes] =
    rest.map(String) as [string, string, string, string, string, string, string, string, string, string];
  const emails: ClaimedEmail[] = [];
  for (let i = 10; i < rest.length; i += 4) {
    const stored = String(rest[i + 1]);
    const lineEnd = stored.indexOf("\n");
    emails.push({
      id: String(rest[i]),
      text: stored.slice(lineEnd + 1),
      submittedAtMs: Number(stored.slice(0, lineEnd)),
      history: String(rest[i + 2]),
      marked: rest[i + 3] === 1,
    });
  }
  const batch: Batch = {
    id,
    provider,
    lease: Number(lease),
    nowMs: Number(nowMs),
    leaseEndsAtMs: Number(leaseEndsAtMs),
    doubtEndsAtMs: Number(doubtEndsAtMs),
    doubtSinceMs: doubtSinceMs === "" ? undefined : Number(doubtSinceMs),
    lapsed: lapsed === "1",
    context,
    notes,
    emails,
  };
  return { kind: "batch", batch };
}

/** The arguments of settle.lua behind the clock offset. */
export function settleArguments(
  batch: Batch,
  { fates, rest, counts, failure }: Settlement,
  retainMs: number,
): (string | number)[] {
  const counters = Object.entries(counts);
  const args = [
    batch.id,
    batch.lease,
    retainMs,
    rest === undefined ? "" : Math.round(rest.delayMs),
    rest?.notes ?? "",
    failure ?? "",
    counters.length,
  ];
  for (const [name, count] of counters) args.push(name, count);
  args.push(fates.length);
  const texts = new Map(batch.emails.map(({ id, text }) => [id, text]));
  for (const fate of fates) {
    switch (fate.kind) {
      case "sent":
        // What is left of a sent email: who wrote to whom about what, and what became of it.
        args.push(fate.id, fate.kind, `${envelopeLine(texts.get(fate.id) ?? "")}\n${fate.record}`, "", "");
        break;
      case "due":
        args.push(fate.id, fate.kind, Math.round(fate.delayMs), fate.only ?? "", fate.history);
        break;
      case "dead":
        args.push(fate.id, fate.kind, "", "", fate.history);
        break;
      case "rebatched":
        args.push(fate.id, fate.kind, fate.batchId, "", fate.history);
        break;
    }
  }
  return args;
}

/** Reads the answer of settle.lua. */
export function readSettled(reply: unknown): Settled {
  const [ours, ...duplicates] = reply as [number, ...string[]];
  return { leaseHeld: ours === 1, duplicates };
}
