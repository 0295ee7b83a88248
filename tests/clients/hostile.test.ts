// Hostile emails and other sites cannot affect the page that shows an email, or make it send a request.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Browser, type OpenedPage, openPage, startBrowser } from "../support/browser.ts";
import { startDev, type WebClient } from "../support/web_client.ts";

let browser: Browser;
let web: WebClient;
let opened: OpenedPage;
/** Another site: requests to it have escaped from the page. */
const asked: string[] = [];
const trap = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch({ url }) {
    const { pathname } = new URL(url);
    // Every tab that shows this site requests its icon.
    if (pathname !== "/favicon.ico") asked.push(pathname);
    return new Response("<title>trap</title>trapped", { headers: { "content-type": "text/html" } });
  },
});
const elsewhere = `http://127.0.0.1:${trap.port}`;

beforeAll(async () => {
  [browser, web] = await Promise.all([startBrowser(), startDev()]);
  opened = await openPage(browser, web.address);
});
afterAll(async () => {
  await opened.close();
  await Promise.all([browser.close(), web.stop(), trap.stop(true)]);
});

const mark = "top.hacked = parent.hacked = window.hacked = true; document.title = 'hacked'";

const html = `
  <meta http-equiv="refresh" content="0;url=${elsewhere}/refresh">
  <base href="${elsewhere}/base/" target="_top">
  <link rel="stylesheet" href="${elsewhere}/sheet">
  <link rel="preload" as="image" href="${elsewhere}/preload">
  <link rel="prefetch" href="${elsewhere}/prefetch">
  <style>@import url(${elsewhere}/import); body { background: url(${elsewhere}/background) } p { color: green }</style>
  <script>${mark}; fetch("${elsewhere}/script")</script>
  <script src="${elsewhere}/src"></script>
  <img src="${elsewhere}/image" onerror="${mark}">
  <img src="x" onerror="${mark}">
  <svg onload="${mark}"><image href="${elsewhere}/svg"/><script>${mark}</script></svg>
  <video src="${elsewhere}/video" poster="${elsewhere}/poster" autoplay></video>
  <iframe src="${elsewhere}/frame"></iframe>
  <iframe srcdoc="<script>${mark}</script>"></iframe>
  <object data="${elsewhere}/object"></object>
  <embed src="${elsewhere}/embed">
  <form action="${elsewhere}/form" target="_top"><input name="a" autofocus onfocus="${mark}"><button>Submit it</button></form>
  <p><a href="javascript:${mark}">Script link</a></p>
  <p><a href="data:text/html,<script>alert(1)</script>">Data link</a></p>
  <p><a href="${elsewhere}/top" target="_top">Top link</a></p>
  <p><a href="${elsewhere}/self">Plain link</a></p>`;

test("hostile: the HTML of an email runs, loads, submits and moves nothing", async () => {
  const { page } = opened;
  await web.submit({ subject: "Hostile HTML", html });
  await page.goto(`${web.origin}/#/delivered`);
  await page.getByRole("link", { name: "Hostile HTML" }).click();
  const frame = page.frameLocator("iframe[title='The email as HTML']");
  await frame.getByText("Plain link").waitFor();
  const address = page.url();

  const popups: string[] = [];
  page.context().on("page", (popup) => popups.push(popup.url()));
  await frame.getByRole("button", { name: "Submit it" }).click();
  for (const name of ["Script link", "Data link"]) await frame.getByText(name).click();
  expect(asked).toEqual([]);
  expect(popups).toEqual([]);

  // Links to the web open in a separate tab, which knows nothing of this page.
  for (const [name, path] of [
    ["Top link", "/top"],
    ["Plain link", "/self"],
  ] as const) {
    const [popup] = await Promise.all([page.context().waitForEvent("page"), frame.getByText(name).click()]);
    await popup.waitForLoadState();
    expect(popup.url()).toBe(`${elsewhere}${path}`);
    expect(await popup.evaluate("[window.opener, document.referrer]")).toEqual([null, ""]);
    await popup.close();
  }
  expect(asked).toEqual(["/top", "/self"]);
  expect(page.url()).toBe(address);
  expect(await page.evaluate("[window.hacked, document.title]")).toEqual([
    undefined,
    "Delivered · reliable-email",
  ]);
  expect(
    await frame
      .locator("p")
      .first()
      .evaluate((one) => one.ownerDocument.defaultView!.getComputedStyle(one).color),
  ).toBe("rgb(0, 128, 0)");
});

test("hostile: the HTML of an email does nothing at its own address in a separate tab either", async () => {
  const { emails } = (await (await web.ask("GET", "/api/delivered?search=Hostile")).json()) as {
    emails: { name: string }[];
  };
  const { htmlPath } = (await (await web.ask("GET", `/api/delivered/${emails[0]!.name}`)).json()) as {
    htmlPath: string;
  };
  asked.length = 0;
  const tab = await openPage(browser, `${web.origin}${htmlPath}`);
  await tab.page.getByText("Plain link").waitFor();
  expect(asked).toEqual([]);
  expect(tab.page.url()).toBe(`${web.origin}${htmlPath}`);
  expect(await tab.page.title()).not.toBe("hacked");
  await tab.close();
});

test("hostile: subjects, names, texts and headers are shown as text in every view", async () => {
  const { page } = opened;
  const markup = `<img src=x onerror="${mark}"><script>${mark}</script>&lt;b&gt;`;
  const subject = `Markup ${markup}`;
  const id = await web.submit({ subject, to_name: markup, body: markup, html: "<p>x</p>" });
  await page.goto(`${web.origin}/#/queue`);
  await page.getByRole("link", { name: subject }).waitFor();
  await page.goto(`${web.origin}/#/queue/${id}`);
  await page.getByRole("heading", { name: subject }).waitFor();
  await page.goto(`${web.origin}/#/delivered`);
  await page.getByRole("link", { name: subject }).click();
  await page.getByRole("heading", { name: subject }).waitFor();
  for (const form of ["Text", "HTML source", "Headers", "Source"]) {
    await page.getByRole("button", { name: form, exact: true }).click();
    await page.getByLabel(form, { exact: true }).and(page.locator("pre")).waitFor();
  }
  expect(await page.locator("main :is(img, script, b)").count()).toBe(0);
  expect(await page.evaluate("window.hacked")).toBeUndefined();
});

test("hostile: another site can neither frame the page nor read anything of it", async () => {
  const page = await (await browser.newContext()).newPage();
  await page.goto(`${elsewhere}/`);
  const read = await page.evaluate(
    `Promise.all(["/", "/api/delivered"].map((path) => fetch("${web.origin}" + path, { headers: { authorization: "Bearer ${web.token}" } }).then(() => "read", () => "refused")))`,
  );
  expect(read).toEqual(["refused", "refused"]);
  await page.evaluate(
    `new Promise((resolve) => { const frame = document.createElement("iframe"); frame.onload = resolve; frame.src = "${web.origin}/"; document.body.append(frame); })`,
  );
  expect(await page.frames()[1]!.content()).not.toContain("reliable-email</p>");
  await page.context().close();
});
