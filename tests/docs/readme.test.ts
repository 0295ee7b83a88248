// README.md: the quick start, the requests in JavaScript and Python, and the operator's commands.

import { expect } from "bun:test";
import { eventually } from "../support/eventually.ts";
import { testPage } from "./page.ts";
import { makeDeadLetter, startService, untilCounted } from "./service.ts";

testPage("README.md", async (page, machine) => {
  const { open, run } = machine;
  const send = page.next("curl");
  // npm ci has run before the tests; the machine has no network.
  const dev = open(page.next("npm install && npm run dev").replace("npm install && ", ""));
  await dev.shows(/Ctrl-C/);
  expect(await run(send)).toMatch(/^\{"ok":true,"id":"[0-9a-f-]{36}"\}$/);
  await dev.shows(/→ \S+\.eml/);
  const script = `${page.next("const response")}\nconsole.log(response.status);`;
  expect(await run("node --input-type=module", { typed: script })).toBe("200\n");
  expect(await run(page.next("curl -F"))).toContain('"ok":true');
  await run("PYTHONPATH=clients/python python3", { typed: page.next("from reliable_email") });
  await eventually("four emails arrive", () => dev.shown().match(/→ \S+\.eml/g)?.length === 4);
  dev.interrupt();
  expect(await dev.exited).toBe(0);

  await run("rm -r data");
  await startService(machine);
  const id = await makeDeadLetter(machine);
  expect(await run(page.next("reliable-email config --check"))).toMatch(/^ok +resend /m);
  expect(await run(page.next("reliable-email queue stats"))).toMatch(/^dead +1 /m);
  expect(await run(page.next("reliable-email queue list dead"))).toContain(id);
  expect(await run(page.next("reliable-email queue show").replace("ID", id))).toContain("Hello");
  expect(await run(page.next("reliable-email queue retry"))).toContain("1");
  await untilCounted(machine, "sent", 1);
});
