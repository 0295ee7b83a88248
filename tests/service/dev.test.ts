// `dev` as a person uses it: started, tried with the command that it prints, and ended in every possible way.

import { Database } from "bun:sqlite";
import { afterAll, expect, test } from "bun:test";
import { closeSync, existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually, freePort } from "../support/eventually.ts";
import { connectRaw } from "../support/raw_http.ts";
import { childrenOf, post, type Process, startProcess } from "../support/service.ts";

const root = join(import.meta.dir, "../..");
const folders: string[] = [];
const terminals: Bun.Subprocess[] = [];
afterAll(() => {
  for (const child of terminals) child.kill("SIGKILL");
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

function settings(over: Record<string, string> = {}) {
  const folder = mkdtempSync(join(tmpdir(), "reliable-email-dev-"));
  folders.push(folder);
  return { PORT: "0", ADMIN_PORT: "", WEB_PORT: "0", DATA_DIR: folder, ...over };
}

const dev = (env: Record<string, string>) => startProcess("lib/cli/main.ts", env, ["dev"]);

/** Reads the addresses that it prints. It is one process, so nothing can be left behind. */
async function up(child: Pick<Process, "pid" | "stdout" | "stderr">) {
  const url = await eventually(
    () => `dev prints its addresses (${child.stdout()}${child.stderr()})`,
    () =>
      child.stdout().includes("Ctrl-C") ? /http:\/\/127\.0\.0\.1:\d+/.exec(child.stdout())?.[0] : undefined,
  );
  expect(childrenOf(child.pid)).toEqual([]);
  return Number(new URL(url).port);
}

/** Runs it in its own terminal, as the foreground process. */
function inTerminal(command: string[], env: Record<string, string>, cwd = tmpdir()) {
  let shown = "";
  const child = Bun.spawn(command, {
    cwd,
    env: { PATH: process.env["PATH"] ?? "", ...env },
    terminal: {
      cols: 200,
      data(_, bytes) {
        shown += new TextDecoder().decode(bytes).replaceAll("\r\n", "\n");
      },
    },
  });
  terminals.push(child);
  return {
    pid: child.pid,
    exited: child.exited,
    stdout: () => shown,
    stderr: () => "",
    interrupt: () => child.terminal!.write("\x03"),
    hangUp: () => child.terminal!.close(),
    prints: (text: string) =>
      eventually(
        () => `dev prints ${text} (${shown})`,
        () => shown.includes(text),
      ),
  };
}

const ofDev = [process.execPath, "--no-install", join(root, "lib/cli/main.ts"), "dev"];

const form = "subject=Hello&body=World&to=ada%40example.org";
const half =
  "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n" +
  `Content-Length: ${form.length}\r\nExpect: 100-continue\r\n\r\n${form.slice(0, 10)}`;

/** A free port whose two neighbors are free as well. */
async function freePorts(): Promise<number> {
  for (;;) {
    const port = await freePort();
    try {
      const around = [port - 1, port + 1].map((one) =>
        Bun.serve({ hostname: "127.0.0.1", port: one, fetch: () => new Response() }),
      );
      await Promise.all(around.map((server) => server.stop(true)));
      return port;
    } catch {
      // One of them is taken: try others.
    }
  }
}

/** Begins a request that keeps the server from exiting. */
async function hold(port: number) {
  const raw = await connectRaw(port);
  raw.write(half);
  await raw.received(/^HTTP\/1.1 100 /);
  return raw;
}

test("dev: the printed command sends an email to a file, and to nobody else", async () => {
  let requests = 0;
  const provider = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch() {
      requests++;
      return new Response("{}");
    },
  });
  const env = settings({ RESEND_API_KEY: "re_real", RESEND_BASE_URL: `http://127.0.0.1:${provider.port}` });
  const child = dev(env);
  await up(child);
  expect(child.stdout()).toContain("RESEND_API_KEY is not used");
  expect(child.stdout()).toContain(`${env.DATA_DIR}/outbox/`);

  const [, line = ""] = /^ {2}(curl .*)$/m.exec(child.stdout())!;
  const curl = Bun.spawn(["sh", "-c", line], { stdout: "pipe", stderr: "ignore" });
  const { id } = JSON.parse(await curl.stdout.text());
  const file = await eventually(
    () => `the email is announced (${child.stdout()}${child.stderr()})`,
    () => /\n→ (\S+)\n/.exec(child.stdout())?.[1],
  );
  expect(file).toStartWith(`${env.DATA_DIR}/outbox/${id}.`);
  expect(readFileSync(file, "utf8")).toContain("jane@example.org");

  expect(await child.kill("SIGTERM")).toBe(0);
  expect(child.stderr()).toBe("");
  expect(requests).toBe(0);
  await provider.stop(true);
});

