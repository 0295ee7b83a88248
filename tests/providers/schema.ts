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
  readonly propertyNames?: { readonly maxLength: number };
  readonly maxProperties?: number;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly maxLength?: number;
}

/** All errors in `value`, each with its path. */
export function mistakes(value: unknown, schema: Schema, named: Record<string, Schema>, at = "$"): string[] {
  if (schema.$ref) {
    const target = named[schema.$ref];
    return target ? mistakes(value, target, named, at) : [`${at}: no schema named ${schema.$ref}`];
  }
  if (schema.oneOf) {
    const fitting = schema.oneOf.filter((one) => mistakes(value, one, named, at).length === 0);
    return fitting.length === 1 ? [] : [`${at}: fits ${fitting.length} of ${schema.oneOf.length} forms`];
  }
  const type = Array.isArray(value) ? "array" : typeof value;
  if (schema.type && schema.type !== type) return [`${at}: ${type}, not ${schema.type}`];
  const found: string[] = [];
  if (schema.enum && !schema.enum.includes(value)) found.push(`${at}: not one of ${schema.enum.join()}`);
  if ("const" in schema && schema.const !== value) found.push(`${at}: not ${String(schema.const)}`);
  if (schema.pattern && !new RegExp(schema.pattern).test(String(value))) found.push(`${at}: malformed`);
  if (typeof value === "string" && value.length > (schema.maxLength ?? Number.POSITIVE_INFINITY))
    found.push(`${at}: too long`);
  if (Array.isArray(value)) {
    if (value.length < (schema.minItems ?? 0)) found.push(`${at}: too few`);
    if (value.length > (schema.maxItems ?? Number.POSITIVE_INFINITY)) found.push(`${at}: too many`);
    const { items } = schema;
    if (items) found.push(...value.flatMap((item, index) => mistakes(item, items, named, `${at}[${index}]`)));
  } else if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value);
    for (const name of schema.required ?? []) if (!(name in value)) found.push(`${at}.${name}: missing`);
    if (entries.length > (schema.maxProperties ?? Number.POSITIVE_INFINITY))
      found.push(`${at}: too many fields`);
    for (const [name, field] of entries) {
      if (name.length > (schema.propertyNames?.maxLength ?? Number.POSITIVE_INFINITY))
        found.push(`${at}.${name}: name too long`);
      const fieldSchema = schema.properties?.[name] ?? schema.additionalProperties;
      if (!fieldSchema) found.push(`${at}.${name}: not a known field`);
      else found.push(...mistakes(field, fieldSchema, named, `${at}.${name}`));
    }
  }
  return found;
}
