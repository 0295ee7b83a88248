// The least that a server can do with a form: parse it, check it with a schema, and answer. It stores nothing.

import * as v from "valibot";

const schema = v.object({
  subject: v.pipe(v.string(), v.nonEmpty(), v.maxLength(2000)),
  body: v.pipe(v.string(), v.nonEmpty()),
  to: v.pipe(v.string(), v.regex(/^[^@]+@[^@]+$/)),
  to_name: v.optional(v.string()),
});
const parse = v.safeParser(schema);

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  development: false,
  async fetch(request) {
    const { success } = parse(Object.fromEntries(new URLSearchParams(await request.text())));
    if (!success) return Response.json({ ok: false }, { status: 400 });
    return Response.json({ ok: true, id: Bun.randomUUIDv7() });
  },
});
console.log(JSON.stringify({ event: "server-listening", port: server.port }));
