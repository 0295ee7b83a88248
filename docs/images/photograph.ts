// The pictures of the web client: `npx bun docs/images/photograph.ts` starts `dev`, sends emails, breaks a provider, and
// writes web-*.png next to this file. With a folder as argument it writes every view there instead, light and dark, wide
// and narrow, to be looked at.

import { join } from "node:path";
import {
  type Browser,
  type BrowserContextOptions,
  openPage,
  type Page,
  startBrowser,
} from "../../tests/support/browser.ts";
import { eventually } from "../../tests/support/eventually.ts";
import { startDev, type WebClient } from "../../tests/support/web_client.ts";

const [folder] = process.argv.slice(2);

const emails = [
  ["Welcome to the shop", "sam@example.org"],
  ["Confirm your address", "noor@example.org"],
  ["Your order 1042 has shipped", "mia@example.org"],
  ["Reset your password", "leo@example.org"],
  ["Invoice for November", "accounts@example.net"],
] as const;

function htmlOf(subject: string): string {
  return `<div style="max-width: 440px; margin: 32px auto; font: 16px/1.5 sans-serif; color: #222">
    <h1 style="font-size: 20px">${subject}</h1>
    <p>Hello,</p><p>this is what we wanted to tell you. <a href="https://example.com">Read more</a></p><p>Yours, the shop</p></div>`;
}

async function sendAll(web: WebClient): Promise<void> {
  for (const [subject, to] of emails) {
    await web.submit({ subject, to, body: `Hello,\n\n${subject}.`, html: htmlOf(subject) });
    // Makes their times differ.
    await Bun.sleep(400);
  }
}

async function setFaults(web: WebClient, name: string, chances: object): Promise<void> {
  await web.ask("PUT", `/api/faults/${name}`, { chances, latency: { minMs: 0, maxMs: 0 } });
}

/** Emails come in steadily, and after a while one provider fails. */
async function play(web: WebClient, page: Page): Promise<void> {
  await page.goto(`${web.origin}/#/providers`);
  await page.getByText("sandbox-2").first().waitFor();
  const open = page.locator('[data-provider="sandbox"]').getByText("open", { exact: true });
  for (let i = 0; i < 80 || (await open.count()) === 0; i++) {
    if (i === 35) await setFaults(web, "sandbox", { unavailable: 1 });
    await web.submit({ subject: `Newsletter ${i + 1}` });
    await Bun.sleep(400);
  }
}

/** Some that are sent although the first provider fails, a dead letter, and one that waits for both. */
async function leaveSome(web: WebClient): Promise<void> {
  await sendAll(web);
  for (const name of ["sandbox", "sandbox-2"]) await setFaults(web, name, { reject: 1 });
  const dead = await web.submit({
    subject: "To an unknown mailbox",
    to: "nobody@example.org",
    body: "Hello",
  });
  await eventually("it is dead", async () => {
    const email = (await (await web.ask("GET", `/api/emails/${dead}`)).json()) as { state: string };
    return email.state === "dead";
  });
  for (const name of ["sandbox", "sandbox-2"]) await setFaults(web, name, { unavailable: 1 });
  await web.submit({ subject: "Your weekly report", to: "kim@example.org", body: "Hello" });
  await Bun.sleep(1500);
}

async function photograph(browser: Browser, prefix: string, options: BrowserContextOptions): Promise<void> {
  const web = await startDev();
  const { page, close } = await openPage(browser, web.address, options);
  const save = (name: string) => page.screenshot({ path: `${prefix}${name}.png`, animations: "disabled" });
  const go = async (path: string, awaited: string) => {
    await page.goto(`${web.origin}/#/${path}`);
    await page.locator(awaited).first().waitFor();
    await Bun.sleep(300);
  };
  if (folder !== undefined) await save("empty");
  await play(web, page);
  await save("failover");
  await leaveSome(web);
  await go("queue", "tbody tr");
  await save("queue");
  if (folder !== undefined) {
    await page.screenshot({ path: `${prefix}queue-all.png`, fullPage: true });
    await page.getByRole("link", { name: "To an unknown mailbox" }).click();
    await page.locator(".lead").waitFor();
    await save("dead");
    await go("providers", "fieldset");
    await page.screenshot({ path: `${prefix}faults.png`, fullPage: true });
    await go("compose", "form");
    await page.getByRole("button", { name: "Send" }).click();
    await page.locator(".sent li").waitFor();
    await page.getByLabel("To", { exact: true }).fill("nobody");
    await page.getByRole("button", { name: "Send" }).click();
    await page.locator("[aria-invalid]").first().waitFor();
    await page.evaluate("scrollTo(0, 0)");
    await save("compose");
    await go("delivered", ".mails li");
    await save("delivered");
    await page.getByRole("link", { name: "Invoice" }).click();
    await page.locator("iframe").waitFor();
    await Bun.sleep(300);
    await save("mail");
  }
  await close();
  await web.stop();
}

const browser = await startBrowser();
if (folder === undefined) {
  await photograph(browser, join(import.meta.dir, "web-"), { viewport: { width: 1000, height: 620 } });
} else {
  for (const colorScheme of ["light", "dark"] as const) {
    for (const [size, viewport] of [
      ["wide", { width: 1200, height: 800 }],
      ["narrow", { width: 390, height: 844 }],
    ] as const) {
      await photograph(browser, join(folder, `${colorScheme}-${size}-`), { colorScheme, viewport });
    }
  }
}
await browser.close();
