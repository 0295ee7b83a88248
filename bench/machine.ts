// The machine that a run was measured on.

import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { cpus, release, tmpdir } from "node:os";
import { join } from "node:path";
import { figure } from "./table.ts";

export interface Machine {
  readonly date: string;
  readonly commit: string;
  readonly cores: number;
  readonly processor: string;
  readonly kernel: string;
  readonly bun: string;
  readonly node: string;
  readonly redis: string;
  /** Median time of a small write with fdatasync in the folder of the stores. */
  readonly fdatasyncMs: number;
}

export function describeMachine(): Machine {
  const outputOf = (...command: string[]) =>
    Bun.spawnSync(command, { cwd: import.meta.dir })
      .stdout.toString()
      .trim();
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: outputOf("git", "rev-parse", "--short=12", "HEAD"),
    cores: cpus().length,
    processor: cpus()[0]?.model ?? "unknown",
    kernel: release(),
    bun: Bun.version,
    node: outputOf("node", "--version"),
    redis: /v=(\S+)/.exec(outputOf("redis-server", "--version"))?.[1] ?? "unknown",
    fdatasyncMs: measureFdatasyncMs(),
  };
}

function measureFdatasyncMs(): number {
  const folder = mkdtempSync(join(tmpdir(), "reliable-email-bench-"));
  const file = openSync(join(folder, "file"), "w");
  const block = Buffer.alloc(4096);
  const times = Array.from({ length: 100 }, () => {
    const startMs = performance.now();
    writeSync(file, block);
    fdatasyncSync(file);
    return performance.now() - startMs;
  });
  closeSync(file);
  rmSync(folder, { recursive: true });
  return figure(times)!.median;
}
