// The web client as a developer uses it, in a real browser.

import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { fieldNames } from "../../lib/email/fields.ts";
import type { SandboxFaults } from "../../lib/providers/sandbox/faults.ts";
import { faultsFile, readFaults } from "../../lib/providers/sandbox/faults_file.ts";
import { type Browser, type OpenedPage, openPage, type Page, startBrowser } from "../support/browser.ts";
import { eventually, freePort } from "../support/eventually.ts";
import { startProcess } from "../support/service.ts";
import { startDev, type WebClient } from "../support/web_client.ts";

let browser: Browser;
let web: WebClient;
let opened: OpenedPage;
let page: Page;
beforeAll(async () => {
  browser = await startBrowser();
});
afterAll(() => browser.close());
beforeEach(async () => {
  // Failed emails are retried soon.
  web = await startDev({ RETRY_BASE: "50ms", RETRY_MAX: "200ms" });
  opened = await openPage(browser, web.address);
  ({ page } = opened);
});
afterEach(async () => {
  await opened.close();
  await web.stop();
});

const view = (name: string) => page.getByRole("link", { name, exact: false }).first().click();
const row = (text: string) => page.getByRole("row").filter({ hasText: text });
const panel = (sandbox: string) => page.locator(`[data-sandbox="${sandbox}"]`);
const shown = (text: string, within = page.locator("main")) => within.getByText(text).first().waitFor();

test("page: an email is composed, sent and watched until it is delivered", async () => {
  await view("Compose");
  await page.getByLabel("To", { exact: true }).fill("ada@example.org");
  await page.getByLabel("Subject").fill("First email");
  await page.getByRole("button", { name: "Send" }).click();
  await shown("Sent · sandbox");
  await view("Queue");
  await shown("Sent", row("First email"));
  await view("Delivered");
  await page.getByRole("link", { name: "First email" }).click();
  await shown("ada@example.org", page.getByRole("article"));
  await shown("This is a first email.", page.getByRole("article"));
  expect(opened.complaints).toEqual([]);
});

const png = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC",
  "base64",
);
const report = Buffer.from(Array.from({ length: 1024 }, (_, i) => i % 256));
const file = (name: string, buffer: Buffer) => ({ name, mimeType: "application/octet-stream", buffer });

/** The bytes that the browser saves when a file's button is pressed. */
async function saved(name: string): Promise<Buffer> {
  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: `Save ${name}` }).click();
  expect((await download).suggestedFilename()).toBe(name);
  return readFileSync(await (await download).path());
}

test("page: every field of an email can be composed, and arrives", async () => {
  await view("Compose");
  const named = await page
    .locator("form [name]")
    .evaluateAll((all) => all.map((one) => one.getAttribute("name")!));
  expect(named.filter((name) => name !== "key").toSorted()).toEqual(fieldNames.toSorted());
  await page.getByText("More fields").click();
  const values: Record<string, string> = {
    to: "ada@example.org",
    to_name: "Ada",
    cc: "bob@example.org, eve@example.org",
    bcc: "archive@example.com",
    from: "shop@example.com",
    from_name: "Shop",
    subject: "All fields",
    body: "The text",
    html: '<p>The <b>HTML</b></p><img src="cid:logo.png" alt="Logo">',
    reply_to: "help@example.com",
    headers: "X-Order: 17\nX-Time: 10:00",
    tags: "campaign=spring",
    send_at: "2020-01-01T00:00",
  };
  for (const [name, value] of Object.entries(values)) await page.locator(`[name=${name}]`).fill(value);
  await page.locator("[name=attachments]").setInputFiles([file("report.dat", report), file("logo.png", png)]);
  await page.locator("form [name=subject]").press("Control+Enter");
  await shown("Sent · ");
  await page.getByRole("link", { name: "All fields" }).click();
  await shown("archive@example.com");
  await shown("report.dat");
  expect(await page.getByRole("button", { name: "Save" }).count()).toBe(0);
  await page.getByRole("link", { name: "Show what was delivered" }).click();
  await shown("Shop <shop@example.com>");
  await shown("Ada <ada@example.org>");
  await shown("bob@example.org, eve@example.org");
  const frame = page.frameLocator("iframe");
  await frame.getByText("HTML").waitFor();
  const image = frame.getByRole("img", { name: "Logo" });
  expect(await image.evaluate((one) => (one as { naturalWidth?: number }).naturalWidth)).toBe(1);
  expect(await saved("report.dat")).toEqual(report);
  expect(await saved("logo.png")).toEqual(png);
  await page.getByRole("button", { name: "Headers" }).click();
  const headers = (await page.locator("pre").textContent())!;
  for (const line of ["Reply-To: help@example.com", "X-Order: 17", "X-Time: 10:00"])
    expect(headers).toContain(line);
  expect(headers).not.toContain("archive@example.com");
  expect(opened.complaints).toEqual([]);
});

