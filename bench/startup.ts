// startup: the time from the start of the executable to its first 200, and its memory then, next to a compiled server
// that does nothing.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../tests/support/eventually.ts";
import { residentMiB } from "../tests/support/process_memory.ts";
import { startCommand } from "../tests/support/service.ts";
import { type Case, compare, type Sample } from "./compare.ts";
import { completeEmail, form } from "./email.ts";
import { fill, startStore, type StoreKind } from "./store.ts";
import type { Table } from "./table.ts";

const root = join(import.meta.dir, "..");

export const programs = [
  "limit: a compiled server that does nothing",
  "reliable-email server, embedded",
  "reliable-email server, Redis",
] as const;

export async function benchStartup({ rounds }: { readonly rounds: number }): Promise<Table> {
  const folder = mkdtempSync(join(tmpdir(), "reliable-email-bench-"));
  try {
    const service = join(folder, "reliable-email");
    const bare = join(folder, "bare");
    build("deploy/build.ts", "--outdir", folder);
    build("build", "--compile", "--production", "--bytecode", "--format=esm", `--outfile=${bare}`, bareFile);
    const start = (program: (typeof programs)[number], command: string[], kind?: StoreKind): Case => ({
      labels: { program },
      group: 0,
      measure: () => measureStart(command, kind),
    });
    const cases = [
      start(programs[0], [bare]),
      start(programs[1], [service, "server"], "embedded"),
      start(programs[2], [service, "server"], "redis"),
    ];
    return {
      name: "startup",
      notes: [`From exec to the first 200, on a store that has a queue; medians (and ranges) of ${rounds}.`],
      columns: [["program"], ["ms to the first 200", "times the first"], ["CPU ms", "resident MiB"]],
      ranged: ["ms to the first 200"],
      rows: (await compare(cases, { rounds, rate: "ms to the first 200" })).map(
        ({ "times ours": ratio, ...row }) => ({ ...row, "times the first": ratio }),
      ),
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const bareFile = join(import.meta.dir, "servers/bare.ts");

/** Runs Bun in the project. */
function build(...args: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync([process.execPath, ...args], { cwd: root, stdout: "ignore" });
  if (exitCode !== 0) throw new Error(`bun ${args.join(" ")} fails: ${stderr.toString()}`);
}

/** Starts a server and waits for its first answer. The queue is not created by it: a server restarts far more often. */
export async function measureStart(command: string[], kind: StoreKind | undefined): Promise<Sample> {
  const store = kind && (await startStore(kind));
  if (store !== undefined) await fill(store.queue, completeEmail, 1);
  const port = String(await freePort());
  const env = { PORT: port, ADMIN_PORT: "", DEFAULT_FROM: "shop@example.com", ...store?.env };
  const startMs = performance.now();
  const child = startCommand(command, { env });
  try {
    // Requests before it listens would take CPU time that it needs.
    while (!child.lines.some(({ event }) => event === "server-listening")) {
      if (performance.now() - startMs > startMaxMs) return { ok: false, fault: "it does not listen" };
      await Bun.sleep(1);
    }
    const body = new URLSearchParams(form);
    const { status } = await fetch(`http://127.0.0.1:${port}/`, { method: "POST", body });
    if (status !== 200) return { ok: false, fault: `the first answer is ${status}` };
    const elapsedMs = performance.now() - startMs;
    const resident = residentMiB(child.pid) ?? Number.NaN;
    await child.kill();
    const numbers = {
      "ms to the first 200": elapsedMs,
      "CPU ms": child.cpuMs(),
      "resident MiB": resident,
    };
    return { ok: true, numbers };
  } finally {
    await child.kill();
    await store?.stop();
  }
}

const startMaxMs = 60_000;
