// The web client's server, used as its page uses it.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseBreakers } from "../../clients/web/breakers.ts";
import { Events } from "../../clients/web/events.ts";
import { Outbox } from "../../clients/web/outbox.ts";
import type {
  DeliveredEmail,
  DeliveredList,
  EmailDetails,
  Event,
  Snapshot,
} from "../../clients/web/protocol.ts";
import { eventually, freePort } from "../support/eventually.ts";
import { startProcess, startServer, startWorker } from "../support/service.ts";
import { clientAt, startDev, type WebClient } from "../support/web_client.ts";

type Client = Omit<WebClient, "stop" | "dataDir">;

const noLatency = { minMs: 0, maxMs: 0 };
const rejects = { chances: { reject: 1 }, latency: noLatency };
const works = { chances: {}, latency: noLatency };

const read = async <Answer>(web: Client, path: string) =>
  (await (await web.ask("GET", path)).json()) as Answer;
const detailsOf = (web: Client, id: string) => read<EmailDetails>(web, `/api/emails/${id}`);

async function setAll(web: Client, faults: object): Promise<void> {
  for (const name of ["sandbox", "sandbox-2"]) await web.ask("PUT", `/api/faults/${name}`, faults);
}

/** The events of a stream, as they arrive. */
async function* eventsOf(web: Client): AsyncGenerator<Event> {
  const response = await web.ask("GET", "/api/events");
  let rest = "";
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop()!;
    for (const line of lines) yield JSON.parse(line) as Event;
  }
}

async function snapshotWhere(web: Client, condition: (snapshot: Snapshot) => boolean): Promise<Snapshot> {
  for await (const event of eventsOf(web)) {
    if (event.kind === "snapshot" && condition(event.snapshot)) return event.snapshot;
  }
  throw new Error("the stream has ended");
}

