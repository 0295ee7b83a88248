// docs/api.md: every way of submitting an email on the page.

import { expect } from "bun:test";
import { testPage } from "./page.ts";

const answer = /^\{"ok":true,"id":"[0-9a-f-]{36}"\}$/;

testPage("docs/api.md", async (page, machine) => {
  const { open, run, until } = machine;
  const server = (settings: string) => `${settings} npm run server`;
  const first = open(server("DEFAULT_FROM=shop@example.com"));
  await until("curl --fail-with-body localhost:3001/readyz");
  for (const line of page.block("curl -d").split("\n")) expect(await run(line)).toMatch(answer);

  const keyed = page.next("curl -H 'Idempotency-Key");
  expect(await run(keyed)).toBe(await run(keyed));

  const token = (await run(page.next("openssl rand"))).trim();
  first.interrupt();
  await first.exited;
  open(server(`DEFAULT_FROM=shop@example.com API_TOKENS=${token}`));
  await until("curl --fail-with-body localhost:3001/readyz");
  const authorized = page.next("curl -H 'Authorization");
  expect(await run(authorized)).toContain('"ok":false');
  expect(await run(authorized.replace("TOKEN", token))).toMatch(answer);
});
