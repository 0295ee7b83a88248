// The promises, on real processes that are killed at chosen instants: every acknowledged email arrives, once. The chaos
// harness kills them at random instants, by the hundred.

import { describe, expect, test } from "bun:test";
import { adminOf, withAdmin } from "../support/admin.ts";
import { post, startServer, startWorker } from "../support/service.ts";
import { faults } from "../../fakes/faults.ts";
import { eventually } from "../support/eventually.ts";
import { startProxy } from "../../fakes/tcp_proxy.ts";
import { drained, queueAdminOf, useProcesses } from "../support/processes.ts";

const stack = useProcesses();

const email = (subject: string) => ({ subject, body: `Body of ${subject}`, to: "jane@example.org" });

const acceptedOf = async (subject: string) =>
  (await stack.fakes.acceptances()).filter((one) => one.subject === subject);

const queues = [
  { queue: "Redis", settings: stack.settings },
  { queue: "embedded", settings: stack.embedded },
] as const;

describe.each(queues)("kill: a worker killed ($queue)", ({ settings }) => {
  for (const provider of ["resend", "postmark"] as const) {
    for (const [instant, fault] of [
      ["before the provider accepted", faults.hangBeforeAccepting],
      ["after the provider accepted, before it could settle", faults.hangAfterAccepting],
    ] as const) {
      test(`${instant} (${provider}): the next worker finishes its batch, and nothing is sent twice`, async () => {
        const env = settings({
          PROVIDERS: `${provider}:1`,
          POSTMARK_SEARCH_WAIT: "500ms",
          // The lease of the killed worker has to expire.
          PROVIDER_TIMEOUT: "1s",
          LEASE: "2s",
        });
        const [server, admin] = [await startServer(env), await queueAdminOf(env)];
        const path = provider === "resend" ? "/emails/batch" : "/email/batch";
        await stack.fakes.fault(provider, { fault, times: 1, path });
        const before = (await stack.fakes.requests(provider)).length;
        const first = await startWorker(env);
        const subject = `${provider} ${instant} ${Bun.randomUUIDv7()}`;
        expect((await post(server.url, email(subject))).status).toBe(200);
        await eventually(
          "the request has arrived",
          async () => (await stack.fakes.requests(provider)).length > before,
        );
        await first.kill();
        const second = await startWorker(env);
        await eventually("it is accepted", async () => (await acceptedOf(subject)).length > 0);
        await drained(admin);
        expect(await acceptedOf(subject)).toHaveLength(1);
        await Promise.all([server.kill(), second.kill(), admin.close()]);
      });
    }
  }
});

test("kill: a client of a server killed before its answer repeats with its key, and one email arrives", async () => {
  const proxy = await startProxy(stack.redis.port);
  const env = stack.settings();
  const [admin, other] = [await queueAdminOf(env), await startServer(env)];
  const server = await startServer({ ...env, REDIS_URL: `redis://127.0.0.1:${proxy.port}` });
  const key = { "idempotency-key": "order-1" };
  expect((await post(server.url, email("warm-up"))).status).toBe(200);
  proxy.replies = "drop";
  const unanswered = post(server.url, email("once"), key).catch(() => "reset");
  await eventually("Redis has it", async () => (await admin.stats()).states.waiting === 2);
  await server.kill();
  expect(await unanswered).toBe("reset");
  const again = await post(other.url, email("once"), key);
  expect(again.status).toBe(200);
  expect((await admin.stats()).states.waiting).toBe(2);
  const worker = await startWorker(env);
  await drained(admin);
  expect((await acceptedOf("once")).map(({ emailId }) => emailId)).toEqual([again.id!]);
  proxy.stop();
  await Promise.all([other.kill(), worker.kill(), admin.close()]);
});

test("kill: clients of one of two servers on one port repeat, and each email arrives once", async () => {
  const env = stack.settings({ ...withAdmin, PROVIDERS: "resend:1" });
  const [first, worker, admin] = [await startServer(env), await startWorker(env), await queueAdminOf(env)];
  const second = await startServer({ ...env, PORT: new URL(first.url).port });
  const admins = [await adminOf(first), await adminOf(second)];
  const inProgress = async () => {
    const scrapes = await Promise.all(admins.map((one) => one.scrape()));
    return scrapes.map((scrape) => scrape.value("reliable_email_submissions_in_progress") ?? 0);
  };
  stack.redis.kill("SIGSTOP");
  const subjects = Array.from({ length: 40 }, (_, n) => `one-port-${n}`);
  const answers = subjects.map(async (subject) => {
    const key = { "idempotency-key": subject };
    return eventually(`${subject} is acknowledged`, async () => {
      const answer = await post(first.url, email(subject), key).catch(() => undefined);
      return answer?.status === 200 ? answer : undefined;
    });
  });
  await eventually("both servers have some of them", async () => {
    const counts = await inProgress();
    return counts[0]! > 0 && counts[0]! + counts[1]! === subjects.length;
  });
  await first.kill();
  stack.redis.kill("SIGCONT");
  const ids = (await Promise.all(answers)).map(({ id }) => id!);
  await drained(admin);
  const arrived = (await stack.fakes.acceptances()).filter(({ subject }) => subject.startsWith("one-port-"));
  expect(arrived.map(({ emailId }) => emailId).toSorted()).toEqual(ids.toSorted());
  await Promise.all([second.kill(), worker.kill(), admin.close()]);
});
