// Checks that the store and the providers work with the settings: the store as a server checks it, each provider by a
// request that sends nothing. Creates and changes nothing, since the user who checks may not be the service's.

import { type Config, readConfig } from "../../config/config.ts";
import { type ProviderName, type Registration, registry } from "../../providers/registry.ts";
import { QueueMissing, StoreUnavailable } from "../../queue/contract.ts";
import { checkRedis, openAdmin, type QueueSettings } from "../../queue/open.ts";
import { obstacleIn } from "../../runtime/durable_dir.ts";
import { silentLog, withoutSecrets } from "../../runtime/log.ts";
import { durabilityOf } from "../queue/location.ts";

export interface Check {
  /** `store`, the name of a provider, or `worker` for what only a worker demands of the settings. */
  readonly name: string;
  readonly ok: boolean;
  /** The finding, without credentials, though a provider or a proxy may quote them. */
  readonly detail: string;
}

export async function checkAll(env: NodeJS.ProcessEnv, config: Config): Promise<Check[]> {
  const worker = readConfig(env, "worker");
  const errors = worker.ok ? [] : worker.message.split("\n");
  const checks = await Promise.all([
    ...errors.map((error) => failed("worker", error.replace(/^Cannot start: /, ""))),
    checkStore(config),
    ...config.providers.map(({ name }) => checkProvider(name, config)),
  ]);
  return checks.map((check) => ({ ...check, detail: withoutSecrets(check.detail, config.secrets) }));
}

const passed = (name: string, detail: string): Check => ({ name, ok: true, detail });
const failed = (name: string, detail: string): Check => ({ name, ok: false, detail });

async function checkProvider(name: ProviderName, config: Config): Promise<Check> {
  const { create, inspect }: Registration = registry[name];
  const signal = () => AbortSignal.timeout(config.providerTimeoutMs);
  const inspected = inspect?.(config);
  const provider = inspected ? undefined : await create(config);
  const result = inspected ?? (await provider!.check(signal()));
  if (!result.ok) return failed(name, result.reason);
  const warning = await provider?.findWarning?.(signal());
  return passed(name, result.detail + warningIn({ warning }));
}

async function checkStore({ queue, retainMs }: Config): Promise<Check> {
  try {
    const admin = await openAdmin(queue, retainMs, silentLog);
    const health = await admin.health().finally(() => admin.close());
    return health.ok
      ? passed("store", durabilityOf(queue) + warningIn(health))
      : failed("store", health.reason);
  } catch (error) {
    if (error instanceof QueueMissing) return checkMissing(queue);
    if (error instanceof StoreUnavailable) return failed("store", error.message);
    throw error;
  }
}

function warningIn({ warning }: { readonly warning?: string | undefined }): string {
  return warning === undefined ? "" : `; warning: ${warning}`;
}

/** Before the first start there is no queue, which is no failure if one can be created. */
async function checkMissing(queue: QueueSettings): Promise<Check> {
  const creator = "the first server or worker creates it";
  if (queue.kind === "redis") {
    const health = await checkRedis(queue, silentLog);
    if (!health.ok) return failed("store", health.reason);
    const none = `no queue under prefix ${queue.prefix} yet: ${creator}`;
    return passed("store", `${durabilityOf(queue)}; ${none}${warningIn(health)}`);
  }
  const { folder } = queue;
  const user = process.getuid?.();
  const obstacle = obstacleIn(folder);
  if (obstacle !== undefined) {
    const reason = `DATA_DIR ${folder} holds no queue, and user ${user} cannot create it (${obstacle})`;
    return failed("store", reason);
  }
  const caveat = user === 0 ? "; root cannot see whether the service's user may do so" : "";
  return passed("store", `no queue in ${folder} yet: ${creator}${caveat}`);
}
