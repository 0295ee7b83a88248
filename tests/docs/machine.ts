// A container for one test, in which the commands of the documents run unchanged: as root, under systemd, on the
// ports that they name. It has its own namespaces for processes, mounts and the network, and a layer over the disk, so
// that nothing reaches the real machine, and everything ends with it.

import { existsSync, mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually, hangMs } from "../support/eventually.ts";
import { childrenOf } from "../support/service.ts";
import { removeSmallDisk } from "../support/small_disk.ts";

const root = join(import.meta.dir, "../..");
const sources = "/opt/reliable-email";

export interface Terminal {
  readonly shown: () => string;
  /** Waits for output that matches, and returns the match. */
  shows(what: RegExp): Promise<string>;
  /** Ctrl-C. */
  interrupt(): void;
  readonly exited: Promise<number>;
}

export interface Machine {
  /**
   * Runs lines of shell until they have ended, in the folder of the sources, and returns their output.
   * @param code the expected exit code
   * @param typed what is typed meanwhile, up to Ctrl-D
   */
  run(lines: string, options?: { code?: number; typed?: string; cwd?: string }): Promise<string>;
  /** Repeats lines until they succeed. */
  until(lines: string): Promise<string>;
  /** Runs lines in their own terminal. They end with the machine. */
  open(lines: string): Terminal;
  stop(): Promise<void>;
}

/** A folder where this process can create cgroups. */
function cgroup(): string {
  const [, own] = /^0::(.*)$/m.exec(readFileSync("/proc/self/cgroup", "utf8")) ?? [];
  const [, mount] = / \/ (\S+) .* - cgroup2 /.exec(readFileSync("/proc/self/mountinfo", "utf8")) ?? [];
  if (own === undefined || mount === undefined) throw new Error("there is no cgroup2");
  return join(mount, own);
}

/** @param init command to run as PID 1; everything ends with it, or with this process */
function boot(init: readonly string[], stderr: "inherit" | "ignore" = "inherit") {
  const group = mkdtempSync(join(cgroup(), "reliable-email-machine-"));
  const folder = mkdtempSync(join(tmpdir(), "reliable-email-machine-"));
  const namespaces = [
    "--mount",
    "--propagation=unchanged",
    "--net",
    "--uts",
    "--ipc",
    "--pid",
    "--cgroup",
    "--fork",
    "--kill-child",
  ];
  const enter = ["setpriv", "--pdeathsig=KILL", "unshare", ...namespaces];
  const layers = [join(import.meta.dir, "machine.sh"), folder, root];
  const child = Bun.spawn(
    ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', group, ...enter, ...layers, ...init],
    { stdin: "ignore", stdout: "inherit", stderr },
  );
  return {
    child,
    async stop(): Promise<void> {
      child.kill("SIGKILL");
      await child.exited;
      const removal = ["find", group, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+"];
      await eventually("none of its processes is left", () => {
        Bun.spawnSync(removal, { stderr: "ignore" });
        return !existsSync(group);
      });
      removeSmallDisk(folder);
    },
  };
}

const systemd = "/lib/systemd/systemd";

async function canBoot(): Promise<boolean> {
  if (process.getuid?.() !== 0 || !existsSync(systemd)) return false;
  try {
    const { child, stop } = boot(["true"], "ignore");
    const code = await child.exited;
    await stop();
    return code === 0;
  } catch {
    return false;
  }
}

export const hasMachine = await canBoot();

/** Suffix for the names of tests that need a machine: the reason, if they are skipped. */
export const orWhyNot = hasMachine ? "" : " (skipped: it needs root, systemd, overlay mounts and cgroup2)";

// The documents must work without the project's tools in the path.
const path = (process.env["PATH"] ?? "").split(":").filter((one) => !one.includes("node_modules"));
const env = {
  PATH: ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", ...path].join(":"),
  HOME: "/root",
  SHELL: "/bin/bash",
  LANG: "C.UTF-8",
  TERM: "xterm",
  NO_COLOR: "1",
  NO_UPDATE_NOTIFIER: "1",
};

export async function startMachine(): Promise<Machine> {
  const { child, stop } = boot([systemd, "--unit=docs.target"]);
  let first: number | undefined;
  const inside = (command: readonly string[], cwd = sources) => {
    const enter = ["nsenter", "--all", "--root", `--target=${first}`, "env", `--chdir=${cwd}`];
    return [...enter, ...command];
  };
  const machine: Machine = {
    stop,
    async run(lines, { code = 0, typed = "", cwd } = {}) {
      const shell = ["bash", "-euo", "pipefail", "-c", `exec 2>&1\n${lines}`];
      const ran = Bun.spawn(inside(shell, cwd), { env, stdin: Buffer.from(typed), stdout: "pipe" });
      const [printed, exitCode] = await Promise.all([ran.stdout.text(), ran.exited]);
      if (exitCode !== code) throw new Error(`${lines}\nexits with ${exitCode}, not ${code}:\n${printed}`);
      return printed;
    },
    until: (lines) =>
      machine.run(
        `until printed=$({\n${lines}\n} 2>&1)
        do
          if [ "$SECONDS" -ge ${hangMs / 1000} ]; then echo "$printed"; exit 1; fi
          sleep 0.2
        done
        echo "$printed"`,
      ),
    open: (lines) =>
      openTerminal(inside(["script", "--quiet", "--return", "--command", lines, "/dev/null"]), lines),
  };
  try {
    first = await eventually("it boots", () => childrenOf(child.pid)[0]);
    const isUp = inside(["systemctl", "is-active", "--quiet", "docs.target"], "/");
    await eventually("systemd is up", () => Bun.spawnSync(isUp, { env, stderr: "ignore" }).success);
    return machine;
  } catch (error) {
    await stop();
    throw error;
  }
}

function openTerminal(command: string[], lines: string): Terminal {
  let shown = "";
  const child = Bun.spawn(command, { env, stdin: "pipe", stdout: "pipe", stderr: "inherit" });
  void (async () => {
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
      shown += text.replaceAll("\r\n", "\n");
    }
  })();
  return {
    shown: () => shown,
    shows: (what) =>
      eventually(
        () => `${lines} shows ${what} (${shown})`,
        () => what.exec(shown)?.[0],
      ),
    interrupt() {
      child.stdin.write("\x03");
      void child.stdin.flush();
    },
    exited: child.exited,
  };
}
