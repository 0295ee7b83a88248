// The worker as a process: its start and its end.

import { expect, test } from "bun:test";
import type { EmailState } from "../../lib/queue/contract.ts";
import { type Fault, faults } from "../../fakes/faults.ts";
import { jsonOfCli } from "../support/cli.ts";
import { eventually } from "../support/eventually.ts";
import { startRedis } from "../support/redis.ts";
import { queueAdminOf, useProcesses } from "../support/processes.ts";
import { post, startProcess, startServer, startWorker } from "../support/service.ts";

const stack = useProcesses();
const { settings } = stack;

const email = { subject: "Hi", body: "Hello", to: "jane@example.org" };

test("worker: it exits with 2 and names all invalid settings on stderr", async () => {
  const worker = startProcess("worker.ts", { LEASE: "1s", RETRY_BASE: "soon" });
  expect(await worker.exited).toBe(2);
  for (const name of ["PROVIDERS", "LEASE", "RETRY_BASE"]) expect(worker.stderr()).toContain(name);
});

test("worker: it exits with 1 on a store of another format, and claims nothing", async () => {
  const env = settings();
  const server = await startServer(env);
  expect((await post(server.url, email)).status).toBe(200);
  await server.kill();
  stack.redis.cli("SET", `{${env["REDIS_PREFIX"]}:0}:format`, "2");
  const worker = startProcess("worker.ts", env);
  expect(await worker.exited).toBe(1);
  expect(worker.lines.map(({ event }) => event)).toContain("store-unusable");
  expect(stack.redis.cli("ZCARD", `{${env["REDIS_PREFIX"]}:0}:due`)).toBe("1");
});

test("worker: it can start before its Redis, without a false alarm, and delivers once Redis is up", async () => {
  const own = await startRedis();
  const env = { ...settings(), REDIS_URL: own.url };
  const server = await startServer(env);
  expect((await post(server.url, email)).status).toBe(200);
  own.kill("SIGKILL");
  const worker = startProcess("worker.ts", env);
  await worker.event("store-connection-lost");
  await own.restart();
  await worker.event("worker-started");
  const { id } = await post(server.url, email);
  await eventually("it arrives", async () =>
    (await stack.fakes.acceptances()).some(({ emailId }) => emailId === id),
  );
  expect(worker.lines.map(({ event }) => event)).not.toContain("store-lost");
  await Promise.all([server.kill(), worker.kill()]);
  await own.stop();
});

/**
 * Stops a worker with a signal while its request to Resend has this fault. Returns its exit code, and the state that the
 * email is left in.
 */
async function stopDuringRequest(
  signal: NodeJS.Signals,
  fault: Fault,
  over: Record<string, string> = {},
): Promise<{ code: number | null; state: EmailState | undefined }> {
  const env = settings({ PROVIDERS: "resend", ...over });
  const [server, worker] = await Promise.all([startServer(env), startWorker(env)]);
  await stack.fakes.fault("resend", { fault, times: 1 });
  const before = (await stack.fakes.requests("resend")).length;
  const { id } = await post(server.url, email);
  await eventually(
    "the request has arrived",
    async () => (await stack.fakes.requests("resend")).length > before,
  );
  const code = await worker.kill(signal);
  const admin = await queueAdminOf(env);
  const stored = await admin.show(id!);
  await Promise.all([server.kill(), admin.close()]);
  return { code, state: stored?.state };
}

test.each(["SIGTERM", "SIGINT", "SIGHUP"] as const)(
  "worker: on %s it settles what is in flight, then exits with 0",
  async (signal) => {
    const slow: Fault = { stage: "accepted", delayMs: 500, effect: "nothing" };
    expect(await stopDuringRequest(signal, slow)).toEqual({ code: 0, state: "sent" });
  },
);

test("worker: a hanging request does not outlast SHUTDOWN_TIMEOUT, and its batch stays leased", async () => {
  const stopped = await stopDuringRequest("SIGTERM", faults.hangBeforeAccepting, {
    SHUTDOWN_TIMEOUT: "300ms",
  });
  expect(stopped).toEqual({ code: 0, state: "sending" });
});

test("worker: its log has only the kind of a provider's failure, also for doubt and an opened breaker", async () => {
  const env = settings({ LOG_LEVEL: "debug", PROVIDERS: "resend" });
  const answer = (status: number, name: string) => ({
    stage: "read" as const,
    effect: { status, json: { statusCode: status, name, message: `Of Sekrit Name, about Sekrit subject` } },
  });
  await stack.fakes.fault("resend", { fault: answer(500, "internal_server_error"), times: 1 });
  await stack.fakes.fault("resend", { fault: answer(401, "restricted_api_key") });
  const [server, worker] = await Promise.all([startServer(env), startWorker(env)]);
  try {
    const { id } = await post(server.url, { ...email, subject: "Sekrit subject", to_name: "Sekrit Name" });
    expect((await worker.event("batch-in-doubt"))["reason"]).toBe("500 internal_server_error");
    await post(server.url, email);
    expect((await worker.event("breaker-opened"))["reason"]).toBe("401 restricted_api_key");
    expect(worker.stdout()).not.toMatch(/sekrit/i);
    const { attempts } = await jsonOfCli(env, ["queue", "show", id!]);
    expect(attempts[0].reason).toContain("about Sekrit subject");
  } finally {
    await stack.fakes.clearFaults();
    await Promise.all([server.kill(), worker.kill()]);
  }
});

test("worker: its log names no address, subject, body or credential, at any level", async () => {
  const env = settings({ LOG_LEVEL: "debug" });
  const [server, worker] = await Promise.all([startServer(env), startWorker(env)]);
  const secret = {
    subject: "Sekrit subject",
    body: "Sekrit body",
    to: "sekrit@example.org",
    to_name: "Sekrit Name",
  };
  await stack.fakes.fault("resend", {
    fault: {
      stage: "read",
      effect: {
        status: 422,
        json: {
          statusCode: 422,
          name: "validation_error",
          message: "Invalid `to`: Sekrit Name <sekrit@example.org>",
        },
      },
    },
    times: 1,
  });
  await stack.fakes.fault("postmark", { fault: faults.resetBeforeAccepting, times: 1 });
  for (let i = 0; i < 4; i += 1) await post(server.url, secret);
  await eventually(
    "all are settled",
    () => worker.lines.filter(({ event }) => event === "batch-settled").length >= 4,
  );
  const log = server.stdout() + worker.stdout();
  expect(log).not.toMatch(/sekrit|shop@example\.com|re_fake|fake-token/i);
  await Promise.all([server.kill(), worker.kill()]);
});
