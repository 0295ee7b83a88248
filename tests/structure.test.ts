// The rules of the layout that no compiler enforces: imports, the purity of policy, and the headers of scripts.

import { describe, expect, test } from "bun:test";
import { basename, dirname, join, relative, resolve } from "node:path";

const root = resolve(import.meta.dir, "..");
const read = (path: string) => Bun.file(join(root, path)).text();
const found = (pattern: string) => [...new Bun.Glob(pattern).scanSync({ cwd: root })].sort();

const product = [...found("lib/**/*.ts"), ...found("clients/**/*.ts"), ...found("*.ts")];
const web = found("clients/web/*.ts");
const webPage = found("clients/web/page/*.ts");
const policy = found("lib/policy/**/*.ts");
const scripts = found("lib/queue/redis/scripts/*.lua");
/** Inserted into scripts. */
const scriptParts = found("lib/queue/redis/scripts/parts/*.lua");

interface Import {
  /** Path from the root, or the name of a package. */
  readonly target: string;
  /** `lazy`: loaded when that line runs. */
  readonly kind: "module" | "type" | "lazy";
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
  return statements.map(([statement, type, name = ""]) => ({
    target: name.startsWith(".") ? relative(root, resolve(root, dirname(path), name)) : name,
    kind: type?.trim() === "type" ? "type" : /^import\(|^require\(/.test(statement) ? "lazy" : "module",
  }));
}

/** All that a file imports, and what is imported there, by imports of these kinds. */
async function reachedFrom(
  path: string,
  kinds: readonly Import["kind"][],
  reached = new Set<string>(),
): Promise<Set<string>> {
  if (!product.includes(path)) return reached;
  for (const { target, kind } of importsOf(path, await read(path))) {
    if (reached.has(target) || !kinds.includes(kind)) continue;
    await reachedFrom(target, kinds, reached.add(target));
  }
  return reached;
}

/** The files whose imports break a rule, with those imports. */
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

/** For each folder of lib: the folders that it may import, and those from which it may import types. */
const mayImport: Record<string, readonly [modules: string[], types?: string[]]> = {
  runtime: [[]],
  email: [[]],
  policy: [["email"], ["queue/contract"]],
  queue: [["email", "runtime"]],
  providers: [["policy", "email", "runtime"]],
  http: [["email", "runtime"], ["queue/contract"]],
  worker: [["queue", "providers", "policy", "email", "runtime"]],
  admin: [["runtime"], ["http", "worker", "queue", "policy"]],
  config: [["providers", "email", "runtime"], ["queue/open"]],
  cli: [["config", "queue", "providers", "policy", "email", "runtime"]],
};

/** Modules that only one folder may import. */
const onlyIn = {
  ioredis: "lib/queue/redis",
  "bun:sqlite": "lib/queue/sqlite",
  "lib/queue/redis/scripts": "lib/queue/redis",
  resend: "lib/providers",
  postmark: "lib/providers",
  nodemailer: "lib/providers/sandbox",
  uplot: "clients/web/page",
  "postal-mime": "clients/web",
};

/** The web client shows an email as the commands do, and retries it as they do. */
const sharedByCommands = [
  "fields",
  "format",
  "queue/bulk",
  "queue/email_fields",
  "queue/retry",
  "queue/show",
];

/** Modules of lib that the web client's server may import. */
const webMayImport = ["config", "email", "http/auth", "providers", "queue", "runtime"];

const isOf = (name: string) => (one: Import) => one.target === name || one.target.startsWith(`${name}/`);

describe("structure: imports", () => {
  test("every form of import is found, and comments are ignored", () => {
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
      { target: "ioredis", kind: "lazy" },
      { target: "lib/b.ts", kind: "type" },
      { target: "lib/policy/a.ts", kind: "module" },
      { target: "lib/policy/c.ts", kind: "module" },
      { target: "lib/policy/d.ts", kind: "module" },
      { target: "side", kind: "module" },
    ]);
  });

  test("each folder of lib imports only those below it", async () => {
    for (const path of product.filter((one) => one.startsWith("lib/"))) {
      const folder = path.split("/")[1]!;
      const [modules = [], types = []] = mayImport[folder] ?? [];
      const isAllowed = (one: Import) =>
        !one.target.startsWith("lib/") ||
        [folder, ...modules].some((name) => isOf(`lib/${name}`)(one)) ||
        (one.kind === "type" &&
          types.some((name) => isOf(`lib/${name}`)({ ...one, target: one.target.replace(/\.ts$/, "") })));
      expect(await offenders([path], (one) => !isAllowed(one))).toEqual([]);
      expect(mayImport[folder] === undefined ? `${path} is not in a known folder` : "").toBe("");
    }
  });

  test.each(Object.entries(onlyIn))("%s is imported only in %s", async (target, folder) => {
    const others = product.filter((path) => !path.startsWith(`${folder}/`));
    expect(others.length).toBeLessThan(product.length);
    expect(await offenders(others, isOf(target))).toEqual([]);
  });

  test("the commands are known to themselves, and to the web client what both show", async () => {
    const others = product.filter((path) => !path.startsWith("lib/cli/") && !path.startsWith("clients/"));
    expect(await offenders(others, isOf("lib/cli"))).toEqual([]);
    const isShared = ({ target }: Import) => sharedByCommands.some((name) => target === `lib/cli/${name}.ts`);
    const breaks = (one: Import) => isOf("lib/cli")(one) && !isShared(one);
    expect(await offenders(web, breaks)).toEqual([]);
  });

  test("the web client is known to dev alone, and drives nothing but the queue", async () => {
    const others = product.filter((path) => !path.startsWith("clients/"));
    expect(await offenders(others, isOf("clients"))).toEqual(["lib/cli/dev.ts: clients/web/server.ts"]);
    const isAllowed = (one: Import) =>
      !one.target.startsWith("lib/") ||
      isOf("lib/cli")(one) ||
      webMayImport.some((name) => one.target === `lib/${name}.ts` || isOf(`lib/${name}`)(one));
    expect(await offenders(web, (one) => !isAllowed(one))).toEqual([]);
  });

  test("the page knows of the rest only types, by the protocol", async () => {
    const isOutside = (one: Import) => one.target.includes("/") && !isOf("clients/web/page")(one);
    const known = await offenders(webPage, isOutside);
    expect(new Set(known.map((one) => one.replace(/^.*: /, "")))).toEqual(
      new Set(["clients/web/protocol.ts"]),
    );
    expect(await offenders(webPage, (one) => isOutside(one) && one.kind !== "type")).toEqual([]);
    expect(await offenders(["clients/web/protocol.ts"], (one) => one.kind !== "type")).toEqual([]);
  });

  test("the two queues do not import each other", async () => {
    expect(await offenders(found("lib/queue/redis/**/*.ts"), isOf("lib/queue/sqlite"))).toEqual([]);
    expect(await offenders(found("lib/queue/sqlite/**/*.ts"), isOf("lib/queue/redis"))).toEqual([]);
  });

  test("policy imports no package except valibot, for stored records", async () => {
    expect(policy.length).toBeGreaterThan(10);
    expect(await offenders(policy, ({ target }) => !target.startsWith("lib/"))).toEqual([
      "lib/policy/history.ts: valibot",
    ]);
  });

  test("no imports are circular", async () => {
    const reached = await Promise.all(product.map((path) => reachedFrom(path, ["module", "lazy"])));
    expect(product.filter((path, i) => reached[i]!.has(path))).toEqual([]);
  });

  // Loading a package takes a server longer than its first answer.
  test.each([
    ["lib/cli/main.ts", []],
    ["server.ts", ["valibot"]],
    ["worker.ts", ["valibot"]],
  ])("%s needs no package before it knows the settings except %j", async (path, packages) => {
    const isPackage = (target: string) => !target.endsWith(".ts") && !/^node:|^package.json$/.test(target);
    const reached = await reachedFrom(path, ["module"]);
    expect([...reached].filter(isPackage)).toEqual(packages);
  });
});

