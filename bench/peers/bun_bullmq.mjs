// Bun's server and BullMQ: a few checks of the form, and each one becomes a job.

import { openAdd } from "./queue.mjs";

const add = openAdd();
const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  development: false,
  async fetch(request) {
    const fields = new URLSearchParams(await request.text());
    const { subject, body, to, to_name } = Object.fromEntries(fields);
    if (!subject || !body || !/^[^@]+@[^@]+$/.test(to)) return Response.json({ ok: false }, { status: 400 });
    const { id } = await add({ subject, body, to, to_name, from: "shop@example.com" });
    return Response.json({ ok: true, id });
  },
});
console.log(JSON.stringify({ event: "server-listening", port: server.port }));
