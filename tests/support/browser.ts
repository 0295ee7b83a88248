// A real browser for the tests of the web client: Debian's chromium without its user interface, whose pages take most of
// the CPU time of `chromium --headless`. Driven by Playwright.

import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { hangMs } from "./eventually.ts";

export type { Browser, BrowserContextOptions, Page };

export async function startBrowser(): Promise<Browser> {
  const executablePath = Bun.which("chromium-headless-shell");
  if (executablePath === null) throw new Error("chromium-headless-shell is missing: tests/run installs it");
  // As root, as in most containers, chromium's sandbox does not start. It opens only what the tests serve.
  const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  return chromium.launch({ executablePath, args });
}

export interface OpenedPage {
  readonly page: Page;
  /** The browser's complaints: errors of scripts, and requests that a policy blocked. */
  readonly complaints: readonly string[];
  /** Every address that was requested. */
  readonly requested: readonly string[];
  close(): Promise<void>;
}

/** Opens a page in a new browser profile. */
export async function openPage(
  browser: Browser,
  address: string,
  options: BrowserContextOptions = {},
): Promise<OpenedPage> {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(hangMs);
  const page = await context.newPage();
  const complaints: string[] = [];
  const requested: string[] = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(message.text());
  });
  page.on("request", (request) => requested.push(request.url()));
  await page.goto(address);
  return { page, complaints, requested, close: () => context.close() };
}