describe("structure: dependencies on the outside", () => {
  const impure =
    /\bnew Date\b|\bDate\.now|\bperformance\b|\bMath\.random|\bcrypto\b|\brandomUUID|\bset(?:Timeout|Interval|Immediate)\b|\bprocess\b|\bBun\b|\bfetch\(|\bconsole\b|\basync\b|\bawait\b/;

  test.each(policy)("%s has no clock, randomness, timer or environment", async (path) => {
    expect(withoutComments(await read(path)).match(impure)?.[0]).toBeUndefined();
  });

  // `dev` adds missing settings before it passes them on, `config` shows where each comes from, and a terminal decides
  // on colors itself.
  test("only settings are read from the environment: by lib/config/config.ts, to which entry points and commands pass it", async () => {
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

test("structure: nothing becomes markup in the page of the web client, and nothing is loaded from elsewhere", async () => {
  const markup =
    /\b(?:innerHTML|outerHTML|insertAdjacentHTML|setHTML\w*|srcdoc|DOMParser|createContextualFragment|eval|Function|document\.write\w*|createObjectURL)\b/;
  const sources = [...webPage, ...found("clients/web/page/*.{html,css}")];
  expect(sources.length).toBeGreaterThan(10);
  for (const path of sources) {
    const text = await read(path);
    expect(`${path}: ${markup.exec(text)?.[0]}`).toBe(`${path}: undefined`);
    expect(`${path}: ${/\bhttps?:\/\/|\burl\(/.exec(text)?.[0]}`).toBe(`${path}: undefined`);
  }
});

test("structure: no log line contains the message of an unexpected error, which may quote an email", async () => {
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

  const neverPast = /(submit|put_piece|adopt|remember_keys|permissions)\.lua$/;
  test.each(scripts.filter((path) => !neverPast.test(path)))(
    "%s runs when memory is full, or writes nothing",
    async (path) => {
      expect(await read(path)).toMatch(/^#!lua flags=(allow-oom|no-writes)\n/);
    },
  );

  test.each(["submit", "put_piece", "adopt", "remember_keys"])(
    "%s.lua, which makes the queue longer, does not run when memory is full",
    async (name) => {
      expect(await read(`lib/queue/redis/scripts/${name}.lua`)).toMatch(/^#!lua\n/);
    },
  );

  test.each(scriptParts)("%s opens with its purpose", async (path) => {
    expect(await read(path)).toStartWith(`-- ${basename(path, ".lua")}: `);
  });

  test.each(scripts)("%s opens with its purpose, keys and arguments", async (path) => {
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
