// The least that a server has to check of a form, with a schema.

import * as v from "valibot";

const schema = v.object({
  subject: v.pipe(v.string(), v.nonEmpty(), v.maxLength(2000)),
  body: v.pipe(v.string(), v.nonEmpty()),
  to: v.pipe(v.string(), v.regex(/^[^@]+@[^@]+$/)),
  to_name: v.optional(v.string()),
});
const parse = v.safeParser(schema);

/** The email of a form, or undefined if the form is not valid. */
export function readEmail(form: string): v.InferOutput<typeof schema> | undefined {
  const { success, output } = parse(Object.fromEntries(new URLSearchParams(form)));
  return success ? output : undefined;
}
