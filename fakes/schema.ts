// A strict validator for the few JSON Schema keywords that the providers' specifications use: an unknown field is an
// error, because a provider would silently drop it.

export interface Schema {
  readonly $ref?: string;
  readonly type?: string;
  readonly format?: string;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly pattern?: string;
  readonly oneOf?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema | false;
  readonly propertyNames?: Schema;
  readonly maxProperties?: number;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly maxLength?: number;
}

/** Schemas by the `$ref` that names them. */
export type Schemas = Readonly<Record<string, Schema>>;

/** A provider's description of its API. */
export interface Specification {
  readonly schemas: Schemas;
}

export interface Violation {
  /** Path of the value, such as `tags[0].name`. */
  readonly at: string;
  /** `value`: the right type, but too long, malformed, or the like. */
  readonly kind: "missing" | "unknown" | "type" | "value";
  readonly text: string;
}

/** Everything in `value` that breaks the schema. */
export function findViolations(value: unknown, schema: Schema, named: Schemas): Violation[] {
  const found: Violation[] = [];
  check(value, schema, "", { named, found });
  return found;
}

interface Search {
  readonly named: Schemas;
  readonly found: Violation[];
}

function check(value: unknown, schema: Schema, at: string, search: Search): void {
  const { named, found } = search;
  const add = (kind: Violation["kind"], text: string) => found.push({ at, kind, text });
  if (schema.$ref) {
    const target = named[schema.$ref];
    if (target) check(value, target, at, search);
    else add("type", `no schema named ${schema.$ref}`);
    return;
  }
  if (schema.oneOf) {
    const fitting = schema.oneOf.filter((one) => findViolations(value, one, named).length === 0);
    if (fitting.length !== 1) add("type", `fits ${fitting.length} of ${schema.oneOf.length} forms`);
    return;
  }
  const type = value === null ? "null" : Array.isArray(value) ? "array" : typeof value;
  if (schema.type && schema.type !== type) {
    add("type", `${type}, not ${schema.type}`);
    return;
  }
  if (schema.enum && !schema.enum.includes(value)) add("value", `not one of ${schema.enum.join()}`);
  if ("const" in schema && schema.const !== value) add("value", `not ${String(schema.const)}`);
  if (schema.pattern && !patternOf(schema.pattern).test(String(value))) add("value", "malformed");
  if (typeof value === "string" && value.length > (schema.maxLength ?? Number.POSITIVE_INFINITY))
    add("value", "too long");
  if (Array.isArray(value)) checkItems(value, schema, at, search);
  else if (typeof value === "object" && value !== null) checkFields(value, schema, at, search);
}

function checkItems(values: readonly unknown[], schema: Schema, at: string, search: Search): void {
  const { items, minItems = 0, maxItems = Number.POSITIVE_INFINITY } = schema;
  if (values.length < minItems) search.found.push({ at, kind: "value", text: "too few" });
  if (values.length > maxItems) search.found.push({ at, kind: "value", text: "too many" });
  if (items) values.forEach((item, index) => check(item, items, `${at}[${index}]`, search));
}

function checkFields(value: object, schema: Schema, at: string, search: Search): void {
  const { required = [], properties, additionalProperties, propertyNames } = schema;
  const { maxProperties = Number.POSITIVE_INFINITY } = schema;
  const fields = value as Record<string, unknown>;
  const names = Object.keys(fields);
  const pathOf = (name: string) => (at === "" ? name : `${at}.${name}`);
  for (const name of required)
    if (!(name in fields)) search.found.push({ at: pathOf(name), kind: "missing", text: "missing" });
  if (names.length > maxProperties) search.found.push({ at, kind: "value", text: "too many fields" });
  for (const name of names) {
    const path = pathOf(name);
    if (propertyNames) check(name, propertyNames, path, search);
    const fieldSchema = properties?.[name] ?? additionalProperties;
    if (fieldSchema) check(fields[name], fieldSchema, path, search);
    else search.found.push({ at: path, kind: "unknown", text: "not a known field" });
  }
}

const patterns = new Map<string, RegExp>();

/** The compiled pattern; each is compiled once. */
function patternOf(text: string): RegExp {
  const known = patterns.get(text) ?? new RegExp(text);
  patterns.set(text, known);
  return known;
}
