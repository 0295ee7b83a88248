// The whole email, end to end: a form with files, copies and a list header, as curl sends it, arrives as it was given
// although every process is killed on its way.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Arrival } from "../../chaos/comparison.ts";
import { readOutbox } from "../../chaos/outbox.ts";
import { faults } from "../../fakes/faults.ts";
import type { Admin } from "../../lib/queue/contract.ts";
import { eventually } from "../support/eventually.ts";
import { drained, queueAdminOf, useProcesses } from "../support/processes.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { type Process, settingsFor, startServer, startWorker } from "../support/service.ts";

const stack = useProcesses();

/** With a NUL, line ends of every kind, and what looks like a boundary; several pieces of the store long. */
const report = Buffer.concat([
  Buffer.from("%PDF\0\r\n--boundary--\r\n\n\r"),
  crypto.getRandomValues(new Uint8Array(60_000)),
  Buffer.alloc(1_200_000, "page "),
]);
const sheet = Buffer.from("Größe;Preis\r\n1;2\r\n");
const logo = Buffer.from(crypto.getRandomValues(new Uint8Array(3000)));

const unsubscribe = "<https://example.com/leave?a=b&c=%20>, <mailto:leave@example.com>";
const html = '<p>Hello <img src="cid:logo.png"></p>';

let folder = "";
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "reliable-email-whole-"));
  const files = { "report.pdf": report, "Größen.csv": sheet, "logo.png": logo };
  for (const [name, content] of Object.entries(files)) await Bun.write(join(folder, name), content);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Posts the form with curl, and returns the email's id. */
async function postByCurl(url: string, subject: string): Promise<string> {
  const text = (name: string, value: string) => ["--form-string", `${name}=${value}`];
  const file = (name: string, path: string) => ["-F", `${name}=@${path}`];
  const form = [
    text("subject", subject),
    text("body", "Hello\n;type=text/html\n"),
    text("html", html),
    text("to", "jane@example.org"),
    text("cc", "carl@example.org"),
    text("cc", "cleo@example.org"),
    text("bcc", "boss@example.org"),
    text("headers[List-Unsubscribe]", unsubscribe),
    file("attachment", "report.pdf"),
    file("attachment", "Größen.csv"),
    file("inline", "logo.png"),
  ];
  const curl = Bun.spawn(["curl", "--silent", "--show-error", ...form.flat(), url], {
    cwd: folder,
    stdout: "pipe",
    stderr: "inherit",
  });
  const answer = (await new Response(curl.stdout).json()) as object;
  expect(answer).toEqual({ ok: true, id: expect.any(String) });
  return (answer as { readonly id: string }).id;
}

const digestOf = (bytes: Uint8Array) => new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
const fileOf = (name: string, type: string, content: Uint8Array) => ({
  name,
  type,
  bytes: content.byteLength,
  sha256: digestOf(content),
});

const table = fileOf("Größen.csv", "text/csv", sheet);
const image = { ...fileOf("logo.png", "image/png", logo), contentId: "logo.png" };

function expectWhole(arrivals: readonly Arrival[], id: string, subject: string): void {
  expect(arrivals).toHaveLength(1);
  const [{ bcc, headers, attachments = [], ...arrival }] = arrivals as [Arrival];
  const isFile = arrival.provider === "sandbox";
  expect(arrival).toMatchObject({
    emailId: id,
    from: "shop@example.com",
    to: "jane@example.org",
    cc: "carl@example.org, cleo@example.org",
    subject,
    text: `Hello\n;type=text/html${isFile ? "" : "\n"}`,
    html,
  });
  // In a file, the HTML has its image beside it, and the other files follow.
  const inOrder = isFile ? attachments.toSorted((a, b) => (a.name < b.name ? 1 : -1)) : attachments;
  expect(inOrder).toEqual([
    fileOf("report.pdf", "application/pdf", report),
    ...(isFile ? [image, table] : [table, image]),
  ]);
  expect(headers).toEqual({ "List-Unsubscribe": unsubscribe });
  expect(arrival).not.toHaveProperty("unsent");
  // A reader of the sandbox's file must not see them.
  expect(bcc).toBe(isFile ? undefined : "boss@example.org");
}

interface Destination {
  readonly name: Arrival["provider"];
  /** Keeps the first request from being answered. */
  readonly hold: () => Promise<void>;
  /** Settings of the worker whose request is held, and of the one after it. */
  readonly whileHeld?: Record<string, string>;
  /** Whether that request is under way. */
  readonly isHeld: (admin: Admin) => Promise<boolean>;
  readonly arrivals: (data: string) => Promise<Arrival[]>;
}

const providers = (["resend", "postmark"] as const).map((name): Destination => {
  const paths = { resend: ["/emails"], postmark: ["/email/batch"] };
  let before = 0;
  const sent = async () => (await stack.fakes.requests(name)).filter(({ method }) => method === "POST");
  return {
    name,
    async hold() {
      before = (await sent()).length;
      for (const path of paths[name])
        await stack.fakes.fault(name, { fault: faults.hangBeforeAccepting, times: 1, path });
    },
    isHeld: async () => (await sent()).length > before,
    arrivals: () => stack.fakes.acceptances(name),
  };
});

const sandbox: Destination = {
  name: "sandbox",
  async hold() {},
  whileHeld: { SANDBOX_FAULTS: "hang:100%" },
  isHeld: async (admin) => (await admin.stats()).states.sending === 1,
  arrivals: async (data) => Array.fromAsync(readOutbox(join(data, "outbox"))),
};

describe.each(["Redis", "embedded"] as const)("whole email (%s)", (queue) => {
  test.each([...providers, sandbox])(
    "$name gets all of it, although the server, the worker and the store are killed",
    async ({ name, hold, whileHeld = {}, isHeld, arrivals }) => {
      const data = mkdtempSync(join(folder, `${queue}-${name}-`));
      const redis = queue === "Redis" ? await startRedis() : undefined;
      const env = settingsFor({ DATA_DIR: data }, stack.fakes, {
        ...(redis && { REDIS_URL: redis.url }),
        PROVIDERS: name,
        // The lease of the killed worker has to expire.
        PROVIDER_TIMEOUT: "1s",
        LEASE: "2s",
        POSTMARK_SEARCH_WAIT: "200ms",
      });
      const server = await startServer(env);
      const subject = `${queue} ${name}`;
      const id = await postByCurl(server.url, subject);
      await server.kill();
      await redis?.restart();

      const admin = await queueAdminOf(env);
      await hold();
      await killHolding(await startWorker({ ...env, ...whileHeld }), redis, () => isHeld(admin));
      const worker = await startWorker(env);
      await drained(admin);
      const here = (await arrivals(data)).filter((one) => one.subject === subject);
      expectWhole(here, id, subject);
      expect(await admin.stats()).toMatchObject({ fileBytes: 0, states: { sent: 1 } });
      await Promise.all([worker.kill(), admin.close()]);
      await redis?.stop();
    },
  );
});

/** Kills the worker, and the store if it is a process, once the worker has begun a request. */
async function killHolding(worker: Process, redis: RedisServer | undefined, isHeld: () => Promise<boolean>) {
  await eventually("the request is under way", isHeld);
  await worker.kill();
  await redis?.restart();
}

test("whole email: each request is valid by the provider's own description of its API", async () => {
  for (const url of [stack.fakes.resendUrl, stack.fakes.postmarkUrl]) {
    const { violations, requests } = (await (await fetch(`${url}/_fake/stats`)).json()) as {
      readonly violations: string[];
      readonly requests: number;
    };
    expect(requests).toBeGreaterThan(0);
    expect(violations).toEqual([]);
  }
});
