// The admin port of real processes, on both queues: it reports everything that can be wrong, and counts what has
// happened.

import { describe, expect, test } from "bun:test";
import { Database } from "bun:sqlite";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { adminOf, promtool, type Scrape, withAdmin } from "../support/admin.ts";
import { eventually, freePort } from "../support/eventually.ts";
import { connectRaw } from "../support/raw_http.ts";
import { startRedis } from "../support/redis.ts";
import {
  post,
  type Process,
  settingsFor,
  startCommand,
  startProcess,
  startServer,
  startWorker,
} from "../support/service.ts";
import { hasSmallDisk, onSmallDisk, orWhyNot, removeSmallDisk } from "../support/small_disk.ts";
import { queueAdminOf, useProcesses } from "../support/processes.ts";

const stack = useProcesses();
const queues = [
  { queue: "Redis", settings: stack.settings },
  { queue: "embedded", settings: stack.embedded },
] as const;

const email = { subject: "Hi", body: "Hello", to: "jane@example.org" };
const unavailable = { stage: "read", effect: { status: 503, text: "down" } } as const;
const works = { resend: "works", postmark: "works" };
const root = join(import.meta.dir, "../..");

/** Starts a server and a worker with admin ports, and returns how to stop them. */
async function both(env: Record<string, string>) {
  const [server, worker] = await Promise.all([
    startServer({ ...env, ...withAdmin }),
    startWorker({ ...env, ...withAdmin }),
  ]);
  const [ofServer, ofWorker] = await Promise.all([adminOf(server), adminOf(worker)]);
  return {
    server,
    worker,
    ofServer,
    ofWorker,
    stop: () => Promise.all([server.kill(), worker.kill()]),
  };
}

/** Scrapes until the condition holds. */
function untilScrape(admin: { scrape(): Promise<Scrape> }, what: string, holds: (scrape: Scrape) => boolean) {
  let last: Scrape | undefined;
  return eventually(
    () => `${what}\n${last?.text}`,
    async () => {
      last = await admin.scrape();
      return holds(last) ? last : undefined;
    },
  );
}

