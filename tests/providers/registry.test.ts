import { expect, test } from "bun:test";
import { join } from "node:path";
import { readConfig } from "../../lib/config/config.ts";
import { providerNames, registry } from "../../lib/providers/registry.ts";

const env = {
  RESEND_API_KEY: "re_fake",
  POSTMARK_SERVER_TOKEN: "fake-token",
  POSTMARK_SEARCH_WAIT: "5s",
  POSTMARK_MESSAGE_STREAM: "receipts",
  PROVIDERS: "resend,postmark,sandbox",
  DATA_DIR: "/nowhere/data",
};

function configOf(over: Record<string, string> = {}) {
  const read = readConfig({ ...env, ...over }, "worker");
  if (!read.ok) throw new Error(read.message);
  return read.config;
}

test("registry: each provider is created from the settings, under its name", async () => {
  for (const name of providerNames) expect((await registry[name].create(configOf())).name).toBe(name);
  const postmark = await registry.postmark.create(configOf());
  expect(postmark).toMatchObject({ context: "receipts", searchWaitMs: 5000 });
  expect(postmark.search).toBeFunction();
});

test("registry: each provider has the credential and base URL of its own settings", async () => {
  const digest = async (name: "resend" | "postmark", over = {}) =>
    (await registry[name].create(configOf(over))).credential;
  for (const name of ["resend", "postmark"] as const) {
    const own = name === "resend" ? "RESEND_API_KEY" : "POSTMARK_SERVER_TOKEN";
    const other = name === "resend" ? "POSTMARK_SERVER_TOKEN" : "RESEND_API_KEY";
    expect(await digest(name, { [own]: "another" })).not.toBe(await digest(name));
    expect(await digest(name, { [other]: "another" })).toBe(await digest(name));
    const url = { [`${name.toUpperCase()}_BASE_URL`]: "http://127.0.0.1:1" };
    expect(await digest(name, url)).not.toBe(await digest(name));
  }
});

test("registry: the sandbox is in the folder outbox of DATA_DIR", () => {
  expect(registry.sandbox.inspect(configOf({ DATA_DIR: import.meta.dir }))).toEqual({
    ok: true,
    answered: true,
    detail: `${join(import.meta.dir, "outbox")} can be written to`,
  });
});
