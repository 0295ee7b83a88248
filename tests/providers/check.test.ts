// The checks of `config --check`: the provider is reachable and accepts the credential. They send no email.

import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { answerInstead, faults } from "../../fakes/faults.ts";
import { createPostmark } from "../../lib/providers/postmark.ts";
import type { Provider } from "../../lib/providers/provider.ts";
import { createResend } from "../../lib/providers/resend.ts";
import { createSandbox } from "../../lib/providers/sandbox/sandbox.ts";
import { noFaults } from "../../lib/providers/sandbox/faults.ts";
import { patienceMs, startPostmark, startResend } from "./adapters.ts";

const resend = startResend();
const postmark = startPostmark();
const usual = [resend, postmark].map(({ fake }) => structuredClone(fake.settings));
const folder = mkdtempSync(join(tmpdir(), "reliable-email-check-"));
afterAll(() => {
  resend.fake.stop();
  postmark.fake.stop();
  rmSync(folder, { recursive: true, force: true });
});
beforeEach(() => {
  for (const [i, { fake }] of [resend, postmark].entries()) {
    fake.clear();
    Object.assign(fake.settings, usual[i]);
  }
});

const check = (provider: Provider, ms = patienceMs) => provider.check(AbortSignal.timeout(ms));
const sides = [resend, postmark] as const;

describe("check: resend", () => {
  test("a valid key is accepted, by a request that sends nothing", async () => {
    expect(await check(resend.provider)).toEqual({ ok: true, answered: true, detail: "the key is valid" });
    expect(resend.fake.requests.map(({ method, target }) => `${method} ${target}`)).toEqual(["GET /domains"]);
    expect(resend.fake.acceptances).toEqual([]);
  });

  test("a sending-only key is valid too", async () => {
    resend.fake.settings.sendOnly = true;
    expect(await check(resend.provider)).toEqual({
      ok: true,
      answered: true,
      detail: "the key is valid, for sending only",
    });
  });

  test.each([400, 401, 403] as const)("a wrong key is reported, also for status %i", async (status) => {
    resend.fake.settings.wrongKeyStatus = status;
    const result = await check(createResend({ apiKey: "re_other", baseUrl: resend.fake.url }));
    expect(result).toMatchObject({ ok: false, answered: true });
    expect(JSON.stringify(result)).toMatch(new RegExp(`"${status} \\w+: API key is invalid"`));
  });

  test("a revoked key is not mistaken for a sending-only key", async () => {
    const json = { statusCode: 403, name: "restricted_api_key", message: "API key is not active" };
    resend.fake.faults.next({ stage: "read", effect: { status: 403, json } });
    expect(await check(resend.provider)).toEqual({
      ok: false,
      answered: true,
      reason: "403 restricted_api_key: API key is not active",
    });
  });
});

describe("check: postmark", () => {
  test("a valid token is accepted, by a request that sends nothing", async () => {
    expect(await check(postmark.provider)).toEqual({
      ok: true,
      answered: true,
      detail: "the token is valid",
      account: "1",
    });
    expect(postmark.fake.requests.map(({ method, target }) => `${method} ${target}`)).toEqual([
      "GET /server",
    ]);
  });

  test("a sandbox server, which delivers nothing, is reported", async () => {
    postmark.fake.settings.deliveryType = "Sandbox";
    expect(await check(postmark.provider)).toMatchObject({
      ok: true,
      detail: expect.stringContaining("sandbox"),
    });
  });

  const warningIn = async (messageStream: string) => {
    const baseUrl = postmark.fake.url;
    const provider = createPostmark({ serverToken: "fake-token", baseUrl, messageStream });
    return provider.findWarning!(AbortSignal.timeout(patienceMs));
  };

  test("a stream for broadcasts, which changes emails, is a warning", async () => {
    expect(await warningIn("broadcast")).toContain("List-Unsubscribe");
    expect(await warningIn("outbound")).toBeUndefined();
    expect(await warningIn("no/such stream")).toBeUndefined();
    expect(postmark.fake.requests.map(({ target }) => target)).toEqual([
      "/message-streams/broadcast",
      "/message-streams/outbound",
      "/message-streams/no%2Fsuch%20stream",
    ]);
  });

  test.each([{}, null, { MessageStreamType: 1 }, { ErrorCode: 0 }])(
    "nothing is said about a stream that Postmark describes as %j",
    async (json) => {
      postmark.fake.faults.next(answerInstead(200, json));
      expect(await warningIn("broadcast")).toBeUndefined();
    },
  );

  test("a wrong token is reported", async () => {
    const other = createPostmark({
      serverToken: "other",
      baseUrl: postmark.fake.url,
      messageStream: "outbound",
    });
    expect(await check(other)).toEqual({
      ok: false,
      answered: true,
      reason: expect.stringMatching(/^401 code 10: /),
    });
  });
});

