// The systemd units as they are installed: systemd accepts all of them and finds them hardened. The settings that
// restart and stop a process are checked, and the commands that they run are run.

import { afterAll, describe, expect, test } from "bun:test";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { readConfig } from "../lib/config/config.ts";
import { settings } from "../lib/config/settings.ts";
import { eventually, freePort } from "./support/eventually.ts";

const root = join(import.meta.dir, "..");
const folder = join(root, "deploy/systemd");
const read = (path: string) => readFileSync(join(folder, path), "utf8");
const found = (pattern: string) => [...new Bun.Glob(pattern).scanSync({ cwd: folder })].sort();

const units = [
  "reliable-email-server.service",
  "reliable-email-server@.service",
  "reliable-email-worker.service",
];
/** Drop-ins for our own units. */
const dropIns = found("*/reliable-email-*.service.d/*.conf");
const repairUnit = "redis/redis-server.service.d/repair-log.conf";
const [server, template, worker] = units.map(read) as [string, string, string];
const envExample = read("env.example");
const defaults = readConfig({}, "server");
if (!defaults.ok) throw new Error(defaults.message);

/** Every setting of a unit or drop-in, in order. */
function entries(text: string): [name: string, value: string][] {
  return text.split("\n").flatMap((line): [string, string][] => {
    const [, name, value] = /^(\w+)=(.*)$/.exec(line) ?? [];
    return name === undefined || value === undefined ? [] : [[name, value]];
  });
}

const values = (text: string, name: string) =>
  entries(text).flatMap(([other, value]) => (other === name ? [value] : []));

