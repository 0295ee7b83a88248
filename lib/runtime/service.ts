// A service runs until a signal or a failure of its own ends it. It drains first, but not for longer than it may.

import { readFileSync } from "node:fs";
import { describe, errorCode } from "./errors.ts";
import { createLog, type Log, type LogLevel } from "./log.ts";

export interface Service {
  /** Takes on nothing new; resolves when everything that has begun is finished. */
  drain(): Promise<void>;
  /** Cuts short what `drain` still waits for, as far as that is possible. */
  hurry?(): void;
}

interface ServiceConfig {
  readonly logLevel: LogLevel;
  readonly secrets: readonly string[];
  readonly shutdownTimeoutMs: number;
  /** See {@link SignalHandlers}. */
  readonly signalRepeatMs: number;
}

export interface ServiceContext<Config> {
  readonly config: Config;
  readonly log: Log;
  /** To be called if the service cannot go on, now or later. */
  readonly onFatal: (reason: string) => void;
}

/** Throws {@link CannotStart}. */
export type StartService<Config> = (context: ServiceContext<Config>) => Service | Promise<Service>;

/** Why a service cannot start, for its operator. */
export class CannotStart extends Error {
  constructor(reason: string) {
    super(`Cannot start: ${reason}`);
  }
}

/**
 * Serves HTTP. Throws {@link CannotStart}.
 * @param prefix of the names of the settings that say where, HOST and PORT
 */
export function serveHttp(
  prefix: "" | "ADMIN_" | "WEB_",
  options: Bun.Serve.Options<undefined> & { readonly hostname: string; readonly port: number },
): Bun.Server<undefined> {
  const { hostname, port } = options;
  try {
    return Bun.serve({ development: false, ...options });
  } catch (error) {
    const code = errorCode(error) ?? "unknown error";
    const none = prefix === "" ? "" : `, or ${prefix}PORT= for none`;
    throw new CannotStart(
      code === "EADDRINUSE"
        ? `${prefix}PORT ${port} is taken by another process: stop it, or set another ${prefix}PORT${none}`
        : `${prefix}HOST ${hostname} and ${prefix}PORT ${port} cannot be listened on (${code})`,
    );
  }
}

/** The URL at which this machine reaches a server that listens on `host`. */
export function urlOf(host: string, port: number): string {
  const reached = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
  return `http://${reached.includes(":") ? `[${reached}]` : reached}:${port}`;
}

/**
 * Runs a service until it ends the process. After the first signal it drains and the exit code is 0, also if
 * `shutdownTimeoutMs` is over before it has; shortly before that, it is told to hurry. If the service cannot go on, it
 * drains in a hurry, and the exit code is 1. A second signal exits at once. SIGUSR1 and SIGUSR2 do nothing.
 */
export async function runService<Config extends ServiceConfig>(
  config: Config,
  log: Log,
  start: StartService<Config>,
): Promise<void> {
  const { shutdownTimeoutMs: timeoutMs, signalRepeatMs: repeatMs } = config;
  let service: Service | undefined;
  let stopping = false;

  async function stop(exitCode: 0 | 1): Promise<void> {
    if (service === undefined) process.exit(exitCode);
    if (stopping) return;
    stopping = true;
    setTimeout(() => service?.hurry?.(), exitCode === 0 ? Math.max(timeoutMs - 1000, timeoutMs / 2) : 0);
    setTimeout(() => {
      log.warn("drain-incomplete", { timeoutMs });
      process.exit(exitCode);
    }, timeoutMs);
    try {
      await service.drain();
    } catch (error) {
      log.error("drain-failed", describe(error));
      process.exit(1);
    }
    if (exitCode === 0) log.info("stopped");
    process.exit(exitCode);
  }

  // Before the start: a signal may come as soon as the log reports the start.
  onSignals({
    repeatMs,
    first(signal) {
      log.info("drain-started", { signal });
      void stop(0);
    },
    second(signal) {
      log.warn("exit-forced", { signal });
      process.exit(1);
    },
  });
  // By default, either would end the process.
  for (const signal of ["SIGUSR1", "SIGUSR2"] as const) process.on(signal, () => {});
  const onFatal = (reason: string) => {
    log.error("store-unusable", { reason });
    void stop(1);
  };
  try {
    service = await start({ config, log, onFatal });
  } catch (error) {
    if (!(error instanceof CannotStart)) throw error;
    console.error(error.message);
    process.exit(1);
  }
}

type ReadConfig<Config> =
  | {
      readonly ok: true;
      readonly config: Config;
      readonly warnings: readonly { readonly setting: string; readonly reason: string }[];
    }
  | { readonly ok: false; readonly message: string };

/** Runs a service with a log on stdout. If the configuration could not be read, the process exits with 2. */
export async function runProcess<Config extends ServiceConfig>(
  read: ReadConfig<Config>,
  start: StartService<Config>,
): Promise<void> {
  if (!read.ok) {
    console.error(read.message);
    process.exit(2);
  }
  const { config } = read;
  const log = createLog({ level: config.logLevel, secrets: config.secrets });
  for (const { setting, reason } of read.warnings) log.warn("setting-suspicious", { setting, reason });
  await runService(config, log, start);
}

/** Whether this process is to outlive its terminal, as under `nohup`. */
function ignoresHangup(): boolean {
  try {
    const [, mask] = /^SigIgn:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8")) ?? [];
    // Bit 0 is signal 1, SIGHUP.
    return mask !== undefined && (BigInt(`0x${mask}`) & 1n) === 1n;
  } catch {
    // Only Linux has this file.
    return false;
  }
}

export interface SignalHandlers {
  /** Lets the process finish. */
  readonly first: (signal: NodeJS.Signals) => void;
  /** Ends it at once. */
  readonly second: (signal: NodeJS.Signals) => void;
  /**
   * How long the second signal counts as the first one again, ms: Ctrl-C under npm arrives from the terminal and from
   * npm, and a service manager may signal a whole group. A third signal always counts as a second one.
   */
  readonly repeatMs: number;
}

/**
 * Handles SIGTERM, SIGINT and, unless it was ignored at startup, SIGHUP.
 * @returns removes the handlers
 */
export function onSignals({ first, second, repeatMs }: SignalHandlers): () => void {
  let count = 0;
  let firstAtMs = 0;
  const handle = (signal: NodeJS.Signals) => {
    count += 1;
    const nowMs = performance.now();
    if (count === 1) {
      firstAtMs = nowMs;
      first(signal);
    } else if (count > 2 || nowMs > firstAtMs + repeatMs) {
      second(signal);
    }
  };
  const signals: NodeJS.Signals[] = ["SIGTERM", "SIGINT"];
  // A handler would undo what nohup did.
  if (!ignoresHangup()) signals.push("SIGHUP");
  for (const signal of signals) process.on(signal, handle);
  return () => {
    for (const signal of signals) process.off(signal, handle);
  };
}
