// docs/cli.md: the commands, from the executable and from the sources; and every queue command that any page names.

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { hasMachine, orWhyNot, startMachine } from "./machine.ts";
import { pages, testPage } from "./page.ts";
import { installService, makeDeadLetter, startService } from "./service.ts";

testPage("docs/cli.md", async (page, machine) => {
  const { run } = machine;
  await installService(machine, "PROVIDERS=sandbox", "DEFAULT_FROM=shop@example.com");
  const settings = "export DATA_DIR=/var/lib/reliable-email PROVIDERS=sandbox\n";
  const stats = await run(settings + page.next("reliable-email queue stats"));
  expect(stats).toMatch(/^waiting +0 /m);
  expect(await run(settings + page.next("npm run -s cli -- queue stats"))).toBe(stats);
  expect(await run(page.next("runuser"))).toBe(stats);
  expect(await run(settings + page.next("reliable-email config --check"))).toMatch(
    /^ok +store .*\nok +sandbox /m,
  );
  await run(`${settings}reliable-email queue pause`);
  const { id } = JSON.parse(
    await run(`
      printf first > 1.pdf; printf second > 2.pdf
      curl -F subject=Hi -F body=Hello -F to=jane@example.org -F attachment=@1.pdf -F attachment=@2.pdf localhost:3000`),
  );
  await run(settings + page.next("reliable-email queue show").replace("ID", id));
  expect(await run("cat report.pdf")).toBe("second");
});

/** A command as a sentence abbreviates it: `queue show`, `retry --force ID`, `queue list <state>`. */
const shorthand = /`((?:queue|config|list|retry|delete|clear) [^`]+)`/g;

function spelledOut(span: string, id: string): string {
  const command = span
    .replace(/^(?=list|retry|delete|clear)/, "queue ")
    .replace(/\[|\]/g, "")
    .replace(/<id…?>|ID/, id)
    .replace("<state>", "dead")
    .replace("<n>", "1")
    // Without settings, the file leads to the same queue, which is refused.
    .replace(/<file>|FILE|(?<=^queue move)$/, " /dev/null")
    .replace(/^queue list(?= --|$)/, "$& dead");
  const isBare = /^queue (?:show|retry|delete)/.test(command) && !/ --all|[0-9a-f]-/.test(command);
  return `reliable-email ${command}${isBare ? ` ${id}` : ""}`;
}

test.if(hasMachine)(
  `docs: no page misspells a command of a queue or one of its options${orWhyNot}`,
  async () => {
    const spans = pages.flatMap((path) => [
      ...readFileSync(join(import.meta.dir, "../..", path), "utf8").matchAll(shorthand),
    ]);
    const machine = await startMachine();
    try {
      await startService(machine);
      const id = await makeDeadLetter(machine);
      const commands = new Set(spans.map(([, span]) => spelledOut(span!, id)));
      expect(commands.size).toBeGreaterThan(15);
      // Exit code 1 means that the email's state forbids it, or that it is not confirmed.
      for (const command of commands) await machine.run(`${command} || test $? = 1`);
    } finally {
      await machine.stop();
    }
  },
);
