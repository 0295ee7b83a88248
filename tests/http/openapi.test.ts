// openapi.yaml against the real server: its fields are the code's, its examples are accepted, and every answer that it
// describes has the documented shape.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fieldNames, fields } from "../../lib/email/fields.ts";
import { findViolations, type Schema } from "../../fakes/schema.ts";
import { type Process, startServer } from "../support/service.ts";

const spec: any = Bun.YAML.parse(readFileSync(join(import.meta.dir, "../../openapi.yaml"), "utf8"));
const { requestBody, responses, parameters } = spec.paths["/"].post;
const named = Object.fromEntries(
  Object.entries<Schema>(spec.components.schemas).map(([name, schema]) => [
    `#/components/schemas/${name}`,
    schema,
  ]),
);
const token = "a-token-of-a-test";
const folder = mkdtempSync(join(tmpdir(), "reliable-email-openapi-"));
let server: Process & { readonly url: string };

beforeAll(async () => {
  server = await startServer({ DATA_DIR: folder, PORT: "0", ADMIN_PORT: "", API_TOKENS: token });
});
afterAll(async () => {
  await server.kill();
  rmSync(folder, { recursive: true, force: true });
});

function bodyOf(type: string, example: Record<string, string>) {
  if (type === "application/json") return JSON.stringify(example);
  if (type === "application/x-www-form-urlencoded") return new URLSearchParams(example);
  const form = new FormData();
  for (const [name, value] of Object.entries(example)) form.set(name, value);
  return form;
}

async function submit(type: string, example: Record<string, string>, headers: Record<string, string> = {}) {
  // fetch sets the boundary of a multipart form itself.
  const typed = type === "multipart/form-data" ? headers : { "Content-Type": type, ...headers };
  const response = await fetch(server.url, { method: "POST", headers: typed, body: bodyOf(type, example) });
  const described = responses[String(response.status)];
  const body: unknown = await response.json();
  const { schema } = described.content["application/json"];
  expect(findViolations(body, schema, named)).toEqual([]);
  for (const header of Object.keys(described.headers ?? {})) expect(response.headers.has(header)).toBe(true);
  return { status: response.status, body };
}

const authorized = { Authorization: `Bearer ${token}` };

test("openapi: its fields are those of the code", () => {
  const { properties, required } = spec.components.schemas.Email;
  expect(Object.keys(properties).sort()).toEqual([...fieldNames].sort());
  // `from` has a default.
  const always = fieldNames.filter((name) => fields[name].isRequired && name !== "from");
  expect(required.toSorted()).toEqual(always.toSorted());
});

describe.each(Object.entries<any>(requestBody.content))("openapi: an example as %s", (type, { example }) => {
  test("is accepted", async () => {
    expect((await submit(type, example, authorized)).status).toBe(200);
  });

  test("gets a 400 without a recipient, and a 401 without a token", async () => {
    expect((await submit(type, { ...example, to: "" }, authorized)).status).toBe(400);
    expect((await submit(type, example)).status).toBe(401);
  });
});

test("openapi: its example of a key is repeated harmlessly, and its pattern is the code's", async () => {
  const [{ name, schema, example: key }] = parameters;
  const { example } = requestBody.content["application/json"];
  const withKey = (value: string) => submit("application/json", example, { ...authorized, [name]: value });
  expect(await withKey(key)).toEqual(await withKey(key));
  expect(new RegExp(schema.pattern).test("\u00e4")).toBe(false);
  expect((await withKey("x".repeat(schema.maxLength + 1))).status).toBe(400);
});

test("openapi: a lost store leads to a 500", async () => {
  rmSync(folder, { recursive: true, force: true });
  const { example } = requestBody.content["application/json"];
  expect((await submit("application/json", example, authorized)).status).toBe(500);
});
