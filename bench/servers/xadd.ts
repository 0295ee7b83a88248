// The server that one would write in an hour: a form, a check, one XADD per request with ioredis, an answer.

import { Redis } from "ioredis";

const redis = new Redis(process.env["REDIS_URL"] ?? "");
const server = Bun.serve({
  port: 0,
  development: false,
  async fetch(request) {
    const fields = new URLSearchParams(await request.text());
    const [subject, body, to] = [fields.get("subject"), fields.get("body"), fields.get("to")];
    if (!subject || !body || !to?.includes("@")) return Response.json({ ok: false }, { status: 400 });
    const email = JSON.stringify({ subject, body, to, from: "shop@example.com" });
    const id = await redis.xadd("emails", "*", "email", email);
    return Response.json({ ok: true, id });
  },
});
console.log(JSON.stringify({ event: "server-listening", port: server.port }));
