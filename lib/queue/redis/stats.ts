// The numbers of a queue on Redis: what stats.lua wrote, and how much memory Redis uses.

import type { Redis } from "ioredis";
import type { ProviderCondition, QueueStats } from "../contract.ts";
import { redisErrorText } from "./scripts.ts";

export function readStats(reply: unknown, memory: Pick<QueueStats, "bytesUsed" | "bytesMax">): QueueStats {
  const [
    now,
    waiting,
    retrying,
    sending,
    inDoubt,
    dead,
    sent,
    oldestDue,
    oldestDoubt,
    paused,
    conditions,
    stepAt,
    stepBy,
    ...pairs
  ] = reply as [...(string | number)[]];
  const time = (value: string | number | undefined) => (value === "" ? undefined : Number(value));
  const counters: Record<string, number> = {};
  for (let i = 0; i < pairs.length; i += 2) counters[String(pairs[i])] = Number(pairs[i + 1]);
  return {
    nowMs: Number(now),
    states: {
      waiting: Number(waiting),
      retrying: Number(retrying),
      sending: Number(sending),
      "in-doubt": Number(inDoubt),
      dead: Number(dead),
      sent: Number(sent),
    },
    counters,
    providers: readConditions(conditions),
    oldestDueAtMs: time(oldestDue),
    oldestDoubtSinceMs: time(oldestDoubt),
    paused: paused === 1,
    clockStep: stepAt === "" ? undefined : { atMs: Number(stepAt), byMs: Number(stepBy) },
    ...memory,
  };
}

/** Reads what conditions() in common.lua does: six values for each provider, of which absent ones are empty. */
export function readConditions(reply: unknown): Record<string, ProviderCondition> {
  const told = reply as readonly string[];
  const providers: Record<string, ProviderCondition> = {};
  for (let i = 0; i < told.length; i += 6) {
    const [name = "", accepted, failing, failed, reason = "", unanswered] = told.slice(i, i + 6);
    if (accepted === "" && failed === "") continue;
    providers[name] = {
      ...(accepted !== "" && { lastAcceptedAtMs: Number(accepted) }),
      ...(failing !== "" && { failingSinceMs: Number(failing) }),
      ...(failed !== "" && { lastFailedAtMs: Number(failed), lastFailure: reason }),
      ...(unanswered === "1" && { isUnanswered: true }),
    };
  }
  return providers;
}

/** Of everything that this Redis holds. Services that hide it are no reason to tell nothing: 0 then. */
export async function readMemory(redis: Redis): Promise<Pick<QueueStats, "bytesUsed" | "bytesMax">> {
  let info: string;
  try {
    info = await redis.info("memory");
  } catch (error) {
    if (!/^(NOPERM|ERR) /.test(redisErrorText(error))) throw error;
    info = "";
  }
  const bytes = (name: string) => Number(new RegExp(`^${name}:(\\d+)\\r?$`, "m").exec(info)?.[1] ?? 0);
  return { bytesUsed: bytes("used_memory"), bytesMax: bytes("maxmemory") || undefined };
}
