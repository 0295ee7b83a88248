// Runs each test of the Python client, which uses unittest, as a test here, and starts the service that they submit to.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { python, pythonEnv, pythonFolder } from "../support/python.ts";
import { type Process, startServer, startWorker } from "../support/service.ts";

const token = "0123456789abcdef-of-the-tests";
const folder = mkdtempSync(join(tmpdir(), "reliable-email-python-"));
const running: Process[] = [];
let serviceEnv: Record<string, string> = {};

beforeAll(async () => {
  const env = { DATA_DIR: folder, PORT: "0", PROVIDERS: "sandbox", DEFAULT_FROM: "shop@example.com" };
  const [open, guarded, worker] = await Promise.all([
    startServer(env),
    startServer({ ...env, API_TOKENS: token }),
    startWorker(env),
  ]);
  running.push(open, guarded, worker);
  serviceEnv = {
    RELIABLE_EMAIL_TEST_URL: open.url.replace(/\/$/, ""),
    RELIABLE_EMAIL_TEST_GUARDED_URL: guarded.url.replace(/\/$/, ""),
    RELIABLE_EMAIL_TEST_TOKEN: token,
    RELIABLE_EMAIL_TEST_OUTBOX: join(folder, "outbox"),
  };
});

afterAll(async () => {
  await Promise.all(running.map((one) => one.kill()));
  rmSync(folder, { recursive: true, force: true });
});

/** The ids of the tests in a module, as unittest names them. */
function testsOf(module: string): string[] {
  let name = "";
  const lines = readFileSync(join(pythonFolder, `${module.replaceAll(".", "/")}.py`), "utf8").split("\n");
  return lines.flatMap((line) => {
    name = /^class (\w+)/.exec(line)?.[1] ?? name;
    const [, method] = /^ {4}def (test_\w+)\(/.exec(line) ?? [];
    return method === undefined ? [] : [`${module}.${name}.${method}`];
  });
}

interface Run {
  /** The failure of each test by its id; null if it passed. */
  readonly failures: ReadonlyMap<string, string | null>;
  readonly stderr: string;
}

const runs = new Map<string, Promise<Run>>();

/** Runs a module once, for all its tests. */
function runModule(module: string): Promise<Run> {
  const known = runs.get(module);
  if (known !== undefined) return known;
  const run = (async () => {
    const child = Bun.spawn([python, "-m", "tests", module], {
      cwd: pythonFolder,
      env: { ...pythonEnv, ...serviceEnv },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
    const results = stdout
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line));
    return { failures: new Map(results.map(({ id, failure }) => [id, failure])), stderr };
  })();
  runs.set(module, run);
  return run;
}

const modules = [...new Bun.Glob("test_*.py").scanSync({ cwd: join(pythonFolder, "tests") })]
  .toSorted()
  .map((path) => `tests.${basename(path, ".py")}`);

describe.each(modules)("python client: %s", (module) => {
  const ids = testsOf(module);

  test.each(ids)("%s", async (id) => {
    const { failures, stderr } = await runModule(module);
    // A module that cannot be loaded, or a set-up that fails, is reported under another id.
    if (!failures.has(id)) throw new Error([...failures.values(), stderr].join("\n"));
    expect(failures.get(id)).toBeNull();
  });

  test("has no other tests", async () => {
    const { failures, stderr } = await runModule(module);
    expect([...failures.keys()].toSorted()).toEqual(ids.toSorted());
    expect(stderr).toBe("");
  });
});
