// The promises, on real processes that are killed: what was acknowledged arrives, once.

import { describe, expect, test } from "bun:test";
import { type Answer, post, type Process, startServer, startWorker } from "../support/service.ts";
import { duplicatesIn } from "../../fakes/ledger.ts";
import { faults, seededRandom } from "../../fakes/faults.ts";
import { eventually, freePort } from "../support/eventually.ts";
import { startProxy } from "../../fakes/proxy.ts";
import { startRedis } from "../support/redis.ts";
import { drained, operatorOf, useStack } from "../support/stack.ts";

const stack = useStack();

const email = (subject: string) => ({ subject, body: `Body of ${subject}`, to: "jane@example.org" });

const acceptedOf = async (subject: string) =>
  (await stack.fakes.acceptances()).filter((one) => one.subject === subject);

const queues = [
  { queue: "Redis", settings: stack.settings },
  { queue: "embedded", settings: stack.embedded },
] as const;

describe.each(queues)("a worker killed ($queue)", ({ settings }) => {
  for (const provider of ["resend", "postmark"] as const) {
    for (const [instant, fault] of [
      ["before the provider accepted", faults.hangBeforeAccepting],
      ["after the provider accepted, before it could settle", faults.hangAfterAccepting],
    ] as const) {
      test(`${instant} (${provider}): the next one finishes its batch, and nothing is sent twice`, async () => {
        const env = settings({ PROVIDERS: `${provider}:1`, POSTMARK_SEARCH_WAIT: "500ms" });
        const [server, operator] = [await startServer(env), await operatorOf(env)];
        const path = provider === "resend" ? "/emails/batch" : "/email/batch";
        await stack.fakes.fault(provider, { fault, times: 1, path });
        const before = (await stack.fakes.requests(provider)).length;
        const first = await startWorker(env);
        const subject = `${provider} ${instant} ${Bun.randomUUIDv7()}`;
        expect((await post(server.url, email(subject))).status).toBe(200);
        await eventually(
          "the request is there",
          async () => (await stack.fakes.requests(provider)).length > before,
        );
        await first.kill();
        const second = await startWorker(env);
        await eventually("it is accepted", async () => (await acceptedOf(subject)).length > 0);
        await drained(operator);
        expect(await acceptedOf(subject)).toHaveLength(1);
        await Promise.all([server.kill(), second.kill(), operator.close()]);
      }, 60_000);
    }
  }
});

test("a server killed before it could answer: the client repeats with its key, and one email arrives", async () => {
  const proxy = await startProxy(stack.redis.port);
  const env = stack.settings();
  const [operator, other] = [await operatorOf(env), await startServer(env)];
  const server = await startServer({ ...env, REDIS_URL: `redis://127.0.0.1:${proxy.port}` });
  const key = { "idempotency-key": "order-1" };
  expect((await post(server.url, email("warm-up"))).status).toBe(200);
  proxy.replies = "drop";
  const unanswered = post(server.url, email("once"), key).catch(() => "reset");
  await eventually("Redis has it", async () => (await operator.stats()).states.waiting === 2);
  await server.kill();
  expect(await unanswered).toBe("reset");
  const again = await post(other.url, email("once"), key);
  expect(again.status).toBe(200);
  expect((await operator.stats()).states.waiting).toBe(2);
  const worker = await startWorker(env);
  await drained(operator);
  expect((await acceptedOf("once")).map(({ emailId }) => emailId)).toEqual([again.id!]);
  proxy.stop();
  await Promise.all([other.kill(), worker.kill(), operator.close()]);
}, 60_000);

test.each(queues)(
  "everything killed at random, again and again ($queue): what was acknowledged arrives, once",
  async ({ queue, settings }) => {
    const own = queue === "Redis" ? await startRedis() : undefined;
    const random = seededRandom(20_261_125);
    const port = await freePort();
    const env = settings({
      ...(own && { REDIS_URL: own.url }),
      PORT: String(port),
      SUBMIT_TIMEOUT: "5s",
      PROVIDERS: "resend:2,postmark:1",
    });
    await stack.fakes.settings("postmark", { indexDelayMs: 200 });
    const url = `http://127.0.0.1:${port}/`;
    const servers = [await startServer(env), await startServer(env)];
    const workers = [await startWorker(env), await startWorker(env)];

    const acknowledged = new Map<string, string>();
    let sending = true;
    async function client(name: string): Promise<void> {
      for (let n = 0; sending; n += 1) {
        const subject = `chaos ${queue} ${name}-${n}`;
        // Repeated until it is acknowledged, as the contract says.
        for (let answer: Answer | undefined; answer?.status !== 200;) {
          answer = await post(url, email(subject), { "idempotency-key": subject.replaceAll(" ", "-") }).catch(
            () => undefined,
          );
          if (answer?.status === 200) acknowledged.set(subject, answer.id!);
          else if (!sending) return;
          else await Bun.sleep(20);
        }
      }
    }
    const clients = Array.from({ length: 8 }, (_, i) => client(String(i)));

    const restart = async (list: Process[], start: (env: Record<string, string>) => Promise<Process>) => {
      const index = Math.floor(random() * list.length);
      await list[index]!.kill();
      list[index] = await start(env);
    };
    const restartAll = async () => {
      await Promise.all([...workers, ...servers].map((one) => one.kill()));
      await own?.restart();
      for (const i of workers.keys()) workers[i] = await startWorker(env);
      for (const i of servers.keys()) servers[i] = await startServer(env);
    };
    for (let kills = 0; kills < 30; kills += 1) {
      const before = acknowledged.size;
      const dice = random();
      if (dice < 0.4) await restart(workers, startWorker);
      else if (dice < 0.75) await restart(servers, startServer);
      else if (dice < 0.9 && own !== undefined) await own.restart();
      else await restartAll();
      await eventually("mail flows again", () => acknowledged.size > before + Math.floor(random() * 200));
    }
    sending = false;
    await Promise.all(clients);
    const operator = await operatorOf(env);
    await drained(operator);

    const accepted = (await stack.fakes.acceptances()).filter(({ subject }) =>
      subject.startsWith(`chaos ${queue} `),
    );
    const arrived = new Map(accepted.map((one) => [one.subject, one]));
    const lost = [...acknowledged.keys()].filter((subject) => !arrived.has(subject));
    expect(lost).toEqual([]);
    for (const [subject, id] of acknowledged) {
      expect(arrived.get(subject)).toMatchObject({ emailId: id, text: `Body of ${subject}` });
    }
    const { states, counters } = await operator.stats();
    expect(states.dead).toBe(0);
    const twice = duplicatesIn(accepted);
    const inResend = [...twice.values()].filter(
      (same) => same.filter(({ provider }) => provider === "resend").length > 1,
    );
    expect(inResend).toEqual([]);
    // The index is quicker than the wait: not even Postmark gets one twice, nor do both get it.
    expect([...twice.keys()]).toEqual([]);
    expect(counters["duplicates"]).toBeUndefined();
    expect(new Set(accepted.map(({ subject }) => subject)).size).toBe(accepted.length);
    expect(acknowledged.size).toBeGreaterThan(500);
    await Promise.all([...servers, ...workers].map((one) => one.kill()));
    await operator.close();
    await own?.stop();
  },
  180_000,
);