describe.each(queues)("admin port ($queue)", ({ settings }) => {
  test("server and worker are alive and ready, serve nothing else there, and nothing of it on the public port", async () => {
    const { server, ofServer, ofWorker, stop } = await both(settings());
    for (const admin of [ofServer, ofWorker]) {
      await admin.isReady();
      expect(await admin.ready()).toEqual({
        status: 200,
        ready: true,
        paused: false,
        reasons: [],
        ...(admin === ofWorker && { providers: works }),
      });
      const alive = await fetch(`${admin.url}/healthz`);
      expect([alive.status, await alive.json()]).toEqual([200, { alive: true }]);
      const metrics = await fetch(`${admin.url}/metrics?x=y`);
      expect(metrics.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
      expect((await fetch(`${admin.url}/healthz`, { method: "HEAD" })).status).toBe(200);
      for (const path of ["", "/metrics/", "/healthz/x", "/debug"]) {
        expect((await fetch(admin.url + path)).status).toBe(404);
      }
      expect((await fetch(admin.url, { method: "POST", body: new URLSearchParams(email) })).status).toBe(404);
      expect((await fetch(`${admin.url}/metrics`, { method: "POST", body: "x" })).status).toBe(405);
      // Without a Host header.
      const raw = await connectRaw(Number(new URL(admin.url).port));
      raw.write("GET /healthz HTTP/1.0\r\n\r\n");
      await raw.received(/^HTTP\/1\.[01] 200 /);
      raw.end();
    }
    for (const path of ["healthz", "readyz", "metrics"]) {
      expect((await fetch(server.url + path)).status).toBe(404);
    }
    await stop();
  });

  test("submissions, requests, acceptances and dead letters are counted", async () => {
    const env = settings({ PROVIDERS: "resend", API_TOKENS: "a-token-of-20-letters" });
    const { server, ofServer, ofWorker, stop } = await both(env);
    const token = { authorization: "Bearer a-token-of-20-letters" };
    const lost = { stage: "accepted", effect: "reset" } as const;
    await stack.fakes.fault("resend", { fault: lost, times: 1, path: "/emails/batch" });
    expect((await post(server.url, email, token)).status).toBe(200);
    await untilScrape(
      ofWorker,
      "one is in doubt, and then sent",
      ({ value }) => value("reliable_email_queue_emails", { state: "sent" }) === 1,
    );
    for (let i = 0; i < 2; i += 1) expect((await post(server.url, email, token)).status).toBe(200);
    expect((await post(server.url, { ...email, to: "x" }, token)).status).toBe(400);
    expect((await post(server.url, email)).status).toBe(401);

    const outcome = (name: string) => ({ provider: "resend", outcome: name });
    const accepted = await untilScrape(
      ofWorker,
      "three are accepted",
      ({ value }) => value("reliable_email_queue_outcomes_total", outcome("accepted")) === 3,
    );
    expect(accepted.value("reliable_email_queue_outcomes_total", outcome("unknown"))).toBe(1);
    expect(accepted.value("reliable_email_queue_outcomes_total", outcome("dead"))).toBe(0);
    expect(accepted.value("reliable_email_delivery_duration_seconds_count", { provider: "resend" })).toBe(3);
    expect(accepted.value("reliable_email_queue_emails", { state: "sent" })).toBe(3);
    const request = { provider: "resend", request: "send" };
    expect(
      accepted.value("reliable_email_requests_total", { ...request, outcome: "answered" }),
    ).toBeGreaterThan(0);
    expect(accepted.value("reliable_email_requests_total", { ...request, outcome: "unknown" })).toBe(1);
    const acceptedAt = accepted.value("reliable_email_last_acceptance_timestamp_seconds", {
      provider: "resend",
    })!;
    expect(Math.abs(Date.now() / 1000 - acceptedAt)).toBeLessThan(60);
    const state = (name: string) =>
      accepted.value("reliable_email_provider_state", { provider: "resend", state: name });
    expect([state("closed"), state("open"), state("half_open")]).toEqual([1, 0, 0]);

    await stack.fakes.fault("resend", {
      fault: { stage: "read", effect: { status: 422, json: { name: "validation_error", message: "bad" } } },
      times: 1,
      path: "/emails/batch",
    });
    expect((await post(server.url, email, token)).status).toBe(200);
    const died = await untilScrape(
      ofWorker,
      "one is dead",
      ({ value }) => value("reliable_email_queue_emails", { state: "dead" }) === 1,
    );
    expect(died.value("reliable_email_queue_outcomes_total", outcome("dead"))).toBe(1);
    // It is the only provider, and so all have refused it.
    const cause = { provider: "resend", cause: "refused_by_all" };
    expect(died.value("reliable_email_dead_letters_total", cause)).toBe(1);

    const ofAll = await untilScrape(
      ofServer,
      "the server reports the same queue as the worker",
      ({ value }) => value("reliable_email_queue_emails", { state: "dead" }) === 1,
    );
    const answers = ["200", "400", "401", "500"].map((status) =>
      ofAll.value("reliable_email_submissions_total", { status }),
    );
    expect(answers).toEqual([4, 1, 1, 0]);
    expect(ofAll.value("reliable_email_submission_duration_seconds_count")).toBe(4);
    expect(ofAll.value("reliable_email_group_emails_sum")).toBe(4);
    expect(ofAll.value("reliable_email_submissions_in_progress")).toBe(0);
    expect(ofAll.value("reliable_email_submissions_in_progress_bytes")).toBe(0);
    expect(ofAll.value("reliable_email_store_up")).toBe(1);
    expect(ofAll.value("reliable_email_ready")).toBe(1);
    for (const { text } of [accepted, died, ofAll]) {
      expect(await promtool(["check", "metrics"], text)).toEqual({ code: 0, output: "" });
    }
    await stop();
  });

  test("waiting emails and a pause are reported, and a paused worker is ready", async () => {
    const env = settings();
    const admin = await queueAdminOf(env);
    await admin.setPaused(true);
    const { server, ofServer, ofWorker, stop } = await both(env);
    expect((await post(server.url, email)).status).toBe(200);
    for (const admin of [ofServer, ofWorker]) {
      const scrape = await untilScrape(
        admin,
        "one waits",
        ({ value }) =>
          value("reliable_email_queue_emails", { state: "waiting" }) === 1 &&
          value("reliable_email_queue_oldest_due_seconds")! > 0,
      );
      expect(scrape.value("reliable_email_queue_paused")).toBe(1);
      expect(scrape.value("reliable_email_ready")).toBe(1);
      expect(await admin.ready()).toEqual({
        status: 200,
        ready: true,
        paused: true,
        reasons: [],
        ...(admin === ofWorker && { providers: works }),
      });
    }
    await admin.setPaused(false);
    await untilScrape(
      ofWorker,
      "it is sent",
      ({ value }) =>
        value("reliable_email_queue_emails", { state: "sent" }) === 1 &&
        value("reliable_email_queue_paused") === 0,
    );
    expect(await ofWorker.ready()).toMatchObject({ ready: true, paused: false });
    await Promise.all([stop(), admin.close()]);
  });

  test("a worker is not ready while every breaker is open", async () => {
    const { server, ofServer, ofWorker, stop } = await both(settings());
    for (const provider of ["resend", "postmark"] as const) {
      await stack.fakes.fault(provider, { fault: unavailable });
    }
    const sending = setInterval(() => void post(server.url, email).catch(() => {}), 50);
    const { reasons } = await ofWorker.notReady("providers: ");
    expect(reasons).toEqual(["providers: resend does not work, postmark does not work"]);
    clearInterval(sending);
    const scrape = await ofWorker.scrape();
    expect(scrape.value("reliable_email_provider_state", { provider: "resend", state: "closed" })).toBe(0);
    expect(await ofServer.ready()).toMatchObject({ ready: true });
    await stack.fakes.clearFaults();
    await ofWorker.isReady();
    await stop();
  });

  test("a worker with a wrong key is not ready, and reports the refusal", async () => {
    const { server, ofWorker, stop } = await both(
      settings({ PROVIDERS: "resend", RESEND_API_KEY: "re_other" }),
    );
    expect((await post(server.url, email)).status).toBe(200);
    const { reasons } = await ofWorker.notReady("providers: ");
    expect(reasons).toEqual(["providers: resend refuses our account"]);
    await stop();
  });

  test("a worker with one wrong key is ready, and reports which provider works and which does not", async () => {
    const { server, ofServer, ofWorker, stop } = await both(settings({ RESEND_API_KEY: "re_other" }));
    const providers = { resend: "refuses our account", postmark: "works" };
    const tried = await eventually("it is refused", async () => {
      expect((await post(server.url, email)).status).toBe(200);
      const one = await ofWorker.ready();
      return one.ready && one.providers?.["resend"] !== "works" ? one : undefined;
    });
    expect(tried).toEqual({ status: 200, ready: true, paused: false, reasons: [], providers });
    expect((await ofServer.ready()).providers).toBeUndefined();
    for (const admin of [ofServer, ofWorker]) {
      const { value } = await untilScrape(
        admin,
        "the queue's metrics show it too",
        (scrape) =>
          scrape.value("reliable_email_queue_provider_failing_seconds", { provider: "resend" })! > 0 &&
          scrape.value("reliable_email_queue_outcomes_total", {
            provider: "postmark",
            outcome: "accepted",
          })! > 0,
      );
      expect(value("reliable_email_queue_provider_failing_seconds", { provider: "postmark" })).toBe(0);
    }
    await stop();
  });

  test("a draining server is not ready, and reports it until the end", async () => {
    const server = await startServer({ ...settings(), ...withAdmin });
    const admin = await adminOf(server);
    await admin.isReady();
    const raw = await connectRaw(Number(new URL(server.url).port));
    raw.write(
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n" +
        "Content-Length: 100\r\nExpect: 100-continue\r\n\r\n",
    );
    await raw.received(/^HTTP\/1.1 100 /);
    server.signal("SIGTERM");
    await admin.notReady("stopping: ");
    expect((await fetch(`${admin.url}/healthz`)).status).toBe(200);
    raw.end();
    expect(await server.exited).toBe(0);
  });

  test.each([{ ADMIN_PORT: "" }, { ADMIN_PORT: "0", ADMIN_HOST: "" }])(
    "with %j there is no admin port",
    async (off) => {
      const env = settings();
      const [server, worker] = await Promise.all([
        startServer({ ...env, ...off }),
        startWorker({ ...env, ...off }),
      ]);
      for (const { lines } of [server, worker]) {
        expect(lines.map(({ event }) => event)).not.toContain("admin-listening");
      }
      expect((await post(server.url, email)).status).toBe(200);
      await Promise.all([server.kill(), worker.kill()]);
    },
  );

  test.each(["server.ts", "worker.ts"])(
    "%s with a taken admin port exits with 1 and names it",
    async (file) => {
      // Even if the other process would share its port.
      for (const reusePort of [false, true]) {
        const other = Bun.serve({ hostname: "127.0.0.1", port: 0, reusePort, fetch: () => new Response() });
        const child = startProcess(file, { ...settings(), ADMIN_PORT: String(other.port) });
        expect(await child.exited).toBe(1);
        expect(child.stderr()).toBe(
          `Cannot start: ADMIN_PORT ${other.port} is taken by another process: stop it, or set another ADMIN_PORT, or ADMIN_PORT= for none\n`,
        );
        expect(child.lines.map(({ event }) => event)).not.toContain("server-listening");
        await other.stop(true);
      }
    },
  );

  test("an address of another machine is named in the error", async () => {
    const child = startProcess("server.ts", { ...settings(), ADMIN_HOST: "192.0.2.1", ADMIN_PORT: "0" });
    expect(await child.exited).toBe(1);
    expect(child.stderr()).toMatch(
      /^Cannot start: ADMIN_HOST 192\.0\.2\.1 and ADMIN_PORT 0 cannot be listened on \(\w+\)\n$/,
    );
  });
});

describe("admin port: a Redis", () => {
  async function onOwnRedis() {
    const redis = await startRedis();
    const env = settingsFor({ REDIS_URL: redis.url }, stack.fakes, { SUBMIT_TIMEOUT: "1s" });
    const processes = await both(env);
    const admins = [processes.ofServer, processes.ofWorker];
    for (const admin of admins) await admin.isReady();
    return {
      redis,
      admins,
      ...processes,
      async stop() {
        await processes.stop();
        await redis.stop();
      },
    };
  }

  test("that is dead is a reason until it is back, and does not hang a scrape", async () => {
    const { redis, admins, stop } = await onOwnRedis();
    redis.kill("SIGKILL");
    for (const admin of admins) {
      await admin.notReady("store: ");
      const { value, text } = await untilScrape(
        admin,
        "its earlier answers are forgotten",
        (scrape) => scrape.value("reliable_email_store_up") === 0,
      );
      expect(value("reliable_email_store_healthy")).toBe(0);
      expect(value("reliable_email_ready")).toBe(0);
      expect(value("process_resident_memory_bytes")).toBeGreaterThan(0);
      expect(text).not.toContain("reliable_email_queue_");
      expect(await promtool(["check", "metrics"], text)).toEqual({ code: 0, output: "" });
    }
    await redis.restart();
    for (const admin of admins) await admin.isReady();
    await untilScrape(admins[0]!, "it answers again", ({ value }) => value("reliable_email_store_up") === 1);
    await stop();
  });

  test("that hangs does not hang scrapes, however many there are, nor /healthz", async () => {
    const { redis, admins, stop } = await onOwnRedis();
    redis.kill("SIGSTOP");
    for (const admin of admins) {
      await admin.notReady("store: ");
      // Each of them waits for two seconds; one after another they would take forty.
      const scrapes = Promise.all(Array.from({ length: 20 }, () => admin.scrape()));
      const late = Bun.sleep(30_000).then(() => "late");
      const first = await Promise.race([scrapes, late]);
      expect(first).not.toBe("late");
      for (const { value } of await scrapes) expect(value("reliable_email_store_up")).toBe(0);
      expect((await fetch(`${admin.url}/healthz`)).status).toBe(200);
    }
    redis.kill("SIGCONT");
    for (const admin of admins) await admin.isReady();
    await stop();
  });

  test("that is not durable is a reason for both, while the worker continues to deliver", async () => {
    const { redis, server, ofServer, ofWorker, stop } = await onOwnRedis();
    expect((await post(server.url, email)).status).toBe(200);
    redis.cli("CONFIG", "SET", "appendfsync", "everysec");
    for (const admin of [ofServer, ofWorker]) {
      const { reasons } = await admin.notReady("store: appendfsync is everysec");
      expect(reasons).toHaveLength(1);
      expect((await admin.scrape()).value("reliable_email_store_healthy")).toBe(0);
    }
    redis.cli("CONFIG", "SET", "appendfsync", "always");
    for (const admin of [ofServer, ofWorker]) await admin.isReady();
    await stop();
  });

  test("that refuses its user a command is a reason, in Redis's own words", async () => {
    const { redis, server, ofServer, ofWorker, stop } = await onOwnRedis();
    redis.cli("ACL", "SETUSER", "default", "-evalsha");
    for (const admin of [ofServer, ofWorker]) {
      await admin.notReady("store: NOPERM this user has no permissions to run the 'evalsha' command");
    }
    redis.cli("ACL", "SETUSER", "default", "+evalsha", "-zcount");
    // Only the queue's numbers need this command; submissions do not.
    await ofServer.notReady("store: ERR The user executing the script can't run this command");
    await eventually(
      "submissions are accepted",
      async () => (await post(server.url, email)).status === 200,
      30_000,
    );
    redis.cli("ACL", "SETUSER", "default", "+zcount");
    for (const admin of [ofServer, ofWorker]) await admin.isReady();
    await stop();
  });

  test("whose memory is full is a reason for the server", async () => {
    const { redis, server, ofServer, ofWorker, stop } = await onOwnRedis();
    redis.cli("CONFIG", "SET", "maxmemory", "1500kb");
    await ofServer.notReady("store: less than 1 MiB is left");
    expect((await post(server.url, email)).status).toBe(500);
    expect((await ofServer.scrape()).value("reliable_email_queue_limit_bytes")).toBe(1500 * 1024);
    expect(await ofWorker.ready()).toMatchObject({ ready: true });
    const counted = await untilScrape(
      ofServer,
      "the 500 is counted",
      ({ value }) => value("reliable_email_submissions_total", { status: "500" }) === 1,
    );
    expect(counted.value("reliable_email_submission_duration_seconds_count")).toBe(0);
    redis.cli("CONFIG", "SET", "maxmemory", "0");
    await ofServer.isReady();
    expect((await ofServer.scrape()).value("reliable_email_queue_limit_bytes")).toBeUndefined();
    await stop();
  });

  test("that is not up yet leaves a worker alive, but not ready", async () => {
    const port = await freePort();
    const env = settingsFor({ REDIS_URL: `redis://127.0.0.1:${port}` }, stack.fakes, withAdmin);
    const worker = startProcess("worker.ts", env);
    const admin = await adminOf(worker);
    await admin.notReady("store: ");
    expect((await fetch(`${admin.url}/healthz`)).status).toBe(200);
    expect(await worker.kill("SIGTERM")).toBe(0);
  });
});

describe("admin port: an embedded queue", () => {
  test.skipIf(!hasSmallDisk)(`on a disk that is nearly full is a reason${orWhyNot}`, async () => {
    const folder = mkdtempSync(join(tmpdir(), "reliable-email-disk-"));
    const server = startCommand(
      onSmallDisk(folder, "size=60m", [process.execPath, "--no-install", join(root, "server.ts")]),
      { env: { ...settingsFor({ DATA_DIR: join(folder, "data") }, stack.fakes), ...withAdmin } },
    );
    const admin = await adminOf(server);
    const { reasons } = await admin.notReady("store: ");
    expect(reasons).toEqual([
      "store: the disk of DATA_DIR is nearly full: its last 64 MiB are reserved for delivery",
    ]);
    await server.kill();
    removeSmallDisk(folder);
  });

  test("whose file was removed is a reason", async () => {
    const env = stack.embedded();
    const { ofServer, ofWorker, stop } = await both(env);
    for (const admin of [ofServer, ofWorker]) await admin.isReady();
    rmSync(join(env["DATA_DIR"]!, "queue.db"));
    for (const admin of [ofServer, ofWorker]) {
      const { reasons } = await admin.notReady("store: ");
      expect(reasons.join()).toContain("was removed or replaced");
    }
    await stop();
  });

  test("with an overdue end of doubt is a reason for the worker", async () => {
    const env = stack.embedded({ PROVIDERS: "resend" });
    await stack.fakes.fault("resend", { fault: { stage: "read", effect: "reset" }, path: "/emails/batch" });
    const { server, ofWorker, stop } = await both(env);
    expect((await post(server.url, email)).status).toBe(200);
    await untilScrape(
      ofWorker,
      "it is in doubt",
      ({ value }) => value("reliable_email_queue_emails", { state: "in_doubt" }) === 1,
    );
    // As if the batch had been in doubt for two days, and its end were still to come.
    const db = new Database(join(env["DATA_DIR"]!, "queue.db"));
    db.run("PRAGMA busy_timeout = 5000");
    db.run("UPDATE batches SET doubt_since = doubt_since - 172800000");
    db.close();
    await ofWorker.notReady("doubt: a batch has been in doubt for 48.0 h");
    expect((await ofWorker.scrape()).value("reliable_email_queue_oldest_doubt_seconds")).toBeGreaterThan(
      172_000,
    );
    await stack.fakes.clearFaults();
    await ofWorker.isReady();
    await stop();
  });
});

/** Checks that no answer contains a secret of the process. */
test("admin port: no answer contains a secret", async () => {
  const env = {
    ...stack.settings({ RESEND_API_KEY: "re_secret_key", API_TOKENS: "a-token-of-20-letters" }),
    REDIS_URL: `redis://user:pass-word-1@127.0.0.1:${stack.redis.port}`,
    ...withAdmin,
  };
  const server: Process = startProcess("server.ts", env);
  const admin = await adminOf(server);
  await admin.notReady("store: ");
  for (const path of ["/healthz", "/readyz", "/metrics"]) {
    expect(await (await fetch(admin.url + path)).text()).not.toMatch(/re_secret_key|a-token-of|pass-word/);
  }
  await server.kill();
});
