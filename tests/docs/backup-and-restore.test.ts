// docs/backup-and-restore.md: an email that was waiting at the backup is there after the restore, on both queues, and
// the way from one queue to the other.

import { expect } from "bun:test";
import { testPage } from "./page.ts";
import { bothReady, installService, submit } from "./service.ts";

const stats = (settings: string) => `runuser -u reliable-email -- env ${settings} reliable-email queue stats`;

testPage("docs/backup-and-restore.md", async (page, machine) => {
  const { run, until } = machine;
  await installService(machine, "PROVIDERS=sandbox", "DEFAULT_FROM=shop@example.com");
  const file = "DATA_DIR=/var/lib/reliable-email";
  const redis = "REDIS_URL=redis://127.0.0.1:6379";

  const setPaused = (queue: string, command: "pause" | "resume") =>
    run(stats(queue).replace("stats", command));
  /** A backup of one waiting email, restored in place of an empty queue. */
  const passes = async (queue: string, backup: string, restore: string) => {
    await setPaused(queue, "pause");
    const id = await submit(machine);
    await run(backup);
    await run(stats(queue).replace("stats", "clear --yes"));
    await run(restore);
    await until(bothReady);
    expect(await run(`${stats(queue).replace("stats", "list waiting")}`)).toContain(id);
    await setPaused(queue, "resume");
    await until(`${stats(queue)} | grep -E '^sent +1 '`);
  };

  await passes(file, page.block("cd /var/lib/reliable-email"), page.block("systemctl stop"));
  await run(`systemctl stop 'reliable-email-*'\n${page.next("runuser")}`);

  await run(`cp deploy/redis.conf /etc/redis/redis.conf
    echo dir /var/lib/redis >> /etc/redis/redis.conf
    echo ${redis} >> /etc/reliable-email/env
    systemctl start redis-server reliable-email-server reliable-email-worker`);
  await until(bothReady);
  await passes(redis, page.block("redis-cli CONFIG SET"), page.block("systemctl stop"));

  // From the embedded queue to Redis: the worker keeps the settings with which it was started.
  await run("sed -i '/^REDIS_URL/d' /etc/reliable-email/env && systemctl restart 'reliable-email-*'");
  await until(bothReady);
  await submit(machine);
  await run(`echo ${redis} >> /etc/reliable-email/env && systemctl restart reliable-email-server`);
  await until("curl --fail-with-body localhost:3001/readyz");
  await submit(machine);
  await until(`${stats(file)} | grep -E '^sent +2 '`);
  await run("systemctl restart reliable-email-worker");
  await until(`${stats(redis)} | grep -E '^sent +2 '`);
});
