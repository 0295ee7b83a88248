// A leased batch on its way out of Redis, and its settlement on the way back: what lease_reply() in common.lua wrote, and
// what settle.lua reads.

import { envelopeLine } from "../../email/email.ts";
import type { Batch, ClaimedEmail, ClaimResult, Settled, Settlement } from "../contract.ts";

/** Reads what a script that claims answered. */
export function readClaim(reply: unknown): ClaimResult {
  const [kind, second, ...rest] = reply as [string, unknown, ...(string | number)[]];
  if (kind === "spent" || kind === "paused") return { kind };
  if (kind === "empty") return { kind: "empty", nextDueInMs: second === -1 ? undefined : Number(second) };
  const pairs = second as readonly string[];
  const told: Record<string, string> = {};
  for (let i = 0; i < pairs.length; i += 2) told[pairs[i]!] = pairs[i + 1]!;
  const text = (name: string) => told[name] ?? "";
  const number = (name: string) => Number(text(name));
  const numberIfAny = (name: string) => (text(name) === "" ? undefined : number(name));
  const emails: ClaimedEmail[] = [];
  for (let i = 0; i < rest.length; i += 4) {
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
    id: text("id"),
    provider: text("provider"),
    lease: number("lease"),
    nowMs: number("now"),
    leaseEndsAtMs: number("until"),
    doubtEndsAtMs: number("ends"),
    doubtSinceMs: numberIfAny("doubt"),
    leaseExpired: text("lapsed") === "1",
    context: text("context"),
    notes: text("notes"),
    pieceMax: numberIfAny("piece"),
    credential: text("credential"),
    acceptances: number("acceptances"),
    servedProviders: text("served").split(" ").filter(Boolean),
    clockSteppedAtMs: numberIfAny("stepped"),
    emails,
  };
  return { kind: "batch", batch, dueLeft: number("left") };
}

/** The arguments of settle.lua behind the clock offset. */
export function settleArguments(
  batch: Batch,
  { fates, rest, keepsLease, counts, credential, failure }: Settlement,
  retainMs: number,
): (string | number)[] {
  const counters = Object.entries(counts);
  const args = [
    batch.id,
    batch.lease,
    batch.provider,
    retainMs,
    keepsLease ? "keep" : rest === undefined ? "" : Math.round(rest.delayMs),
    rest?.notes ?? "",
    failure?.reason ?? "",
    failure?.own ? 1 : 0,
    credential ?? "",
    counters.length,
  ];
  for (const [name, count] of counters) args.push(name, count);
  args.push(fates.length);
  const texts = new Map(batch.emails.map(({ id, text }) => [id, text]));
  for (const fate of fates) {
    switch (fate.kind) {
      case "sent":
        // What is left of a sent email: who wrote to whom about what, and what became of it.
        args.push(
          fate.id,
          fate.kind,
          `${envelopeLine(texts.get(fate.id) ?? "")}\n${fate.record}`,
          "",
          "",
          "",
        );
        break;
      case "due": {
        const { id, kind, delayMs, only = "", pieceMax = "", history } = fate;
        args.push(id, kind, Math.round(delayMs), only, pieceMax, history);
        break;
      }
      case "dead":
        args.push(fate.id, fate.kind, "", "", "", fate.history);
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
