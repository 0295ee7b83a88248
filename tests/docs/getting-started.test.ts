// docs/getting-started.md: from the first email to killed processes, in the same number of terminals as on the page.

import { expect } from "bun:test";
import { testPage } from "./page.ts";
import { untilCounted } from "./service.ts";

const answer = /^\{"ok":true,"id":"([0-9a-f-]{36})"\}$/;

testPage("docs/getting-started.md", async (page, machine) => {
  const { open, run, until } = machine;

  // npm ci has run before the tests; the machine has no network.
  const start = page.next("npm install && npm run dev").replace("npm install && ", "");
  const dev = open(start);
  await dev.shows(/Ctrl-C/);
  const [, id] = answer.exec(await run(page.next("curl -d subject=Hi")))!;
  const file = (await dev.shows(/→ \S+\.eml/)).slice(2);
  expect(file).toContain(`data/outbox/${id}.`);
  expect(await run(`cat ${file}`)).toContain("jane@example.org");
  const [, later = ""] = answer.exec(await run(page.next("curl -F subject=Later")))!;
  expect(await run(page.next("npm run -s cli -- queue list scheduled"))).toContain(later);
  const cancel = page.next("npm run -s cli -- queue delete").replace("ID", later);
  expect(await run(cancel)).toStartWith("1 email deleted");
  dev.interrupt();
  expect(await dev.exited).toBe(0);

  const failing = open(page.next("SANDBOX_FAULTS"));
  await failing.shows(/Ctrl-C/);
  const submit = "curl -d subject=Hi -d body=Hello -d to=jane@example.org localhost:3000";
  for (let i = 0; i < 10; i += 1) expect(await run(submit)).toMatch(answer);
  failing.interrupt();
  expect(await failing.exited).toBe(0);
  await run("rm -r data");

  await run(page.next("mkdir -p data/redis"));
  const startRedis = page.next("redis-server");
  open(startRedis);
  await until("redis-cli -p 6380 PING");
  const fakes = open(page.next("npx bun fakes/main.ts"));
  await fakes.shows(/postmarkServerToken/);
  await run(page.next("cat > .env"));
  const startServer = page.next("npm run server");
  const startWorker = page.next("npm run worker");
  open(startServer);
  open(startWorker);
  await until("curl --fail-with-body localhost:3001/readyz && curl --fail-with-body localhost:3002/readyz");
  const arrives = async (subject: string) => {
    expect(await run(submit.replace("Hi", subject))).toMatch(answer);
    return () => fakes.shows(new RegExp(`accepted .*: ${subject}\n`));
  };
  await (
    await arrives("First")
  )();

  const killWorker = page.next("pkill -9 -f worker.ts");
  await run(killWorker);
  const second = await arrives("Second");
  open(startWorker);
  await second();

  await run(page.next("pkill -9 -f 'redis-server"));
  const third = arrives("Third");
  open(startRedis);
  await (
    await third
  )();

  const [hangAtResend, hangAtPostmark, once] = page.block('curl -d \'{"fault"').split("\n");
  await run(`${hangAtResend}\n${hangAtPostmark}`);
  expect(await run(once!)).toMatch(answer);
  await fakes.shows(/accepted .*: Once\n/);
  await run(killWorker);
  open(startWorker);
  await untilCounted(machine, "sent", 4);
  const stats = await run(page.next("curl localhost:7210/_fake/stats"));
  expect(stats.match(/"duplicates":\[\]/g)).toHaveLength(2);
  expect(fakes.shown().match(/: Once\n/g)).toHaveLength(1);
  await run(page.next("curl -X DELETE"));
});
