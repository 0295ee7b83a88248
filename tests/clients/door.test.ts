// Access to the web client: who is admitted, and the security headers of every answer.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { networkInterfaces } from "node:os";
import type { EmailDetails } from "../../clients/web/protocol.ts";
import { eventually } from "../support/eventually.ts";
import { connectRaw } from "../support/raw_http.ts";
import { startDev, type WebClient } from "../support/web_client.ts";

let web: WebClient;
beforeAll(async () => {
  web = await startDev();
});
afterAll(() => web.stop());

const routes = [
  ["GET", "/api/events"],
  ["GET", "/api/emails/01a21c09-8f43-7126-9995-f69c242b6476"],
  ["POST", "/api/emails/01a21c09-8f43-7126-9995-f69c242b6476"],
  ["DELETE", "/api/emails/01a21c09-8f43-7126-9995-f69c242b6476"],
  ["GET", "/api/delivered"],
  ["GET", "/api/files/01a21c09-8f43-7126-9995-f69c242b6476.1"],
  ["GET", "/api/delivered/x.eml"],
  ["GET", "/api/parts/x.eml.1"],
  ["PUT", "/api/faults/sandbox"],
  ["POST", "/api/send"],
  ["GET", "/api/anything"],
  ["GET", "/api/"],
  ["GET", "/api//delivered"],
  ["GET", "/x/../api/delivered"],
] as const;

/** The answer to a raw request: fetch would not send another Host. */
async function answerTo(host: string, path = "/", authorization = `Bearer ${web.token}`): Promise<string> {
  const raw = await connectRaw(web.port);
  raw.write(
    `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nAuthorization: ${authorization}\r\nConnection: close\r\n\r\n`,
  );
  return raw.closed();
}

describe("web client: the token", () => {
  test.each(routes)("%s %s is refused without it", async (method, path) => {
    for (const headers of [{}, { authorization: "Bearer wrong" }, { authorization: `Basic ${web.token}` }]) {
      const response = await fetch(`${web.origin}${path}`, { method, headers });
      expect(response.status).toBe(401);
      expect(await response.json()).toEqual({ ok: false, error_message: expect.stringContaining("token") });
    }
  });

  test("it counts only in the header, not as a cookie or in the address", async () => {
    const cookie = await fetch(`${web.origin}/api/delivered`, { headers: { cookie: `token=${web.token}` } });
    const query = await fetch(`${web.origin}/api/delivered?token=${web.token}`);
    expect([cookie.status, query.status]).toEqual([401, 401]);
    expect((await web.ask("GET", "/api/delivered")).status).toBe(200);
  });

  test("it has 192 random bits, and is different at each start", async () => {
    const other = await startDev();
    expect(web.token).toMatch(/^[\w-]{32}$/);
    expect(other.token).not.toBe(web.token);
    expect(
      (await fetch(`${other.origin}/api/delivered`, { headers: { authorization: `Bearer ${web.token}` } }))
        .status,
    ).toBe(401);
    await other.stop();
  });
});

describe("web client: the Host", () => {
  const paths = ["/", "/style.css", "/api/delivered", "/api/events", "/mail/x"];
  test.each([
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "192.168.0.1",
    "0.0.0.0",
    "",
  ])("%p is refused for every path, with and without its port", async (host) => {
    for (const path of paths) {
      for (const full of [host, `${host}:${web.port}`]) {
        expect(await answerTo(full, path)).toMatch(/^HTTP\/1\.1 (403|400) /);
      }
    }
  });

  test("a loopback name without this port is refused", async () => {
    for (const host of ["localhost", "127.0.0.1", `localhost:${web.port + 1}`, "127.0.0.1:80"]) {
      expect(await answerTo(host)).toStartWith("HTTP/1.1 403 ");
    }
  });

  test("loopback names with this port are admitted", async () => {
    for (const name of ["localhost", "LocalHost", "127.0.0.1", "[::1]"]) {
      expect(await answerTo(`${name}:${web.port}`)).toStartWith("HTTP/1.1 200 ");
      expect(await answerTo(`${name}:${web.port}`, "/api/delivered")).toStartWith("HTTP/1.1 200 ");
    }
  });

  test("an address in the request line does not replace it", async () => {
    const raw = await connectRaw(web.port);
    raw.write(
      `GET http://127.0.0.1:${web.port}/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n`,
    );
    expect(await raw.closed()).toMatch(/^HTTP\/1\.1 40[03] /);
  });

  test("it cannot be reached at another address of the machine", async () => {
    const outside = Object.values(networkInterfaces())
      .flatMap((all) => all ?? [])
      .find(({ internal, family }) => !internal && family === "IPv4");
    if (outside === undefined) return;
    const { promise, resolve } = Promise.withResolvers<string>();
    const socket = connect({ host: outside.address, port: web.port });
    socket.once("connect", () => resolve("connected")).once("error", () => resolve("refused"));
    expect(await promise).toBe("refused");
    socket.destroy();
  });
});