test("page: a scheduled email waits with its files, and is deleted", async () => {
  await view("Compose");
  await page.getByText("More fields").click();
  await page.getByLabel("Subject").fill("Tomorrow");
  // In the time zone of the browser.
  const tomorrow = new Date(Date.now() + 86_400_000 - new Date().getTimezoneOffset() * 60_000);
  await page.getByLabel("Send at").fill(tomorrow.toISOString().slice(0, 16));
  await page.locator("[name=attachments]").setInputFiles([file("a.dat", png), file("report.dat", report)]);
  await page.getByRole("button", { name: "Send" }).click();
  await shown("Scheduled");
  await view("Queue");
  await page.getByRole("button", { name: "Scheduled 1" }).click();
  await shown("due in 23h", row("Tomorrow"));
  await page.getByRole("link", { name: "Tomorrow" }).click();
  expect(await saved("report.dat")).toEqual(report);
  expect(await saved("a.dat")).toEqual(png);
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("button", { name: "Delete permanently" }).click();
  await shown("Deleted · ");
  expect(await page.getByRole("button", { name: "Save" }).count()).toBe(0);
});

test("page: a refusal of one of several values is shown at its field, also behind More fields", async () => {
  await view("Compose");
  await page.getByText("More fields").click();
  await page.getByLabel("Cc", { exact: false }).first().fill("ada@example.org, nobody");
  await page.locator("[name=headers]").fill("Subject: x\nX-Order: 17");
  await page.getByText("More fields").click();
  await page.getByRole("button", { name: "Send" }).click();
  await shown("[1]: is not an email address");
  await page.locator("#field-headers-error").getByText("[Subject]: ").waitFor();
  for (const [value, message] of [
    ["no separator", "no separator has no :"],
    ["X-A: 1\nX-A: 2", "X-A is given twice"],
  ] as const) {
    await page.locator("[name=headers]").fill(value);
    await page.getByRole("button", { name: "Send" }).click();
    await page.locator("#field-headers-error").getByText(message).waitFor();
  }
});

test("page: a refusal is shown at its field, and the first refused field has the focus", async () => {
  await view("Compose");
  await page.getByLabel("To", { exact: true }).fill("nobody");
  await page.getByLabel("Subject").fill("");
  await page.getByRole("button", { name: "Send" }).click();
  await shown("is not an email address");
  const to = page.getByLabel("To", { exact: true });
  expect(await to.getAttribute("aria-invalid")).toBe("true");
  expect(await to.evaluate((one) => one === one.ownerDocument.activeElement)).toBe(true);
  expect(await page.locator("#field-to-error").textContent()).toBe("is not an email address");
  expect(await page.locator("#field-subject-error").textContent()).toBe("is required");
  expect(await page.locator("[aria-invalid]").count()).toBe(2);
  await to.fill("ada@example.org");
  await page.getByLabel("Subject").fill("Now it is right");
  await page.getByRole("button", { name: "Send" }).click();
  await shown("Now it is right");
  expect(await page.locator("[aria-invalid]").count()).toBe(0);
});

test("page: delivered emails are searched by address, subject and text", async () => {
  await web.submit({ subject: "Invoice", to: "ada@example.org", body: "Please pay" });
  await web.submit({ subject: "Reminder", to: "bob@example.org", body: "It is due" });
  await view("Delivered");
  await shown("2 emails");
  for (const [words, found] of [
    ["invoice", "Invoice"],
    ["bob", "Reminder"],
    ["please PAY", "Invoice"],
  ] as const) {
    await page.getByRole("searchbox").fill(words);
    await eventually(`${words} finds ${found} alone`, async () =>
      Bun.deepEquals(await page.locator(".mails li .subject").allTextContents(), [found]),
    );
    await shown("1 email found");
  }
  await page.getByRole("searchbox").fill("ada due");
  await shown("Nothing found.");
});

