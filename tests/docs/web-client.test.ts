// docs/web-client.md: the web client beside `dev`, and alone, next to a running service.

import { expect } from "bun:test";
import type { Machine, Terminal } from "./machine.ts";
import { testPage } from "./page.ts";
import { startService } from "./service.ts";

async function expectPage({ run }: Machine, terminal: Terminal): Promise<void> {
  const [address] = /http:\S+/.exec(await terminal.shows(/http:\/\/127\.0\.0\.1:3003\/#\S+/))!;
  expect(await run(`curl --fail-with-body '${address}'`)).toContain("<title>reliable-email</title>");
}

testPage("docs/web-client.md", async (page, machine) => {
  const dev = machine.open(page.next("reliable-email dev"));
  await dev.shows(/Ctrl-C/);
  expect(dev.shown()).toContain(page.next("Web client").split("#")[0]!);
  await expectPage(machine, dev);
  dev.interrupt();
  expect(await dev.exited).toBe(0);

  await startService(machine);
  await expectPage(machine, machine.open(page.next("npm run web")));
});
