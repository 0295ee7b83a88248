// Lua scripts on their way to Redis: by digest, and by text only when Redis does not know them (after a restart
// or SCRIPT FLUSH). A script that Redis does not know was not executed, so that sending it again is safe.

import type { Redis } from "ioredis";
import common from "./scripts/common.lua" with { type: "text" };

export interface Script {
  readonly text: string;
  readonly sha: string;
  /** Redis's commands that it calls. */
  readonly commands: readonly string[];
}

/**
 * `allowOom`: the script runs even when `maxmemory` is reached. For whatever makes the queue shorter or leads to that;
 * never for what makes it longer.
 * `noWrites`: the script only reads, and runs even when Redis refuses all writes, for want of memory or of a snapshot.
 */
export function script(body: string, options: { allowOom: boolean } | { noWrites: true }): Script {
  const flag = "noWrites" in options ? "no-writes" : options.allowOom ? "allow-oom" : undefined;
  const text = `#!lua${flag === undefined ? "" : ` flags=${flag}`}\n${common}\n${body}`;
  return standaloneScript(text);
}

/** One without what every script of the queue begins with. */
export function standaloneScript(text: string): Script {
  const commands = new Set(
    Array.from(text.matchAll(/\bredis\.p?call\('([A-Z]+)'/g), ([, name = ""]) => name),
  );
  return { text, sha: new Bun.CryptoHasher("sha1").update(text).digest("hex"), commands: [...commands] };
}

type Argument = string | number;

/**
 * Runs a script and, right behind it on the same connection, a `WAIT` when `waitFor` asks for replicas.
 * Rejects when Redis refused it (a ReplyError) or gave no answer (any other error).
 * @returns the script's reply, and how many replicas hold everything that this connection has written
 */
export async function run(
  redis: Redis,
  { text, sha }: Script,
  partition: string,
  args: readonly Argument[],
  waitFor: { replicas: number; timeoutMs: number } = { replicas: 0, timeoutMs: 0 },
): Promise<{ reply: unknown; replicas: number }> {
  const call = async (command: "evalsha" | "eval", code: string) => {
    if (waitFor.replicas === 0) {
      return { reply: await redis.call(command, code, "1", partition, ...args), replicas: 0 };
    }
    const answers = await redis
      .pipeline()
      .call(command, code, "1", partition, ...args)
      .wait(waitFor.replicas, waitFor.timeoutMs)
      .exec();
    const [first, second] = answers ?? [];
    if (first === undefined || second === undefined) throw new Error("Pipeline: no answer");
    if (first[0] !== null) throw first[0];
    if (second[0] !== null) throw second[0];
    return { reply: first[1], replicas: Number(second[1]) };
  };
  try {
    return await call("evalsha", sha);
  } catch (error) {
    if (!redisErrorText(error).startsWith("NOSCRIPT")) throw error;
    return call("eval", text);
  }
}

/** What went wrong, in Redis's words or, where ioredis speaks of its options, in plain ones. */
export function redisErrorText(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  if (text.startsWith("Stream isn't writeable") || text === "Connection is closed.") return "not connected";
  if (text.startsWith("Reached the max retries per request")) return "the connection broke before the answer";
  // Redis quotes the arguments of a command that it does not know: emails are among them.
  return text.replace(/, with args beginning with:.*/s, "");
}
