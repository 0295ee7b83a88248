// Builds the executable, tests it, and only then installs it: `npm run build [-- target]`. A failure leaves nothing
// behind and changes nothing.

import { spawnSync } from "node:child_process";
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { basename, join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import manifest from "../package.json" with { type: "json" };
import { smoke } from "./smoke.ts";

const root = resolve(import.meta.dir, "..");

interface Target {
  readonly bun: string;
  /** npm package with Bun for this target. */
  readonly package: string;
  /** `process.arch` of machines that run it natively. */
  readonly arch: string;
  /** Machine number in the ELF header. */
  readonly elfMachine: number;
  readonly emulator: string;
  /** Folder of Debian's cross C library for it. */
  readonly library: string;
}

/** The targets that have been tested. Bun supports more. */
const targets: Readonly<Record<string, Target>> = {
  "linux-arm64": {
    bun: "bun-linux-arm64",
    package: "@oven/bun-linux-aarch64",
    arch: "arm64",
    elfMachine: 183,
    emulator: "qemu-aarch64",
    library: "/usr/aarch64-linux-gnu",
  },
};

const usage = `Usage: npm run build -- [${Object.keys(targets).join("|")}] [--outdir folder]`;

/** Removed at the end, whatever happens. */
let workshop: string | undefined;
process.on("exit", () => {
  if (workshop !== undefined) rmSync(workshop, { recursive: true, force: true });
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => process.exit(1));

try {
  await build();
} catch (error) {
  console.error(`build failed: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
}

async function build(): Promise<void> {
  const { outdir, name, target } = readArguments();
  const bunVersion = manifest.dependencies.bun;
  if (Bun.version !== bunVersion)
    throw new Error(`running on bun ${Bun.version} instead of ${bunVersion}: run npm ci`);

  mkdirSync(outdir, { recursive: true });
  // On the same file system as the result, which is installed by a rename.
  workshop = mkdtempSync(join(outdir, ".build-"));
  const built = join(workshop, "reliable-email");
  const commit = readCommit();
  compile(built, commit, target === undefined ? [] : crossFlags(target, bunVersion, workshop));
  checkFile(built, target);

  const command = howToRun(built, target);
  if (command !== undefined) {
    await smoke(command, `${manifest.name} ${manifest.version} (commit ${commit}, bun ${bunVersion})`);
  }
  chmodSync(built, 0o755);
  const place = join(outdir, name);
  renameSync(built, place);
  const megabytes = Math.round(statSync(place).size / 1e6);
  console.log(`${shown(place)}: ${manifest.version}, commit ${commit}, ${megabytes} MB`);
  console.log(
    command === undefined
      ? `Not tested: it is for another processor. Install Debian's qemu-user and libc6-arm64-cross to test it`
      : `Tested${command.length > 1 ? ` with ${basename(command[0]!)}` : ""}: it delivers an email`,
  );
}

function readArguments(): { outdir: string; name: string; target: Target | undefined } {
  try {
    const { values, positionals } = parseArgs({
      options: { outdir: { type: "string", default: join(root, "dist") } },
      allowPositionals: true,
    });
    const [name, ...others] = positionals;
    if (others.length > 0) throw new Error("more than one target given");
    const target = name === undefined ? undefined : targets[name];
    if (name !== undefined && target === undefined) throw new Error(`unknown target '${name}'`);
    return {
      outdir: resolve(values.outdir),
      name: name === undefined ? manifest.name : `${manifest.name}-${name}`,
      target,
    };
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : String(error)}\n${usage}`);
    process.exit(2);
  }
}

/** The commit of this repository only: an unpacked release may lie inside another one. */
function readCommit(): string {
  const git = (...args: string[]) => {
    const { status, stdout } = spawnSync("git", ["-C", root, ...args], { encoding: "utf8" });
    return status === 0 ? stdout.trim() : undefined;
  };
  const top = git("rev-parse", "--show-toplevel");
  const commit = top === root ? git("rev-parse", "--short=12", "HEAD") : undefined;
  if (commit === undefined) return "unknown";
  return git("status", "--porcelain") === "" ? commit : `${commit}-modified`;
}

function compile(outfile: string, commit: string, flags: readonly string[]): void {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [
      "build",
      "--compile",
      "--production",
      // A process reads only what it imports. In one piece, each would read everything.
      "--splitting",
      // Starts three times as fast. Bytecode needs esm here, because the entry point has a top-level await.
      "--bytecode",
      "--format=esm",
      // Compiles to machine code only what runs eight times as often as usual. lib/cli/main.ts ends this after a second.
      "--compile-jit-policy=8",
      // The package `debug`, which ioredis uses, then does without node:tty, and prints no emails whatever DEBUG says.
      "--define=process.browser=true",
      "--define=process.env.DEBUG=undefined",
      // Embedded, so that stack traces show source lines.
      "--sourcemap",
      // Otherwise it would read configuration from whatever folder it is started in, and run code named there.
      "--no-compile-autoload-dotenv",
      "--no-compile-autoload-bunfig",
      `--define=BUILD_COMMIT=${JSON.stringify(commit)}`,
      ...flags,
      `--outfile=${outfile}`,
      join(root, "lib/cli/main.ts"),
    ],
    { cwd: root, encoding: "utf8" },
  );
  // Bun exits with 0 even if it generated no bytecode.
  if (status !== 0 || stderr.includes("Failed to generate bytecode")) {
    throw new Error(`bun build failed\n${stdout}${stderr}`);
  }
}

/** Gets Bun for the target from npm, which uses the configured registry: Bun's own download ignores it. */
function crossFlags(target: Target, version: string, folder: string): string[] {
  const packed = run("npm", ["pack", `${target.package}@${version}`, "--json", "--pack-destination", folder]);
  const [{ filename = "", integrity = "" } = {}] = JSON.parse(packed) as Record<string, string>[];
  const { packages } = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as {
    packages: Record<string, { integrity?: string }>;
  };
  if (integrity !== packages[`node_modules/${target.package}`]?.integrity) {
    throw new Error(`${target.package}@${version} does not match package-lock.json`);
  }
  run("tar", ["-xzf", join(folder, filename), "-C", folder, "package/bin/bun"]);
  return [`--target=${target.bun}`, `--compile-executable-path=${join(folder, "package/bin/bun")}`];
}

function run(command: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: root, encoding: "utf8" });
  if (status === 0) return stdout;
  throw new Error(`${command} ${args.join(" ")} fails\n${error?.message ?? stderr}`);
}

function checkFile(path: string, target: Target | undefined): void {
  const header = Buffer.alloc(20);
  const file = openSync(path, "r");
  readSync(file, header);
  closeSync(file);
  if (header.toString("latin1", 1, 4) !== "ELF") throw new Error("the result is not an ELF file");
  const machine = header.readUInt16LE(18);
  if (target !== undefined && machine !== target.elfMachine) {
    throw new Error(`the result is for ELF machine ${machine} instead of ${target.elfMachine}`);
  }
}

/** How to run it here; undefined if that is impossible. */
function howToRun(path: string, target: Target | undefined): string[] | undefined {
  if (target === undefined || target.arch === process.arch) return [path];
  const emulator = Bun.which(target.emulator);
  return emulator !== null && existsSync(target.library) ? [emulator, "-L", target.library, path] : undefined;
}

function shown(path: string): string {
  const fromHere = relative(process.cwd(), path);
  return fromHere.startsWith("..") ? path : fromHere;
}
