// docs/deploy-redis.md: Debian's Redis with the settings and the user of the page, repaired after a power cut.

import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { testPage } from "./page.ts";

const read = (path: string) => readFileSync(join(import.meta.dir, "../..", path), "utf8");

testPage("docs/deploy-redis.md", async (page, machine) => {
  const { open, run, until } = machine;
  const matters = page.next("appendonly").split("\n");
  expect(read("deploy/redis.conf").split("\n")).toEqual(expect.arrayContaining(matters));
  await run(page.block("install -o redis"));
  await run("redis-cli SET a 1");

  // A power cut in the middle of a write.
  const cutOff = `systemctl kill --signal=SIGKILL redis-server
    systemctl stop redis-server
    printf '*1\\r\\n$5\\r\\nMULTI\\r\\n*3\\r\\n$3\\r\\nSET\\r\\n' >> /var/lib/redis/appendonlydir/*.incr.aof`;
  await run(cutOff);
  await run("systemctl start redis-server", { code: 1 });
  await run("systemctl stop redis-server");
  expect(await run(page.next("deploy/systemd/redis/repair-log"))).toContain(
    "removed an incomplete transaction",
  );
  await run("test -d /var/lib/redis/appendonlydir.before-repair");
  expect(await run("systemctl start redis-server && redis-cli GET a")).toBe("1\n");

  await run(page.block("install -D deploy/systemd/redis/repair-log"));
  await run(cutOff);
  expect(await run("systemctl start redis-server && redis-cli GET a")).toBe("1\n");

  await run(page.next("redis-cli ACL SETUSER"));
  const urls = read("docs/deploy-redis.md").match(/(?<=`)redis(?:\+unix)?:\/\/[^`]+/g)!;
  expect(urls).toHaveLength(3);
  // In redis.conf, the user survives a restart.
  await run(`redis-cli CONFIG REWRITE
    echo unixsocket /run/redis/redis.sock >> /etc/redis/redis.conf
    systemctl restart redis-server`);
  for (const url of urls) {
    const server = open(`REDIS_URL=${url} PROVIDERS=sandbox DEFAULT_FROM=shop@example.com npm run server`);
    await until("curl --fail-with-body localhost:3001/readyz");
    expect(await run("curl -d subject=Hi -d body=Hello -d to=jane@example.org localhost:3000")).toContain(
      '"ok":true',
    );
    server.interrupt();
    await server.exited;
  }
});
