// The processes that `dev` runs: this same program again, as `server` and `worker`. Each gets one SIGTERM, whatever
// arrives here, and none outlives this process, however it ends.

import { join } from "node:path";

export interface Child {
  readonly name: string;
  /** How it ended, in words; nothing if as it should. */
  readonly exited: Promise<string | undefined>;
  /** Tells it to finish, once. */
  stop(): void;
}

export interface ChildOptions {
  /** A command of this program that knows `--until-stdin-closes`. */
  readonly name: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly onLine: (line: string) => void;
}

const running = new Set<Bun.Subprocess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

export function startChild({ name, env, onLine }: ChildOptions): Child {
  const child = Bun.spawn([...thisProgram(), name, "--until-stdin-closes"], {
    env,
    // Out of reach of the terminal: Ctrl-C there must not reach the child beside the SIGTERM from here.
    detached: true,
    // Never written to. It closes when this process is gone, even by SIGKILL, and the child then stops.
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  running.add(child);
  const read = readLines(child.stdout, onLine);
  let stopped = false;
  return {
    name,
    exited: child.exited.then(async () => {
      running.delete(child);
      await read;
      // Killed by what it is told, it had not got as far as to heed it.
      if (child.exitCode === 0 || (stopped && child.signalCode === "SIGTERM")) return undefined;
      return child.signalCode === null ? `exit code ${child.exitCode}` : String(child.signalCode);
    }),
    stop() {
      if (!stopped) child.kill("SIGTERM");
      stopped = true;
    },
  };
}

function thisProgram(): string[] {
  if (Bun.isStandaloneExecutable) return [process.execPath];
  return [process.execPath, "--no-install", join(import.meta.dir, "..", "main.ts")];
}

async function readLines(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  onLine: (line: string) => void,
): Promise<void> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) onLine(line);
  }
}
