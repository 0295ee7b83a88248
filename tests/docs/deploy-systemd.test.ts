// docs/deploy-systemd.md: the executable and its units, installed and run by a real systemd, in every way that the page
// shows.

import { expect } from "bun:test";
import type { Machine } from "./machine.ts";
import { testPage } from "./page.ts";
import { bothReady, untilCounted } from "./service.ts";

testPage("docs/deploy-systemd.md", async (page, machine) => {
  const { open, run, until } = machine;
  const set = (line: string) => run(`echo '${line}' >> /etc/reliable-email/env`);
  const unset = (name: string) => run(`sed -i '/^${name}=/d' /etc/reliable-email/env`);

  const build = page.block("npm ci && npm run build").replace("npm ci && ", "");
  expect(await run(build)).toContain("Usage: reliable-email");
  const startAgain = page.next("systemctl start");
  await run(page.block("install -D -m 755"));
  const pasteKey = page.next("install -m 600 /dev/stdin");
  const useKeys = page.next("cp -r deploy/systemd/credentials");
  const start = page.block("systemctl daemon-reload").replaceAll("your-domain", "example.com");
  const stats = page.next("runuser");
  const check = page.next("grep");

  // Without a key.
  await set("PROVIDERS=sandbox");
  const shown = await run(start);
  expect(shown).toContain('{"ok":true,"id":"');
  expect(shown).toContain("Started reliable-email-server.service");
  await untilCounted(machine, "sent", 1);
  expect(await run(stats)).toMatch(/^sent +1 /m);

  // With a key.
  await unset("PROVIDERS");
  const fakes = open("npx bun fakes/main.ts --resend-port 7210");
  await run(pasteKey, { typed: "re_fake\n" });
  await run(useKeys);
  await set("RESEND_BASE_URL=http://127.0.0.1:7210");
  await run(`systemctl daemon-reload && systemctl restart 'reliable-email-*'`);
  expect(await run(start)).toContain('{"ok":true,"id":"');
  await fakes.shows(/accepted .*: shop@example.com -> you@example.com: Hi/);
  await untilCounted(machine, "sent", 2);
  expect(await run(check)).toMatch(/^ok +store .*\nok +resend /m);

  // A crash, and a configuration error.
  const unit = "reliable-email-server";
  await run(`systemctl kill --signal=SIGKILL ${unit}`);
  await until(bothReady);
  await set("PORT=none");
  await run(`systemctl restart ${unit}`);
  await until(`systemctl is-failed ${unit} && systemctl show --property ExecMainStatus ${unit} | grep '=2$'`);
  await unset("PORT");
  await run(`${startAgain} ${unit}`);
  await until(bothReady);

  await run(page.next("systemctl disable --now"));
  await run(page.next("systemctl enable --now"));
  await until("curl --fail-with-body localhost:3001/readyz && curl --fail-with-body localhost:3003/readyz");
  await run(page.next("sysctl net.ipv4.tcp_migrate_req=1"));
  await run("systemctl restart reliable-email-server@3001 && curl --fail-with-body localhost:3003/readyz");

  await run(page.next("cp -r deploy/systemd/from-sources"));
  await run(`${page.next("systemctl daemon-reload")} && systemctl restart 'reliable-email-*'`);
  await until("curl --fail-with-body localhost:3002/readyz");
  expect(await run("pgrep -f 'node_modules/.bin/bun run (server|worker)'")).toMatch(/^\d+\n\d+\n/);
  await run("find /etc/systemd/system -name from-sources.conf -delete");
  await run("systemctl daemon-reload && systemctl stop 'reliable-email-*'");

  const byHand = (command: string) => `PROVIDERS=sandbox ${command}`;
  await runBoth(machine, byHand(page.next("npm run server")), byHand(page.next("npm run worker")));
  const bun = page.next("node_modules/.bin/bun");
  await runBoth(machine, byHand(bun), byHand(bun.replace("server.ts", "worker.ts")));
  const server = page.next("reliable-email server");
  await runBoth(machine, byHand(server), byHand(page.next("reliable-email worker")));
});

/** Starts a server and a worker, and stops them as a person at the terminals would. */
async function runBoth({ open, until }: Machine, server: string, worker: string): Promise<void> {
  const terminals = [open(server), open(worker)];
  await until(bothReady);
  for (const terminal of terminals) {
    terminal.interrupt();
    expect(await terminal.exited).toBe(0);
  }
}
