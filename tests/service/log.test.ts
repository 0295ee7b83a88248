// The log of real processes: an email can be followed through it, and a failure of the log costs no email.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually, freePort } from "../support/eventually.ts";
import { post, type Process, startServer, startWorker } from "../support/service.ts";
import { drained, queueAdminOf } from "../support/processes.ts";

let folder = "";
let queues = 0;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "reliable-email-log-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Settings of a new embedded queue, and of the sandbox. */
function settings(over: Record<string, string> = {}): Record<string, string> {
  queues += 1;
  return {
    PORT: "0",
    ADMIN_PORT: "",
    DATA_DIR: join(folder, `queue-${queues}`),
    PROVIDERS: "sandbox",
    DEFAULT_FROM: "shop@example.com",
    RETRY_BASE: "10ms",
    ...over,
  };
}

const email = (subject: string) => ({ subject, body: "Hello", to: "jane@example.org" });

describe("log: an email can be followed by its id", () => {
  test.each([
    ["sent", "", ["sent"], "accepted:sandbox"],
    ["dead", "reject:100%", ["dead"], "dead:sandbox"],
    ["sent again after its answer was lost", "lose-answer:50%", ["in-doubt", "sent"], "accepted:sandbox"],
  ])("one that is %s", async (_, faults, fates, counter) => {
    const env = settings({ LOG_LEVEL: "debug", SANDBOX_FAULTS: faults });
    const [server, worker] = await Promise.all([startServer(env), startWorker(env)]);
    const lines = (process: Process, name: string, id: string, value: unknown) =>
      process.lines.filter((line) => line.event === name && line[id] === value);
    // Faults are drawn at random: picks the first email that meets all of them.
    const id = await eventually("an email has had these fates", async () => {
      const answer = await post(server.url, email("Hi"));
      const last = await eventually("it is settled", () =>
        lines(worker, "email-settled", "id", answer.id).find(({ fate }) => fate === fates.at(-1)),
      );
      const known = lines(worker, "email-settled", "id", answer.id).map(({ fate }) => String(fate));
      expect(last).toBeDefined();
      return new Set(known).size === fates.length ? answer.id : undefined;
    });
    expect(lines(server, "submission-stored", "id", id)).toHaveLength(1);
    const settled = lines(worker, "email-settled", "id", id);
    expect([...new Set(settled.map(({ fate }) => fate))]).toEqual(fates);
    // The email stays in one batch, whose lines give the outcome.
    const [batch, ...others] = new Set(settled.map((line) => line["batch"]));
    expect(others).toEqual([]);
    const outcome = await eventually("the batch is settled", () =>
      lines(worker, "batch-settled", "batch", batch).at(-1),
    );
    expect(Number(outcome[counter])).toBeGreaterThan(0);
    if (fates.length > 1) expect(lines(worker, "batch-in-doubt", "batch", batch)).toHaveLength(1);
    await Promise.all([server.kill(), worker.kill()]);
  });
});

describe("log: a log that cannot be written loses no email", () => {
  test.each(["a full disk", "a pipe whose reader has gone", "no stdout at all", "a pipe that nobody reads"])(
    "%s",
    async (what) => {
      const port = await freePort();
      const env = settings({ LOG_LEVEL: "debug", PORT: String(port) });
      const admin = await queueAdminOf(env);
      const pipe = join(folder, `pipe-${queues}`);
      Bun.spawnSync(["mkfifo", pipe]);
      // Opened for reading too, so that writing blocks: nobody reads.
      const held = openSync(pipe, "r+");
      const redirection = {
        "a full disk": ">/dev/full",
        "a pipe whose reader has gone": "| true",
        "no stdout at all": ">&-",
        "a pipe that nobody reads": `>${pipe}`,
      }[what]!;
      const processes = ["server.ts", "worker.ts"].map((file) =>
        Bun.spawn(
          [
            "sh",
            "-c",
            `"$0" --no-install "$1" ${redirection}`,
            process.execPath,
            join(import.meta.dir, "../..", file),
          ],
          {
            env: { PATH: process.env["PATH"] ?? "", ...env },
            cwd: tmpdir(),
            // In its own process group, so that the shell's children end with it.
            detached: true,
            stdin: "ignore",
            stdout: "ignore",
            stderr: "pipe",
          },
        ),
      );
      try {
        const url = `http://127.0.0.1:${port}/`;
        await eventually("it listens", () =>
          post(url, email("first")).then(
            ({ status }) => status === 200,
            () => false,
          ),
        );
        // Far more lines than fit into a pipe.
        const answers = await Promise.all(
          Array.from({ length: 1000 }, (_, i) => post(url, email(`Email ${i}`))),
        );
        expect(answers.filter(({ status }) => status !== 200)).toEqual([]);
        await drained(admin);
        const { states } = await admin.stats();
        expect(states.sent).toBe(1001);
        expect(processes.map(({ exitCode }) => exitCode)).toEqual([null, null]);
      } finally {
        for (const { pid } of processes) process.kill(-pid, "SIGKILL");
        closeSync(held);
        await admin.close();
      }
      for (const { stderr } of processes) expect(await stderr.text()).toBe("");
    },
  );
});
