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

/** An example as its content type writes it: forms as the description's `encoding` says. */
function bodyOf(type: string, example: Record<string, unknown>) {
  if (type === "application/json") return JSON.stringify(example);
  const { schema, encoding } = requestBody.content[type];
  const properties = propertiesOf(schema);
  const form = new FormData();
  for (const [name, value] of Object.entries(example)) {
    for (const [field, text] of formFields(name, value, encoding[name]?.style)) {
      const isFile = properties[name]?.items?.format === "binary";
      form.append(field, isFile ? new File([text], `${text}.txt`) : text);
    }
  }
  return type === "multipart/form-data"
    ? form
    : new URLSearchParams(form as unknown as Iterable<[string, string]>);
}

function formFields(name: string, value: unknown, style: string | undefined): [string, string][] {
  if (Array.isArray(value)) return value.map((one) => [name, one]);
  if (style !== "deepObject") return [[name, String(value)]];
  return Object.entries<string>(value as Record<string, string>).map(([key, one]) => [
    `${name}[${key}]`,
    one,
  ]);
}

/** The properties of a schema and of those that it consists of. */
function propertiesOf({ $ref, allOf = [], properties = {} }: any): Record<string, any> {
  const parts = [...($ref === undefined ? [] : [named[$ref]]), ...allOf];
  return Object.assign({}, ...parts.map(propertiesOf), properties);
}

async function submit(type: string, example: Record<string, unknown>, headers: Record<string, string> = {}) {
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
  const namesIn = (schema: string) => Object.keys(propertiesOf(spec.components.schemas[schema])).sort();
  expect(namesIn("Email")).toEqual([...fieldNames].sort());
  const withoutFiles = fieldNames.filter((name) => fields[name].kind !== "files");
  expect(namesIn("Fields")).toEqual(withoutFiles.toSorted());
  expect(namesIn("Form")).toEqual([...withoutFiles, "attachment", "inline"].sort());
  // `from` has a default.
  const always = fieldNames.filter((name) => fields[name].isRequired && name !== "from");
  expect(spec.components.schemas.Fields.required.toSorted()).toEqual(always.toSorted());
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