test("dev: Ctrl-C under npm, which passes on a second signal, lets requests in flight finish", async () => {
  // Empty values override a developer's .env in the project.
  const env = settings({
    REDIS_URL: "",
    PROVIDERS: "",
    HOST: "",
    LOG_LEVEL: "info",
    NO_UPDATE_NOTIFIER: "1",
  });
  const npm = inTerminal(["npm", "run", "dev"], env, root);
  const url = await eventually(
    () => `dev prints its addresses (${npm.stdout()})`,
    () => (npm.stdout().includes("Ctrl-C") ? /http:\/\/127\.0\.0\.1:\d+/.exec(npm.stdout())?.[0] : undefined),
  );
  const raw = await hold(Number(new URL(url).port));
  npm.interrupt();
  await npm.prints("dev: info drain-started signal=SIGINT");
  await npm.prints("Stopping");
  raw.write(form.slice(10));
  expect(await raw.closed()).toMatch(/\nHTTP\/1.1 200 [^]*"ok":true/);
  expect(await npm.exited).toBe(0);
  expect(npm.stdout()).toContain("dev: info stopped");
  expect(npm.stdout()).not.toContain("exit-forced");
});

test("dev: a later Ctrl-C ends everything immediately", async () => {
  const child = inTerminal(ofDev, settings());
  const raw = await hold(await up(child));
  child.interrupt();
  await child.prints("Stopping");
  await eventually("it is ended", () => {
    child.interrupt();
    return child.stdout().includes("exit-forced");
  });
  expect(await child.exited).toBe(1);
  raw.end();
});

test("dev: closing the terminal stops it", async () => {
  const child = inTerminal(ofDev, settings());
  await up(child);
  child.hangUp();
  expect(await child.exited).toBe(0);
});

test("dev: it can be stopped before it has reached the store", async () => {
  const child = dev(settings({ REDIS_URL: `redis://127.0.0.1:${await freePort()}` }));
  await eventually(
    () => `it prints that Redis is down (${child.stdout()}${child.stderr()})`,
    () => child.stdout().includes("store-connection-lost"),
  );
  expect(await child.kill("SIGINT")).toBe(0);
  expect(child.stdout()).not.toContain("Ctrl-C");
});

test("dev: a terminal or pipe that nobody reads does not block it", async () => {
  const port = await freePort();
  const env = settings({ PORT: String(port), LOG_LEVEL: "debug" });
  const pipe = join(env.DATA_DIR, "pipe");
  Bun.spawnSync(["mkfifo", pipe]);
  // Opened for reading too, so that opening it for writing does not block.
  const held = openSync(pipe, "r+");
  const child = Bun.spawn(["sh", "-c", 'exec "$@" >"$0"', pipe, ...ofDev], {
    cwd: tmpdir(),
    env: { PATH: process.env["PATH"] ?? "", ...env },
    stderr: "pipe",
  });
  terminals.push(child);
  const send = () => post(`http://127.0.0.1:${port}/`, { subject: "a", body: "b", to: "ada@example.org" });
  await eventually("it listens", () =>
    send()
      .then(({ status }) => status === 200)
      .catch(() => false),
  );
  const answers = await Promise.all(Array.from({ length: 500 }, send));
  const ids = answers.map(({ id }) => String(id));
  await eventually("the emails arrive", () => {
    const files = new Set(readdirSync(join(env.DATA_DIR, "outbox")).map((name) => name.split(".")[0]));
    return ids.every((id) => files.has(id));
  });
  child.kill("SIGTERM");
  expect(await child.exited).toBe(0);
  expect(await child.stderr.text()).toBe("");
  closeSync(held);
});

