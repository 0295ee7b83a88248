// The least that a server can do with a form: parse it, check it with a schema, and answer. It stores nothing.

import { readEmail } from "./form.ts";

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  development: false,
  async fetch(request) {
    if (readEmail(await request.text()) === undefined) return Response.json({ ok: false }, { status: 400 });
    return Response.json({ ok: true, id: Bun.randomUUIDv7() });
  },
});
console.log(JSON.stringify({ event: "server-listening", port: server.port }));
