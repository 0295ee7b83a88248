// Commands whose output cannot be written: no stack trace, and a meaningful exit code.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cliCommand } from "../support/cli.ts";
import { shapeQueue } from "../support/queue_states.ts";

const env = { DATA_DIR: mkdtempSync(join(tmpdir(), "reliable-email-output-")), PROVIDERS: "sandbox" };
afterAll(() => rmSync(env.DATA_DIR, { recursive: true, force: true }));

async function redirected(redirection: string, args: readonly string[]) {
  const child = Bun.spawn(["sh", "-c", `"$@" ${redirection}`, "sh", ...cliCommand(...args)], {
    cwd: tmpdir(),
    env: { PATH: process.env["PATH"] ?? "", ...env },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  return { stdout, stderr, code };
}

const everyKind = [
  ["--help"],
  ["--version"],
  ["server", "--help"],
  ["config"],
  ["config", "--check", "--json"],
  ["queue", "stats"],
  ["queue", "list", "waiting", "--json"],
  ["queue", "retry", "--all", "--json"],
  ["queue", "pause"],
];

test("cli: output that does not fit on the disk is one line on stderr, and exit code 1", async () => {
  await (await shapeQueue(env)).close();
  for (const args of everyKind) {
    expect({ args, ...(await redirected("> /dev/full", args)) }).toEqual({
      args,
      code: 1,
      stdout: "",
      stderr: "Cannot write the answer: no space left on device\n",
    });
  }
});

test("cli: a missing stdout or stderr causes no stack trace", async () => {
  for (const args of everyKind) {
    const { stderr } = await redirected(">&-", args);
    expect(stderr).not.toMatch(/\bat \S+:\d+|Bun v/);
  }
  for (const args of [["nonsense"], ["queue", "show", "--nonsense"], ["config", "nonsense"]]) {
    expect(await redirected("2> /dev/full", args)).toEqual({ code: 2, stdout: "", stderr: "" });
  }
});
