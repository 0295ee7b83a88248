// Everything is described once: adding a setting, a provider or a field touches only the files named here. Each test
// makes the addition in a copy of the sources, checks its types, and runs the real program there.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startFakePostmark } from "../fakes/postmark.ts";
import { startFakeResend } from "../fakes/resend.ts";
import { breakInto, type Patch } from "./chaos/broken_variants.ts";
import { eventually } from "./support/eventually.ts";
import { post, startCommand } from "./support/service.ts";

const folder = mkdtempSync(join(tmpdir(), "reliable-email-additions-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const bun = (...args: string[]) => [process.execPath, "--no-install", ...args];

/** Copies the sources, with an addition, and returns the folder. Throws if a type is wrong there. */
function copyWith(name: string, patches: readonly Patch[], files: Readonly<Record<string, string>>): string {
  const copy = breakInto(join(folder, name), { patches });
  for (const [path, text] of Object.entries(files)) writeFileSync(join(copy, path), text);
  const { exitCode, stdout, stderr } = Bun.spawnSync(bun("check", "--no-script"), { cwd: copy });
  if (exitCode !== 0) throw new Error(`${stdout.toString()}${stderr.toString()}`);
  return copy;
}

/** Adds a line of text before one that the file contains exactly once. */
const before = (file: string, line: string, added: string): Patch => ({
  file,
  from: line,
  to: `${added}\n${line}`,
});

const addRows = (...rows: string[]) =>
  before("lib/config/settings.ts", "} as const satisfies Record<string, Setting>;", rows.join("\n"));

function run(copy: string, env: Record<string, string>, ...args: string[]) {
  const command = bun("lib/cli/main.ts", ...args);
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, { cwd: copy, env });
  return { code: exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
}

test("additions: a setting takes one row and the code that uses it", () => {
  const copy = copyWith(
    "setting",
    [
      addRows(
        'PATIENCE_LIMIT: { kind: duration(), default: "5s" },',
        "PAGER_KEY: { kind: kinds.credential },",
      ),
    ],
    {
      "use.ts": `
        import { readConfig } from "./lib/config/config.ts";
        const read = readConfig(process.env, "server");
        if (!read.ok) throw new Error(read.message);
        const limitMs: number = read.config.patienceLimitMs;
        const key: string | undefined = read.config.pagerKey;
        // @ts-expect-error It is a number.
        const text: string = read.config.patienceLimitMs;
        console.log(JSON.stringify({ limitMs, key, text, secrets: read.config.secrets }));
      `,
    },
  );
  const env = { PAGER_KEY: "the-key", PATIENCE_LIMIT: "2m" };
  const used = Bun.spawnSync(bun("use.ts"), { cwd: copy, env });
  expect(JSON.parse(used.stdout.toString())).toEqual({
    limitMs: 120_000,
    key: "the-key",
    text: 120_000,
    secrets: ["the-key"],
  });
  const { settings } = JSON.parse(run(copy, { PAGER_KEY: "the-key" }, "config", "--json").stdout);
  expect(settings.PATIENCE_LIMIT).toEqual({ value: "5s", source: "default" });
  expect(settings.PAGER_KEY).toEqual({ value: "[secret]", source: "environment" });
  expect(run(copy, { PATIENCE_LIMIT: "soon", PAGER_KEY: "the key" }, "config")).toEqual({
    code: 2,
    stdout: "",
    stderr:
      'Cannot start: PATIENCE_LIMIT "soon" is not a duration such as 250ms, 10s, 5m or 72h\n' +
      "Cannot start: PAGER_KEY has a character that is not visible ASCII\n",
  });
});

test("additions: a provider takes an adapter, an entry in the registry, and settings", async () => {
  const registry = "lib/providers/registry.ts";
  const copy = copyWith(
    "provider",
    [
      before(registry, "  readonly dataDir: string;", "  readonly carrierKey: string | undefined;"),
      before(
        registry,
        "  sandbox: {",
        `carrier: {
          credential: "CARRIER_KEY",
          async create({ carrierKey, dataDir }) {
            const { createCarrier } = await import("./carrier.ts");
            return createCarrier(carrierKey!, join(dataDir, "carried"));
          },
        },`,
      ),
      addRows("CARRIER_KEY: { kind: kinds.credential },"),
    ],
    {
      "lib/providers/carrier.ts": `
        import { appendFileSync } from "node:fs";
        import type { Provider } from "./provider.ts";
        export function createCarrier(key: string, file: string): Provider {
          return {
            name: "carrier",
            batchMax: 10,
            batchesFiles: true,
            startRate: 10,
            maxRate: 10,
            context: "",
            credential: key,
            async send({ emails }) {
              for (const { id } of emails) appendFileSync(file, id);
              const outcomes = emails.map(({ id }) => ({ kind: "accepted", providerMessageId: id }) as const);
              return { result: { kind: "each", outcomes }, rate: {} };
            },
            async check() {
              return { ok: true, answered: true, detail: "ready" };
            },
          };
        }
      `,
    },
  );
  const env = { DATA_DIR: join(copy, "data"), PORT: "0", ADMIN_PORT: "", CARRIER_KEY: "the-key" };
  const { settings } = JSON.parse(run(copy, env, "config", "--json").stdout);
  expect(settings.PROVIDERS).toEqual({ value: "carrier:1", source: "default" });
  expect(settings.CARRIER_KEY).toEqual({ value: "[secret]", source: "environment" });
  const { CARRIER_KEY: _, ...without } = env;
  const checked = run(copy, { ...without, PROVIDERS: "carrier" }, "config", "--check", "--json");
  expect(checked.stdout).toContain("CARRIER_KEY is required: PROVIDERS names carrier");

  const server = startCommand(bun("server.ts"), { cwd: copy, env });
  const worker = startCommand(bun("worker.ts"), { cwd: copy, env });
  try {
    const { port } = await server.event("server-listening");
    const email = { subject: "Hi", body: "Hello", to: "jane@example.org", from: "shop@example.com" };
    const { id } = await post(`http://127.0.0.1:${String(port)}/`, email);
    const stats = () => JSON.parse(run(copy, env, "queue", "stats", "--json").stdout);
    await eventually("it is sent", () => stats().sent === 1);
    expect(readFileSync(join(env.DATA_DIR, "carried"), "utf8")).toBe(id!);
  } finally {
    await Promise.all([server.kill(), worker.kill()]);
  }
});

test("additions: a text field of emails takes one row and a line in each adapter", async () => {
  const copy = copyWith(
    "field",
    [
      before(
        "lib/email/fields.ts",
        "} as const satisfies Record<string, Field | AnyField>;",
        'organization: { ...line, ...added, label: "Organization" },',
      ),
      before(
        "lib/providers/resend.ts",
        "    ...(email.reply_to !== undefined && { replyTo: email.reply_to }),",
        "...(email.organization !== undefined && { headers: { Organization: email.organization } }),",
      ),
      before(
        "lib/providers/postmark.ts",
        "    ...(email.reply_to !== undefined && { ReplyTo: email.reply_to }),",
        `...(email.organization !== undefined && {
          Headers: [{ Name: "Organization", Value: email.organization }],
        }),`,
      ),
    ],
    {},
  );
  const [resend, postmark] = [startFakeResend(), startFakePostmark()];
  const env = {
    DATA_DIR: join(copy, "data"),
    PORT: "0",
    ADMIN_PORT: "",
    RESEND_API_KEY: "re_fake",
    RESEND_BASE_URL: resend.url,
    POSTMARK_SERVER_TOKEN: "fake-token",
    POSTMARK_BASE_URL: postmark.url,
  };
  const server = startCommand(bun("server.ts"), { cwd: copy, env });
  const worker = startCommand(bun("worker.ts"), { cwd: copy, env });
  try {
    const { port } = await server.event("server-listening");
    const url = `http://127.0.0.1:${String(port)}/`;
    const email = { subject: "Hi", body: "Hello", to: "jane@example.org", from: "shop@example.com" };
    expect(await post(url, { ...email, organization: "a\u0000b" })).toMatchObject({
      status: 400,
      error_message: expect.stringMatching(/^organization: /),
    });
    const bodies = (fake: typeof resend | typeof postmark) =>
      fake.requests.map(({ body = "" }) => body).filter((body) => body.includes("The Shop"));
    // Emails travel in batches, so it takes several until each provider has had its turn.
    await eventually("both providers have got some", async () => {
      expect((await post(url, { ...email, organization: " The Shop " })).status).toBe(200);
      return bodies(resend).length > 0 && bodies(postmark).length > 0;
    });
    expect(bodies(resend)[0]).toContain('"Organization":"The Shop"');
    expect(bodies(postmark)[0]).toContain('"Value":"The Shop"');
    const { id } = await post(url, { ...email, organization: "The Shop" });
    expect(run(copy, env, "queue", "show", String(id)).stdout).toMatch(/^Organization +The Shop$/m);
  } finally {
    await Promise.all([server.kill(), worker.kill()]);
    resend.stop();
    postmark.stop();
  }
});
