// The benchmarks, tiny: they run, their tables have the documented shape, and what does not count is marked.

import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hasPeers, installPeers, isPeer } from "../bench/contestant.ts";
import { benchDeliver, workers } from "../bench/deliver.ts";
import { measureFailover } from "../bench/failover.ts";
import { benchFiles } from "../bench/files.ts";
import { benchGrowth } from "../bench/growth.ts";
import { benchIdle, systems } from "../bench/idle.ts";
import { describeMachine } from "../bench/machine.ts";
import { report } from "../bench/report.ts";
import { benchSoak } from "../bench/soak.ts";
import { measureStart, programs } from "../bench/startup.ts";
import { storeKinds } from "../bench/store.ts";
import { benchSubmit, contestants } from "../bench/submit.ts";
import { figure, type Table, toMarkdown, toText } from "../bench/table.ts";
import { targets, targetsTable } from "../bench/targets.ts";
import { drawBenchmarks } from "../docs/images/draw_benchmarks.ts";

const tinySubmit = { rounds: 1, seconds: 0.1, connections: [2] };
const tinyDeliver = { rounds: 1, emails: 20, delaysMs: [0] };

/** Each row has a value in each column, except in those that only some have. */
function expectFilled({ columns = [], rows }: Table, optional: RegExp): void {
  expect(rows.length).toBeGreaterThan(0);
  for (const row of rows) {
    for (const column of columns.flat().filter((name) => !optional.test(name))) {
      const cell = row[column];
      const value = typeof cell === "object" ? cell.median : cell;
      expect(`${column}: ${typeof value === "number" ? Number.isFinite(value) : value}`).not.toMatch(
        /false|undefined|INVALID|^$/,
      );
    }
  }
}

describe("bench: submit", () => {
  test("measures each server, and compares it with ours", async () => {
    const table = await benchSubmit(
      tinySubmit,
      contestants.filter((one) => !isPeer(one)),
    );
    expectFilled(table, /Redis|call/);
    expect(table.rows[0]).toMatchObject({ server: "reliable-email, Redis", "times ours": { median: 1 } });
  });

  test.each([
    ["forget", /INVALID: \d+ answers with 200, but \d+ emails stored/],
    ["repeat", /INVALID: \d+ requests, but \d+ emails stored/],
    ["fail", /INVALID: \d+ of \d+ requests failed/],
    ["exit", /INVALID: /],
  ])("marks a server that is faulty (%s)", async (fault, expected) => {
    const faulty = {
      name: "faulty",
      file: "tests/support/faulty_server.ts",
      env: { FAULT: fault },
      store: "redis",
      count: ({ cli }: { cli: (...command: string[]) => string }) => Number(cli("LLEN", "emails")),
    } as const;
    const table = await benchSubmit(tinySubmit, [faulty]);
    expect(String(table.rows[0]!["requests/s"])).toMatch(expected);
    expect(table.rows[0]).not.toHaveProperty("times ours");
    expect(toText(table)).toContain("INVALID");
  });
});

describe("bench: deliver", () => {
  test("measures each worker", async () => {
    const table = await benchDeliver(
      tinyDeliver,
      workers.filter((one) => !isPeer(one)),
    );
    expectFilled(table, /Redis/);
  });

  test("marks a worker that leaves emails in the store", async () => {
    const { env: _, ...sdk } = workers.find(({ file }) => file.endsWith("sdk_batches.ts"))!;
    const { count, fill } = workers[0]!;
    const table = await benchDeliver({ ...tinyDeliver, settleMaxMs: 100 }, [
      { ...sdk, store: "embedded", count: count!, fill: fill! },
    ]);
    expect(table.rows[0]!["emails/s"]).toBe("INVALID: 20 of 20 emails are left in the store");
  });
});

test("bench: idle measures each system", async () => {
  const ours = systems.filter(({ server }) => !isPeer(server));
  expectFilled(await benchIdle({ samples: 1, seconds: 0.1 }, ours), /Redis/);
});

test("bench: growth measures each backlog on both queues", async () => {
  const table = await benchGrowth({ backlogs: [200, 100], emails: 10 });
  expectFilled(table, /Redis/);
  expect(table.rows.map(({ queue, waiting }) => `${queue} ${waiting}`)).toEqual([
    "embedded 100",
    "embedded 200",
    "redis 100",
    "redis 200",
  ]);
});

const withPeers = `bench: BullMQ takes part${hasPeers() ? "" : " (skipped: not installed in bench/peers)"}`;
test.skipIf(!hasPeers())(withPeers, async () => {
  expectFilled(await benchSubmit(tinySubmit, contestants.filter(isPeer).slice(1)), /call/);
  const [worker] = workers.filter(isPeer);
  expectFilled(await benchDeliver(tinyDeliver, [{ ...worker!, concurrencies: [4] }]), /^$/);
});

test("bench: peers that cannot be installed are named, with the reason", () => {
  const folder = mkdtempSync(join(tmpdir(), "reliable-email-bench-"));
  // Without a lock file, `npm ci` refuses before it needs a network.
  writeFileSync(join(folder, "package.json"), "{}");
  expect(installPeers(folder)).toMatch(/^without BullMQ: .*\bnpm ci\b.*lock/);
  rmSync(folder, { recursive: true });
});

