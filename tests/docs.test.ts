// The documents match the code: they name exactly the existing settings, events, files and limits, and the service
// accepts the Redis configuration that they recommend.

import { describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { mailboxMax } from "../lib/email/address.ts";
import { outcomes } from "../lib/cli/queue/show.ts";
import { RedisProducer } from "../lib/queue/redis/producer.ts";
import { lostEvent } from "../lib/runtime/log.ts";
import { additions, schema } from "../lib/queue/sqlite/schema.ts";
import { secretNames, type SettingName, settingNames, settings } from "../lib/config/settings.ts";
import { filesMax, forbiddenExtensions } from "../lib/email/attachment.ts";
import { subjectMax, textBytesMax } from "../lib/email/fields.ts";
import { headersMax } from "../lib/email/mail_headers.ts";
import { emailBytesMax } from "../lib/email/size.ts";
import { tagsMax } from "../lib/email/tags.ts";
import { recipientsMax } from "../lib/http/list_checks.ts";
import { scheduleMaxDays } from "../lib/http/submission.ts";
import { defaultLimits, smallBytesMax } from "../lib/http/body/upload.ts";
import { eventually, freePort } from "./support/eventually.ts";
import { silent } from "./support/log.ts";
import { durableSettings } from "./support/redis.ts";

const root = join(import.meta.dir, "..");
const read = (path: string) => readFileSync(join(root, path), "utf8");
const found = (pattern: string) => [...new Bun.Glob(pattern).scanSync({ cwd: root })].sort();

const documents = [...found("*.md"), ...found("docs/**/*.md"), ...found("clients/*/*.md")];
const product = [...found("*.ts"), ...found("lib/**/*.ts")];
const mib = 1024 * 1024;

/** The text under a heading, up to the next heading of the same rank or higher. */
function section(document: string, heading: string): string {
  const rank = heading.indexOf(" ");
  const start = document.indexOf(`\n${heading}\n`);
  if (start === -1) throw new Error(`no heading ${heading}`);
  const rest = document.slice(start + heading.length + 2);
  const end = rest.search(new RegExp(`^#{1,${rank}} `, "m"));
  return end === -1 ? rest : rest.slice(0, end);
}

/** The cells of the table rows that begin with a name in code. */
function rows(document: string): { name: string; cells: string[] }[] {
  return document.split("\n").flatMap((line) => {
    const [, name, rest = ""] = /^\| `([^`]+)` +\|(.*)\|$/.exec(line) ?? [];
    return name === undefined ? [] : [{ name, cells: rest.split("|").map((cell) => cell.trim()) }];
  });
}

describe("docs: settings", () => {
  const documented = rows(section(read("docs/configuration.md"), "## All settings"));

  test("the table lists exactly the existing settings", () => {
    expect(documented.map(({ name }) => name).toSorted()).toEqual(settingNames.toSorted());
  });

  test("those that can come from a file are named", () => {
    const [, list = ""] =
      /^The secrets (.*) may come from a file instead/m.exec(read("docs/configuration.md")) ?? [];
    expect([...list.matchAll(/`(\w+)`/g)].map(([, name]) => name!)).toEqual(secretNames);
  });

  test.each(documented)("the default of $name is the documented one", ({ name, cells: [fallback] }) => {
    const row = settings[name as SettingName];
    const known: string | Readonly<Record<string, string>> = "default" in row ? row.default : "";
    // Without a default, the table describes in words what happens.
    if (typeof known !== "string") expect(fallback).toBe(Object.values(known).join(", "));
    else if (known !== "") expect(fallback).toBe(`\`${known}\``);
    else expect(fallback).not.toStartWith("`");
  });
});

test("docs: the table of outcomes lists exactly the existing ones", () => {
  const [, after = ""] = read("docs/json-output.md").split("The `outcome` of an attempt:\n\n");
  const [table = ""] = after.split("\n\n");
  expect(rows(table).map(({ name }) => name)).toEqual(Object.keys(outcomes));
});