describe.each(sides)("check: $name", ({ fake, provider }) => {
  test("an answer that is not the API's is reported", async () => {
    fake.faults.next({ stage: "read", effect: { status: 200, text: "<html>Welcome</html>" } });
    expect(await check(provider)).toEqual({
      ok: false,
      answered: false,
      reason: "200 not the provider's own answer",
    });
  });

  test("a provider that is unreachable or hangs is reported", async () => {
    fake.faults.next({ stage: "read", effect: "hang" });
    expect(await check(provider, 200)).toMatchObject({ ok: false, answered: false });
    fake.goDown();
    expect(await check(provider)).toEqual({
      ok: false,
      answered: false,
      reason: expect.stringContaining("no answer"),
    });
    fake.comeUp();
  });
});

describe.each(sides)("check: $name", ({ fake, provider }) => {
  const questions: [status: number, answer: { json: unknown } | { text: string }, answered: boolean][] = [
    [200, { json: {} }, true],
    [400, { json: { message: "No." } }, true],
    [401, { json: {} }, true],
    [404, { json: { message: "No such route." } }, true],
    [429, { json: {} }, true],
    [500, { json: {} }, false],
    [503, { json: { message: "Later." } }, false],
    [200, { text: "" }, false],
    [404, { text: "<html>Not Found</html>" }, false],
    [404, { text: '"Not Found"' }, false],
    [404, { text: "" }, false],
    [307, { text: "" }, false],
  ];
  test.each(questions)("%i with %j: answered is %p", async (status, answer, answered) => {
    fake.faults.next({ stage: "read", effect: { status, ...answer } });
    expect((await check(provider)).answered).toBe(answered);
  });
});

describe("account: postmark", () => {
  const account = async () => {
    const result = await check(postmark.provider);
    return result.ok ? result.account : undefined;
  };

  test("is the id of the server that the token belongs to", async () => {
    expect(await account()).toBe("1");
    postmark.fake.settings.serverId = 1_234_567;
    expect(await account()).toBe("1234567");
  });

  test.each([
    [200, { Name: "no id" }],
    [200, { ID: "1" }],
    [200, [{ ID: 1 }]],
    [201, { ID: 1 }],
    [401, { ErrorCode: 10, Message: "The Server Token was invalid." }],
    [500, { ID: 1 }],
  ])("is unknown after %i with %j", async (status, json) => {
    postmark.fake.faults.next(answerInstead(status, json));
    expect(await account()).toBeUndefined();
  });

  test("is unknown after a broken connection", async () => {
    postmark.fake.faults.next(faults.closeInBody);
    expect(await account()).toBeUndefined();
  });
});

describe("credential:", () => {
  const open = {
    resend: (apiKey: string, baseUrl?: string) => createResend({ apiKey, baseUrl }),
    postmark: (serverToken: string, baseUrl?: string) =>
      createPostmark({ serverToken, baseUrl, messageStream: "outbound" }),
  };
  test.each(Object.entries(open))("of %s depends only on the base URL and the credential", (_, openOne) => {
    const { credential } = openOne("secret-a", "https://mail.test/v1");
    expect(credential).toMatch(/^[0-9a-f]{16}$/);
    expect(openOne("secret-a", "https://mail.test/v1/").credential).toBe(credential);
    expect(openOne("secret-b", "https://mail.test/v1").credential).not.toBe(credential);
    expect(openOne("secret-a", "https://mail.test/v2").credential).not.toBe(credential);
    expect(openOne("secret-a").credential).not.toBe(credential);
  });

  test("of the sandbox is empty", () => {
    expect(createSandbox({ outbox: folder, faults: noFaults }).credential).toBe("");
  });
});

describe("check: sandbox", () => {
  test("its folder is created if needed, tested, and left unchanged", async () => {
    const outbox = join(folder, "a", "outbox");
    const result = await check(createSandbox({ outbox, faults: noFaults }));
    expect(result).toEqual({ ok: true, answered: true, detail: `${outbox} can be written to` });
    expect(readdirSync(outbox)).toEqual([]);
  });

  test("a folder that cannot be created is reported", async () => {
    const file = join(folder, "file");
    writeFileSync(file, "");
    const result = await check(createSandbox({ outbox: join(file, "outbox"), faults: noFaults }));
    expect(result).toMatchObject({ ok: false, answered: false, reason: expect.stringContaining("ENOTDIR") });
  });
});