/** Uncomments optional settings. Prose has a space after the #. */
const uncommented = (text: string) => text.replace(/^#(?=[A-Z]\w*=)/gm, "");

const made: string[] = [];
afterAll(() => {
  for (const path of made) rmSync(path, { recursive: true, force: true });
});

function temporaryFolder(): string {
  const path = mkdtempSync(join(tmpdir(), "reliable-email-deploy-"));
  made.push(path);
  return path;
}

/** Returns a system root with the units installed, and the drop-ins of some folders of deploy/systemd/. */
function install(...chosen: string[]): string {
  const system = temporaryFolder();
  const write = (path: string, text: string, mode: number) => {
    mkdirSync(dirname(join(system, path)), { recursive: true });
    writeFileSync(join(system, path), text, { mode });
  };
  // systemd checks that these exist, and runs neither. Every service also waits for this target.
  write("usr/local/bin/reliable-email", "", 0o755);
  write("opt/reliable-email/node_modules/.bin/bun", "", 0o755);
  write("usr/lib/systemd/system/sysinit.target", "[Unit]\nDefaultDependencies=no\n", 0o644);
  for (const unit of units) write(`etc/systemd/system/${unit}`, read(unit), 0o644);
  for (const name of chosen) {
    cpSync(join(folder, name), join(system, "etc/systemd/system"), { recursive: true });
  }
  return system;
}

function analyze(...args: string[]): { exitCode: number; output: string } {
  const { exitCode, stdout, stderr } = Bun.spawnSync(["systemd-analyze", "--no-pager", ...args], {
    env: { PATH: process.env["PATH"] ?? "", LC_ALL: "C.UTF-8" },
  });
  return { exitCode, output: `${stdout}${stderr}` };
}

const verify = (system: string, unit: string) => analyze("verify", `--root=${system}`, unit);

/** systemd's exposure level, from 0 (safe) to 10. */
function exposure(system: string, unit: string): number {
  const { output } = analyze("security", "--offline=yes", `--root=${system}`, unit);
  const [, level] = /Overall exposure level for \S+: (\d+\.\d)/.exec(output) ?? [];
  if (level === undefined) throw new Error(output);
  return Number(level);
}

describe("deploy: systemd", () => {
  const names = [
    "reliable-email-server.service",
    "reliable-email-server@3001.service",
    "reliable-email-worker.service",
  ];
  const installations: { how: string; chosen: string[] }[] = [
    { how: "the executable", chosen: [] },
    { how: "the executable, with keys from files", chosen: ["credentials"] },
    { how: "the sources", chosen: ["from-sources"] },
    { how: "the sources, with keys from files", chosen: ["from-sources", "credentials"] },
  ];
  const all = installations.flatMap(({ how, chosen }) => names.map((unit) => ({ how, chosen, unit })));

  test.each(all)("accepts $unit with $how, and finds it hardened", ({ chosen, unit }) => {
    const system = install(...chosen);
    expect(verify(system, unit)).toEqual({ exitCode: 0, output: "" });
    expect(exposure(system, unit)).toBeLessThanOrEqual(1.5);
  });

  test("accepts the optional settings too", () => {
    const system = install("credentials");
    for (const path of [...units, "reliable-email-worker.service.d/credentials.conf"]) {
      const installed = join(system, "etc/systemd/system", path);
      writeFileSync(installed, uncommented(readFileSync(installed, "utf8")));
    }
    for (const unit of names) expect(verify(system, unit)).toEqual({ exitCode: 0, output: "" });
  });

  test("would report an error in a drop-in, and a lower protection", () => {
    const system = install("from-sources");
    const dropIn = join(system, "etc/systemd/system/reliable-email-server@.service.d/from-sources.conf");
    writeFileSync(
      dropIn,
      "[Service]\nExecStart=\nExecStart=/missing\nProtectSystem=no\nUser=root\nRestrt=no\n",
    );
    const { output } = verify(system, names[1]!);
    expect(output).toContain("/missing");
    expect(output).toContain("Restrt");
    expect(exposure(system, names[1]!)).toBeGreaterThan(1.5);
  });
});

describe("deploy: the units", () => {
  test("are all tested here, and so are the drop-ins", () => {
    expect(found("*.service")).toEqual(units);
    expect(dropIns).toEqual([
      "credentials/reliable-email-worker.service.d/credentials.conf",
      ...units.map((unit) => `from-sources/${unit}.d/from-sources.conf`),
    ]);
  });

  test("differ only where they must", () => {
    const body = (text: string) => text.slice(text.indexOf("[Unit]"));
    const common = body(server);
    expect(body(worker)).toBe(
      common
        .replace("Description=reliable-email: server", "Description=reliable-email: worker")
        .replace("reliable-email server\n", "reliable-email worker\n"),
    );
    const instance = /\n# .*\nEnvironment=ADMIN_PORT=%i\n/;
    expect(template).toMatch(instance);
    expect(
      body(template)
        .replace(/^(Description=.*) with admin port %i$/m, "$1")
        .replace(instance, ""),
    ).toBe(common);
  });

  test("start the executable, and nothing before or after it", () => {
    const commands = (text: string) => entries(text).filter(([name]) => name.startsWith("Exec"));
    expect(commands(server)).toEqual([["ExecStart", "/usr/local/bin/reliable-email server"]]);
    expect(commands(template)).toEqual(commands(server));
    expect(commands(worker)).toEqual([["ExecStart", "/usr/local/bin/reliable-email worker"]]);
  });

  test("run server and worker in one folder, as one user that is created beforehand", () => {
    const [, user] = /^u (\S+) - /m.exec(read("sysusers.d/reliable-email.conf")) ?? [];
    expect(user).toBe("reliable-email");
    for (const text of [server, template, worker]) {
      expect(values(text, "User")).toEqual([user!]);
      expect(values(text, "StateDirectory")).toEqual(["reliable-email"]);
      expect(values(text, "Environment")).toContain("DATA_DIR=/var/lib/reliable-email");
    }
  });

  test("restart indefinitely, except after a configuration error", () => {
    expect(values(server, "Restart")).toEqual(["always"]);
    expect(values(server, "StartLimitIntervalSec")).toEqual(["0"]);
    expect(values(server, "RestartPreventExitStatus")).toEqual(["2"]);
  });

  test("leave time to drain, after one signal to the main process", () => {
    const [timeout] = values(server, "TimeoutStopSec");
    expect(Number(timeout) * 1000).toBeGreaterThan(defaults.config.shutdownTimeoutMs);
    expect(server).toContain(`SHUTDOWN_TIMEOUT (${settings.SHUTDOWN_TIMEOUT.default})`);
    expect(values(server, "KillMode")).toEqual(["mixed"]);
  });

  test("never prevent the compilation of JavaScript", () => {
    for (const text of [server, template, worker, ...dropIns.map(read)].map(uncommented)) {
      const names = entries(text).map(([name]) => name);
      expect(names).not.toContain("MemoryDenyWriteExecute");
      expect(names).not.toContain("LimitAS");
    }
  });

  test("refer only to files that exist", () => {
    const named = [...units, ...dropIns, "env.example"]
      .map(read)
      .flatMap((text) => [...text.matchAll(/\bdeploy\/systemd\/\S*[\w/]/g)].map(([path]) => path));
    expect(named.length).toBeGreaterThan(5);
    const there = (path: string) =>
      [...new Bun.Glob(path.replace(/\/$/, "")).scanSync({ cwd: root, onlyFiles: false })].length > 0;
    expect(named.filter((path) => !there(path))).toEqual([]);
  });
});

describe("deploy: from the sources", () => {
  const dropIn = (unit: string) => read(`from-sources/${unit}.d/from-sources.conf`);
  const bun = "/opt/reliable-email/node_modules/.bin/bun";

  test.each([
    ["reliable-email-server.service", "server"],
    ["reliable-email-server@.service", "server"],
    ["reliable-email-worker.service", "worker"],
  ])("%s runs the script, and changes nothing else", (unit, script) => {
    expect(entries(dropIn(unit))).toEqual([
      ["WorkingDirectory", "/opt/reliable-email"],
      ["ExecStart", ""],
      ["ExecStart", `${bun} run ${script}`],
    ]);
  });

  // Bun is in between: the units rely on it to pass on one signal, wait, and exit with the same code.
  const run = (env: Record<string, string>) => {
    // Outside the project, where the developer may have an .env file.
    const sources = temporaryFolder();
    for (const path of ["package.json", "server.ts", "node_modules"]) {
      symlinkSync(join(root, path), join(sources, path));
    }
    return Bun.spawn(["node_modules/.bin/bun", "run", "server"], {
      cwd: sources,
      env: { PATH: "/usr/bin:/bin", SHUTDOWN_TIMEOUT: "5s", ADMIN_PORT: "", ...env },
      stdout: "pipe",
      stderr: "pipe",
    });
  };

  test("SIGTERM to the main process alone drains once and exits with 0", async () => {
    const port = await freePort();
    const child = run({ PORT: String(port), REDIS_URL: `redis://127.0.0.1:${await freePort()}` });
    try {
      await eventually("it listens", () =>
        fetch(`http://127.0.0.1:${port}/`).then(
          () => true,
          () => false,
        ),
      );
      child.kill("SIGTERM");
      expect(await child.exited).toBe(0);
      const log = await child.stdout.text();
      expect(log.match(/"event":"drain-started"/g)).toHaveLength(1);
      expect(log).toContain('"event":"stopped"');
      expect(log).not.toContain('"event":"exit-forced"');
    } finally {
      child.kill("SIGKILL");
    }
  });

  test("an invalid setting exits with 2", async () => {
    expect(await run({ PORT: "none" }).exited).toBe(2);
  });
});

describe("deploy: the file of settings", () => {
  const given = entries(uncommented(envExample));
  const secrets = ["RESEND_API_KEY", "POSTMARK_SERVER_TOKEN"];

  test("is accepted by a server as it is", () => {
    expect(readConfig(Object.fromEntries(entries(envExample)), "server")).toMatchObject({ ok: true });
  });

  test("contains only known settings, each once, which are valid together", () => {
    const names = given.map(([name]) => name);
    expect(names.length).toBeGreaterThan(5);
    expect(names.filter((name) => !(name in settings))).toEqual([]);
    expect(new Set(names).size).toBe(names.length);
    const keys = Object.fromEntries(secrets.map((name) => [name, "key"]));
    for (const role of ["server", "worker"] as const) {
      const config = readConfig({ ...Object.fromEntries(given), ...keys }, role);
      expect(config).toMatchObject({ ok: true });
    }
  });

  test("shows the defaults", () => {
    const shown = Object.fromEntries(given);
    for (const name of ["HOST", "PORT", "CONCURRENCY", "RETAIN", "SHUTDOWN_TIMEOUT", "LOG_LEVEL"] as const) {
      expect(shown[name]).toBe(settings[name].default);
    }
  });

  test("omits keys, and the settings that the units set", () => {
    const set = [server, template, worker].flatMap((text) =>
      values(text, "Environment").map((value) => value.split("=")[0]!),
    );
    expect(new Set(set)).toEqual(new Set(["DATA_DIR", "ADMIN_PORT"]));
    const names = given.map(([name]) => name);
    for (const name of [...set, ...secrets]) expect(names).not.toContain(name);
  });
});

test("deploy: keys are read from their own files, under their settings' names", () => {
  const text = uncommented(read("credentials/reliable-email-worker.service.d/credentials.conf"));
  const loaded = values(text, "LoadCredential").map((value) => value.split(":")[0]!);
  const given = values(text, "Environment").map((value) => value.split("="));
  expect(given.map(([, path]) => path!)).toEqual(loaded.map((name) => `%d/${name}`));
  const system = install();
  for (const name of loaded) writeFileSync(join(system, name), `${name}://key\n`);
  const env = Object.fromEntries(given.map(([name, path]) => [name!, path!.replace("%d", system)]));
  expect(readConfig(env, "worker")).toMatchObject({
    ok: true,
    config: {
      resendApiKey: "resend://key",
      postmarkServerToken: "postmark://key",
      queue: { kind: "redis", url: "redis://key" },
    },
  });
});

describe("deploy: Redis after a power cut", () => {
  test("refuses a log that ends inside a transaction, and starts once it is repaired", async () => {
    const own = mkdtempSync(join(tmpdir(), "reliable-email-repair-"));
    expect(values(read(repairUnit), "ExecStartPre")).toEqual([
      "/usr/local/lib/reliable-email/repair-log /var/lib/redis",
    ]);
    const repair = (...args: string[]) => Bun.spawnSync([join(folder, "redis/repair-log"), ...args]);
    const repaired = () => repair(own).exitCode;
    const port = String(await freePort());
    const cli = (...args: string[]) => {
      const { stdout } = Bun.spawnSync(["redis-cli", "-p", port, ...args]);
      return stdout.toString().trim();
    };
    const start = () =>
      Bun.spawn(["redis-server", join(root, "deploy/redis.conf"), "--dir", own, "--port", port], {
        stdout: "ignore",
      });
    const runs = async (redis: Bun.Subprocess) => {
      await eventually("Redis answers", () => redis.exitCode !== null || cli("PING") === "PONG");
      return redis.exitCode === null;
    };
    const twoWrites = "redis.call('SET', 'a' .. ARGV[1], 1) redis.call('SET', 'b' .. ARGV[1], 1)";
    const kill = async (redis: Bun.Subprocess) => {
      redis.kill("SIGKILL");
      await redis.exited;
    };

    // Without a log there is nothing to repair.
    expect(repair(own)).toMatchObject({ exitCode: 0 });
    expect(repair(own).stderr.toString()).toContain(`no appendonlydir in ${own}: nothing to repair`);
    // A wrong folder is an error.
    for (const [args, exitCode, text] of [
      [[], 2, "usage: repair-log DIR"],
      [[join(own, "nowhere")], 1, `cannot enter ${join(own, "nowhere")}`],
    ] as const) {
      const ran = repair(...args);
      expect({ exitCode: ran.exitCode, stderr: ran.stderr.toString() }).toEqual({
        exitCode,
        stderr: expect.stringContaining(text),
      });
    }
    let redis = start();
    try {
      expect(await runs(redis)).toBe(true);
      cli("EVAL", twoWrites, "0", "1");
      cli("EVAL", twoWrites, "0", "2");
      await kill(redis);
      expect(repair(join(own, "appendonlydir")).exitCode).toBe(1);
      const log = join(own, "appendonlydir/appendonly.aof.1.incr.aof");
      truncateSync(log, statSync(log).size - 40);
      redis = start();
      expect(await runs(redis)).toBe(false);
      const torn = readFileSync(log);
      expect(repaired()).toBe(0);
      const kept = join(own, "appendonlydir.before-repair/appendonly.aof.1.incr.aof");
      expect(readFileSync(kept).equals(torn)).toBe(true);
      redis = start();
      expect(await runs(redis)).toBe(true);
      cli("EVAL", twoWrites, "0", "3");
      await kill(redis);
      expect(repaired()).toBe(0);
      redis = start();
      expect(await runs(redis)).toBe(true);
      expect(cli("KEYS", "*").split("\n").sort()).toEqual(["a1", "a3", "b1", "b3"]);
      await kill(redis);

      // Damage inside acknowledged data: nothing is removed, and Redis does not start.
      const bytes = readFileSync(log);
      writeFileSync(log, Buffer.concat([bytes.subarray(0, 40), Buffer.from("damage"), bytes.subarray(46)]));
      const damaged = readFileSync(log);
      expect(repaired()).toBe(0);
      expect(readFileSync(log).equals(damaged)).toBe(true);
      redis = start();
      expect(await runs(redis)).toBe(false);
    } finally {
      await kill(redis);
      rmSync(own, { recursive: true, force: true });
    }
  });
});