test("dev: when the store becomes unusable, it answers the requests that it has received and exits with 1", async () => {
  const env = settings();
  const child = dev(env);
  const raw = await hold(await up(child));
  const database = new Database(join(env.DATA_DIR, "queue.db"));
  database.run("PRAGMA busy_timeout = 60000");
  database.run("PRAGMA user_version = 99");
  database.close();
  expect(await raw.closed()).toMatch(/\nHTTP\/1.1 500 /);
  expect(await child.exited).toBe(1);
  expect(child.stdout()).toMatch(/\ndev: error store-unusable reason=".*\nStopping\n/);
  expect(child.stderr()).toBe("");

  const again = dev(env);
  expect(await again.exited).toBe(1);
  expect(again.stdout()).toMatch(/^dev: error store-unusable reason=".*\n$/);
});

test.each([true, false])(
  "dev: a taken port is named in the error, even if it can be shared: %p",
  async (reusePort) => {
    const other = Bun.serve({ hostname: "127.0.0.1", port: 0, reusePort, fetch: () => new Response() });
    const child = dev(settings({ PORT: String(other.port) }));
    expect(await child.exited).toBe(1);
    expect(child.stderr()).toBe(
      `Cannot start: PORT ${other.port} is taken by another process: stop it, or set another PORT\n`,
    );
    expect(child.stdout()).toBe("");
    await other.stop(true);
  },
);

test("dev: the server uses ADMIN_PORT, the worker the next port, and a taken one is named in the error", async () => {
  const port = await freePorts();
  const child = dev(settings({ ADMIN_PORT: String(port) }));
  await up(child);
  for (const [i, role] of ["server", "worker"].entries()) {
    expect(await (await fetch(`http://127.0.0.1:${port + i}/metrics`)).text()).toContain(`role="${role}"`);
  }
  const second = dev(settings({ ADMIN_PORT: String(port - 1) }));
  expect(await second.exited).toBe(1);
  expect(second.stderr()).toBe(
    `Cannot start: ADMIN_PORT ${port} is taken by another process: stop it, or set another ADMIN_PORT, or ADMIN_PORT= for none\n`,
  );
  expect(await child.kill("SIGTERM")).toBe(0);
});

test("dev: an admin port without a next one for the worker is named in the error", async () => {
  const child = dev(settings({ ADMIN_PORT: "65535" }));
  expect(await child.exited).toBe(2);
  expect(child.stderr()).toBe("Cannot start: ADMIN_PORT 65535 leaves none for the worker\n");
});

test("dev: a folder that cannot be created is named in the error", async () => {
  const child = dev(settings({ DATA_DIR: "/dev/null/data" }));
  expect(await child.exited).toBe(1);
  expect(child.stderr()).toBe(
    "Cannot start: DATA_DIR cannot hold the folder /dev/null/data/outbox (ENOTDIR)\n",
  );
});

test("dev: all configuration errors are reported before anything starts", async () => {
  const env = settings({ PORT: "x", LEASE: "1s", PROVIDERS: "resend" });
  const child = dev(env);
  expect(await child.exited).toBe(2);
  expect(child.stderr()).toMatch(
    /^Cannot start: PORT .*\nCannot start: LEASE .*\nCannot start: RESEND_API_KEY .*\n$/,
  );
  expect(existsSync(join(env.DATA_DIR, "outbox"))).toBe(false);
});
