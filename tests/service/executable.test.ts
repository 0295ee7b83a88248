// The executable as shipped: built by its script, and run by a user who has nothing else.

import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import manifest from "../../package.json" with { type: "json" };
import { eventually } from "../support/eventually.ts";
import { startRedis } from "../support/redis.ts";
import { post, startCommand } from "../support/service.ts";
import { clientAt } from "../support/web_client.ts";

const script = join(import.meta.dir, "../../deploy/build.ts");
const folder = mkdtempSync(join(tmpdir(), "reliable-email-executable-"));
const executable = join(folder, "dist", "reliable-email");
const nobody = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
let output: string;

beforeAll(async () => {
  const { exited, stdout, stderr } = build(["--outdir", join(folder, "dist")]);
  if ((await exited) !== 0) throw new Error(stderr());
  output = stdout();
  // Lets another user run it.
  chmodSync(folder, 0o755);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Inherits this environment, for git and npm. */
function build(args: string[], over: Record<string, string> = {}) {
  const env = Object.fromEntries(Object.entries(process.env).map(([name, value]) => [name, value ?? ""]));
  return startCommand([process.execPath, "--no-install", script, ...args], { env: { ...env, ...over } });
}

async function run(args: string[], cwd = "/") {
  const child = startCommand([executable, ...args], { cwd, ...nobody });
  const code = await child.exited;
  return { code, stdout: child.stdout(), stderr: child.stderr() };
}

/** A new folder owned by the user who runs the executable. */
function ownFolder(name: string): string {
  const path = join(folder, name);
  mkdirSync(path);
  if (nobody.uid !== undefined) chownSync(path, nobody.uid, nobody.gid);
  return path;
}

test("executable: the build leaves nothing else in the folder, and prints what it built", () => {
  expect(readdirSync(join(folder, "dist"))).toEqual(["reliable-email"]);
  expect(output).toContain("it delivers an email");
});

test("executable: the version names the commit that the build named", async () => {
  const { code, stdout, stderr } = await run(["--version"]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  const [, commit] = /, commit (\S+), /.exec(output)!;
  expect(commit).toMatch(/^([0-9a-f]{12}(-modified)?|unknown)$/);
  expect(stdout).toBe(`reliable-email ${manifest.version} (commit ${commit}, bun ${Bun.version})\n`);
});

test("executable: it knows its commands, and refuses others", async () => {
  expect(await run(["help", "worker"])).toMatchObject({ code: 0, stderr: "" });
  expect(await run(["sever"])).toEqual({
    code: 2,
    stdout: "",
    stderr:
      "Unknown command 'sever': the commands are server, worker, dev, queue, config\nTry: reliable-email --help\n",
  });
});

test("executable: invalid settings are reported, and it exits with 2", async () => {
  expect(await run(["worker"])).toMatchObject({ code: 2, stderr: expect.stringMatching(/^Cannot start: /) });
});

test("executable: files in the folder where it starts have no effect", async () => {
  const cwd = ownFolder("trap");
  const sprung = join(cwd, "sprung");
  writeFileSync(join(cwd, "trap.ts"), `require("node:fs").writeFileSync(${JSON.stringify(sprung)}, "");`);
  writeFileSync(join(cwd, "bunfig.toml"), 'preload = ["./trap.ts"]\n');
  for (const name of [".env", ".env.local", ".env.production"]) writeFileSync(join(cwd, name), "PORT=x\n");
  const server = startCommand([executable, "server"], {
    env: { PORT: "0", ADMIN_PORT: "", DATA_DIR: ownFolder("untrapped") },
    cwd,
    ...nobody,
  });
  await server.event("server-listening");
  expect(await server.kill("SIGTERM")).toBe(0);
  // It would report PORT as well if it had read such a file.
  const other = startCommand([executable, "server"], { env: { HOST: "x y" }, cwd, ...nobody });
  expect(await other.exited).toBe(2);
  expect(other.stderr()).toMatch(/^Cannot start: HOST .*\n$/);
  expect(existsSync(sprung)).toBe(false);
});

test("executable: a DEBUG in the environment makes no package print emails", async () => {
  const redis = await startRedis();
  try {
    const server = startCommand([executable, "server"], {
      env: { DEBUG: "*", PORT: "0", ADMIN_PORT: "", REDIS_URL: redis.url },
      cwd: "/",
      ...nobody,
    });
    const { port } = await server.event("server-listening");
    const email = { subject: "Hi", body: "Hello", to: "jane@example.org", from: "me@example.org" };
    expect((await post(`http://127.0.0.1:${String(port)}/`, email)).status).toBe(200);
    expect(await server.kill("SIGTERM")).toBe(0);
    await eventually("it has said so", () => server.lines.some(({ event }) => event === "stopped"));
    expect(server.lines.filter(({ event }) => event === undefined)).toEqual([]);
    expect(server.stderr()).toBe("");
  } finally {
    await redis.stop();
  }
});

test("executable: as nobody, with only settings, it delivers acknowledged emails across kill -9", async () => {
  const data = ownFolder("data");
  const env = {
    PORT: "0",
    ADMIN_PORT: "",
    DATA_DIR: data,
    PROVIDERS: "sandbox",
    // When it is killed, some are accepted but not answered.
    SANDBOX_FAULTS: "latency:10ms-100ms",
    PROVIDER_TIMEOUT: "1s",
    LEASE: "2s",
  };
  const start = async () => {
    const server = startCommand([executable, "server"], { env, cwd: "/", ...nobody });
    const worker = startCommand([executable, "worker"], { env, cwd: "/", ...nobody });
    const { port } = await server.event("server-listening");
    await worker.event("worker-started");
    return { server, worker, url: `http://127.0.0.1:${String(port)}/` };
  };
  const first = await start();
  const email = { subject: "Hi", body: "Hello", to: "jane@example.org", from: "me@example.org" };
  const answers = await Promise.all(Array.from({ length: 30 }, () => post(first.url, email)));
  await Promise.all([first.server.kill("SIGKILL"), first.worker.kill("SIGKILL")]);
  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));

  const second = await start();
  const ids = answers.map(({ id }) => id as string).sort();
  const delivered = () =>
    readdirSync(join(data, "outbox"))
      .filter((name) => name.endsWith(".eml"))
      .map((name) => name.split(".")[0]!)
      .sort();
  await eventually("every email has arrived", () => {
    const arrived = existsSync(join(data, "outbox")) ? delivered() : [];
    return ids.every((id) => arrived.includes(id));
  });
  expect(await second.worker.kill("SIGTERM")).toBe(0);
  expect(await second.server.kill("SIGTERM")).toBe(0);
  const stats = startCommand([executable, "queue", "stats", "--json"], { env, cwd: "/", ...nobody });
  expect(await stats.exited).toBe(0);
  const printed = await eventually("the numbers are printed", () => stats.lines[0]);
  expect(printed).toMatchObject({ waiting: 0, sending: 0, "in-doubt": 0, sent: ids.length, dead: 0 });
  expect(stats.stderr()).toBe("");
  // No email arrived twice.
  expect(delivered()).toEqual(ids);
});

test("executable: dev runs server, worker and web client, and exits with them", async () => {
  const data = ownFolder("dev");
  const env = { PORT: "0", ADMIN_PORT: "", WEB_PORT: "0", DATA_DIR: data };
  const dev = startCommand([executable, "dev"], { env, cwd: "/", ...nobody });
  const url = await eventually(
    () => `dev says where it listens (${dev.stdout()}${dev.stderr()})`,
    () => /curl .* (http:\S+)\n/.exec(dev.stdout())?.[1],
  );
  const { id } = await post(url, { subject: "Hi", body: "Hello", to: "jane@example.org" });
  await eventually("the email is announced", () => dev.stdout().includes(`→ ${data}/outbox/${id}.`));

  const [, address = ""] = /^Web client {2}(\S+)$/m.exec(dev.stdout()) ?? [];
  const web = clientAt(address, url);
  const page = await (await fetch(web.origin)).text();
  const files = [...page.matchAll(/(?:href|src)="\.?(\/[^"]+)"/g)].map(([, path]) => path!);
  expect(files.length).toBe(2);
  for (const path of files) {
    const file = await fetch(`${web.origin}${path}`);
    expect(file.status).toBe(200);
    expect(file.headers.get("content-security-policy")).toContain("default-src 'self'");
    expect((await file.text()).length).toBeGreaterThan(1000);
  }
  expect((await fetch(`${web.origin}/api/delivered`)).status).toBe(401);
  expect(await (await web.ask("GET", "/api/delivered")).json()).toMatchObject({ total: 1, emails: [{ id }] });
  expect(await dev.kill("SIGTERM")).toBe(0);
  expect(dev.stderr()).toBe("");
});

test("build: invalid arguments are reported, and nothing is built", async () => {
  const outdir = join(folder, "none");
  for (const args of [["windows"], ["linux-arm64", "linux-arm64"], ["--fast"]]) {
    const { exited, stderr } = build([...args, "--outdir", outdir]);
    expect(await exited).toBe(2);
    expect(stderr()).toContain("Usage: npm run build -- ");
  }
  expect(existsSync(outdir)).toBe(false);
});

test("build: an executable that cannot be tested is not installed, and the previous one stays", async () => {
  const outdir = ownFolder("failed");
  writeFileSync(join(outdir, "reliable-email"), "of before");
  // The folder for the emails of the smoke test.
  const { exited, stdout, stderr } = build(["--outdir", outdir], { TMPDIR: join(folder, "nowhere") });
  expect(await exited).toBe(1);
  expect(stdout()).toBe("");
  expect(stderr()).toStartWith("build failed: ");
  expect(readdirSync(outdir)).toEqual(["reliable-email"]);
  expect(readFileSync(join(outdir, "reliable-email"), "utf8")).toBe("of before");
});