describe("web client: in dev", () => {
  let web: WebClient;
  beforeEach(async () => {
    web = await startDev({ RETRY_BASE: "50ms", RETRY_MAX: "200ms" });
  });
  afterEach(() => web.stop());

  test("the events follow an email from its submission, with its providers and the breakers", async () => {
    const id = await web.submit({ subject: "Followed" });
    const { states, emails, providers, paused } = await snapshotWhere(web, (one) => one.states.sent === 1);
    expect({ sent: states.sent, paused }).toEqual({ sent: 1, paused: false });
    expect(emails).toEqual([
      {
        id,
        state: "sent",
        subject: "Followed",
        to: "jane@example.org",
        submitted_at: expect.stringContaining("T"),
        providers: [expect.stringMatching(/^sandbox/)],
        attempts_total: 1,
      },
    ]);
    expect(providers.map(({ name, breaker, weight }) => [name, breaker, weight])).toEqual([
      ["sandbox", "closed", 1],
      ["sandbox-2", "closed", 1],
    ]);
    expect(providers.reduce((sum, { accepted }) => sum + accepted, 0)).toBe(1);
  });

  test("a dead letter can be retried, as long as it is one", async () => {
    await setAll(web, rejects);
    const id = await web.submit();
    await snapshotWhere(web, ({ states }) => states.dead === 1);
    const { state, attempts, fields } = await detailsOf(web, id);
    expect(state).toBe("dead");
    // Both providers refuse it.
    const rejected = { outcome: "rejected", isAccepted: false, reason: "sandbox: reject" };
    expect(attempts).toMatchObject([rejected, rejected]);
    expect(fields).toContainEqual({ label: "Reason", text: "refused by every provider: sandbox: reject" });
    await setAll(web, works);
    expect((await web.ask("POST", `/api/emails/${id}`, {})).status).toBe(200);
    await snapshotWhere(web, ({ states }) => states.sent === 1);
    const again = await web.ask("POST", `/api/emails/${id}`, {});
    expect(again.status).toBe(409);
    expect(await again.json()).toEqual({ ok: false, error_message: "it was sent" });
    const { deliveredAs } = await detailsOf(web, id);
    expect(readdirSync(join(web.dataDir, "outbox"))).toEqual([deliveredAs!]);
  });

  test("an email in doubt is sent again only if somebody insists", async () => {
    await setAll(web, { chances: { "lose-request": 1 }, latency: noLatency });
    const id = await web.submit();
    await snapshotWhere(web, ({ states }) => states["in-doubt"] === 1);
    const refused = await web.ask("POST", `/api/emails/${id}`, {});
    expect(await refused.json()).toMatchObject({ error_message: expect.stringContaining("--force") });
    await setAll(web, works);
    // A worker may have its batch at the moment.
    await eventually("it is sent again", async () => {
      const { status } = await web.ask("POST", `/api/emails/${id}`, { force: true });
      return status === 200 || (await detailsOf(web, id)).state === "sent";
    });
    await snapshotWhere(web, ({ states }) => states.sent === 1);
  });

  test("a dead letter can be deleted, but a sent email cannot", async () => {
    const sent = await web.submit();
    await snapshotWhere(web, ({ states }) => states.sent === 1);
    expect((await web.ask("DELETE", `/api/emails/${sent}`)).status).toBe(409);
    await setAll(web, rejects);
    const dead = await web.submit();
    await snapshotWhere(web, ({ states }) => states.dead === 1);
    expect((await web.ask("DELETE", `/api/emails/${dead}`)).status).toBe(200);
    expect((await detailsOf(web, dead)).state).toBe("deleted");
  });

  test("only faults of the sandboxes in use can be set", async () => {
    expect((await snapshotWhere(web, () => true)).faults).toEqual({ sandbox: works, "sandbox-2": works });
    expect((await web.ask("PUT", "/api/faults/resend", works)).status).toBe(404);
    expect((await web.ask("PUT", "/api/faults/constructor", works)).status).toBe(404);
    expect(
      (await web.ask("PUT", "/api/faults/sandbox", { chances: { hang: 2 }, latency: noLatency })).status,
    ).toBe(400);
    expect((await web.ask("PUT", "/api/faults/sandbox")).status).toBe(400);
    expect((await snapshotWhere(web, () => true)).faults).toEqual({ sandbox: works, "sandbox-2": works });
  });

  test("a second web client on its port exits with an error that names the port", async () => {
    const env = { DATA_DIR: web.dataDir, PROVIDERS: "sandbox", WEB_PORT: String(web.port) };
    const second = startProcess("clients/web/main.ts", env);
    expect(await second.exited).toBe(1);
    expect(second.stderr()).toStartWith(`Cannot start: WEB_PORT ${web.port} is taken by another process`);
  });

  test("an unknown email and a wrong method are refused", async () => {
    expect((await web.ask("GET", "/api/emails/unknown")).status).toBe(404);
    expect((await web.ask("DELETE", "/api/delivered/x.eml")).status).toBe(404);
    expect((await web.ask("POST", "/api/events")).status).toBe(404);
  });

  test("the service's answer to a submission is passed on unchanged", async () => {
    const bad = await web.ask("POST", "/api/send", { subject: "", body: "b", to: "x" });
    expect(bad.status).toBe(400);
    expect(await bad.json()).toEqual({
      ok: false,
      error_message: "subject: is required; to: is not an email address",
    });
    const email = { subject: "a", body: "b", to: "ada@example.org" };
    const headers = { authorization: `Bearer ${web.token}`, "idempotency-key": "once" };
    const send = async () =>
      (await fetch(`${web.origin}/api/send`, {
        method: "POST",
        body: new URLSearchParams(email),
        headers,
      }).then((response) => response.json())) as { id: string };
    expect((await send()).id).toBe((await send()).id);
  });
});

test("web client: with API_TOKENS it submits with one of them", async () => {
  const web = await startDev({ API_TOKENS: "token-0123456789abcdef" });
  const response = await web.ask("POST", "/api/send", { subject: "a", body: "b", to: "ada@example.org" });
  expect(response.status).toBe(200);
  expect(JSON.stringify(await snapshotWhere(web, () => true))).not.toContain("token-0123456789abcdef");
  await web.stop();
});

test("web client: dev exits immediately although somebody watches", async () => {
  const web = await startDev();
  const events = eventsOf(web);
  await events.next();
  await web.stop();
  expect((await events.next().catch(() => ({ done: true }))).done).toBe(true);
});

test("web client: a taken WEB_PORT is named, and an empty one turns it off", async () => {
  const folder = mkdtempSync(join(tmpdir(), "reliable-email-web-port-"));
  const other = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response() });
  const env = { PORT: "0", DATA_DIR: folder };
  const taken = startProcess("lib/cli/main.ts", { ...env, WEB_PORT: String(other.port) }, ["dev"]);
  expect(await taken.exited).toBe(1);
  expect(taken.stderr()).toBe(
    `Cannot start: WEB_PORT ${other.port} is taken by another process: stop it, or set another WEB_PORT, or WEB_PORT= for none\n`,
  );
  const off = startProcess("lib/cli/main.ts", { ...env, WEB_PORT: "" }, ["dev"]);
  await eventually("dev is up", () => off.stdout().includes("Ctrl-C"));
  expect(off.stdout()).not.toContain("Web client");
  expect(await off.kill("SIGTERM")).toBe(0);
  const alone = startProcess("clients/web/main.ts", { ...env, WEB_PORT: "", PROVIDERS: "sandbox" });
  expect(await alone.exited).toBe(1);
  expect(alone.stderr()).toBe("Cannot start: WEB_PORT is empty, which turns the web client off\n");
  await other.stop(true);
  rmSync(folder, { recursive: true, force: true });
});

