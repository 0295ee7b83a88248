// Whether what the settings lead to is there and works: the store, by all that a server demands of it, and each
// provider, by a request that sends nothing. Nothing is created or changed: whoever checks may be another user than the
// service's.

import type { Config } from "../../config/config.ts";
import { type Log, withoutSecrets } from "../../runtime/log.ts";
import { checkProvider, type ProviderName } from "../../providers/registry.ts";
import { obstacleIn } from "../../runtime/durable_dir.ts";
import { openAdmin, openRedisCheck, type QueueSettings } from "../../queue/open.ts";
import { durabilityOf } from "../queue/location.ts";
import { type Admin, QueueMissing, StoreUnavailable } from "../../queue/contract.ts";
import { readConfig } from "../../config/config.ts";

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

export async function checkAll(env: NodeJS.ProcessEnv, config: Config): Promise<Check[]> {
  const providers = config.providers.map(({ name }) => checkOne(name, config));
  const checks = [...workerMistakes(env), ...(await Promise.all([checkStore(config), ...providers]))];
  return checks.map((check) => ({ ...check, detail: withoutSecrets(check.detail, config.secrets) }));
}

/** What only a worker demands: whoever checks wants his emails delivered. */
function workerMistakes(env: NodeJS.ProcessEnv): Check[] {
  const read = readConfig(env, "worker");
  if (read.ok) return [];
  return read.message
    .split("\n")
    .map((line) => ({ name: "worker", ok: false, detail: line.replace(/^Cannot start: /, "") }));
}

/** Changes nothing in the store, and creates none. Its detail may hold a credential. */
async function checkStore({ queue, retainMs }: Pick<Config, "queue" | "retainMs">): Promise<Check> {
  const check = (ok: boolean, detail: string): Check => ({ name: "store", ok, detail });
  const troubles = noteTroubles();
  if (queue.kind === "redis") {
    const verdict = await judgeRedis(queue, troubles);
    if (verdict !== undefined) return check(false, verdict);
  }
  let admin: Admin | undefined;
  try {
    admin = await openAdmin(queue, retainMs, troubles.log);
    const trouble = queue.kind === "sqlite" ? troubles.lasting() : undefined;
    return trouble === undefined ? check(true, durabilityOf(queue)) : check(false, trouble);
  } catch (error) {
    if (error instanceof QueueMissing) return missing(queue, check);
    if (error instanceof StoreUnavailable) return check(false, error.message);
    throw error;
  } finally {
    await admin?.close();
  }
}

/** That there is no queue is as it should be before the first start, if one can be created. */
function missing(queue: QueueSettings, check: (ok: boolean, detail: string) => Check): Check {
  const creator = "the first server or worker creates it";
  if (queue.kind === "redis") {
    return check(true, `${durabilityOf(queue)}; no queue under prefix ${queue.prefix} yet: ${creator}`);
  }
  const { folder } = queue;
  const user = process.getuid?.();
  const obstacle = obstacleIn(folder);
  if (obstacle !== undefined) {
    return check(false, `DATA_DIR ${folder} holds no queue, and user ${user} cannot create it (${obstacle})`);
  }
  const doubt = user === 0 ? "; whether the service's user may do so cannot be seen by root" : "";
  return check(true, `no queue in ${folder} yet: ${creator}${doubt}`);
}

/** @returns why no server would take submissions for it; nothing if one would */
async function judgeRedis(
  queue: Extract<QueueSettings, { kind: "redis" }>,
  { log, lasting, passing }: Troubles,
): Promise<string | undefined> {
  let fatal: string | undefined;
  const redis = openRedisCheck(queue, { log, onFatal: (reason) => (fatal = reason) });
  try {
    const endMs = performance.now() + storeTimeoutMs;
    for (;;) {
      const health = redis.health();
      const verdict = fatal ?? lasting();
      if (verdict !== undefined) return verdict;
      if (health.ok) return undefined;
      if (performance.now() > endMs) return [...new Set([health.reason, ...passing()])].join("; ");
      await Bun.sleep(storePauseMs);
    }
  } finally {
    await redis.close();
  }
}

interface Troubles {
  readonly log: Log;
  /** What cannot change by waiting: the last that was logged as an error. */
  lasting(): string | undefined;
  /** What may, but is worth reporting: the last that was logged as a warning. */
  passing(): readonly string[];
}

/** Listens to what a store logs. */
function noteTroubles(): Troubles {
  let lasting: string | undefined;
  let passing: string | undefined;
  const note = (take: (reason: string) => void): Log["warn"] => {
    return (_, { reason, fix } = {}) => {
      if (typeof reason !== "string") return;
      take(typeof fix === "string" && fix !== "" ? `${reason} (put right by: ${fix})` : reason);
    };
  };
  return {
    log: {
      debug() {},
      info() {},
      warn: note((reason) => (passing = reason)),
      error: note((reason) => (lasting = reason)),
    },
    lasting: () => lasting,
    passing: () => (passing === undefined ? [] : [passing]),
  };
}

async function checkOne(name: ProviderName, config: Config): Promise<Check> {
  const result = await checkProvider(name, config, AbortSignal.timeout(config.providerTimeoutMs));
  return { name, ok: result.ok, detail: result.ok ? result.detail : result.reason };
}
