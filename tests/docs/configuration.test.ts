// docs/configuration.md: the command that prints every effective setting, and faults that change while a worker runs.

import { expect } from "bun:test";
import { settingNames } from "../../lib/config/settings.ts";
import { testPage } from "./page.ts";
import { submit } from "./service.ts";

testPage("docs/configuration.md", async (page, machine) => {
  const { open, run, until } = machine;
  const shown = await run(page.next("reliable-email config"));
  expect(settingNames.filter((name) => !shown.includes(`\n${name} `))).toEqual([]);

  await open("PROVIDERS=sandbox npm run dev").shows(/Ctrl-C/);
  await run("cat > data/sandbox-faults.json", { typed: page.next('{ "chances"') });
  await submit(machine);
  await until("npm run -s cli -- queue stats | grep unavailable");
});
