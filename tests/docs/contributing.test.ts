// CONTRIBUTING.md: the everyday commands, except those that would run these tests.

import { expect } from "bun:test";
import { testPage } from "./page.ts";

testPage("CONTRIBUTING.md", async (page, { run }) => {
  expect(await run(page.next("npx bun fakes/main.ts --help"))).toContain("Usage: bun fakes/main.ts");
  const before = await run("git diff");
  await run(page.next("npx bun fmt"));
  expect(await run("git diff")).toBe(before);
  expect(await run(page.next("npm run bench -- submit"))).toContain("reliable-email, embedded");

  await run(page.next("npm version").replace("<version>", "9.9.9"));
  expect(await run('grep -l \'"version": "9.9.9"\' package.json package-lock.json')).toBe(
    "package.json\npackage-lock.json\n",
  );
});
