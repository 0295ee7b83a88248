// The rules of the layout, which no compiler keeps: who may import whom, what policy may not touch, and what every
// script says about itself.

import { describe, expect, test } from "bun:test";
import { basename, dirname, join, relative, resolve } from "node:path";

const root = resolve(import.meta.dir, "..");
const read = (path: string) => Bun.file(join(root, path)).text();
const found = (pattern: string) => [...new Bun.Glob(pattern).scanSync({ cwd: root })].sort();

const product = [...found("lib/**/*.ts"), ...found("*.ts")];
const policy = found("lib/policy/**/*.ts");
const scripts = found("lib/**/*.lua");

interface Import {
  /** From the root, or the name of a package. */
  readonly target: string;
  readonly typeOnly: boolean;
}

const withoutComments = (text: string) => text.replace(/\/\*[^]*?\*\/|(?<=^|\s)\/\/.*$/gm, "");

function importsOf(path: string, text: string): Import[] {
  const code = withoutComments(text);
  const statements = [
    ...code.matchAll(/^(?:import|export)\s+(type\s)?[^;"]*?from\s+"([^"]+)"/gm),
    ...code.matchAll(/^import\s+()"([^"]+)"/gm),
    ...code.matchAll(/\bimport\(()\s*"([^"]+)"/gm),
    ...code.matchAll(/\brequire\(()\s*"([^"]+)"/gm),
  ];
  return statements.map(([, type, name = ""]) => ({
    target: name.startsWith(".") ? relative(root, resolve(root, dirname(path), name)) : name,
    typeOnly: type !== undefined && type.trim() === "type",
  }));
}

/** Those of `files` whose imports break a rule, with the imports that do. */
async function offenders(files: readonly string[], breaks: (one: Import) => boolean): Promise<string[]> {
  const each = await Promise.all(
    files.map(async (path) =>
      importsOf(path, await read(path))
        .filter(breaks)
        .map(({ target }) => `${path}: ${target}`),
    ),
  );
  return each.flat();
}

const isOf = (name: string) => (one: Import) => one.target === name || one.target.startsWith(`${name}/`);

describe("structure: imports", () => {
  test("every form of import is seen, and comments are not", () => {
    const text = [
      'import { a } from "./a.ts";',
      'import type { B } from "../b.ts";',
      'import {\n  type C,\n} from "./c.ts";',
      'import "side";',
      'export { d } from "./d.ts";',
      'const e = await import("ioredis");',
      '// import "no";',
    ].join("\n");
    expect(importsOf("lib/policy/x.ts", text).sort((a, b) => a.target.localeCompare(b.target))).toEqual([
      { target: "ioredis", typeOnly: false },
      { target: "lib/b.ts", typeOnly: true },
      { target: "lib/policy/a.ts", typeOnly: false },
      { target: "lib/policy/c.ts", typeOnly: false },
      { target: "lib/policy/d.ts", typeOnly: false },
      { target: "side", typeOnly: false },
    ]);
  });

  test("policy knows only itself, what an email is, and the types of the queue", async () => {
    const strangers = await offenders(policy, (one) => {
      if (isOf("lib/policy")(one) || one.target === "lib/email/email.ts") return false;
      return !(one.target === "lib/queue/contract.ts" && one.typeOnly);
    });
    expect(policy.length).toBeGreaterThan(10);
    expect(strangers).toEqual([]);
  });

  test("queues and providers do not know each other", async () => {
    expect(await offenders(found("lib/queue/**/*.ts"), isOf("lib/providers"))).toEqual([]);
    expect(await offenders(found("lib/providers/**/*.ts"), isOf("lib/queue"))).toEqual([]);
  });

  test("queues and providers know nothing of what is built on them", async () => {
    const below = [...found("lib/queue/**/*.ts"), ...found("lib/providers/**/*.ts")];
    const isAbove = (one: Import) => isOf("lib/worker")(one) || one.target === "lib/http/handler.ts";
    expect(await offenders(below, isAbove)).toEqual([]);
  });

  test("nobody but the command line itself knows it", async () => {
    const others = product.filter((path) => !path.startsWith("lib/cli/"));
    expect(await offenders(others, isOf("lib/cli"))).toEqual([]);
  });

  test("what looks at the processes knows only types of them, and only what starts them knows it", async () => {
    const admin = found("lib/admin/**/*.ts");
    const isOwn = (one: Import) => isOf("lib/admin")(one) || one.target === "lib/runtime/version.ts";
    expect(admin.length).toBeGreaterThan(5);
    expect(await offenders(admin, (one) => !one.typeOnly && !isOwn(one))).toEqual([]);
    const others = found("lib/**/*.ts").filter((path) => !path.startsWith("lib/admin/"));
    expect(await offenders(others, isOf("lib/admin"))).toEqual([]);
  });

  test("nothing is imported in a circle", async () => {
    const imports = new Map<string, string[]>();
    for (const path of product) {
      const targets = importsOf(path, await read(path)).filter(({ typeOnly }) => !typeOnly);
      imports.set(
        path,
        targets.map(({ target }) => target),
      );
    }
    const leadsTo = (from: string, seen: Set<string>): Set<string> => {
      for (const target of imports.get(from) ?? []) if (!seen.has(target)) leadsTo(target, seen.add(target));
      return seen;
    };
    expect(product.filter((path) => leadsTo(path, new Set()).has(path))).toEqual([]);
  });

  test("only the folder of the Redis queue knows Redis", async () => {
    const others = product.filter((path) => !path.startsWith("lib/queue/redis/"));
    expect(await offenders(others, isOf("ioredis"))).toEqual([]);
  });

  test("only the folder of the embedded queue knows SQLite", async () => {
    const others = product.filter((path) => !path.startsWith("lib/queue/sqlite/"));
    expect(await offenders(others, isOf("bun:sqlite"))).toEqual([]);
  });

  test("one queue does not know the other", async () => {
    expect(await offenders(found("lib/queue/redis/**/*.ts"), isOf("lib/queue/sqlite"))).toEqual([]);
    expect(await offenders(found("lib/queue/sqlite/**/*.ts"), isOf("lib/queue/redis"))).toEqual([]);
  });

  test("only the folder of the providers knows their SDKs", async () => {
    const others = product.filter((path) => !path.startsWith("lib/providers/"));
    expect(await offenders(others, (one) => isOf("resend")(one) || isOf("postmark")(one))).toEqual([]);
  });
});

describe("structure: what depends on the world", () => {
  const impure =
    /\bnew Date\b|\bDate\.now|\bperformance\b|\bMath\.random|\bcrypto\b|\brandomUUID|\bset(?:Timeout|Interval|Immediate)\b|\bprocess\b|\bBun\b|\bfetch\(|\bconsole\b|\basync\b|\bawait\b/;

  test.each(policy)("%s has no clock, no randomness, no timer and no surroundings", async (path) => {
    expect(withoutComments(await read(path)).match(impure)?.[0]).toBeUndefined();
  });

  // `dev` adds to the settings what is missing, before it hands them on; `config` tells where each comes from; and
  // whether a terminal shows colours is for the terminal to say.
  test("only the settings are read from the environment: by lib/config/config.ts, or handed to it by an entry point or a command", async () => {
    const readers: string[] = [];
    const byCommands = /\b(devSettings|readConfig|effectiveSettings|checkAll|terminalOf)\(process\.env\b/g;
    for (const path of product.filter((one) => one !== "lib/config/config.ts")) {
      const handedOn = path.startsWith("lib/cli/") ? byCommands : "readConfig(process.env,";
      const code = withoutComments(await read(path)).replaceAll(handedOn, "");
      if (/\bprocess\.env\b|\bBun\.env\b|\bimport\.meta\.env\b/.test(code)) readers.push(path);
    }
    expect(readers).toEqual([]);
  });
});

test("structure: no line of the log holds the message of an unexpected error, which may quote an email", async () => {
  const calls = /\blog\.(?:debug|info|warn|error)\([^;]*\bString\(error\)/g;
  const found = await Promise.all(
    product.map(async (path) => [...(await read(path)).matchAll(calls)].map(() => path)),
  );
  expect(found.flat()).toEqual([]);
});

describe("structure: files", () => {
  test.each(product.filter((path) => !path.endsWith(".d.ts")))("%s opens with what it owns", async (path) => {
    expect((await read(path)).replace(/^#!.*\n/, "")).toMatch(/^\/\/ \S/);
  });

  test.each(scripts)("%s opens with its purpose, its keys and its arguments", async (path) => {
    const lines = (await read(path)).replace(/^#!.*\n/, "").split("\n");
    const end = lines.findIndex((line) => !line.startsWith("--"));
    const header = lines.slice(0, end).join("\n");
    const body = lines.slice(end).join("\n");
    expect(header).toStartWith(`-- ${basename(path, ".lua")}: `);
    expect(header).toInclude("KEYS[");
    expect(header).toInclude("ARGV[");
    const named = (kind: string, index: number) =>
      [...header.matchAll(new RegExp(`${kind}\\[(\\d+)(…?)\\]`, "g"))].some(
        ([, from, more]) => Number(from) === index || (more === "…" && Number(from) <= index),
      );
    for (const [whole, kind = "", index] of body.matchAll(/\b(KEYS|ARGV)\[(\d+)\]/g)) {
      expect(named(kind, Number(index)) ? whole : `${whole} is not named`).toBe(whole);
    }
  });
});
