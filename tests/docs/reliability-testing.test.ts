// docs/reliability-testing.md: the list of scenarios, and a short run of one.

import { expect } from "bun:test";
import { testPage } from "./page.ts";

testPage("docs/reliability-testing.md", async (page, { run }) => {
  expect(await run(page.next("npm run chaos -- --list"))).toMatch(/^kills /m);
  // Shorter, to save CPU.
  const kills = page.next("npm run chaos -- --scenario kills").replace("--minutes 0.1", "--minutes 0.02");
  expect(await run(kills)).toContain("The run kept every promise.");
});