test("page: the list of delivered emails stays where it is, with its focus, while one after the other is read", async () => {
  for (let i = 1; i <= 30; i++) await web.submit({ subject: `Number ${i}.`, body: `Text ${i}.` });
  await view("Delivered");
  await shown("30 emails");
  const first = page.getByRole("link", { name: "Number 2." });
  await first.click();
  await shown("Text 2.", page.getByRole("article"));
  const place = await page.evaluate("scrollY");
  expect(place).toBeGreaterThan(0);
  expect(await first.evaluate((one) => one === one.ownerDocument.activeElement)).toBe(true);
  expect(await first.getAttribute("aria-current")).toBe("true");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await shown("Text 1.", page.getByRole("article"));
  expect(await first.getAttribute("aria-current")).toBeNull();
  expect(Number(await page.evaluate("scrollY"))).toBeGreaterThanOrEqual(Number(place));
});

test("page: while both providers are broken an email waits, and it arrives once one is fixed", async () => {
  await view("Providers");
  await page.getByRole("button", { name: "Break sandbox", exact: true }).click();
  await page.getByRole("button", { name: "Break sandbox-2" }).click();
  await shown("fails", panel("sandbox-2"));
  await web.submit({ subject: "Held up" });
  await view("Queue");
  await shown("Retrying", row("Held up"));
  await shown("sandbox: unavailable", row("Held up"));
  await view("Providers");
  await page.getByRole("button", { name: "Fix sandbox-2" }).click();
  await view("Queue");
  await shown("Sent", row("Held up"));
});

test("page: while one provider is broken the other sends, and its breaker, the chart and its table show it", async () => {
  await view("Providers");
  await page.getByRole("button", { name: "Break sandbox", exact: true }).click();
  await shown("fails", panel("sandbox"));
  const provider = (name: string) => page.locator(`[data-provider="${name}"]`);
  await eventually("the breaker is open", async () => {
    await page.getByRole("button", { name: /^Send \d+ test emails$/ }).click();
    return (await provider("sandbox").textContent())?.includes("open");
  });
  await shown("closed", provider("sandbox-2"));
  await shown("sandbox: unavailable", provider("sandbox"));
  await eventually("all is sent", async () => {
    const label = await page.getByRole("img").getAttribute("aria-label");
    return /not sent yet 0, (sent by sandbox 0, )?sent by sandbox-2 [1-9]\d+, dead 0$/.test(label ?? "");
  });
  expect(await page.locator("figure canvas").count()).toBe(1);
  const dashed = page.locator(".legend li").filter({ has: page.locator("[data-dashed]") });
  expect((await dashed.allTextContents()).join()).toMatch(/^not sent yet 0,sent by sandbox-2 \d+$/);
  await page.getByText("As a table").click();
  expect(await page.locator("details th[scope=col]").allTextContents()).toContain("sent by sandbox-2");
  expect(await page.locator("details tbody tr").count()).toBeGreaterThan(0);
  const isAligned = `[...document.querySelectorAll("details tbody tr:first-child > *")].every((cell, i) =>
    getComputedStyle(cell).textAlign ===
    getComputedStyle(document.querySelectorAll("details thead th")[i]).textAlign)`;
  expect(await page.evaluate(isAligned)).toBe(true);
});

test("page: a dead letter shows its reason and its attempts, is retried, and arrives", async () => {
  await view("Providers");
  for (const name of ["sandbox", "sandbox-2"])
    await panel(name).getByLabel("reject", { exact: true }).check();
  await shown("fails", panel("sandbox-2"));
  await web.submit({ subject: "Refused once" });
  await view("Queue");
  await shown("Dead", row("Refused once"));
  await view("Providers");
  for (const name of ["sandbox", "sandbox-2"]) await panel(name).getByRole("button", { name: "Fix" }).click();
  await shown("works", panel("sandbox-2"));
  await view("Queue");
  await page.getByRole("link", { name: "Refused once" }).click();
  await shown("rejected");
  await shown("sandbox: reject");
  const queue = (command: string) =>
    startProcess("lib/cli/main.ts", { DATA_DIR: web.dataDir, PROVIDERS: "sandbox" }, ["queue", command])
      .exited;
  expect(await queue("pause")).toBe(0);
  await page.getByRole("button", { name: "Retry" }).click();
  await shown("Queued again.");
  await shown("Waiting · ");
  expect(await queue("resume")).toBe(0);
  await shown("Sent · Accepted by a provider");
  expect(await page.getByText("Queued again.").count()).toBe(0);
  await page.getByRole("link", { name: "Show what was delivered" }).click();
  await shown("Refused once", page.getByRole("article"));
});

