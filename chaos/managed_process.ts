// One process of a run, looked after as systemd would: what dies is started again.

import { closeSync, openSync } from "node:fs";
import { tmpdir } from "node:os";

/** Before a process that ended by itself is started again, ms. */
const restartPauseMs = 200;
/** For a process that was told to stop, ms; SHUTDOWN_TIMEOUT of the service is shorter. */
const stopTimeoutMs = 30_000;

export interface ManagedProcessOptions {
  readonly name: string;
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Done before each start. */
  readonly before?: () => void;
  /** What it prints is appended here. */
  readonly logFile: string;
  /** Told of an end that nobody asked for. */
  onExit(code: number | null, signal: string | number | null): void;
}

export interface ManagedProcess {
  readonly name: string;
  /** Of the process that runs; undefined while none does. */
  readonly pid: number | undefined;
  /** Starts it, unless it runs. */
  start(): void;
  /** Sends a signal to what runs, which is expected to live on. */
  signal(signal: NodeJS.Signals): void;
  /** Kills it, and waits until it is dead. It stays so until it is started. */
  kill(): Promise<void>;
  /**
   * SIGTERM; resolves with the exit code, or the signal that ended it, undefined if it did not run. It stays down until
   * it is started.
   */
  stop(): Promise<number | string | undefined>;
}

const running = new Set<Bun.Subprocess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

export function createManagedProcess({
  name,
  command,
  env,
  before,
  logFile,
  onExit,
}: ManagedProcessOptions): ManagedProcess {
  let child: Bun.Subprocess | undefined;
  /** Nobody wants it to run. */
  let down = true;

  function start(): void {
    down = false;
    if (child !== undefined) return;
    before?.();
    const log = openSync(logFile, "a");
    const started = Bun.spawn([...command], {
      // Away from the project: there may be an .env in it, of whoever works there.
      cwd: tmpdir(),
      env: { PATH: process.env["PATH"] ?? "", ...env },
      stdin: "ignore",
      stdout: log,
      stderr: log,
    });
    closeSync(log);
    child = started;
    running.add(started);
    void started.exited.then(() => {
      running.delete(started);
      if (child === started) child = undefined;
      if (down) return;
      onExit(started.exitCode, started.signalCode);
      setTimeout(() => {
        if (!down) start();
      }, restartPauseMs);
    });
  }

  async function end(signal: NodeJS.Signals): Promise<number | string | undefined> {
    down = true;
    const ending = child;
    if (ending === undefined) return undefined;
    ending.kill(signal);
    await ending.exited;
    return ending.exitCode ?? ending.signalCode ?? undefined;
  }

  return {
    name,
    get pid() {
      return child?.pid;
    },
    start,
    signal(signal) {
      child?.kill(signal);
    },
    async kill() {
      await end("SIGKILL");
    },
    async stop() {
      const timer = setTimeout(() => child?.kill("SIGKILL"), stopTimeoutMs);
      // It may be frozen, and would never see the signal.
      child?.kill("SIGCONT");
      const code = await end("SIGTERM");
      clearTimeout(timer);
      return code;
    },
  };
}
