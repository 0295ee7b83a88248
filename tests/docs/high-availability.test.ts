// docs/high-availability.md: two servers of a host behind HAProxy, one of which restarts without a failure. What a host
// that dies costs is tested in tests/fleet/.

import { expect } from "bun:test";
import { installHaproxy, makeCertificate } from "./haproxy.ts";
import { testPage } from "./page.ts";
import { installUnits } from "./service.ts";

testPage("docs/high-availability.md", async (page, machine) => {
  const { open, run, until } = machine;
  await installHaproxy(machine);
  await makeCertificate(machine);
  // One Redis, without replicas.
  open("redis-server deploy/redis.conf --dir /tmp");
  const settings = page
    .next("HOST=10.0.0.11")
    .replace(/^REDIS_URL=redis\+sentinel:.*/m, "REDIS_URL=redis://127.0.0.1")
    .replace("REDIS_MIN_REPLICAS=1", "REDIS_MIN_REPLICAS=0");
  expect(settings).toContain("redis://127.0.0.1\nREDIS_MIN_REPLICAS=0");
  await installUnits(machine, settings, "DEFAULT_FROM=shop@example.com");
  await run(page.block("mkdir -p"));
  const ready = (port: number) => until(`curl --fail-with-body 10.0.0.11:${port}/readyz`);
  for (const port of [3001, 3011]) await ready(port);

  await run(`cat /etc/ssl/mail.example.com.* > /etc/haproxy/mail.example.com.pem
    cp deploy/haproxy.cfg /etc/haproxy/haproxy.cfg
    systemctl restart haproxy`);
  const submit = `curl --insecure --fail-with-body https://mail.example.com \
    -H 'Authorization: Bearer a-token-of-sixteen-or-more' -d subject=Hi -d body=Hello -d to=jane@example.org`;
  await until(submit);
  const [drain, restart] = [page.block("echo 'set server"), page.next("systemctl restart")];
  await run(drain);
  await run(restart);
  expect(await run(submit)).toContain('"ok":true');
  await ready(3001);
  await run(page.next("echo 'set server ready/a1 state ready'"));
  await until("echo 'show stat' | socat - /run/haproxy/admin.sock | grep '^ready,a1,.*,UP,'");
  await run(page.next("systemctl reload haproxy"));
  expect(await run(submit)).toContain('"ok":true');
});
