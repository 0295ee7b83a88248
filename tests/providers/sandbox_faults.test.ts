// Faults that are set while a sandbox runs, and the second sandbox.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readConfig } from "../../lib/config/config.ts";
import { registry } from "../../lib/providers/registry.ts";
import type { SandboxFaults } from "../../lib/providers/sandbox/faults.ts";
import { faultsFile, parseFaults, readFaults, writeFaults } from "../../lib/providers/sandbox/faults_file.ts";
import { outgoing, send } from "./adapters.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "reliable-email-faults-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const latency = { minMs: 0, maxMs: 0 };
const none: SandboxFaults = { chances: {}, latency };
const down: SandboxFaults = { chances: { unavailable: 1 }, latency };

function settings(over: Record<string, string> = {}) {
  const read = readConfig({ PROVIDERS: "sandbox,sandbox-2", DATA_DIR: folder, ...over }, "worker");
  if (!read.ok) throw new Error(read.message);
  return read.config;
}

async function outcomeOf(provider: Awaited<ReturnType<typeof registry.sandbox.create>>): Promise<string> {
  const { result } = await send(provider, outgoing(1));
  return result.kind === "each" ? result.outcomes[0]!.kind : result.outcome.kind;
}

test("sandbox: faults set while it runs apply from the next request on, until they are removed", async () => {
  const sandbox = await registry.sandbox.create(settings());
  expect(await outcomeOf(sandbox)).toBe("accepted");
  writeFaults(folder, "sandbox", down);
  expect(await outcomeOf(sandbox)).toBe("unavailable");
  writeFaults(folder, "sandbox", none);
  expect(await outcomeOf(sandbox)).toBe("accepted");
});

test("sandbox: faults set while it runs replace those of SANDBOX_FAULTS", async () => {
  const sandbox = await registry.sandbox.create(settings({ SANDBOX_FAULTS: "unavailable:100%" }));
  expect(await outcomeOf(sandbox)).toBe("unavailable");
  writeFaults(folder, "sandbox", none);
  expect(await outcomeOf(sandbox)).toBe("accepted");
});

test("sandbox: a worker that starts removes the faults that were set", async () => {
  writeFaults(folder, "sandbox", down);
  const sandbox = await registry.sandbox.create(settings());
  expect(existsSync(faultsFile(folder, "sandbox"))).toBe(false);
  expect(await outcomeOf(sandbox)).toBe("accepted");
});

test("sandbox: a file without valid faults changes nothing", async () => {
  const sandbox = await registry.sandbox.create(settings({ SANDBOX_FAULTS: "unavailable:100%" }));
  for (const text of ["", "{", "null", '{"chances":{"unavailable":2},"latency":{"minMs":0,"maxMs":0}}']) {
    writeFileSync(faultsFile(folder, "sandbox"), text);
    expect(await outcomeOf(sandbox)).toBe("unavailable");
  }
});

test("sandbox: the second one shares the outbox, but has separate faults and ignores SANDBOX_FAULTS", async () => {
  const config = settings({ SANDBOX_FAULTS: "unavailable:100%" });
  const [first, second] = await Promise.all([
    registry.sandbox.create(config),
    registry["sandbox-2"].create(config),
  ]);
  expect([first.name, second.name]).toEqual(["sandbox", "sandbox-2"]);
  expect(await outcomeOf(first)).toBe("unavailable");
  expect(await outcomeOf(second)).toBe("accepted");
  expect(readdirSync(join(folder, "outbox"))).toHaveLength(1);
  writeFaults(folder, "sandbox-2", down);
  writeFaults(folder, "sandbox", none);
  expect(await outcomeOf(first)).toBe("accepted");
  expect(await outcomeOf(second)).toBe("unavailable");
});

test("faults: they are written atomically, and read back unchanged", () => {
  const faults: SandboxFaults = {
    chances: { hang: 0.1, reject: 1, "lose-answer": 0.9 },
    latency: { minMs: 1, maxMs: 2 },
  };
  writeFaults(join(folder, "new"), "sandbox", faults);
  expect(readFaults(faultsFile(join(folder, "new"), "sandbox"))).toEqual(faults);
  expect(readdirSync(join(folder, "new"))).toEqual(["sandbox-faults.json"]);
  expect(readFaults(faultsFile(folder, "sandbox"))).toBeUndefined();
});

test.each<[string, unknown]>([
  ["is none", undefined],
  ["lacks its latency", { chances: {} }],
  ["has an unknown fault", { chances: { explode: 1 }, latency }],
  ["has a chance over 1", { chances: { hang: 1.1 }, latency }],
  ["has a chance under 0", { chances: { hang: -0.1 }, latency }],
  ["has more than 1 in all for a request", { chances: { hang: 0.6, throttle: 0.6 }, latency }],
  ["has more than 1 in all for an email", { chances: { reject: 0.6, "refuse-sender": 0.6 }, latency }],
  ["has a latency that ends before it begins", { chances: {}, latency: { minMs: 2, maxMs: 1 } }],
  ["has a latency over an hour", { chances: {}, latency: { minMs: 0, maxMs: 3_600_001 } }],
])("faults: a value that %s is refused", (_, value) => {
  expect(parseFaults(value)).toBeUndefined();
});

test("docs: the faults file in docs/configuration.md is valid", () => {
  const page = readFileSync(join(import.meta.dir, "../../docs/configuration.md"), "utf8");
  const [, json = ""] = /```json\n(.*)\n```/.exec(page) ?? [];
  expect(parseFaults(JSON.parse(json))).toEqual(down);
});
