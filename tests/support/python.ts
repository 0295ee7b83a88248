// Python as the tests run it: Debian's, which has the packages that tests/run installs. PATH may lead to another one.

import { expect } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { eventually } from "./eventually.ts";

export const python = existsSync("/usr/bin/python3") ? "/usr/bin/python3" : "python3";

/** The sources of the Python client. */
export const pythonFolder = join(import.meta.dir, "../../clients/python");

/** A minimal environment, in which Python finds the client's sources and writes no caches next to them. */
export const pythonEnv: Readonly<Record<string, string>> = {
  PATH: process.env["PATH"] ?? "",
  PYTHONPATH: pythonFolder,
  PYTHONDONTWRITEBYTECODE: "1",
  PYTHONDEVMODE: "1",
};

/** The ids of the emails that the sandbox wrote, once per file. A killed worker also leaves hidden files. */
export function idsInOutbox(dataDir: string): string[] {
  const files = new Bun.Glob("*.eml").scanSync({ cwd: join(dataDir, "outbox") });
  return [...files].map((name) => name.split(".")[0]!).toSorted();
}

export interface Stream {
  /** The ids of the emails that were acknowledged. */
  readonly ids: readonly string[];
  /** Waits for more acknowledgments. */
  moreAcknowledged(): Promise<unknown>;
  /** Stops the calls. Fails if one failed. */
  end(): Promise<void>;
}

/**
 * Starts calls of the client, one after another in several threads.
 * @param command a Python that has the client
 */
export function startStream(command: string, urls: readonly string[]): Stream {
  const child = Bun.spawn([command, join(pythonFolder, "tests/stream.py")], {
    env: {
      ...pythonEnv,
      PYTHONPATH: command === python ? pythonFolder : "",
      RELIABLE_EMAIL_URL: urls.join(","),
    },
    stdin: "pipe",
    stdout: "pipe",
    stderr: "pipe",
  });
  const ids: string[] = [];
  const read = (async () => {
    let rest = "";
    for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop()!;
      ids.push(...lines);
    }
  })();
  const stderr = child.stderr.text();
  return {
    ids,
    moreAcknowledged() {
      const before = ids.length;
      return eventually(
        () => `more is acknowledged than ${before}`,
        async () => {
          if (child.exitCode !== null) throw new Error(await stderr);
          return ids.length >= before + 50;
        },
      );
    },
    async end() {
      await child.stdin.end();
      await Promise.all([child.exited, read]);
      expect(await stderr).toBe("");
      expect(child.exitCode).toBe(0);
    },
  };
}
