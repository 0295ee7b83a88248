// A real redis-server for one test: on a free port, in its own folder, by default with the settings that
// docs/deploy-redis.md requires.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Clock } from "../../chaos/clock/clock.ts";
import { atExit } from "./at_exit.ts";
import { eventually, freePort } from "./eventually.ts";
import { askRedis } from "./redis_command.ts";

export const durableSettings = {
  appendonly: "yes",
  appendfsync: "always",
  "no-appendfsync-on-rewrite": "no",
  "maxmemory-policy": "noeviction",
  save: "",
};

/** Replicas do not wait for others before their first synchronization. */
const quickReplicas = { "repl-diskless-sync-delay": "0" };

/** A start waits for this: while Redis loads its data, it answers INFO, and refuses all other commands. */
type AwaitedState = "data" | "answer";

export interface RedisServer {
  readonly name: string;
  readonly url: string;
  readonly port: number;
  /** The port by which others know it. */
  readonly announcedPort: number;
  readonly folder: string;
  /** False after SIGKILL or SIGSTOP: it answers nobody then. */
  readonly isRunning: boolean;
  /** Sends it a command, waits for the reply, and returns it as redis-cli prints it into a pipe. */
  cli(...command: string[]): string;
  kill(signal: NodeJS.Signals): void;
  /** Kills it and starts it again on the same port and folder. */
  restart(settings?: Record<string, string>, awaited?: AwaitedState): Promise<void>;
  /** Starts it after a kill. */
  start(settings?: Record<string, string>, awaited?: AwaitedState): Promise<void>;
  stop(): Promise<void>;
}

/** Each kills a server and removes its temporary folder. */
const running = new Set<() => void>();
atExit(() => {
  for (const end of running) end();
});

export interface RedisProcess {
  /** The wall clock to use instead of the machine's. */
  readonly clock?: Clock;
  /** Files of its folder, by name, written before its first start. */
  readonly files?: Readonly<Record<string, string>>;
  /** Arguments before the settings: a configuration file, a mode. */
  readonly args?: readonly string[];
  /** Its folder, which then remains after its end; a temporary one if absent. */
  readonly folder?: string;
  /** Its name among several. */
  readonly name?: string;
  /** The port by which others know it; its own if absent. */
  readonly announcedPort?: number;
}

/** @param settings its `port` is a free one unless given */
export async function startRedis(
  settings: Readonly<Record<string, string>> = {},
  { clock, files = {}, args = [], folder: kept, name = "redis", announcedPort }: RedisProcess = {},
): Promise<RedisServer> {
  const folder = kept ?? mkdtempSync(join(tmpdir(), "reliable-email-redis-"));
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  let port = settings["port"] === undefined ? await freePort() : Number(settings["port"]);
  let child: Bun.Subprocess | undefined;
  let isRunning = false;
  const end = () => {
    child?.kill("SIGKILL");
    if (kept === undefined) rmSync(folder, { recursive: true, force: true, maxRetries: 10 });
  };
  running.add(end);

  const cli = (...command: string[]) => askRedis(port, command, settings["requirepass"]);

  /** Returns false if it exited immediately, as on a port that is taken. */
  async function comesUp(
    more: Record<string, string> = {},
    awaited: AwaitedState = "data",
  ): Promise<boolean> {
    const own = { port: String(port), dir: folder, bind: "127.0.0.1" };
    const all = { ...durableSettings, ...quickReplicas, ...settings, ...more, ...own };
    const options = Object.entries(all).flatMap(([name, value]) => [`--${name}`, value]);
    const started = Bun.spawn(["redis-server", ...args, ...options], {
      cwd: folder,
      env: { ...process.env, ...clock?.env },
      stdout: "ignore",
      stderr: "inherit",
    });
    child = started;
    const hasEnded = () => started.exitCode !== null || started.signalCode !== null;
    await eventually("redis-server answers", () => {
      if (hasEnded()) return true;
      const info = cli("INFO");
      // Checks that the answer is its own, not that of another Redis on the same port.
      return (
        info.includes(`process_id:${started.pid}\r`) &&
        (awaited === "answer" || !info.includes("\nloading:1\r"))
      );
    });
    isRunning = !hasEnded();
    return isRunning;
  }

  async function stop(): Promise<void> {
    child?.kill("SIGKILL");
    await child?.exited;
    isRunning = false;
    running.delete(end);
    if (kept === undefined) rmSync(folder, { recursive: true, force: true });
  }

  async function start(more?: Record<string, string>, awaited?: AwaitedState): Promise<void> {
    if (!(await comesUp(more, awaited))) throw new Error(`redis-server exited, on port ${port}`);
  }

  for (let tries = 1; !(await comesUp()); tries += 1) {
    if (tries === 3 || settings["port"] !== undefined) {
      await stop();
      throw new Error(`redis-server failed to start, on port ${port}`);
    }
    port = await freePort();
  }
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    folder,
    cli,
    start,
    stop,
    get isRunning() {
      return isRunning;
    },
    name,
    announcedPort: announcedPort ?? port,
    kill(signal) {
      child?.kill(signal);
      if (["SIGKILL", "SIGSTOP", "SIGCONT"].includes(signal)) isRunning = signal === "SIGCONT";
    },
    async restart(more, awaited) {
      child?.kill("SIGKILL");
      await child?.exited;
      await start(more, awaited);
    },
  };
}
