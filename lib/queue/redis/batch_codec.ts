// The replies of the scripts that claim, settle and count, and the arguments of settle.lua.

import { envelopeLine } from "../../email/email.ts";
import type { Batch, ClaimedEmail, ClaimResult, QueueStats, Settled, Settlement } from "../contract.ts";

/** A batch as claim.lua returns it: its emails follow, and what has several values has them separated by spaces. */
type BatchReply = Omit<Batch, "emails" | "servedProviders"> & {
  readonly [name in "servedProviders" | "ids" | "marked"]: string;
};

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
  const [head, ...rest] = reply as [string, ...string[]];
  const result = JSON.parse(head) as ClaimReply;
  if (result.kind === "paused") return { result: { kind: "paused" }, pauseVersion: result.pauseVersion };
  if (result.kind !== "batch") return { result };
  const { batch, ...about } = result;
  const { servedProviders, ids, marked, ...same } = batch;
  const marks = wordsOf(marked);
  const histories = new Map<string, string>();
  const emails = wordsOf(ids);
  for (let i = emails.length; i < rest.length; i += 2) histories.set(rest[i]!, rest[i + 1]!);
  const decoded = emails.map((id, i): ClaimedEmail => {
    const stored = rest[i]!;
    const lineEnd = stored.indexOf("\n");
    return {
      id,
      text: stored.slice(lineEnd + 1),
      submittedAtMs: Number(stored.slice(0, lineEnd)),
      history: histories.get(id) ?? "",
      marked: marks.includes(id),
    };
  });
  return {
    result: { ...about, batch: { ...same, servedProviders: wordsOf(servedProviders), emails: decoded } },
  };
}

const wordsOf = (line: string) => line.split(" ").filter(Boolean);

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
  const { id, lease, provider } = batch;
  const texts = new Map(batch.emails.map((email) => [email.id, email.text]));
  const sent: string[] = [];
  for (const fate of settlement.fates) {
    if (fate.kind !== "sent") continue;
    sent.push(fate.id, `${id}\n${envelopeLine(texts.get(fate.id) ?? "")}\n${fate.record}`);
  }
  const fates = settlement.fates.filter(({ kind }) => kind !== "sent");
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
