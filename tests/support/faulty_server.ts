// A server whose results a benchmark must not count. FAULT: `forget` answers 200 and stores every other email only,
// `repeat` stores each one three times, `fail` answers every other request with 500, `exit` ends at the second request.

import { Redis } from "ioredis";

const { FAULT, REDIS_URL = "" } = process.env;
const redis = new Redis(REDIS_URL);
let requests = 0;

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  development: false,
  async fetch(request) {
    const email = await request.text();
    requests += 1;
    const isEven = requests % 2 === 0;
    if (FAULT === "exit" && isEven) process.exit(1);
    if (FAULT === "fail" && isEven) return new Response("", { status: 500 });
    if (FAULT === "repeat") await redis.rpush("emails", email, email, email);
    else if (FAULT !== "forget" || !isEven) await redis.rpush("emails", email);
    return Response.json({ ok: true });
  },
});
console.log(JSON.stringify({ event: "server-listening", port: server.port }));