test("web client: npm run web shows a service of other processes, and breaks its provider", async () => {
  const folder = mkdtempSync(join(tmpdir(), "reliable-email-web-alone-"));
  const [port, webPort, admin] = [await freePort(), await freePort(), await freePort()];
  const env = {
    PORT: String(port),
    WEB_PORT: String(webPort),
    DATA_DIR: folder,
    DEFAULT_FROM: "shop@example.com",
    PROVIDERS: "sandbox",
    RETRY_BASE: "50ms",
    RETRY_MAX: "200ms",
  };
  const alone = startProcess("clients/web/main.ts", { ...env, ADMIN_PORT: String(admin) });
  const address = await eventually(
    () => `it says where it is (${alone.stdout()}${alone.stderr()})`,
    () => /^Web client {2}(\S+)$/m.exec(alone.stdout())?.[1],
  );
  const web = clientAt(address, `http://127.0.0.1:${port}/`);
  const { value: first } = await eventsOf(web).next();
  expect(first).toEqual({ kind: "failure", reason: "There is no queue yet: start a server and a worker" });
  // It only reads: it does not create a missing queue.
  expect(existsSync(join(folder, "queue.db"))).toBe(false);
  expect(await (await web.ask("POST", "/api/send", {})).json()).toMatchObject({
    error_message: expect.stringContaining("does not answer"),
  });

  const server = await startServer(env);
  const worker = await startWorker({ ...env, ADMIN_PORT: String(admin) });
  await web.ask("PUT", "/api/faults/sandbox", { chances: { unavailable: 1 }, latency: noLatency });
  const response = await web.ask("POST", "/api/send", { subject: "a", body: "b", to: "ada@example.org" });
  const { id } = (await response.json()) as { id: string };
  const failing = await snapshotWhere(web, ({ emails }) => (emails[0]?.attempts_total ?? 0) > 0);
  expect(failing.emails[0]).toMatchObject({ id, reason: "sandbox: unavailable" });
  await web.ask("PUT", "/api/faults/sandbox", works);
  const { providers } = await snapshotWhere(web, ({ states }) => states.sent === 1);
  expect(providers).toMatchObject([{ name: "sandbox", breaker: expect.any(String), accepted: 1 }]);
  expect(await alone.kill("SIGTERM")).toBe(0);
  await Promise.all([server.kill(), worker.kill()]);
  rmSync(folder, { recursive: true, force: true });
});

describe("web client: the events", () => {
  const snapshot: Snapshot = {
    nowMs: 0,
    paused: false,
    states: { scheduled: 0, waiting: 0, retrying: 0, sending: 0, "in-doubt": 0, sent: 0, dead: 0 },
    providers: [],
    faults: {},
    emails: [],
  };

  test("the queue is read only while somebody watches, by one reader at a time", async () => {
    let reads = 0;
    let reading = 0;
    const events = new Events({
      async read() {
        reads += 1;
        reading += 1;
        expect(reading).toBe(1);
        await Bun.sleep(1);
        reading -= 1;
        return { ...snapshot, nowMs: reads };
      },
      reasonOf: async () => "",
    });
    const streams = [events.open(), events.open()];
    const readers = streams.map((stream) => stream.getReader());
    for (const reader of readers) expect((await reader.read()).done).toBe(false);
    await eventually("it continues reading", () => reads >= 3);
    for (const reader of readers) await reader.cancel();
    expect(events.watchers).toBe(0);
    await eventually("the last read has ended", () => reading === 0);
    const before = reads;
    // This ends the pause between two reads.
    events.poke();
    await Bun.sleep(0);
    expect(reads).toBe(before);
    const again = events.open().getReader();
    expect((await again.read()).done).toBe(false);
    events.close();
    while (!(await again.read()).done) continue;
  });

  test("a queue that cannot be read is reported, and read again", async () => {
    let isBroken = true;
    const events = new Events({
      read: async () => {
        if (isBroken) throw new Error("broken");
        return snapshot;
      },
      reasonOf: async (error) => String(error),
    });
    const reader = events.open().getReader();
    const next = async () => JSON.parse(new TextDecoder().decode((await reader.read()).value)) as Event;
    expect(await next()).toEqual({ kind: "failure", reason: "Error: broken" });
    isBroken = false;
    expect((await next()).kind).toBe("snapshot");
    await reader.cancel();
  });
});

