// One process of a run, supervised as systemd would: when it dies, it is restarted.

import { closeSync, openSync } from "node:fs";
import { tmpdir } from "node:os";
import { atExit } from "../tests/support/at_exit.ts";

/** Pause before a process that exited on its own is restarted, ms. */
const restartPauseMs = 200;
/** Longest wait for a process to stop, ms; the service's SHUTDOWN_TIMEOUT is shorter. */
const stopTimeoutMs = 30_000;

export interface ManagedProcessOptions {
  readonly name: string;
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Runs before each start. */
  readonly before?: () => void;
  /** Its output is appended here. */
  readonly logFile: string;
  /** Called when the process exits without being asked to. */
  onExit(code: number | null, signal: string | number | null): void;
}

export interface ManagedProcess {
  readonly name: string;
  /** Undefined while the process is not running. */
  readonly pid: number | undefined;
  /** Starts the process, unless it is running. */
  start(): void;
  /** Sends a signal that the process is expected to survive. */
  signal(signal: NodeJS.Signals): void;
  /** Kills the process and waits for its exit. It stays down until it is started. */
  kill(): Promise<void>;
  /**
   * Sends SIGTERM. Resolves with the exit code, or the signal that ended the process; undefined if it was not running.
   * The process stays down until it is started.
   */
  stop(): Promise<number | string | undefined>;
}

const running = new Set<Bun.Subprocess>();
atExit(() => {
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
  /** The process is meant to be down. */
  let down = true;

  function start(): void {
    down = false;
    if (child !== undefined) return;
    before?.();
    const log = openSync(logFile, "a");
    const started = Bun.spawn([...command], {
      // Outside the project, where the developer may have an .env file.
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
      // A frozen process would never see the signal.
      child?.kill("SIGCONT");
      const code = await end("SIGTERM");
      clearTimeout(timer);
      return code;
    },
  };
}