describe("docs: the log", () => {
  const sources = product.filter((path) => path !== "lib/runtime/log.ts").map(read);
  const calls = sources.flatMap((text) => [
    ...text.matchAll(/\blog\.(debug|info|warn|error)\(\s*(?:"([a-z-]+)")?/g),
  ]);

  test("every event is a literal, so that it can be searched for", () => {
    expect(calls.length).toBeGreaterThan(20);
    expect(calls.filter(([, , event]) => event === undefined).map(([call]) => call)).toEqual([]);
  });

  test("the table lists exactly the existing events, with their level", () => {
    const written = new Set(calls.map(([, level, event]) => `${event} ${level}`));
    written.add(`${lostEvent} warn`);
    const documented = rows(read("docs/logs.md")).map(({ name, cells: [level] }) => `${name} ${level}`);
    expect(documented.toSorted()).toEqual([...written].toSorted());
  });
});

describe("docs: the API", () => {
  const api = read("docs/api.md");

  test("every documented message of a 400 is in the code", () => {
    const code = product.map(read).join("\n");
    const messages = section(api, "## Every 400")
      .split("\n")
      .filter((line) => line.startsWith("| `"))
      .flatMap((line) => [...line.split("|")[1]!.matchAll(/`([^`]+)`/g)].map(([, message]) => message!));
    expect(messages.length).toBeGreaterThan(25);
    const constants = [...code.matchAll(/\bconst (\w+) = ([\d_]+);/g)].map(
      ([, name = "", value = ""]) => [name, Number(value.replaceAll("_", ""))] as const,
    );
    // A parameter, which stands for two constants.
    constants.push(["countMax", headersMax], ["countMax", tagsMax]);
    /** A number may be that of a constant, and `<name>` is an expression. */
    const inCode = (part: string) => {
      if (/^<\w+>$/.test(part)) return String.raw`\$\{[^}]*\}`;
      const names = constants.filter(([, value]) => String(value) === part).map(([name]) => name);
      return [RegExp.escape(part), ...names.map((name) => String.raw`\$\{${name}\}`)].join("|");
    };
    const missing = messages.filter((message) => {
      const text = message
        .replace(/^the form (?=does|has)/, "")
        .replace("List-Unsubscribe=One-Click", "<oneClick>");
      const parts = text.split(/(\d+|<\w+>)/).map((part) => `(?:${inCode(part)})`);
      return !new RegExp(parts.join("")).test(code);
    });
    expect(missing).toEqual([]);
  });

  test("the extensions that it lists are those that the code refuses", () => {
    const [, listed = ""] = /by their last extension: `([^`]+)`/.exec(api) ?? [];
    expect(listed.split(" ")).toEqual([...forbiddenExtensions].toSorted());
  });

  test("its limits are the code's", () => {
    const { requirement: bodyMax } = settings.MAX_BODY_BYTES.kind.schema.pipe[2];
    const { bodyTimeoutMs, pendingBytesMax, pendingMax, reservedBytes } = defaultLimits;
    expect(api).toContain(`at most ${subjectMax.toLocaleString("en")} characters`);
    expect(api).toContain(`${textBytesMax.toLocaleString("en")} bytes of UTF-8`);
    expect(api).toContain(`at most ${mailboxMax} characters`);
    expect(api).toContain(`at most ${recipientsMax} addresses together`);
    expect(api).toContain(`at most ${filesMax} files`);
    expect(api).toContain(`at most ${headersMax}, and no name twice`);
    expect(api).toContain(`at most ${tagsMax}. A name`);
    expect(api).toContain(`at most ${scheduleMaxDays} days ahead`);
    expect(api).toContain(`at most ${emailBytesMax.toLocaleString("en")} bytes as the providers count them`);
    expect(api).toContain(`at most ${(0.75 * emailBytesMax) / 1e6} MB`);
    expect(api).toContain(`${pendingMax.toLocaleString("en")} submissions`);
    expect(api).toContain(`${pendingBytesMax / mib} MiB of bodies`);
    expect(api).toContain(
      `${reservedBytes / mib} MiB are for submissions of at most ${smallBytesMax / mib} MiB`,
    );
    expect(api).toContain(`${bodyTimeoutMs / 1000} s to arrive`);
    expect(api).toContain(`${bodyMax / mib} MiB at most`);
    expect(read("docs/configuration.md")).toContain(`at most ${bodyMax} `);
  });
});

describe("docs: the map in ARCHITECTURE.md", () => {
  const map = section(read("ARCHITECTURE.md"), "## Module map");
  const named = map.split("\n").flatMap((line) => /^\| (`[^|]+) \|/.exec(line)?.[1]?.match(/[^`, ]+/g) ?? []);

  test("names every folder of lib, and each file outside one", () => {
    const folders = new Set(product.map((path) => path.replace(/^(lib\/\w+\/).*/, "$1")));
    expect(named.filter((path) => /^lib\/\w+\/$|^[^/]+$/.test(path)).sort()).toEqual([...folders].sort());
  });

  test("names nothing that does not exist", () => {
    expect(named.filter((path) => !existsSync(join(root, path)))).toEqual([]);
  });
});

test("docs: docs/storage.md lists exactly the existing keys", () => {
  const files = [...new Bun.Glob("lib/queue/redis/scripts/**/*.lua").scanSync({ cwd: root })];
  const code = files.map((path) => read(path).replace(/^--.*$/gm, "")).join("\n");
  // Names begin with a literal; "wake" is a channel.
  const used = Array.from(code.matchAll(/\bcall\('(?!PUBLISH)[A-Z]+', '([a-z:]+)'/g), ([, name]) => name!);
  const documented = rows(section(read("docs/storage.md"), "## Redis")).map(({ name }) =>
    name.replace(/<.*/, ""),
  );
  expect(new Set(used).size).toBeGreaterThan(15);
  expect(used.filter((name) => !documented.includes(name))).toEqual([]);
  expect(documented.filter((name) => !code.includes(`'${name}'`))).toEqual([]);
});

test("docs: docs/storage.md lists exactly the existing tables of the embedded queue", () => {
  const steps = [schema, ...Object.values(additions)].join("\n");
  const tables = [...steps.matchAll(/^ *CREATE TABLE (\w+)/gm)].map(([, name]) => name!);
  const documented = rows(section(read("docs/storage.md"), "## The embedded queue")).map(({ name }) => name);
  expect(tables.length).toBeGreaterThan(5);
  expect(documented.toSorted()).toEqual(tables.toSorted());
});

describe("docs: shape", () => {
  test("README.md and each page are short", () => {
    const lines = (path: string) => read(path).split("\n").length;
    expect(lines("README.md")).toBeLessThanOrEqual(200);
    expect(lines("ARCHITECTURE.md")).toBeLessThanOrEqual(250);
    expect(found("docs/**/*.md").filter((path) => lines(path) > 300)).toEqual([]);
  });

  test.each(documents)("tables of %s are not padded and have three columns at most", (path) => {
    const tables = read(path)
      .split("\n")
      .filter((line) => line.startsWith("|"));
    expect(tables.filter((line) => / {2}|--{3}/.test(line) || line.split(/(?<!\\)\|/).length > 5)).toEqual(
      [],
    );
  });

  test("README.md leads to every page", () => {
    const readme = read("README.md");
    const pages = documents.filter((path) => path.includes("/"));
    expect(pages.filter((path) => !readme.includes(`](${path}`))).toEqual([]);
  });

  test("docs/runbook.md has exactly one entry for each alert", () => {
    const alerts = [...read("deploy/alerts.yml").matchAll(/- alert: (\w+)/g)].map(([, name]) => name!);
    const entries = [...read("docs/runbook.md").matchAll(/^## (\w+)$/gm)].map(([, name]) => name!);
    expect(entries.toSorted()).toEqual(alerts.toSorted());
  });
});

describe("docs: links", () => {
  const slug = (heading: string) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-");
  const anchors = (path: string) =>
    [...read(path).matchAll(/^#+ (.+)$/gm)].map(([, heading]) => slug(heading!));

  test.each(documents)("those of %s lead somewhere", (document) => {
    const links = [...read(document).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target!);
    const broken = links.filter((link) => {
      if (/^https?:/.test(link)) return false;
      const [path = "", anchor] = link.split("#");
      const target = path === "" ? document : join(dirname(document), path);
      if (!existsSync(join(root, target))) return true;
      return anchor !== undefined && !anchors(target).includes(anchor);
    });
    expect(broken).toEqual([]);
  });
});

describe("docs: commands", () => {
  test("CI runs the test command of the README", () => {
    const [, command] = /```sh\n(.+)\n```/.exec(section(read("README.md"), "## Testing")) ?? [];
    expect(command).toContain("npm test");
    expect(read(".ci/run").trimEnd().split("\n").at(-1)).toBe(command!);
  });

  test("bench has a help, and reports an unknown option without a stack trace", () => {
    const run = (...args: string[]) => {
      const command = [process.execPath, "--no-install", join(root, "bench/main.ts"), ...args];
      const { exitCode, stdout, stderr } = Bun.spawnSync(command);
      return { exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
    };
    const help = run("--help");
    expect(help).toEqual({ exitCode: 0, stdout: expect.stringMatching(/^Usage: npm run bench/), stderr: "" });
    for (const name of ["submit", "deliver", "idle", "growth", "costs", "fleet"])
      expect(help.stdout).toContain(name);
    expect(run("--nonsense")).toEqual({
      exitCode: 2,
      stdout: "",
      stderr: `Unknown option '--nonsense'\n\n${help.stdout}`,
    });
  });

  test("those of npm are scripts of package.json", () => {
    const { scripts } = JSON.parse(read("package.json"));
    const named = documents.flatMap((document) => [
      ...read(document).matchAll(
        /\bnpm (?:run )?(server|worker|dev|web|cli|build|check|test|bench|chaos)\b/g,
      ),
    ]);
    expect(named.length).toBeGreaterThan(5);
    expect(named.map(([, name]) => name!).filter((name) => !(name in scripts))).toEqual([]);
  });
});

test("docs: a Redis with deploy/redis.conf is accepted as durable, and has the settings of the tests", async () => {
  const folder = mkdtempSync(join(tmpdir(), "reliable-email-docs-"));
  const port = await freePort();
  const child = Bun.spawn(
    ["redis-server", join(root, "deploy/redis.conf"), "--dir", folder, "--port", String(port)],
    { stdout: "ignore", stderr: "inherit" },
  );
  const cli = (...command: string[]) =>
    Bun.spawnSync(["redis-cli", "-p", String(port), ...command]).stdout.toString();
  const producer = new RedisProducer({
    url: `redis://127.0.0.1:${port}`,
    prefix: "docs",
    minReplicas: 0,
    durability: "verify",
    log: silent,
    onFatal(reason) {
      throw new Error(reason);
    },
  });
  try {
    await eventually("it is found durable", () => producer.health().ok);
    // Not another Redis that took the port meanwhile.
    expect(cli("INFO", "server")).toContain(`process_id:${child.pid}\r\n`);
    for (const [name, value] of Object.entries(durableSettings)) {
      expect(cli("CONFIG", "GET", name)).toBe(`${name}\n${value}\n`);
    }
    const submission = { id: Bun.randomUUIDv7(), text: "{}\n{}" };
    expect((await producer.submit(submission, performance.now() + 60_000)).kind).toBe("stored");
  } finally {
    await producer.close();
    child.kill("SIGKILL");
    await child.exited;
    rmSync(folder, { recursive: true, force: true });
  }
});
