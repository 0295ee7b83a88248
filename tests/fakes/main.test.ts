// The fakes as a separate process.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect } from "node:net";
import { eventually } from "../support/eventually.ts";

let child: Bun.Subprocess<"ignore", "pipe", "inherit">;
let lines: string[] = [];
let urls: { resend: string; postmark: string; resendApiKey: string; postmarkServerToken: string };

beforeAll(async () => {
  child = Bun.spawn([process.execPath, "--no-install", `${import.meta.dir}/../../fakes/main.ts`], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  void (async () => {
    let text = "";
    const decoder = new TextDecoder();
    for await (const chunk of child.stdout) {
      text += decoder.decode(chunk, { stream: true });
      lines = text.split("\n").slice(0, -1);
    }
  })();
  urls = JSON.parse(await eventually("the addresses are printed", () => lines[0]));
});
afterAll(() => child.kill());

async function admin(path: string, method = "GET", body?: unknown) {
  const response = await fetch(`${urls.resend}/_fake/${path}`, {
    method,
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  return { status: response.status, json: await response.json() };
}

function sendOne(subject = "Hello") {
  return fetch(`${urls.resend}/emails`, {
    method: "POST",
    headers: { authorization: `Bearer ${urls.resendApiKey}`, "content-type": "application/json" },
    body: JSON.stringify({
      from: "shop@example.com",
      to: "ada@example.org",
      subject,
      text: "t",
      tags: [{ name: "email_id", value: "e1" }],
    }),
  });
}

test("fakes: each accepted email is printed on a line, and listed on request", async () => {
  await admin("clear", "POST");
  expect((await sendOne("A question")).status).toBe(200);
  await eventually("the line", () =>
    lines.includes("resend accepted e1: shop@example.com -> ada@example.org: A question"),
  );
  expect((await admin("acceptances")).json).toMatchObject([
    { emailId: "e1", subject: "A question", text: "t" },
  ]);
  expect((await admin("acceptances?from=1")).json).toEqual([]);
  expect((await admin("requests")).json).toMatchObject([
    { method: "POST", target: "/emails", answered: 200 },
  ]);
  await sendOne();
  expect((await admin("stats")).json).toEqual({
    requests: 2,
    acceptances: 2,
    emails: 1,
    duplicates: ["e1"],
    violations: [],
  });
});

test("fakes: faults and settings can be changed over HTTP", async () => {
  await admin("clear", "POST");
  await admin("faults", "POST", { fault: { stage: "read", effect: { status: 418, json: {} } }, times: 1 });
  expect([(await sendOne()).status, (await sendOne()).status]).toEqual([418, 200]);
  await admin("faults", "POST", [{ fault: { stage: "read", effect: { status: 418 } } }]);
  await admin("faults", "DELETE");
  expect((await sendOne()).status).toBe(200);
  await admin("settings", "POST", { apiKey: "re_other" });
  expect((await sendOne()).status).toBe(400);
  await admin("settings", "POST", { apiKey: urls.resendApiKey });
  expect((await sendOne()).status).toBe(200);
  expect((await admin("faults", "POST", { nothing: 1 })).status).toBe(400);
  expect((await admin("nowhere", "POST")).status).toBe(404);
});

test("fakes: they can go down for a while and come back", async () => {
  await admin("down", "POST", { forMs: 2000 });
  await eventually("it refuses", () =>
    sendOne().then(
      () => false,
      () => true,
    ),
  );
  await eventually("it answers", () =>
    sendOne().then(
      ({ status }) => status === 200,
      () => false,
    ),
  );
});

test("fakes: they survive whatever a client does", async () => {
  const port = Number(new URL(urls.postmark).port);
  const rude = [
    "\u0000\u0001\u0002\r\n\r\n",
    "POST /email/batch HTTP/1.1\r\ncontent-length: 1000000\r\n\r\n{",
    "POST /email/batch HTTP/1.1\r\ncontent-length: many\r\n\r\n",
    "POST /email/batch HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "x".repeat(100_000),
    "POST /_fake/faults HTTP/1.1\r\ncontent-length: 4\r\n\r\nnull",
    "POST /_fake/settings HTTP/1.1\r\ncontent-length: 4\r\n\r\nnull",
    "POST /_fake/down HTTP/1.1\r\ncontent-length: 4\r\n\r\nnull",
  ];
  for (const text of rude) {
    await new Promise<void>((resolve) => {
      const socket = connect(port, "127.0.0.1", () =>
        socket.write(text, () => setTimeout(() => socket.resetAndDestroy(), 10)),
      );
      socket.on("error", () => undefined);
      socket.on("close", () => resolve());
    });
  }
  expect((await fetch(`${urls.postmark}/_fake/stats`)).status).toBe(200);
  expect(child.exitCode).toBeNull();
});
