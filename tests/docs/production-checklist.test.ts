// docs/production-checklist.md: its command prints ok for the store and for every provider.

import { expect } from "bun:test";
import { testPage } from "./page.ts";
import { startService } from "./service.ts";

testPage("docs/production-checklist.md", async (page, machine) => {
  await startService(machine);
  expect(await machine.run(page.next("reliable-email config --check"))).toMatch(
    /^ok +store .*\nok +resend /m,
  );
});
