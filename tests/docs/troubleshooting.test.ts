// docs/troubleshooting.md: the three commands to start with, and the place to look when submissions fail.

import { expect } from "bun:test";
import { testPage } from "./page.ts";
import { makeDeadLetter, startService } from "./service.ts";

testPage("docs/troubleshooting.md", async (page, machine) => {
  const { run } = machine;
  await startService(machine);
  const id = await makeDeadLetter(machine);
  expect(await run(page.next("reliable-email config --check"))).toMatch(/^ok +store .*\nok +resend /m);
  expect(await run(page.next("reliable-email queue stats"))).toMatch(/^dead +1 /m);
  expect(await run(page.next("reliable-email queue list dead"))).toContain(id);
  expect(JSON.parse(await run(page.next("curl localhost:3001/readyz")))).toMatchObject({ ready: true });
});
