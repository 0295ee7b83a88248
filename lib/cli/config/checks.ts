// Whether what the settings lead to is there and works: the store, by all that a server demands of it, and each
// provider, by a request that sends nothing.

import type { Config } from "../../config.ts";
import { type Log, withoutSecrets } from "../../log.ts";
import { openProvider } from "../../providers/open.ts";
import { openIntake, type QueueSettings } from "../../queue/open.ts";
import { readConfig } from "../../config.ts";
import type { Environment } from "./effective.ts";

export interface Check {
  /** What was looked at: `store`, or a provider. */
  readonly name: string;
  readonly ok: boolean;
  /** What was found, or what is wrong. Without credentials, though a provider or a proxy may quote them. */
  readonly detail: string;
}

/** Longest wait for a verdict about the store, ms. */
const storeTimeoutMs = 5000;
const storePauseMs = 20;

export async function checkAll(env: Environment, config: Config): Promise<Check[]> {
  const providers = config.providers.map(({ name }) => checkProvider(name, config));
  const checks = [...workerMistakes(env), ...(await Promise.all([checkStore(config.queue), ...providers]))];
  return checks.map((check) => ({ ...check, detail: withoutSecrets(check.detail, config.secrets) }));
}

/** What only a worker demands: whoever checks wants his emails delivered. */
function workerMistakes(env: Environment): Check[] {
  const read = readConfig(env, "worker");
  if (read.ok) return [];
  return read.message
    .split("\n")
    .map((line) => ({ name: "worker", ok: false, detail: line.replace(/^Cannot start: /, "") }));
}

/** Its detail may hold a credential. @param timeoutMs longest wait for a verdict */
export async function checkStore(queue: QueueSettings, timeoutMs = storeTimeoutMs): Promise<Check> {
  /** What cannot change by waiting. */
  let verdict: string | undefined;
  /** What may, but is worth telling. */
  let trouble: string | undefined;
  const note = (note: (reason: string) => void): Log["warn"] => {
    return (_, { reason, fix } = {}) => {
      if (typeof reason !== "string") return;
      note(typeof fix === "string" && fix !== "" ? `${reason} (put right by: ${fix})` : reason);
    };
  };
  const log: Log = {
    debug() {},
    info() {},
    warn: note((reason) => (trouble = reason)),
    error: note((reason) => (verdict = reason)),
  };
  const intake = openIntake(queue, { log, onFatal: (reason) => (verdict = reason) });
  try {
    const endMs = performance.now() + timeoutMs;
    for (;;) {
      const health = intake.health();
      if (verdict !== undefined) return { name: "store", ok: false, detail: verdict };
      if (health.ok) return { name: "store", ok: true, detail: durabilityOf(queue) };
      if (performance.now() > endMs) {
        const reasons = new Set([health.reason, ...(trouble === undefined ? [] : [trouble])]);
        return { name: "store", ok: false, detail: [...reasons].join("; ") };
      }
      await Bun.sleep(storePauseMs);
    }
  } finally {
    await intake.close();
  }
}

function durabilityOf(queue: QueueSettings): string {
  if (queue.kind === "sqlite") return `${queue.folder} holds the queue, and every write is fsynced`;
  const where = `Redis at ${new URL(queue.url).host}`;
  const replicas = queue.minReplicas === 0 ? "" : `, and has ${queue.minReplicas} replicas or more`;
  return queue.durability === "trust"
    ? `${where} answers; that it keeps what it acknowledges is not looked at (REDIS_DURABILITY=trust)${replicas}`
    : `${where} fsyncs every write and evicts nothing${replicas}`;
}

async function checkProvider(name: Config["providers"][number]["name"], config: Config): Promise<Check> {
  const provider = openProvider(name, config);
  const result = await provider.check?.(AbortSignal.timeout(config.providerTimeoutMs));
  if (result === undefined) return { name, ok: true, detail: "cannot be asked without sending" };
  return { name, ok: result.ok, detail: result.ok ? result.detail : result.reason };
}
