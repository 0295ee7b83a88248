// docs/moving.md: on one machine, a keyed email keeps its id from the embedded queue to Redis, and everything is sent.

import { expect } from "bun:test";
import { testPage } from "./page.ts";
import { bothReady, installService, untilCounted } from "./service.ts";

testPage("docs/moving.md", async (page, machine) => {
  const { run, until } = machine;
  await installService(machine, "PROVIDERS=sandbox", "DEFAULT_FROM=shop@example.com");
  await run(`cp deploy/redis.conf /etc/redis/redis.conf
    echo dir /var/lib/redis >> /etc/redis/redis.conf
    systemctl start redis-server`);
  const submit = () =>
    run(
      "curl -H 'Idempotency-Key: order-1' -d subject=Hi -d body=Hello -d to=jane@example.org localhost:3000",
    );
  const first = await submit();
  expect(first).toContain('"ok":true');

  await run(page.next("install -m 640"), { typed: "REDIS_URL=redis://127.0.0.1:6379\n" });
  await run(page.block("cd /etc/systemd/system"));
  const moved = await run(page.block("move()"));
  expect(moved).toMatch(/ moves to Redis at 127.0.0.1:6379, .*\n1 idempotency key copied\n/);
  await until("curl --fail-with-body localhost:3001/readyz");
  expect(await submit()).toBe(first);
  expect(await run(page.block("runuser"))).toContain("The old queue is empty");
  await until(bothReady);
  expect(await submit()).toBe(first);
  await run("curl -d subject=Hi -d body=Hello -d to=jane@example.org localhost:3000");
  await untilCounted(machine, "sent", 1);
});