test("bench: --json prints one document, and a value that is no number is refused", () => {
  const run = (...args: string[]) => {
    const command = [process.execPath, "--no-install", join(import.meta.dir, "../bench/main.ts"), ...args];
    const { exitCode, stdout, stderr } = Bun.spawnSync(command);
    return { exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
  };
  const { stdout } = run("growth", "--json", "--backlogs", "10", "--emails", "10");
  expect(JSON.parse(stdout)).toMatchObject({
    machine: { cores: expect.any(Number), fdatasyncMs: expect.any(Number) },
    options: { backlogs: "10" },
    tables: [{ name: "growth" }],
  });
  expect(run("submit", "--seconds", "0")).toMatchObject({
    exitCode: 2,
    stderr: expect.stringMatching(/^--seconds: "0" is not a positive number\n\nUsage/),
  });
  expect(run("sumbit")).toMatchObject({ exitCode: 2, stderr: expect.stringContaining("'sumbit'") });
});

test("bench: startup waits for the first answer", async () => {
  const bare = [process.execPath, "--no-install", join(import.meta.dir, "../bench/servers/bare.ts")];
  const sample = await measureStart(bare, undefined);
  expect(sample).toMatchObject({ ok: true, numbers: { "resident MiB": expect.any(Number) } });
});

test("bench: failover ends when the new primary has a replica and the server answers", async () => {
  const sample = await measureFailover("Sentinel", "killed");
  expect(sample).toMatchObject({ ok: true });
  const [promoted, usable, answered] = Object.values(sample.ok ? sample.numbers : {}) as number[];
  expect(usable).toBeGreaterThanOrEqual(promoted!);
  expect(answered).toBeGreaterThan(promoted!);
});

test("bench: files measures small emails without large ones, and beside them", async () => {
  const table = await benchFiles({ rounds: 1, seconds: 0.1, fileBytes: 300_000 });
  expectFilled(table, /^they took/);
  expect(table.rows).toHaveLength(6);
});

test("bench: soak measures each process", async () => {
  const table = await benchSoak({ minutes: 0.005 });
  expectFilled(table, /^$/);
  expect(table.notes[0]).toContain(": 0 of ");
});

test("bench: a run becomes Markdown and a picture", async () => {
  const submit = await benchSubmit({ ...tinySubmit, connections: [128] }, contestants.slice(-2));
  const invalid = {
    worker: "broken",
    "provider ms": 50,
    "emails/s": "INVALID: 3 of 20 emails arrived again",
  };
  const deliver = { name: "deliver", notes: [], columns: [["worker"], ["emails/s"]], rows: [invalid] };
  const run = { machine: describeMachine(), options: {}, tables: [submit, deliver] };
  const picture = drawBenchmarks(run);
  expect(picture).not.toMatch(/NaN|undefined/);
  expect(picture.match(/<rect/g)?.length).toBe(2);
  expect(picture).toContain(">invalid<");
  const text = report(run);
  expect(text).toContain("### submit\n");
  expect(text).toContain("| broken | INVALID: 3 of 20 emails arrived again |");
});

test("bench: a table shows medians, with ranges where it says so", () => {
  const table: Table = {
    name: "t",
    notes: ["A note."],
    columns: [["name"], ["rate", "cpu"]],
    ranged: ["rate"],
    rows: [{ name: "a", rate: figure([3000, 1000, 2000]), cpu: figure([0.5, 0.25]) }, { name: "b" }],
  };
  expect(toText(table).split("\n").slice(3)).toEqual([
    "name                 rate   cpu",
    "a     2,000 (1,000–3,000)  0.38",
    "b",
  ]);
  expect(toMarkdown(table).split("\n").slice(2)).toEqual([
    "| name | rate; cpu |",
    "| --- | --- |",
    "| a | 2,000 (1,000–3,000); 0.38 |",
    "| b |  |",
  ]);
});

test("bench: every target is found in a whole run, compared with its bound, and marked if it is missed", () => {
  const rowsOf = (label: string, names: readonly string[], numbers: object, also: readonly object[]) =>
    names.flatMap((name) => also.map((labels) => ({ [label]: name, ...labels, ...numbers })));
  const named = (all: readonly { readonly name: string }[]) => all.map(({ name }) => name);
  const one = { median: 1, min: 1, max: 1 };
  const run = {
    machine: describeMachine(),
    options: {},
    tables: [
      [
        "submit",
        rowsOf(
          "server",
          named(contestants),
          { "requests/s": one, "p50 ms": one, "p99 ms": one, "server CPU µs": one },
          [{ connections: 1 }, { connections: 32 }, { connections: 128 }],
        ),
      ],
      [
        "deliver",
        rowsOf("worker", named(workers), { "emails/s": one }, [{ "provider ms": 0 }, { "provider ms": 50 }]),
      ],
      ["idle", rowsOf("system", named(systems), { "to provider p50 ms": 1 }, [{}])],
      [
        "growth",
        rowsOf(
          "queue",
          storeKinds,
          { "bytes/email": 1, "submit emails/s": 1, "drain emails/s": 1 },
          [1000, 100_000, 1_000_000, 10_000_000].map((waiting) => ({ waiting })),
        ),
      ],
      ["startup", rowsOf("program", programs, { "ms to the first 200": one }, [{}])],
      [
        "soak",
        rowsOf("queue", storeKinds, { "growth %": 0 }, [{ process: "server" }, { process: "worker" }]),
      ],
    ].map(([name, rows]) => ({ name, notes: [], rows }) as Table),
  };
  const rows = new Map(targetsTable(run).rows.map((row) => [row["target"], row]));
  for (const { what, is, bounds } of targets) {
    for (const [queue, bound] of Object.entries(bounds)) {
      // Both sides of a ratio are 1 here, except where one side is a fixed number.
      const isMet = (is === "≤" ? bound >= 1 : bound <= 1) && !what.includes("slots");
      const mark = isMet ? "" : ", **missed**";
      expect(`${what}: ${rows.get(what)?.[queue]}`).toEndWith(`(${is} ${bound}${mark})`);
    }
  }
  expect(rows.size).toBe(targets.length);
});
