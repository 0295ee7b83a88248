// Builds the executable, tries it, and only then puts it in place: `npm run build [-- target]`. Whatever fails on the
// way leaves nothing behind, and what was there before as it was.

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
  /** What holds Bun for it. */
  readonly package: string;
  /** `process.arch` of a machine that runs it as it is. */
  readonly arch: string;
  /** Its number in the header of an ELF file. */
  readonly elfMachine: number;
  readonly emulator: string;
  /** Where Debian puts the C library that it needs there. */
  readonly library: string;
}

/** What has been tried. Bun knows more. */
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

/** Removed at the end, however it comes. */
let workshop: string | undefined;
process.on("exit", () => {
  if (workshop !== undefined) rmSync(workshop, { recursive: true, force: true });
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => process.exit(1));

try {
  await build();
} catch (error) {
  console.error(`Not built: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
}

async function build(): Promise<void> {
  const { outdir, name, target } = readArguments();
  const bunVersion = manifest.dependencies.bun;
  if (Bun.version !== bunVersion)
    throw new Error(`this is bun ${Bun.version}, and not ${bunVersion}: npm ci`);

  mkdirSync(outdir, { recursive: true });
  // In the same file system as what comes of it, which is then put in place by renaming.
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
      ? `Not tried: it is for another processor. Debian's qemu-user and libc6-arm64-cross would run it`
      : `Tried${command.length > 1 ? ` with ${basename(command[0]!)}` : ""}: it delivers an email`,
  );
}

function readArguments(): { outdir: string; name: string; target: Target | undefined } {
  try {
    const { values, positionals } = parseArgs({
      options: { outdir: { type: "string", default: join(root, "dist") } },
      allowPositionals: true,
    });
    const [name, ...others] = positionals;
    if (others.length > 0) throw new Error("There is more than one target");
    const target = name === undefined ? undefined : targets[name];
    if (name !== undefined && target === undefined) throw new Error(`Unknown target '${name}'`);
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

/** Not that of a repository around this one, which an unpacked release may lie in. */
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
      // Starts in a third of the time. Bytecode needs esm here: the entry awaits at its top level.
      "--bytecode",
      "--format=esm",
      // Inside, so that a stack names lines of the sources.
      "--sourcemap",
      // Or else it would obey files that lie wherever it is started, and run code that they name.
      "--no-compile-autoload-dotenv",
      "--no-compile-autoload-bunfig",
      `--define=BUILD_COMMIT=${JSON.stringify(commit)}`,
      ...flags,
      `--outfile=${outfile}`,
      join(root, "lib/cli/main.ts"),
    ],
    { cwd: root, encoding: "utf8" },
  );
  // Bun exits with 0 when there is no bytecode.
  if (status !== 0 || stderr.includes("Failed to generate bytecode")) {
    throw new Error(`bun build fails\n${stdout}${stderr}`);
  }
}

/** Bun for the target comes by npm, from wherever npm is told to get packages: Bun's own download asks nobody. */
function crossFlags(target: Target, version: string, folder: string): string[] {
  const packed = run("npm", ["pack", `${target.package}@${version}`, "--json", "--pack-destination", folder]);
  const [{ filename = "", integrity = "" } = {}] = JSON.parse(packed) as Record<string, string>[];
  const { packages } = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as {
    packages: Record<string, { integrity?: string }>;
  };
  if (integrity !== packages[`node_modules/${target.package}`]?.integrity) {
    throw new Error(`${target.package}@${version} is not the one of package-lock.json`);
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
  if (header.toString("latin1", 1, 4) !== "ELF") throw new Error("what comes out is not an ELF file");
  const machine = header.readUInt16LE(18);
  if (target !== undefined && machine !== target.elfMachine) {
    throw new Error(`what comes out is for ELF machine ${machine}, and not ${target.elfMachine}`);
  }
}

/** Nothing if it cannot be run here. */
function howToRun(path: string, target: Target | undefined): string[] | undefined {
  if (target === undefined || target.arch === process.arch) return [path];
  const emulator = Bun.which(target.emulator);
  return emulator !== null && existsSync(target.library) ? [emulator, "-L", target.library, path] : undefined;
}

function shown(path: string): string {
  const fromHere = relative(process.cwd(), path);
  return fromHere.startsWith("..") ? path : fromHere;
}