test("web client: the state of each breaker is read from the metrics, and other lines are ignored", () => {
  const metrics = `# HELP reliable_email_provider_state 1 for the state
reliable_email_provider_state{provider="sandbox",state="closed"} 0
reliable_email_provider_state{provider="sandbox",state="open"} 1
reliable_email_provider_state{provider="sandbox",state="half_open"} 0
reliable_email_provider_weight{provider="sandbox"} 3
reliable_email_requests_total{provider="other",request="send",outcome="accepted"} 1
`;
  expect([...parseBreakers(metrics)]).toEqual([["sandbox", { breaker: "open", weight: 3 }]]);
});

describe("web client: the outbox", () => {
  let folder: string;
  let outbox: Outbox;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "reliable-email-outbox-"));
    outbox = new Outbox(folder);
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const nameOf = () => `${Bun.randomUUIDv7()}.${Bun.randomUUIDv7()}.eml`;
  async function put(lines: readonly string[], name = nameOf()): Promise<string> {
    await Bun.write(join(folder, name), lines.join("\r\n"));
    return name;
  }

  test("a missing folder counts as empty, and other files are ignored", async () => {
    expect(await new Outbox(join(folder, "missing")).list()).toEqual({ emails: [], total: 0, searched: 0 });
    for (const name of [".hidden.tmp", "notes.txt", "a.eml"]) await Bun.write(join(folder, name), "x");
    expect((await outbox.list()).total).toBe(0);
  });

  test("the newest come first, and a search needs every word", async () => {
    const names: string[] = [];
    for (const subject of ["First one", "Second one"]) {
      names.push(
        await put([`Subject: ${subject}`, "To: Ada <ada@example.org>", "", `text of the ${subject}`]),
      );
    }
    const found = async (search?: string) => (await outbox.list(search)).emails.map(({ name }) => name);
    expect(await found()).toEqual(names.toReversed());
    expect(await found("FIRST ada")).toEqual([names[0]!]);
    expect(await found("first second")).toEqual([]);
  });

  test("attached files are named, and images of the text are shown", async () => {
    const name = await put([
      "Subject: With an image",
      'Content-Type: multipart/related; boundary="b"',
      "",
      "--b",
      "Content-Type: text/html",
      "",
      '<img src="cid:logo@shop"><img src="cid:missing"><img src="https://example.com/x.png">',
      "--b",
      "Content-Type: image/png; name=logo.png",
      "Content-Disposition: inline; filename=logo.png",
      "Content-ID: <logo@shop>",
      "Content-Transfer-Encoding: base64",
      "",
      "iVBORw0KGgo=",
      "--b--",
      "",
    ]);
    const email = (await outbox.read(name)) as DeliveredEmail;
    expect(email.attachments).toEqual([
      { name: "logo.png", type: "image/png", bytes: 8, contentId: "logo@shop" },
    ]);
    const html = (await outbox.html(name))!;
    expect(html).toContain('<img src="data:image/png;base64,iVBORw0KGgo=">');
    expect(html).toContain('<img src="cid:missing">');
  });

  test("links open in a new tab, and those that run something are disabled", async () => {
    const name = await put([
      "Content-Type: text/html",
      "",
      '<a href="https://example.com/" target="_top">a</a><a href=" JavaScript:alert(1)">b</a><a href="data:text/html,x">c</a><a href="mailto:x@example.org">d</a>',
    ]);
    const html = (await outbox.html(name))!;
    const links = [...html.matchAll(/<a ([^>]*)>/g)].map(([, attributes]) => attributes!);
    const isolated = 'target="_blank" rel="noopener noreferrer"';
    expect(links).toEqual([
      `href="https://example.com/" ${isolated}`,
      isolated,
      isolated,
      `href="mailto:x@example.org" ${isolated}`,
    ]);
  });

  test("a file that is not an email is shown as far as it can be read", async () => {
    const name = await put(["\0\xff", "no header at all"]);
    const list: DeliveredList = await outbox.list();
    expect(list.emails).toMatchObject([{ name, subject: "", from: "", to: "" }]);
    expect((await outbox.read(name))?.source).toContain("no header at all");
  });
});
