// The web client is accessible: axe-core finds no violation in any view, light or dark, wide or narrow, and everything
// works without a mouse.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { type Browser, openPage, type Page, startBrowser } from "../support/browser.ts";
import { eventually } from "../support/eventually.ts";
import { startDev, type WebClient } from "../support/web_client.ts";

const axe = readFileSync(Bun.resolveSync("axe-core/axe.min.js", import.meta.dir), "utf8");

let browser: Browser;
let web: WebClient;
/** The ids of a sent email, of one with files that waits for its time, and of a dead letter. */
let sent: string;
let scheduled: string;
let dead: string;
/** The name of the sent email's file. */
let file: string;
beforeAll(async () => {
  [browser, web] = await Promise.all([startBrowser(), startDev()]);
  const stateOf = async (id: string) =>
    ((await (await web.ask("GET", `/api/emails/${id}`)).json()) as { state: string }).state;
  const files = [{ filename: "report.csv", content: "YQ==" }];
  sent = await web.submit({
    subject: "Sent",
    html: "<p>Hello</p>",
    cc: "ada@example.org",
    attachments: files,
  });
  const tomorrow = new Date(Date.now() + 86_400_000).toISOString();
  scheduled = await web.submit({ subject: "Scheduled", attachments: files, send_at: tomorrow });
  await eventually("it is sent", async () => (await stateOf(sent)) === "sent");
  const faults = { chances: { reject: 1 }, latency: { minMs: 0, maxMs: 0 } };
  for (const name of ["sandbox", "sandbox-2"]) await web.ask("PUT", `/api/faults/${name}`, faults);
  dead = await web.submit({ subject: "Dead" });
  await eventually("it is dead", async () => (await stateOf(dead)) === "dead");
  const list = (await (await web.ask("GET", "/api/delivered")).json()) as { emails: { name: string }[] };
  file = list.emails[0]!.name;
});
afterAll(() => Promise.all([browser.close(), web.stop()]));

const views: Record<string, readonly [path: () => string, awaited: string]> = {
  Queue: [() => "queue", "tbody tr"],
  "a sent email": [() => `queue/${sent}`, ".lead"],
  "a scheduled email": [() => `queue/${scheduled}`, ".files"],
  "a dead letter": [() => `queue/${dead}`, ".lead"],
  Compose: [() => "compose", "form"],
  "all fields of Compose": [() => "compose", "form"],
  Delivered: [() => "delivered", ".mails li"],
  "a delivered email": [() => `delivered/${file}`, "iframe"],
  Providers: [() => "providers", "fieldset"],
};

const sizes = { wide: { width: 1200, height: 800 }, narrow: { width: 360, height: 740 } } as const;
const looks = (["light", "dark"] as const).flatMap((colorScheme) =>
  (["wide", "narrow"] as const).map((size) => ({ colorScheme, size })),
);

async function go(page: Page, name: string): Promise<void> {
  const [path, awaited] = views[name]!;
  await page.goto(`${web.origin}/#/${path()}`);
  await page.locator(awaited).first().waitFor();
  if (name === "all fields of Compose") await page.getByText("More fields").click();
}

test.each(looks)(
  "accessibility: no view has a violation, $colorScheme and $size",
  async ({ colorScheme, size }) => {
    const { page, close } = await openPage(browser, web.address, {
      colorScheme,
      viewport: sizes[size],
      // The test adds axe-core to the page, which its policy would refuse.
      bypassCSP: true,
    });
    for (const name of Object.keys(views)) {
      await go(page, name);
      await page.evaluate(axe);
      const found = (await page.evaluate(
        `axe.run(document, { iframes: false, runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] })`,
      )) as { violations: { id: string; nodes: { html: string; failureSummary: string }[] }[] };
      const faults = found.violations.map(
        ({ id, nodes }) => `${name}: ${id} ${nodes[0]!.html} ${nodes[0]!.failureSummary}`,
      );
      expect(faults).toEqual([]);
      const overhang = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
      expect(`${name} ${Math.max(0, Number(overhang))}`).toBe(`${name} 0`);
    }
    await close();
  },
);

test("accessibility: an email can be composed, sent and found with only the keyboard", async () => {
  for (const name of ["sandbox", "sandbox-2"]) {
    await web.ask("PUT", `/api/faults/${name}`, { chances: {}, latency: { minMs: 0, maxMs: 0 } });
  }
  const { page, close } = await openPage(browser, web.address);
  await page.getByText("Live", { exact: true }).waitFor();
  const focused = () => page.evaluate("document.activeElement.textContent || document.activeElement.name");
  const tabTo = (what: string) =>
    eventually(`the focus comes to ${what}`, async () => {
      await page.keyboard.press("Tab");
      return (await focused()) === what;
    });
  await tabTo("Skip to the content");
  await tabTo("Compose");
  await page.keyboard.press("Enter");
  await tabTo("subject");
  await page.keyboard.press("Control+a");
  await page.keyboard.type("By keyboard");
  await tabTo("Send");
  await page.keyboard.press("Enter");
  await page.getByText("Sent · sandbox").waitFor();
  await tabTo("By keyboard");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "By keyboard" }).waitFor();
  await close();
});

test("accessibility: the focus does not move while the queue changes", async () => {
  const { page, close } = await openPage(browser, web.address);
  const link = page.getByRole("link", { name: "Dead", exact: true });
  await link.focus();
  await web.submit({ subject: "Newer" });
  await page.getByRole("link", { name: "Newer" }).waitFor();
  expect(await link.evaluate((one) => one === one.ownerDocument.activeElement)).toBe(true);
  await close();
});
