// docs/runbook.md: the places to look when a process is down.

import { expect } from "bun:test";
import { testPage } from "./page.ts";
import { installService } from "./service.ts";

testPage("docs/runbook.md", async (page, machine) => {
  const { run } = machine;
  await installService(machine, "PROVIDERS=sandbox");
  await run("systemctl kill --signal=SIGKILL reliable-email-worker");
  const status = page.next("systemctl status");
  expect(await run(`${status} --no-pager reliable-email-server`)).toContain("active (running)");
  const journal = page.next("journalctl -u");
  expect(await run(`${journal} reliable-email-worker --no-pager`)).toContain("status=9/KILL");
  expect(JSON.parse(await run(page.next("curl localhost:3001/readyz")))).toMatchObject({ ready: true });
});
