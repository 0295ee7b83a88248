// What an operator asks of the queue.

import { envelopeLine } from "../../email.ts";
import type { Log } from "../../log.ts";
import { type EmailState, knownMinMs, type Operator, StoreUnavailable } from "../queue.ts";
import { connect, disconnect, partitionOf } from "./connection.ts";
import deleteText from "./delete.lua" with { type: "text" };
import { errorText, run, type Script, script } from "./script.ts";
import showText from "./show.lua" with { type: "text" };
import statsText from "./stats.lua" with { type: "text" };

const showScript = script(showText, { allowOom: true });
const statsScript = script(statsText, { allowOom: true });
const deleteScript = script(deleteText, { allowOom: true });

export interface OperatorOptions {
  readonly url: string;
  readonly prefix: string;
  /** How long the id of a deleted email stays known, ms. */
  readonly retainMs: number;
  readonly log: Log;
  readonly clockOffsetMs?: () => number;
}

const afterLine = (text: string) => text.slice(text.indexOf("\n") + 1);

/** Longest wait for the store to answer at all, ms. */
const openTimeoutMs = 5000;

/** Resolves when the store can be asked; rejects with {@link StoreUnavailable} if it cannot be reached. */
export async function openRedisOperator(options: OperatorOptions): Promise<Operator> {
  const { clockOffsetMs = () => 0 } = options;
  const partition = partitionOf(options.prefix);
  const redis = connect(options.url, "operator", options.log);
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => {
      disconnect(redis);
      reject(new StoreUnavailable(`not reached within ${openTimeoutMs} ms`));
    }, openTimeoutMs);
    redis.once("ready", () => {
      clearTimeout(timer);
      resolve();
    });
  });

  async function ask(what: Script, ...args: (string | number)[]): Promise<unknown> {
    try {
      return (await run(redis, what, partition, [clockOffsetMs(), ...args])).reply;
    } catch (error) {
      throw new StoreUnavailable(errorText(error));
    }
  }

  return {
    async show(id) {
      const reply = (await ask(showScript, id)) as [string, string, string, string] | null;
      if (reply === null) return undefined;
      const [state, stored, history, remains] = reply;
      const isSent = state === "sent";
      return {
        id,
        state: state as EmailState,
        text: isSent ? envelopeLine(remains) : stored === "" ? undefined : afterLine(stored),
        history,
        record: isSent ? afterLine(remains) : undefined,
      };
    },
    async stats() {
      const reply = (await ask(statsScript)) as (string | number)[];
      const [waiting, retrying, sending, inDoubt, dead, sent, ...pairs] = reply;
      const counters: Record<string, number> = {};
      for (let i = 0; i < pairs.length; i += 2) counters[String(pairs[i])] = Number(pairs[i + 1]);
      return {
        states: {
          waiting: Number(waiting),
          retrying: Number(retrying),
          sending: Number(sending),
          "in-doubt": Number(inDoubt),
          dead: Number(dead),
          sent: Number(sent),
        },
        counters,
      };
    },
    async delete(id) {
      return (await ask(deleteScript, id, Math.max(options.retainMs, knownMinMs))) as
        "deleted" | "in-batch" | "unknown";
    },
    async close() {
      disconnect(redis);
    },
  };
}
