// docs/reverse-proxy.md: an email through each proxy, and the points that a proxy must get right.

import { expect } from "bun:test";
import type { Machine } from "./machine.ts";
import { installHaproxy, makeCertificate } from "./haproxy.ts";
import { testPage } from "./page.ts";

testPage("docs/reverse-proxy.md", async (page, machine) => {
  const { open, run, until } = machine;
  open("PROVIDERS=sandbox DEFAULT_FROM=shop@example.com API_TOKENS=sixteen-or-longer npm run server");
  await until("curl --fail-with-body localhost:3001/readyz");

  // A local certificate authority instead of a public one.
  const caddyfile = `{\n\tlocal_certs\n\tskip_install_trust\n}\n${page.next("mail.example.com {")}\n`;
  await run("mkdir -p /etc/caddy && cat > /etc/caddy/Caddyfile", { typed: caddyfile });
  await run("caddy validate --config /etc/caddy/Caddyfile");
  const caddy = open("caddy run --config /etc/caddy/Caddyfile");
  await passes(machine);
  caddy.interrupt();
  await caddy.exited;

  await makeCertificate(machine);
  await run(`mkdir -p /etc/nginx/conf.d /var/lib/nginx /var/log/nginx
    echo 'events {} http { include conf.d/*.conf; }' > /etc/nginx/nginx.conf`);
  await run("cat > /etc/nginx/conf.d/mail.conf", { typed: page.next("server {") });
  await run("nginx -t");
  const nginx = open("nginx -g 'daemon off;'");
  await passes(machine);
  nginx.interrupt();
  await nginx.exited;

  await installHaproxy(machine);
  open(
    "PROVIDERS=sandbox DEFAULT_FROM=shop@example.com API_TOKENS=sixteen-or-longer HOST=10.0.0.11 ADMIN_HOST=10.0.0.11 npm run server",
  );
  await run(page.block("install -m 600"));
  await passes(machine);
});

async function passes({ run, until }: Machine): Promise<void> {
  const curl = "curl --insecure https://mail.example.com";
  const email = "-d subject=Hi -d body=Hello -d to=jane@example.org";
  const token = "-H 'Authorization: Bearer sixteen-or-longer'";
  expect(await until(`${curl} --fail ${token} ${email}`)).toContain('"ok":true');
  expect(await run(`${curl} ${email}`)).toContain("Authorization");
  await run("head -c 17000000 /dev/zero > large");
  expect(await run(`${curl} ${token} --data-binary @large`)).toContain("the body is over 16777216 bytes");
  expect(await run(`${curl}/readyz --output /dev/null --write-out '%{http_code}'`)).toBe("404");
}
