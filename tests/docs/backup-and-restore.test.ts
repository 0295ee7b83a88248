// docs/backup-and-restore.md: an email that waits during the backup is there after the restore, on both queues.

import { expect } from "bun:test";
import { testPage } from "./page.ts";
import { bothReady, installService, submit, untilCounted } from "./service.ts";

testPage("docs/backup-and-restore.md", async (page, machine) => {
  const { run, until } = machine;
  await installService(machine, "PROVIDERS=sandbox", "DEFAULT_FROM=shop@example.com");
  const file = "DATA_DIR=/var/lib/reliable-email";
  const redis = "REDIS_URL=redis://127.0.0.1:6379";

  /** Backs up one waiting email, and restores it over an empty queue. */
  const passes = async (settings: string, backup: string, restore: string) => {
    const queue = (command: string) =>
      run(`runuser -u reliable-email -- env ${settings} reliable-email queue ${command}`);
    await queue("pause");
    const id = await submit(machine);
    await run(backup);
    await queue("clear --yes");
    await run(restore);
    await until(bothReady);
    expect(await queue("list waiting")).toContain(id);
    await queue("resume");
    await untilCounted(machine, "sent", 1);
  };

  await passes(file, page.block("cd /var/lib/reliable-email"), page.block("systemctl stop"));
  await run(`systemctl stop 'reliable-email-*'\n${page.next("runuser")}`);

  await run(`cp deploy/redis.conf /etc/redis/redis.conf
    echo dir /var/lib/redis >> /etc/redis/redis.conf
    echo ${redis} >> /etc/reliable-email/env
    systemctl start redis-server reliable-email-server reliable-email-worker`);
  await until(bothReady);
  await passes(redis, page.block("redis-cli CONFIG SET"), page.block("systemctl stop"));
});
