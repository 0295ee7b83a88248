// docs/configuration.md: the command that prints every effective setting.

import { expect } from "bun:test";
import { settingNames } from "../../lib/config/settings.ts";
import { testPage } from "./page.ts";

testPage("docs/configuration.md", async (page, { run }) => {
  const shown = await run(page.next("reliable-email config"));
  expect(settingNames.filter((name) => !shown.includes(`\n${name} `))).toEqual([]);
});
