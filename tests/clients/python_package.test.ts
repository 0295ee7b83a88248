// The Python client as a package: it is typed, it builds, and once installed from its wheel without a network it rides
// out the death of a service.

import { afterAll, expect, test } from "bun:test";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { eventually, freePort } from "../support/eventually.ts";
import { drained, queueAdminOf } from "../support/processes.ts";
import { idsInOutbox, python, pythonEnv, pythonFolder, startStream } from "../support/python.ts";
import { startProcess } from "../support/service.ts";

const root = join(import.meta.dir, "../..");
const folder = mkdtempSync(join(tmpdir(), "reliable-email-python-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function run(command: string[], cwd = folder, path = pythonEnv["PATH"]!): string {
  const env = { PATH: path, PYTHONDONTWRITEBYTECODE: "1" };
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, { cwd, env });
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: exit code ${exitCode}\n${stdout}${stderr}`);
  return stdout.toString();
}

test("python client: its version and license are those of the project", () => {
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  expect(run([python, "-c", "import reliable_email; print(reliable_email.__version__)"], pythonFolder)).toBe(
    `${version}\n`,
  );
  expect(readFileSync(join(pythonFolder, "LICENSE"), "utf8")).toBe(
    readFileSync(join(root, "LICENSE"), "utf8"),
  );
});

test("python client: its types hold for the oldest Python that it supports", () => {
  const [, oldest = ""] = /requires-python = ">=(.+)"/.exec(
    readFileSync(join(pythonFolder, "pyproject.toml"), "utf8"),
  )!;
  const options = ["--python-version", oldest, "--cache-dir", join(folder, "mypy")];
  expect(run([python, "-m", "mypy", ...options, "."], pythonFolder)).toStartWith("Success: ");
});

test("python client: installed from its wheel without a network, it rides out the death of dev", async () => {
  const sources = join(folder, "clients/python");
  // Without build results.
  const isSource = (path: string) => !/^(?:build|dist|venv|\..*|.*\.egg-info)$/.test(basename(path));
  cpSync(pythonFolder, sources, { recursive: true, filter: isSource });
  // The README's commands, in order.
  const readme = readFileSync(join(pythonFolder, "README.md"), "utf8");
  const blocks = [...readme.matchAll(/^```\w+\n([^]*?)^```$/gm)].map(([, block]) => block!);
  const [example = "", install = "", withFile = "", withKey = "", command = "", original = ""] = blocks;
  // Debian's Python, as a newcomer has it.
  run(["sh", "-ec", install], folder, `/usr/bin:${pythonEnv["PATH"]}`);
  expect(readdirSync(join(sources, "dist")).toSorted()).toEqual([
    expect.stringMatching(/\.tar\.gz$/),
    expect.stringMatching(/-py3-none-any\.whl$/),
  ]);
  const venv = join(sources, "venv");
  const installed = join(venv, "bin/python");
  const where = run([installed, "-c", "import reliable_email as r; print(r.__file__)"]);
  expect(where).toStartWith(venv);
  expect(readdirSync(join(where, ".."))).toContain("py.typed");
  expect(run([installed, "-m", "pip", "show", "reliable-email"])).toContain("License: MIT");

  const port = await freePort();
  const env = {
    PORT: String(port),
    DATA_DIR: join(folder, "data"),
    // A dead worker's emails wait this long.
    LEASE: "10s",
    PROVIDER_TIMEOUT: "5s",
  };
  const startDev = async () => {
    const dev = startProcess("lib/cli/main.ts", env, ["dev"]);
    await eventually(
      () => `dev runs (${dev.stdout()}${dev.stderr()})`,
      () => dev.stdout().includes("Ctrl-C"),
    );
    return dev;
  };
  let dev = await startDev();
  try {
    const stream = startStream(installed, [`http://localhost:${port}`]);
    await stream.moreAcknowledged();
    await dev.kill();
    dev = await startDev();
    await stream.moreAcknowledged();
    await stream.end();

    const admin = await queueAdminOf(env);
    await drained(admin);
    await admin.close();
    expect(idsInOutbox(env.DATA_DIR)).toEqual(stream.ids.toSorted());

    const path = `${join(venv, "bin")}:${pythonEnv["PATH"]}`;
    const here = (code: string) => code.replaceAll("localhost:3000", `localhost:${port}`);
    const id = /^[0-9a-f-]{36}\n$/;
    expect(run([installed, "-c", here(example)])).toMatch(id);
    await Bun.write(join(folder, "invoice.csv"), "a,b\n");
    for (const more of [withFile, withKey])
      expect(run([installed, "-c", here(example + more.replace(/^/gm, "    "))])).toMatch(id);
    expect(run(["sh", "-ec", here(command)], folder, path)).toMatch(id);
    expect(run([installed, "-c", here(original)])).toBe("True\n");
  } finally {
    await dev.kill();
  }
});