describe("web client: every answer", () => {
  const policy =
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

  test("has the security headers, including refusals, errors and files of the page", async () => {
    const page = await fetch(web.origin);
    const files = [...(await page.text()).matchAll(/(?:href|src)="\.?(\/[^"]+)"/g)].map(([, path]) => path!);
    expect(files.length).toBeGreaterThanOrEqual(2);
    for (const path of [
      "/",
      ...files,
      "/missing",
      "/api/delivered",
      "/api/delivered",
      "/api/send",
      "/api/missing",
    ]) {
      for (const headers of [{}, { authorization: `Bearer ${web.token}` }]) {
        const response = await fetch(`${web.origin}${path}`, { headers });
        await response.body?.cancel();
        const { "content-security-policy": given, ...others } = Object.fromEntries(response.headers);
        expect(`${path} ${given}`).toBe(`${path} ${policy}`);
        expect(others).toMatchObject({
          "cache-control": "no-store",
          "cross-origin-opener-policy": "same-origin",
          "cross-origin-resource-policy": "same-origin",
          "referrer-policy": "no-referrer",
          "x-content-type-options": "nosniff",
        });
        expect(response.headers.has("set-cookie")).toBe(false);
        expect(response.headers.has("access-control-allow-origin")).toBe(false);
      }
    }
  });

  test("has the content type of a file of the page", async () => {
    const html = await fetch(web.origin);
    expect(html.headers.get("content-type")).toStartWith("text/html");
    const [, script] = /src="\.?(\/[^"]+\.js)"/.exec(await html.text())!;
    expect((await fetch(`${web.origin}${script}`)).headers.get("content-type")).toStartWith(
      "text/javascript",
    );
  });
});

describe("web client: the HTML of an email", () => {
  test("has an unguessable address, and a policy that lets it do nothing", async () => {
    await web.submit({ html: "<p>Hi</p><script>1</script>", subject: "Policy" });
    const { emails } = await eventually("it is delivered", async () => {
      const list = await (await web.ask("GET", "/api/delivered?search=Policy")).json();
      return (list as { emails: { name: string }[] }).emails.length > 0
        ? (list as { emails: { name: string }[] })
        : undefined;
    });
    const read = async () =>
      ((await (await web.ask("GET", `/api/delivered/${emails[0]!.name}`)).json()) as { htmlPath: string })
        .htmlPath;
    const path = await read();
    expect(path).toMatch(/^\/mail\/[\w-]{32}$/);
    expect(await read()).not.toBe(path);
    const response = await fetch(`${web.origin}${path}`);
    expect(response.status).toBe(200);
    expect(response.headers.get("content-security-policy")).toBe(
      "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    );
    expect(response.headers.get("x-content-type-options")).toBe("nosniff");
    expect((await fetch(`${web.origin}${path.slice(0, -1)}`)).status).toBe(404);
    expect((await fetch(`${web.origin}/mail/`)).status).toBe(404);
  });

  test.each(["../queue.db", "..%2Fqueue.db", "%2e%2e%2fqueue.db", "x.eml", "%"])(
    "a file outside of the outbox is not read: %s",
    async (name) => {
      expect((await web.ask("GET", `/api/delivered/${name}`)).status).toBe(404);
    },
  );
});

describe("web client: a file of an email", () => {
  const content = "<script>parent.hacked = true</script>";
  const email = {
    subject: "A file",
    attachments: [
      { filename: "first.txt", content: "YQ==" },
      { filename: "page.html", content: btoa(content) },
    ],
  };
  const pathOf = async (address: string) =>
    ((await (await web.ask("GET", address)).json()) as { path?: string }).path;

  async function expectNeutral(path: string | undefined): Promise<void> {
    expect(path).toMatch(/^\/mail\/[\w-]{32}$/);
    const response = await fetch(`${web.origin}${path}`);
    expect(Object.fromEntries(response.headers)).toMatchObject({
      "content-type": "application/octet-stream",
      "content-disposition": "attachment",
      "content-security-policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
      "x-content-type-options": "nosniff",
      "cache-control": "no-store",
      "cross-origin-resource-policy": "same-origin",
    });
    expect(await response.text()).toBe(content);
  }

  test("is only ever saved, whatever it is, while the queue has it", async () => {
    const id = await web.submit({ ...email, send_at: new Date(Date.now() + 86_400_000).toISOString() });
    const path = await pathOf(`/api/files/${id}.2`);
    await expectNeutral(path);
    for (const name of [`${id}.0`, `${id}.3`, `${id}.1e0`, id, "unknown.1", "%2e%2e%2fqueue.db.1"])
      expect((await web.ask("GET", `/api/files/${name}`)).status).toBe(404);
    expect((await web.ask("DELETE", `/api/emails/${id}`)).status).toBe(200);
    expect((await fetch(`${web.origin}${path}`)).status).toBe(404);
    expect((await web.ask("GET", `/api/files/${id}.2`)).status).toBe(404);
  });

  test("is only ever saved, whatever it is, once the sandbox has it", async () => {
    const id = await web.submit(email);
    const name = await eventually("it is delivered", async () => {
      const { deliveredAs } = (await (await web.ask("GET", `/api/emails/${id}`)).json()) as EmailDetails;
      return deliveredAs;
    });
    await expectNeutral(await pathOf(`/api/parts/${name}.2`));
    for (const other of [`${name}.0`, `${name}.3`, name, "x.eml.1", "%2e%2e%2fqueue.db.1"])
      expect((await web.ask("GET", `/api/parts/${other}`)).status).toBe(404);
    expect((await web.ask("GET", `/api/files/${id}.2`)).status).toBe(404);
  });
});
