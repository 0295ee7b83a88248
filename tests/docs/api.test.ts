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

  const submit = async (command: string): Promise<string> => JSON.parse(await run(command)).id;
  const show = async (id: string) => JSON.parse(await run(`reliable-email queue show --json ${id}`));
  expect(await show(await submit(page.next("curl -d")))).toMatchObject({
    cc: ["ada@example.org", "bob@example.org"],
    bcc: ["archive@example.com"],
  });
  await run("echo report > invoice.pdf && echo picture > logo.png");
  const withFiles = await submit(page.next("curl -F"));
  expect((await show(withFiles)).html).toBe(
    '<p>The invoice is attached.</p><img src="cid:logo.png" alt="The Shop">',
  );
  expect((await show(withFiles)).attachments).toMatchObject([
    { filename: "invoice.pdf", content_type: "application/pdf", size: 7 },
    { filename: "logo.png", content_type: "image/png", size: 8, content_id: "logo.png" },
  ]);
  const inJson = await submit(page.next("curl --json"));
  expect(await run(`reliable-email queue show ${inJson} --attachment 1 | cat`)).toBe("item,price\n");
  expect((await show(await submit(page.next("curl -d")))).headers).toEqual({
    "List-Unsubscribe": "<https://example.com/unsubscribe/17>",
    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
  });
  const later = await submit(page.next("curl -d"));
  expect((await show(later)).state).toBe("scheduled");
  expect(await run(page.next("reliable-email queue list scheduled"))).toContain(later);
  await run(page.next("reliable-email queue delete").replace("ID", later));
  expect((await show(later)).state).toBe("deleted");

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
