// The replies of the scripts that claim, settle and count, and the arguments of settle.lua.

import { envelopeLine } from "../../email/email.ts";
import type { Batch, ClaimedEmail, ClaimResult, QueueStats, Settled, Settlement } from "../contract.ts";

/** A batch as claim.lua returns it: its emails follow, and the providers are separated by spaces. */
type BatchReply = Omit<Batch, "emails" | "servedProviders"> & { readonly servedProviders: string };

type ClaimReply =
  | (Omit<Extract<ClaimResult, { readonly kind: "batch" }>, "batch"> & { readonly batch: BatchReply })
  | { readonly kind: "paused"; readonly pauseVersion: number }
  | Extract<ClaimResult, { readonly kind: "empty" | "limited" | "spent" }>;

export interface ClaimAnswer {
  readonly result: ClaimResult;
  /** See {@link PartitionStats}; only of a pause. */
  readonly pauseVersion?: number;
}

/** Reads the reply of claim.lua. */
export function readClaim(reply: unknown): ClaimAnswer {
  const [head, ...rest] = reply as [string, ...(string | number)[]];
  const result = JSON.parse(head) as ClaimReply;
  if (result.kind === "paused") return { result: { kind: "paused" }, pauseVersion: result.pauseVersion };
  if (result.kind !== "batch") return { result };
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
  const servedProviders = result.batch.servedProviders.split(" ").filter(Boolean);
  const { batch, ...about } = result;
  return { result: { ...about, batch: { ...batch, servedProviders, emails } } };
}

/**
 * The arguments of settle.lua.
 * @param retainMs how long the ids of sent emails stay known
 * @param held only of an operator, for a batch that is not leased: see settle.lua
 */
export function writeSettlement(
  batch: Pick<Batch, "id" | "lease" | "provider" | "emails">,
  settlement: Settlement,
  retainMs: number,
  held?: "0" | "1",
): string[] {
  const texts = new Map(batch.emails.map(({ id, text }) => [id, text]));
  const sent = settlement.fates.flatMap((fate) =>
    fate.kind === "sent" ? [fate.id, `${envelopeLine(texts.get(fate.id) ?? "")}\n${fate.record}`] : [],
  );
  const fates = settlement.fates.filter(({ kind }) => kind !== "sent");
  const { id, lease, provider } = batch;
  return [JSON.stringify({ ...settlement, batch: id, lease, provider, retainMs, held, fates }), ...sent];
}

/** The statistics of one partition. */
export interface PartitionStats extends QueueStats {
  /** Counts the pauses and resumptions so far: in all partitions, the highest one holds. */
  readonly pauseVersion: number;
  /** Identifies the Redis; empty where the service hides it. */
  readonly node: string;
}

/** Reads the reply of stats.lua. */
export function decodeStats(reply: unknown): PartitionStats {
  return JSON.parse(String(reply)) as PartitionStats;
}

/** Reads the reply of settle.lua. */
export function readSettled(reply: unknown): Settled {
  const [ours, ...duplicates] = reply as [number, ...string[]];
  return { leaseHeld: ours === 1, duplicates };
}
