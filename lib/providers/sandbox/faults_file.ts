// The faults that were set while a sandbox runs: a file beside the outbox that overrides SANDBOX_FAULTS from the next
// request on. The web client writes it, in any process, and a worker removes it at its start.

import { randomUUID } from "node:crypto";
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { makeDir } from "../../runtime/durable_dir.ts";
import { emailFaults, requestFaults, type SandboxFaults } from "./faults.ts";

const latencyMaxMs = 3_600_000;

const chance = v.pipe(v.number(), v.minValue(0), v.maxValue(1));
const latencyMs = v.pipe(v.number(), v.minValue(0), v.maxValue(latencyMaxMs));
const chances = v.strictObject(
  Object.fromEntries([...requestFaults, ...emailFaults].map((name) => [name, v.optional(chance)])),
);
/** A little over 1, since sums of decimals are inexact. */
const sumMax = 1 + 1e-8;
const schema: v.GenericSchema<unknown, SandboxFaults> = v.strictObject({
  chances: v.pipe(
    chances,
    v.check(
      (given) =>
        [requestFaults, emailFaults].every(
          (names) => names.reduce((sum, name) => sum + (given[name] ?? 0), 0) <= sumMax,
        ),
      "more than 100% in all",
    ),
  ),
  latency: v.pipe(
    v.strictObject({ minMs: latencyMs, maxMs: latencyMs }),
    v.check(({ minMs, maxMs }) => minMs <= maxMs, "a latency that ends before it begins"),
  ),
});

/** Undefined if the value is not of this form. */
export function parseFaults(value: unknown): SandboxFaults | undefined {
  const { success, output } = v.safeParse(schema, value);
  return success ? output : undefined;
}

/** @param name of the sandbox in the registry */
export function faultsFile(dataDir: string, name: string): string {
  return join(dataDir, `${name}-faults.json`);
}

/** Undefined if there is no file, or none that can be read. */
export function readFaults(path: string): SandboxFaults | undefined {
  try {
    return parseFaults(JSON.parse(readFileSync(path, "utf8")));
  } catch {
    return undefined;
  }
}

/** Whole or not at all. Throws what keeps the file from being written. */
export function writeFaults(dataDir: string, name: string, faults: SandboxFaults): void {
  makeDir(dataDir);
  const temporary = join(dataDir, `.${randomUUID()}.tmp`);
  try {
    writeFileSync(temporary, `${JSON.stringify(faults)}\n`, { flag: "wx", mode: 0o600 });
    renameSync(temporary, faultsFile(dataDir, name));
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

/** Removes the file, and ignores a failure: the first request will report a folder that cannot be used. */
export function removeFaults(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {}
}