test("page: a dead letter is deleted only after a question", async () => {
  await web.ask("PUT", "/api/faults/sandbox", { chances: { reject: 1 }, latency: { minMs: 0, maxMs: 0 } });
  await web.ask("PUT", "/api/faults/sandbox-2", { chances: { reject: 1 }, latency: { minMs: 0, maxMs: 0 } });
  const id = await web.submit({ subject: "To be deleted" });
  await page.getByRole("link", { name: "To be deleted" }).click();
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("button", { name: "Delete" }).click();
  expect(((await (await web.ask("GET", `/api/emails/${id}`)).json()) as { state: string }).state).toBe(
    "dead",
  );
  await page.getByRole("button", { name: "Delete permanently" }).click();
  await shown("It is deleted.");
  await shown("Deleted · ");
});

test("page: each fault is switched on with its probability, and replaces others of its kind", async () => {
  await view("Providers");
  const eventuallyFaults = (expected: SandboxFaults) =>
    eventually(`the faults are ${JSON.stringify(expected)}`, () =>
      Bun.deepEquals(readFaults(faultsFile(web.dataDir, "sandbox")), expected),
    );
  const latency = { minMs: 0, maxMs: 0 };
  await panel("sandbox").getByLabel("hang", { exact: true }).check();
  await eventuallyFaults({ chances: { hang: 1 }, latency });
  await panel("sandbox").getByLabel("throttle", { exact: true }).check();
  await eventuallyFaults({ chances: { throttle: 1 }, latency });
  await panel("sandbox").getByLabel("throttle, %").fill("25");
  await panel("sandbox").getByLabel("throttle, %").blur();
  await panel("sandbox").getByLabel("refuse-sender", { exact: true }).check();
  await panel("sandbox").getByLabel("latency", { exact: true }).check();
  await eventuallyFaults({
    chances: { throttle: 0.25, "refuse-sender": 1 },
    latency: { minMs: 500, maxMs: 500 },
  });
  await panel("sandbox").getByRole("button", { name: "Fix" }).click();
  await eventuallyFaults({ chances: {}, latency });
});

test("page: faults that are set elsewhere are shown, without disturbing input", async () => {
  await view("Providers");
  await shown("works", panel("sandbox"));
  await web.ask("PUT", "/api/faults/sandbox", { chances: { reject: 0.5 }, latency: { minMs: 0, maxMs: 0 } });
  await shown("fails", panel("sandbox"));
  const chance = panel("sandbox").getByLabel("reject, %");
  expect(await panel("sandbox").getByLabel("reject", { exact: true }).isChecked()).toBe(true);
  expect(await chance.inputValue()).toBe("50");
  await chance.fill("7");
  await web.submit({ subject: "Meanwhile" });
  await eventually("the page has news", async () =>
    /(sent by sandbox(-2)?|dead) 1/.test((await page.getByRole("img").getAttribute("aria-label")) ?? ""),
  );
  expect(await chance.inputValue()).toBe("7");
});

test("page: the token is removed from the address, and a tab without one says what to do", async () => {
  await shown("No emails yet.");
  expect(page.url()).toBe(`${web.origin}/`);
  await page.reload();
  await shown("No emails yet.");
  const other = await openPage(browser, web.origin);
  await other.page.getByText("open the address that was printed").waitFor();
  await other.page.getByRole("link", { name: "Providers" }).click();
  expect(await other.page.getByRole("button", { name: /^Send \d+ test emails$/ }).isDisabled()).toBe(true);
  await other.page.goto(web.address);
  await other.page.getByText("No emails yet.").waitFor();
  await other.close();
});

test("page: it says that the web client has stopped, and asks for the new address after its next start", async () => {
  const port = String(await freePort());
  const first = await startDev({ WEB_PORT: port });
  const tab = await openPage(browser, first.address);
  await tab.page.getByText("Live", { exact: true }).waitFor();
  await first.stop();
  await tab.page.getByText("Reconnecting").waitFor();
  const second = await startDev({ WEB_PORT: port });
  await tab.page.getByText("open the address that was printed").waitFor();
  await tab.page.goto(second.address);
  await tab.page.getByText("Live", { exact: true }).waitFor();
  await tab.close();
  await second.stop();
});

test("page: nothing is loaded from elsewhere", async () => {
  await web.submit({ subject: "Local", html: "<p>Local</p>" });
  for (const name of ["Compose", "Delivered", "Providers", "Queue"]) await view(name);
  await shown("Local");
  expect(
    opened.requested.filter((url) => !url.startsWith(`${web.origin}/`) && !url.startsWith("data:")),
  ).toEqual([]);
  expect(opened.complaints).toEqual([]);
});
