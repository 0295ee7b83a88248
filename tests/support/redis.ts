// A real redis-server for one test: on a free port, in its own folder, by default with the settings that
// docs/deploy-redis.md requires.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Clock } from "../../chaos/clock/clock.ts";
import { eventually, freePort } from "./eventually.ts";

export const durableSettings = {
  appendonly: "yes",
  appendfsync: "always",
  "no-appendfsync-on-rewrite": "no",
  "maxmemory-policy": "noeviction",
  save: "",
};

/** Replicas do not wait for others before their first synchronization. */
const quickReplicas = { "repl-diskless-sync-delay": "0" };

export interface RedisServer {
  readonly url: string;
  readonly port: number;
  readonly folder: string;
  /** Runs `redis-cli` on this server. */
  cli(...command: string[]): string;
  kill(signal: NodeJS.Signals): void;
  /** Kills it and starts it again on the same port and folder. */
  restart(settings?: Record<string, string>): Promise<void>;
  /** Starts it after a kill. */
  start(settings?: Record<string, string>): Promise<void>;
  stop(): Promise<void>;
}

const running = new Set<() => void>();
process.on("exit", () => {
  for (const kill of running) kill();
});

/** @param clock the wall clock to use instead of the machine's */
export async function startRedis(settings: Record<string, string> = {}, clock?: Clock): Promise<RedisServer> {
  const folder = mkdtempSync(join(tmpdir(), "reliable-email-redis-"));
  let port = await freePort();
  let child: Bun.Subprocess | undefined;
  const kill = () => child?.kill("SIGKILL");
  running.add(kill);

  function cli(...command: string[]): string {
    const { stdout } = Bun.spawnSync(["redis-cli", "-p", String(port), ...command]);
    return stdout.toString().trim();
  }

  /** Returns false if it exited immediately, as on a port that is taken. */
  async function comesUp(more: Record<string, string> = {}): Promise<boolean> {
    const all = { ...durableSettings, ...quickReplicas, ...settings, ...more };
    const options = Object.entries(all).flatMap(([name, value]) => [`--${name}`, value]);
    const started = Bun.spawn(
      ["redis-server", "--port", String(port), "--dir", folder, "--bind", "127.0.0.1", ...options],
      {
        env: { ...process.env, ...clock?.env },
        stdout: "ignore",
        stderr: "inherit",
      },
    );
    child = started;
    const hasEnded = () => started.exitCode !== null || started.signalCode !== null;
    // Checks that the answer is its own, not that of another Redis on the same port.
    await eventually(
      "redis-server answers",
      () => hasEnded() || cli("INFO", "server").includes(`process_id:${started.pid}\r`),
    );
    return !hasEnded();
  }

  async function start(more?: Record<string, string>): Promise<void> {
    if (!(await comesUp(more))) throw new Error(`redis-server exited, on port ${port}`);
  }

  for (let tries = 1; !(await comesUp()); tries += 1) {
    if (tries === 3) throw new Error("redis-server failed to start");
    port = await freePort();
  }
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    folder,
    cli,
    start,
    kill: (signal) => child?.kill(signal),
    async restart(more) {
      child?.kill("SIGKILL");
      await child?.exited;
      await start(more);
    },
    async stop() {
      child?.kill("SIGKILL");
      await child?.exited;
      running.delete(kill);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
