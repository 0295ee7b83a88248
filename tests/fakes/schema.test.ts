import { expect, test } from "bun:test";
import { findViolations, type Schema } from "../../fakes/schema.ts";

const text: Schema = { type: "string" };
const named: Record<string, Schema> = { Name: { type: "string", maxLength: 3 } };

const violations: [name: string, schema: Schema, value: unknown, found: string[]][] = [
  ["the right type", text, "a", []],
  ["null instead of text", text, null, [": type"]],
  ["null where it is allowed", { type: "null" }, null, []],
  ["an array instead of an object", { type: "object" }, [], [": type"]],
  ["a value outside of the list", { enum: ["a", "b"] }, "c", [": value"]],
  ["another value than the only one", { const: true }, false, [": value"]],
  ["a text that does not match", { pattern: "^a" }, "b", [": value"]],
  ["a long text", { maxLength: 1 }, "ab", [": value"]],
  ["a short array", { minItems: 1 }, [], [": value"]],
  ["a long array", { maxItems: 1 }, [1, 2], [": value"]],
  ["a wrong item", { items: text }, ["a", 1], ["[1]: type"]],
  ["one of two forms", { oneOf: [text, { type: "array", items: text }] }, ["a"], []],
  ["none of two forms", { oneOf: [text, { type: "array", items: text }] }, [1], [": type"]],
  ["both of two forms", { oneOf: [text, { pattern: "a" }] }, "a", [": type"]],
  ["a schema by its name", { $ref: "Name" }, "abcd", [": value"]],
  ["a schema that is not there", { $ref: "Nothing" }, "abcd", [": type"]],
  ["a missing field", { required: ["a"], properties: { a: text } }, {}, ["a: missing"]],
  ["a wrong and an unknown field", { properties: { a: text } }, { a: 1, b: 2 }, ["a: type", "b: unknown"]],
  ["a map of wrong values", { additionalProperties: text }, { a: "", b: 1 }, ["b: type"]],
  ["a large map", { additionalProperties: text, maxProperties: 1 }, { a: "", b: "" }, [": value"]],
  [
    "a wrong name in a map",
    { additionalProperties: text, propertyNames: { $ref: "Name" } },
    { abcd: "" },
    ["abcd: value"],
  ],
  [
    "a wrong value deep inside",
    { items: { properties: { a: { items: text } } } },
    [{ a: ["", 1] }],
    ["[0].a[1]: type"],
  ],
];
test.each(violations)("schema: %s", (_, schema, value, expected) => {
  expect(findViolations(value, schema, named).map(({ at, kind }) => `${at}: ${kind}`)).toEqual(expected);
});
